//! Times: what moves them, what keeps them, and when a change is shown.

use crate::permissions::{as_user, let_in, set_mode};
use rustix::fs::{AtFlags, CWD, StatxFlags, StatxTimestamp, statx};
use std::fs::{self, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use tarn_tests::behaviours;
use tarn_tests::mapping::Mapping;
use tarn_tests::mount::CHANGE_LIMIT;
use tarn_tests::subject::Subject;
use tarn_tests::suite::{Behaviour, On};
use tarn_tests::wait::eventually;

pub(crate) const ALL: &[Behaviour] = behaviours!(
    On::EveryFileSystem,
    times_before_1970_are_kept,
    a_change_of_mode_moves_ctime_alone,
    a_directory_moves_with_its_entries,
    an_access_time_is_kept_when_it_is_set,
);

pub(crate) const TARN: &[Behaviour] = behaviours!(
    On::Tarn,
    what_a_write_moves_is_shown_with_the_next_close,
    what_a_write_moves_is_shown_within_the_lifetime,
);

/// SEMANTICS: "Times are kept in nanoseconds, also before 1970."
fn times_before_1970_are_kept(subject: &Subject<'_>) {
    fs::write(subject.path("f"), b"f").unwrap();
    let touched = Command::new("touch").args(["-d", "@-1.25"]).arg(subject.path("f")).status().unwrap();
    assert!(touched.success());
    for _ in 0..2 {
        let metadata = fs::metadata(subject.path("f")).unwrap();
        assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (-2, 750_000_000));
        assert_eq!((metadata.atime(), metadata.atime_nsec()), (-2, 750_000_000));
        subject.remount().unwrap();
    }
}

/// Modification and change time in nanoseconds.
fn times(subject: &Subject<'_>, name: &str) -> (i64, i64) {
    let metadata = fs::metadata(subject.path(name)).unwrap();
    let nanos = |seconds: i64, nanos: i64| seconds * 1_000_000_000 + nanos;
    (nanos(metadata.mtime(), metadata.mtime_nsec()), nanos(metadata.ctime(), metadata.ctime_nsec()))
}

/// Lets the clock that file systems stamp with go on.
fn tick(subject: &Subject<'_>) {
    let probe = subject.scratch().join("tick");
    let stamp = || {
        fs::write(&probe, b"").unwrap();
        fs::metadata(&probe).unwrap().modified().unwrap()
    };
    let before = stamp();
    while stamp() == before {}
}

fn a_change_of_mode_moves_ctime_alone(subject: &Subject<'_>) {
    fs::write(subject.path("f"), b"f").unwrap();
    fs::create_dir(subject.path("d")).unwrap();
    for name in ["f", "d"] {
        let before = times(subject, name);
        tick(subject);
        set_mode(subject, name, 0o700);
        let after = times(subject, name);
        assert!(after.0 == before.0 && after.1 > before.1, "{name}: {before:?} {after:?}");
        subject.remount().unwrap();
        assert_eq!(times(subject, name), after, "{name}");
    }
}

/// SEMANTICS: "A directory's mtime and ctime move with its entries; on this mount they are shown at once, in
/// the bucket they are kept with the next change or rename of the directory itself."
fn a_directory_moves_with_its_entries(subject: &Subject<'_>) {
    fs::create_dir(subject.path("d")).unwrap();
    let steps: [fn(&Subject<'_>); 5] = [
        |subject| fs::write(subject.path("d/f"), b"f").unwrap(),
        |subject| fs::rename(subject.path("d/f"), subject.path("d/g")).unwrap(),
        |subject| fs::remove_file(subject.path("d/g")).unwrap(),
        |subject| fs::create_dir(subject.path("d/e")).unwrap(),
        |subject| fs::remove_dir(subject.path("d/e")).unwrap(),
    ];
    for (index, step) in steps.into_iter().enumerate() {
        let before = times(subject, "d");
        tick(subject);
        step(subject);
        let after = times(subject, "d");
        assert!(after.0 > before.0 && after.1 > before.1, "step {index}: {before:?} {after:?}");
    }
    let before = times(subject, "d");
    tick(subject);
    fs::rename(subject.path("d"), subject.path("renamed")).unwrap();
    for _ in 0..2 {
        let after = times(subject, "renamed");
        assert!(after.0 == before.0 && after.1 > before.1, "{before:?} {after:?}");
        subject.remount().unwrap();
    }
}

fn an_access_time_is_kept_when_it_is_set(subject: &Subject<'_>) {
    fs::write(subject.path("f"), b"f").unwrap();
    let touched =
        Command::new("touch").args(["-a", "-d", "@2000000000.5"]).arg(subject.path("f")).status().unwrap();
    assert!(touched.success());
    for _ in 0..2 {
        let metadata = fs::metadata(subject.path("f")).unwrap();
        assert_eq!((metadata.atime(), metadata.atime_nsec()), (2_000_000_000, 500_000_000));
        assert!(metadata.mtime() != metadata.atime());
        subject.remount().unwrap();
    }
}

/// SEMANTICS: "The times that a write to a mapping moves, and the set-id bits that a write takes away, are shown so
/// with the next close or fsync of the file, at the latest when the lifetime of the attributes (`--attr-ttl`) is over."
fn what_a_write_moves_is_shown_with_the_next_close(subject: &Subject<'_>) {
    let_in(subject);
    subject.take_mount().unmount().unwrap();
    let mount = subject.plan().clone().with(&["--attr-ttl", "1h"]).mount().unwrap();
    for name in ["synced", "closed"] {
        let path = subject.path(name);
        fs::write(&path, [b'.'; 4096]).unwrap();
        // Whoever asks for more is told of all anew once a file was mapped.
        let asked = || {
            let shown = statx(CWD, &path, AtFlags::empty(), StatxFlags::MTIME | StatxFlags::CTIME).unwrap();
            let of = |time: StatxTimestamp| (time.tv_sec, time.tv_nsec);
            (of(shown.stx_mtime), of(shown.stx_ctime))
        };
        assert!(Command::new("touch").args(["-d", "@1000000000"]).arg(&path).status().unwrap().success());
        let before = asked();
        let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let mut mapping = Mapping::shared(&file, 4096).unwrap();
        mapping.write(0, b"through the mapping");
        match name {
            "synced" => file.sync_all().unwrap(),
            _ => drop(file),
        }
        let now = asked();
        assert!(now.0 > before.0 && now.1 > before.1, "{name}: {before:?}, {now:?}");
    }
    fs::write(subject.path("f"), b"as it was\n").unwrap();
    set_mode(subject, "f", 0o6777);
    assert!(as_user(1, "echo more >> f", subject).status.success());
    let shown = statx(CWD, subject.path("f"), AtFlags::empty(), StatxFlags::MODE).unwrap();
    assert_eq!(shown.stx_mode & 0o7777, 0o777);
    mount.unmount().unwrap();
    subject.mount_again().unwrap();
}

fn what_a_write_moves_is_shown_within_the_lifetime(subject: &Subject<'_>) {
    fs::write(subject.path("f"), [b'.'; 4096]).unwrap();
    let before = times(subject, "f");
    let file = OpenOptions::new().read(true).write(true).open(subject.path("f")).unwrap();
    let mut mapping = Mapping::shared(&file, 4096).unwrap();
    mapping.write(0, b"through the mapping");
    mapping.sync().unwrap();
    eventually(CHANGE_LIMIT, "both times have moved", || {
        let now = times(subject, "f");
        Ok((now.0 > before.0 && now.1 > before.1).then_some(()))
    })
    .unwrap();
}
