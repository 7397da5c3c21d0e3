//! Attributes: size, kind, times, modes, links, and the figures of the file system.

use std::fs::{self, File, FileTimes, OpenOptions, Permissions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};
use tarn_tests::subject::Subject;
use tarn_tests::suite::{Behaviour, On};
use tarn_tests::{behaviours, run};

pub(crate) const ALL: &[Behaviour] = behaviours!(
    On::EveryFileSystem,
    stat_tells_kind_and_size,
    a_new_file_has_the_time_of_now,
    a_write_moves_the_modification_time,
    a_set_modification_time_survives_a_remount,
    a_time_set_on_an_open_written_file_survives_its_close,
    the_executable_bit_survives_a_remount,
    a_program_in_the_folder_runs,
    a_symbolic_link_survives_a_remount,
    a_symbolic_link_is_followed_and_removed_as_itself,
    one_inode_number_stays_while_a_file_is_open,
    statfs_tells_of_space,
);

fn stat_tells_kind_and_size(subject: &Subject<'_>) {
    fs::write(subject.path("f"), [0; 12345]).unwrap();
    fs::create_dir(subject.path("d")).unwrap();
    for _ in 0..2 {
        let file = fs::metadata(subject.path("f")).unwrap();
        assert!(file.is_file());
        assert_eq!(file.len(), 12345);
        assert_eq!(file.nlink(), 1);
        assert!(file.blocks() > 0, "a file with bytes is not sparse: cp, tar and du look at it");
        assert!(fs::metadata(subject.path("d")).unwrap().is_dir());
        assert!(fs::metadata(subject.root()).unwrap().is_dir());
        subject.remount().unwrap();
    }
}

fn near(time: SystemTime, expected: SystemTime, tolerance: Duration) -> bool {
    let distance = time.duration_since(expected).unwrap_or_else(|error| error.duration());
    distance <= tolerance
}

fn a_new_file_has_the_time_of_now(subject: &Subject<'_>) {
    let before = SystemTime::now();
    fs::write(subject.path("f"), b"f").unwrap();
    fs::create_dir(subject.path("d")).unwrap();
    for name in ["f", "d"] {
        let modified = fs::metadata(subject.path(name)).unwrap().modified().unwrap();
        assert!(near(modified, before, Duration::from_secs(3)), "{name}: {modified:?}");
    }
}

fn a_write_moves_the_modification_time(subject: &Subject<'_>) {
    fs::write(subject.path("f"), b"f").unwrap();
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    set_modified(subject, "f", old);
    let file = OpenOptions::new().write(true).open(subject.path("f")).unwrap();
    file.write_all_at(b"g", 0).unwrap();
    drop(file);
    let modified = fs::metadata(subject.path("f")).unwrap().modified().unwrap();
    assert!(near(modified, SystemTime::now(), Duration::from_secs(3)), "{modified:?}");
}

fn set_modified(subject: &Subject<'_>, name: &str, time: SystemTime) {
    let file = File::open(subject.path(name)).unwrap();
    file.set_times(FileTimes::new().set_modified(time).set_accessed(time)).unwrap();
}

/// SEMANTICS: "Times are kept in nanoseconds, also before 1970."
fn a_set_modification_time_survives_a_remount(subject: &Subject<'_>) {
    let times = [
        ("seconds", SystemTime::UNIX_EPOCH + Duration::from_secs(1_234_567_890)),
        ("nanoseconds", SystemTime::UNIX_EPOCH + Duration::new(1_600_000_000, 123_456_789)),
        ("epoch", SystemTime::UNIX_EPOCH),
        ("future", SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000)),
    ];
    for (name, time) in times {
        fs::write(subject.path(name), name).unwrap();
        set_modified(subject, name, time);
    }
    for _ in 0..2 {
        for (name, time) in times {
            assert_eq!(fs::metadata(subject.path(name)).unwrap().modified().unwrap(), time, "{name}");
            assert_eq!(fs::read_to_string(subject.path(name)).unwrap(), name);
        }
        subject.remount().unwrap();
    }
}

/// What cp -p, rsync and tar do.
fn a_time_set_on_an_open_written_file_survives_its_close(subject: &Subject<'_>) {
    let time = SystemTime::UNIX_EPOCH + Duration::new(1_111_111_111, 500_000_000);
    let file = File::create(subject.path("f")).unwrap();
    file.write_all_at(b"content", 0).unwrap();
    file.set_times(FileTimes::new().set_modified(time)).unwrap();
    drop(file);
    for _ in 0..2 {
        assert_eq!(fs::metadata(subject.path("f")).unwrap().modified().unwrap(), time);
        assert_eq!(fs::read(subject.path("f")).unwrap(), b"content");
        subject.remount().unwrap();
    }
}

fn mode(subject: &Subject<'_>, name: &str) -> u32 {
    fs::metadata(subject.path(name)).unwrap().mode() & 0o7777
}

fn the_executable_bit_survives_a_remount(subject: &Subject<'_>) {
    fs::write(subject.path("tool"), b"#!/bin/sh\necho ran\n").unwrap();
    fs::write(subject.path("secret"), b"secret").unwrap();
    fs::set_permissions(subject.path("tool"), Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(subject.path("secret"), Permissions::from_mode(0o600)).unwrap();
    for _ in 0..2 {
        assert_eq!(mode(subject, "tool"), 0o755);
        assert_eq!(mode(subject, "secret"), 0o600);
        subject.remount().unwrap();
    }
    // Writing on keeps the mode.
    fs::write(subject.path("tool"), b"#!/bin/sh\necho ran again\n").unwrap();
    assert_eq!(mode(subject, "tool"), 0o755);
}

fn a_program_in_the_folder_runs(subject: &Subject<'_>) {
    // By another process: one that another test starts would hold this one's open file, and a file being written does not
    // run.
    let mut copy = std::process::Command::new("cp");
    run::must(copy.arg("/bin/echo").arg(subject.path("echo")), Duration::from_secs(60)).unwrap();
    subject.remount().unwrap();
    let output = std::process::Command::new(subject.path("echo")).arg("it runs").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "it runs\n");
}

fn a_symbolic_link_survives_a_remount(subject: &Subject<'_>) {
    symlink("target/of the ünicode link", subject.path("link")).unwrap();
    symlink("/absolute", subject.path("absolute")).unwrap();
    for _ in 0..2 {
        let target = fs::read_link(subject.path("link")).unwrap();
        assert_eq!(target, PathBuf::from("target/of the ünicode link"));
        assert_eq!(fs::read_link(subject.path("absolute")).unwrap(), PathBuf::from("/absolute"));
        assert!(fs::symlink_metadata(subject.path("link")).unwrap().is_symlink());
        subject.remount().unwrap();
    }
}

fn a_symbolic_link_is_followed_and_removed_as_itself(subject: &Subject<'_>) {
    fs::create_dir(subject.path("d")).unwrap();
    fs::write(subject.path("d/f"), b"through the link").unwrap();
    symlink("d/f", subject.path("link")).unwrap();
    symlink("d", subject.path("dir")).unwrap();
    assert_eq!(fs::read(subject.path("link")).unwrap(), b"through the link");
    assert_eq!(fs::read(subject.path("dir/f")).unwrap(), b"through the link");
    fs::write(subject.path("link"), b"written through").unwrap();
    assert_eq!(fs::read(subject.path("d/f")).unwrap(), b"written through");
    fs::rename(subject.path("link"), subject.path("moved")).unwrap();
    fs::remove_file(subject.path("moved")).unwrap();
    fs::remove_file(subject.path("dir")).unwrap();
    assert_eq!(fs::read(subject.path("d/f")).unwrap(), b"written through");
}

fn one_inode_number_stays_while_a_file_is_open(subject: &Subject<'_>) {
    fs::write(subject.path("f"), b"f").unwrap();
    let file = OpenOptions::new().read(true).write(true).open(subject.path("f")).unwrap();
    let number = file.metadata().unwrap().ino();
    file.write_all_at(b"changed", 0).unwrap();
    file.sync_all().unwrap();
    assert_eq!(file.metadata().unwrap().ino(), number);
    assert_eq!(fs::metadata(subject.path("f")).unwrap().ino(), number);
}

fn statfs_tells_of_space(subject: &Subject<'_>) {
    let figures = rustix::fs::statvfs(subject.root()).unwrap();
    assert!(figures.f_blocks > 0 && figures.f_bavail > 0 && figures.f_bsize > 0);
    assert_eq!(figures.f_namemax, 255);
}
