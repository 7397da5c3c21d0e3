//! `--quota`: a mount that is full, seen by programs, and its quota changed while it is in use.

use rustix::fs::{StatVfs, statvfs};
use rustix::io::Errno;
use rustix::process::{Signal, kill_process};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use tarn_tests::behaviours;
use tarn_tests::mount::{self, CHANGE_LIMIT, Mount};
use tarn_tests::subject::{Mode, Subject};
use tarn_tests::suite::{Behaviour, On};
use tarn_tests::{run, wait};

pub(crate) const TARN: &[Behaviour] = behaviours!(
    On::Tarn,
    a_full_mount_refuses_writes_until_there_is_room,
    what_was_written_past_tarn_is_refused_when_it_is_closed,
    the_quota_of_a_mount_in_use_changes_and_stays,
);

const MIB: u64 = 1 << 20;

fn with_quota(subject: &Subject<'_>, quota: &str) -> Mount {
    subject.take_mount().unmount().unwrap();
    subject.plan().clone().with(&["--quota", quota]).mount().unwrap()
}

fn space(subject: &Subject<'_>) -> (u64, u64) {
    let StatVfs { f_frsize, f_blocks, f_bavail, .. } = statvfs(subject.root()).unwrap();
    (f_blocks * f_frsize, f_bavail * f_frsize)
}

fn is_full<T: std::fmt::Debug>(result: io::Result<T>) {
    assert_eq!(result.unwrap_err().raw_os_error(), Some(Errno::NOSPC.raw_os_error()));
}

fn status(subject: &Subject<'_>) -> String {
    run::must(mount::tarn().unwrap().arg("status").arg(subject.root()), CHANGE_LIMIT).unwrap()
}

fn remount(subject: &Subject<'_>, words: &str) -> run::Outcome {
    let arguments = ["mount", "s3://any", "-o", words];
    run::run(mount::tarn().unwrap().args(arguments).arg(subject.root()), CHANGE_LIMIT).unwrap()
}

/// SEMANTICS: "Removing and shortening files makes room at once."
fn a_full_mount_refuses_writes_until_there_is_room(subject: &Subject<'_>) {
    subject.bucket().put("theirs", &vec![1; 600 << 10]).unwrap();
    let mount = with_quota(subject, "1MiB");
    wait::eventually(CHANGE_LIMIT, "the bucket is counted", || {
        Ok((space(subject) == (MIB, MIB - (600 << 10))).then_some(()))
    })
    .unwrap();
    fs::write(subject.path("ours"), vec![2; 400 << 10]).unwrap();
    is_full(fs::write(subject.path("too much"), vec![3; 32 << 10]));
    assert_eq!(fs::metadata(subject.path("too much")).unwrap().len(), 0);
    assert_eq!(space(subject), (MIB, 24 << 10));
    assert!(status(subject).contains("1000.0 KiB of 1.0 MiB used, 3 files"), "{}", status(subject));
    fs::remove_file(subject.path("theirs")).unwrap();
    fs::write(subject.path("too much"), vec![3; 32 << 10]).unwrap();
    assert_eq!(space(subject), (MIB, MIB - (432 << 10)));
    subject.give_mount(mount);
}

/// SEMANTICS: "What the kernel writes by itself is looked at once a second, and `fsync` and `close` refuse it if it does not
/// fit; the bytes stay as after any other failed commit."
fn what_was_written_past_tarn_is_refused_when_it_is_closed(subject: &Subject<'_>) {
    let mount = with_quota(subject, "2GiB");
    let file = File::create(subject.path("f")).unwrap();
    let written = file.write_all_at(b"x", 3 << 30);
    if subject.mode() == Mode::Passthrough {
        written.unwrap();
        assert_eq!(space(subject), (2 << 30, 0));
        is_full(File::create(subject.path("g")));
        is_full(file.sync_all());
        assert!(status(subject).contains("NOTHING is left"), "{}", status(subject));
    } else {
        is_full(written);
    }
    file.set_len(5).unwrap();
    drop(file);
    assert_eq!(subject.bucket().get("f").unwrap(), [0; 5]);
    subject.give_mount(mount);
}

/// SEMANTICS: "`mount -o remount,quota=SIZE` changes the quota of a mount that is in use, and 0 takes it away; the mount keeps
/// that when its serving process dies."
fn the_quota_of_a_mount_in_use_changes_and_stays(subject: &Subject<'_>) {
    let mount = with_quota(subject, "64KiB");
    let file = File::create(subject.path("f")).unwrap();
    file.write_all_at(&[1; 60 << 10], 0).unwrap();
    is_full(file.write_all_at(&[2; 8 << 10], 60 << 10));
    assert!(remount(subject, "remount,quota=128k").status.success());
    file.write_all_at(&[2; 8 << 10], 60 << 10).unwrap();
    assert_eq!(space(subject), (128 << 10, 60 << 10));
    kill_process(mount.worker().unwrap().unwrap(), Signal::KILL).unwrap();
    assert_eq!(space(subject), (128 << 10, 60 << 10));
    is_full(file.write_all_at(&[3; 64 << 10], 68 << 10));
    drop(file);
    let refused = remount(subject, "remount,quota=lots");
    assert!(!refused.status.success() && refused.stderr.contains("is not a size"), "{refused:?}");
    assert!(remount(subject, "remount,quota=0").status.success());
    assert!(space(subject).1 >= 1 << 50 && !status(subject).contains("quota"), "{}", status(subject));
    subject.give_mount(mount);
}
