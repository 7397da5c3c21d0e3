//! What is open when the worker dies stays open, and means the same.

use crate::killer::kill_once;
use rustix::fs::{FlockOperation, flock};
use rustix::process::Pid;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::time::Duration;
use tarn_tests::mount::CHANGE_LIMIT;
use tarn_tests::subject::Subject;
use tarn_tests::suite::{Behaviour, On};
use tarn_tests::wait::eventually;
use tarn_tests::{behaviours, data, mapping, run};

pub(crate) const ALL: &[Behaviour] = behaviours!(
    On::Tarn,
    an_open_file_is_read_and_written_on,
    a_second_open_gets_the_same_bytes,
    a_removed_open_file_lives_on,
    a_large_object_is_changed_in_place,
    a_renamed_open_file_is_committed_under_its_last_name,
    a_directory_is_read_on_where_it_was,
    locks_are_kept,
    a_mapped_file_is_committed,
    times_and_modes_stay,
    the_keeper_is_small_and_sleeps,
    an_idle_mount_is_small,
    the_status_counts_the_dead,
    conflicts_stay_in_the_status,
);

/// Kills the worker of the subject's mount.
fn kill(subject: &Subject<'_>) {
    let mount = subject.take_mount();
    let stall = kill_once(&mount);
    assert!(stall < Duration::from_secs(5), "{stall:?}");
    subject.give_mount(mount);
}

/// SEMANTICS: "It may be killed at any moment (Linux 6.9 or later): no system call fails; open files, locks
/// and positions in directories stay."
fn an_open_file_is_read_and_written_on(subject: &Subject<'_>) {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(subject.path("f"))
        .unwrap();
    file.write_all(b"before ").unwrap();
    kill(subject);
    file.write_all(b"after").unwrap();
    kill(subject);
    file.seek(SeekFrom::Start(0)).unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "before after");
    kill(subject);
    file.sync_all().unwrap();
    assert_eq!(subject.bucket().get("f").unwrap(), b"before after");
    kill(subject);
    drop(file);
    assert_eq!(fs::read(subject.path("f")).unwrap(), b"before after");
}

fn a_second_open_gets_the_same_bytes(subject: &Subject<'_>) {
    fs::write(subject.path("f"), b"twelve bytes").unwrap();
    let first = File::open(subject.path("f")).unwrap();
    let writer = File::create(subject.path("g")).unwrap();
    writer.write_all_at(b"one", 0).unwrap();
    kill(subject);
    assert_eq!(fs::read(subject.path("f")).unwrap(), b"twelve bytes");
    assert_eq!(fs::read(subject.path("g")).unwrap(), b"one");
    OpenOptions::new().append(true).open(subject.path("g")).unwrap().write_all(b" two").unwrap();
    writer.write_all_at(b"ONE", 0).unwrap();
    let mut buffer = [0; 12];
    first.read_exact_at(&mut buffer, 0).unwrap();
    assert_eq!(&buffer, b"twelve bytes");
    drop((first, writer));
    assert_eq!(fs::read(subject.path("g")).unwrap(), b"ONE two");
}

fn a_removed_open_file_lives_on(subject: &Subject<'_>) {
    let bytes = data::bytes(1, 300_000);
    fs::write(subject.path("object"), &bytes).unwrap();
    let (object, staged) =
        (File::open(subject.path("object")).unwrap(), File::create_new(subject.path("staged")).unwrap());
    staged.write_all_at(b"never in the bucket", 0).unwrap();
    fs::remove_file(subject.path("object")).unwrap();
    fs::remove_file(subject.path("staged")).unwrap();
    kill(subject);
    let mut buffer = vec![0; bytes.len()];
    object.read_exact_at(&mut buffer, 0).unwrap();
    assert!(buffer == bytes);
    assert_eq!((object.metadata().unwrap().nlink(), staged.metadata().unwrap().len()), (0, 19));
    staged.write_all_at(b"still", 100).unwrap();
    drop((object, staged));
    assert_eq!(fs::read_dir(subject.root()).unwrap().count(), 0);
}

fn a_large_object_is_changed_in_place(subject: &Subject<'_>) {
    let mut bytes = data::bytes(2, 12 << 20);
    subject.bucket().put("large", &bytes).unwrap();
    let file = OpenOptions::new().read(true).write(true).open(subject.path("large")).unwrap();
    for (round, at) in [(1, 5), (2, 5 << 20), (3, (12 << 20) - 7)] {
        let patch = vec![round; 20];
        file.write_all_at(&patch, at).unwrap();
        let end = at as usize + patch.len();
        bytes.resize(bytes.len().max(end), 0);
        bytes[at as usize..end].copy_from_slice(&patch);
        kill(subject);
        let mut read = vec![0; bytes.len()];
        file.read_exact_at(&mut read, 0).unwrap();
        assert!(read == bytes, "after kill {round}");
    }
    drop(file);
    assert!(subject.bucket().get("large").unwrap() == bytes);
}

fn a_renamed_open_file_is_committed_under_its_last_name(subject: &Subject<'_>) {
    fs::create_dir(subject.path("d")).unwrap();
    let file = File::create(subject.path("d/a")).unwrap();
    file.write_all_at(b"moved while open", 0).unwrap();
    fs::rename(subject.path("d/a"), subject.path("d/b")).unwrap();
    kill(subject);
    fs::rename(subject.path("d"), subject.path("e")).unwrap();
    kill(subject);
    drop(file);
    assert_eq!(subject.bucket().get("e/b").unwrap(), b"moved while open");
    assert_eq!(fs::read(subject.path("e/b")).unwrap(), b"moved while open");
    assert!(!subject.path("d").exists());
}

/// SEMANTICS: "It may be killed at any moment (Linux 6.9 or later): no system call fails; open files, locks
/// and positions in directories stay."
fn a_directory_is_read_on_where_it_was(subject: &Subject<'_>) {
    const COUNT: usize = 700;
    fs::create_dir(subject.path("d")).unwrap();
    for index in 0..COUNT {
        subject.bucket().put(&format!("d/{index:04}"), b"x").unwrap();
    }
    let mut names = Vec::new();
    for (index, entry) in fs::read_dir(subject.path("d")).unwrap().enumerate() {
        names.push(entry.unwrap().file_name().into_string().unwrap());
        if index % 150 == 100 {
            fs::write(subject.path(&format!("d/new {index}")), b"made meanwhile").unwrap();
            kill(subject);
        }
    }
    names.retain(|name| !name.starts_with("new"));
    let expected: Vec<String> = (0..COUNT).map(|index| format!("{index:04}")).collect();
    names.sort();
    assert_eq!(names, expected, "each once");
}

/// SEMANTICS: "It may be killed at any moment (Linux 6.9 or later): no system call fails; open files, locks
/// and positions in directories stay."
fn locks_are_kept(subject: &Subject<'_>) {
    fs::write(subject.path("f"), b"").unwrap();
    let (holder, other) = (File::open(subject.path("f")).unwrap(), File::open(subject.path("f")).unwrap());
    flock(&holder, FlockOperation::LockExclusive).unwrap();
    kill(subject);
    flock(&other, FlockOperation::NonBlockingLockExclusive).unwrap_err();
    flock(&holder, FlockOperation::Unlock).unwrap();
    flock(&other, FlockOperation::NonBlockingLockExclusive).unwrap();
}

fn a_mapped_file_is_committed(subject: &Subject<'_>) {
    let file = File::options().read(true).write(true).create_new(true).open(subject.path("m")).unwrap();
    file.set_len(8192).unwrap();
    let mut mapping = mapping::Mapping::shared(&file, 8192).unwrap();
    drop(file);
    mapping.write(100, b"through the mapping");
    kill(subject);
    mapping.write(5000, b"and after");
    mapping.sync().unwrap();
    drop(mapping);
    let there = || {
        let bytes = subject.bucket().get("m")?;
        Ok((bytes[100..119] == *b"through the mapping" && bytes[5000..5009] == *b"and after").then_some(()))
    };
    tarn_tests::wait::eventually(Duration::from_secs(20), "the mapping's bytes are in the bucket", there)
        .unwrap();
}

fn times_and_modes_stay(subject: &Subject<'_>) {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o640).open(subject.path("f")).unwrap();
    fs::create_dir(subject.path("d")).unwrap();
    fs::write(subject.path("d/x"), b"x").unwrap();
    let seen = || {
        let of = |path: &str| {
            let meta = fs::symlink_metadata(subject.path(path)).unwrap();
            (meta.ino(), meta.mode(), meta.mtime(), meta.mtime_nsec(), meta.size())
        };
        [of("f"), of("d"), of("d/x")]
    };
    let before = seen();
    kill(subject);
    assert_eq!(seen(), before);
    drop(file);
}

fn the_keeper_is_small_and_sleeps(subject: &Subject<'_>) {
    let mount = subject.take_mount();
    let ticks = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", mount.keeper().as_raw_nonzero())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    let before = ticks();
    for index in 0..200 {
        fs::write(subject.path(&format!("f{index}")), b"work for the worker").unwrap();
    }
    assert_eq!(ticks(), before, "it does nothing");
    let kib = resident_kib(mount.keeper());
    assert!(kib < 10 << 10, "{kib} KiB");
    subject.give_mount(mount);
}

/// Nobody has used it yet; one that was used is as small again half a minute later.
fn an_idle_mount_is_small(subject: &Subject<'_>) {
    let mount = subject.take_mount();
    let processes = [mount.keeper(), mount.worker().unwrap().unwrap()];
    let is_small = || Ok((processes.map(resident_kib).iter().sum::<u64>() < 25 << 10).then_some(()));
    eventually(CHANGE_LIMIT, "keeper and worker have less than 25 MiB in memory", is_small).unwrap();
    subject.give_mount(mount);
}

fn resident_kib(process: Pid) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.as_raw_nonzero())).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    resident.trim().trim_end_matches(" kB").parse().unwrap()
}

fn the_status_counts_the_dead(subject: &Subject<'_>) {
    let status = || {
        let mut tarn = tarn_tests::mount::tarn().unwrap();
        run::must(tarn.arg("status").arg(subject.root()), CHANGE_LIMIT).unwrap()
    };
    let line = |text: &str| text.lines().find(|line| line.contains("restarts")).unwrap().trim().to_owned();
    assert_eq!(line(&status()), "restarts    none");
    kill(subject);
    kill(subject);
    let said = line(&status());
    assert!(
        said.starts_with("restarts    2; the last ") && said.ends_with("ago: signal: 9 (SIGKILL)"),
        "{said}"
    );
}

fn conflicts_stay_in_the_status(subject: &Subject<'_>) {
    fs::write(subject.path("f"), b"first").unwrap();
    let mut file = OpenOptions::new().append(true).open(subject.path("f")).unwrap();
    subject.bucket().put("f", b"theirs").unwrap();
    file.write_all(b" ours").unwrap();
    file.sync_all().unwrap_err();
    let conflicts = || {
        let mut tarn = tarn_tests::mount::tarn().unwrap();
        let said = run::must(tarn.arg("status").arg(subject.root()), CHANGE_LIMIT).unwrap();
        said[said.find("  conflicts ").unwrap()..].to_owned()
    };
    let before = conflicts();
    assert!(before.contains("f was changed elsewhere, ours is f.conflict-"), "{before}");
    kill(subject);
    assert_eq!(conflicts(), before);
}
