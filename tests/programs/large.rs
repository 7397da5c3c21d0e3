//! Large files and large directories.

use crate::{must, shell};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use tarn_tests::subject::Subject;
use tarn_tests::suite::{Behaviour, On};
use tarn_tests::tree::{self, Entry};
use tarn_tests::{behaviours, data, paths, run};

pub(crate) const ALL: &[Behaviour] = behaviours!(
    On::EveryFileSystem,
    a_large_file_has_its_checksum,
    a_directory_of_many_files_is_listed_and_removed,
);

/// Above 5 GiB with `TARN_FULL=1`, else 512 MiB, written in pieces and read by sha256sum after a new mount. One request
/// copies 5 GiB at the most, so the long version's rename is a copy in parts.
fn a_large_file_has_its_checksum(subject: &Subject<'_>) {
    let pieces = if paths::full() { 320 } else { 32 };
    let local = subject.scratch().join("large");
    for path in [&local, &subject.path("large")] {
        let mut file = File::create(path).unwrap();
        for seed in 0..pieces {
            file.write_all(&data::bytes(seed, 16 << 20)).unwrap();
        }
        file.write_all(b"and an odd end").unwrap();
        file.sync_all().unwrap();
    }
    let Entry::File { size, sha256 } = tree::file(&local).unwrap() else { panic!("a file") };
    assert_eq!(size, pieces * (16 << 20) + 14);
    fs::remove_file(&local).unwrap();
    for (name, next) in [("large", "renamed"), ("renamed", "again"), ("again", "large")] {
        let printed = must(run::command("sha256sum").arg(subject.path(name)));
        assert_eq!(printed.split(' ').next(), Some(&*sha256));
        fs::rename(subject.path(name), subject.path(next)).unwrap();
        subject.remount().unwrap();
    }
}

/// 100,000 files with `TARN_FULL=1`, else 2,500: three pages of a listing.
fn a_directory_of_many_files_is_listed_and_removed(subject: &Subject<'_>) {
    let count = if paths::full() { 100_000 } else { 2_500 };
    fs::create_dir(subject.path("many")).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            scope.spawn(move || {
                for i in (thread..count).step_by(8) {
                    fs::write(subject.path(&format!("many/file-{i:06}")), format!("content of {i}")).unwrap();
                }
            });
        }
    });
    subject.remount().unwrap();
    let listed: BTreeSet<String> = fs::read_dir(subject.path("many"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(listed == (0..count).map(|i| format!("file-{i:06}")).collect(), "{} of {count}", listed.len());
    let long = shell(&subject.path("many"), "ls -l | wc -l");
    assert_eq!(long.trim(), (count + 1).to_string());
    for i in (0..count).step_by(997) {
        let read = fs::read_to_string(subject.path(&format!("many/file-{i:06}"))).unwrap();
        assert_eq!(read, format!("content of {i}"));
    }
    shell(subject.root(), "find many -name '*[13579]' -delete");
    assert_eq!(fs::read_dir(subject.path("many")).unwrap().count(), count / 2);
}
