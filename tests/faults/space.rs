//! The cache's disk is full.

use crate::COMMITS;
use crate::load::close;
use rustix::io::Errno;
use std::fs::{self, File};
use std::io::Write;
use tarn_tests::disk::Disk;
use tarn_tests::subject::{Subject, private_dir};
use tarn_tests::suite::{Behaviour, On};
use tarn_tests::{behaviours, data, disk};

pub(crate) const TARN: &[Behaviour] = behaviours!(On::Tarn, a_full_cache_disk_is_said_and_tears_nothing);

fn a_full_cache_disk_is_said_and_tears_nothing(subject: &Subject<'_>) {
    if !disk::is_root() {
        return;
    }
    subject.take_mount().unmount().unwrap();
    for commit in COMMITS {
        let disk = Disk::new(40).unwrap();
        let mut plan = subject.plan().clone().with(commit);
        plan.cache = disk.path().join("cache");
        private_dir(&plan.cache).unwrap();
        let mount = plan.mount().unwrap();
        let before = data::bytes(1, 3 << 20);
        fs::write(subject.path("before"), &before).unwrap();
        let mut full = false;
        let mut file = File::create(subject.path("large")).unwrap();
        for at in 0..64 {
            match file.write_all(&data::bytes(at, 1 << 20)) {
                Ok(()) => {}
                Err(error) => {
                    assert_eq!(error.raw_os_error(), Some(Errno::NOSPC.raw_os_error()), "{error}");
                    full = true;
                    break;
                }
            }
        }
        assert!(full, "64 MiB do not fit on a disk of 40");
        // Whether this close can be kept or not, it must say the truth; the file goes.
        let length = file.metadata().unwrap().len();
        if close(file).is_ok() {
            assert_eq!(fs::metadata(subject.path("large")).unwrap().len(), length);
        }
        fs::remove_file(subject.path("large")).unwrap();
        assert!(fs::read(subject.path("before")).unwrap() == before);
        let after = data::bytes(2, 100 << 10);
        fs::write(subject.path("after"), &after).unwrap();
        mount.unmount().unwrap();
        assert!(subject.bucket().get("before").unwrap() == before);
        assert!(subject.bucket().get("after").unwrap() == after);
        for name in ["before", "after"] {
            subject.bucket().delete(name).unwrap();
        }
    }
    subject.mount_again().unwrap();
}
