//! Where a mount of a bucket is less than a local disk, and how it says so.

use crate::permissions::{as_user, let_in};
use rustix::fs::{
    CWD, FallocateFlags, FileType, Mode, OFlags, RenameFlags, fallocate, mknodat, renameat_with,
};
use rustix::io::Errno;
use std::fs::{self, File, Permissions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};
use tarn_tests::behaviours;
use tarn_tests::mount::{self, CHANGE_LIMIT};
use tarn_tests::subject::{self, Subject};
use tarn_tests::suite::{Behaviour, On};
use tarn_tests::{run, wait};

pub(crate) const TARN: &[Behaviour] = behaviours!(
    On::Tarn,
    a_hard_link_is_refused_after_what_its_names_say,
    a_whiteout_is_refused,
    a_remount_changes_what_the_kernel_keeps,
    set_id_bits_and_devices_have_no_effect,
    no_birth_time_is_shown,
    lengths_over_five_tebibytes_are_refused,
    a_running_program_is_emptied_before_it_is_refused,
    minio_lists_nothing_below_an_object,
);

fn is<T: std::fmt::Debug>(result: io::Result<T>, errno: Errno) {
    assert_eq!(result.unwrap_err().raw_os_error(), Some(errno.raw_os_error()));
}

/// SEMANTICS: "An object has one name, so `link(2)` answers EPERM, after the errors that the names themselves
/// give (ENOENT, EEXIST, ENOTDIR, ENAMETOOLONG)."
/// SEMANTICS: "Lock files made with `link(2)` do not work; those made with `open(O_EXCL)`, `mkdir` or
/// `symlink` do, across nodes."
/// SEMANTICS: "A file has one link, and none once it is removed while open."
fn a_hard_link_is_refused_after_what_its_names_say(subject: &Subject<'_>) {
    fs::write(subject.path("f"), b"f").unwrap();
    fs::write(subject.path("there"), b"there").unwrap();
    let link = |from: &str, to: &str| fs::hard_link(subject.path(from), subject.path(to));
    is(link("f", "free"), Errno::PERM);
    is(link("missing", "free"), Errno::NOENT);
    is(link("f", "missing/free"), Errno::NOENT);
    is(link("f", "there"), Errno::EXIST);
    is(link("f", "there/free"), Errno::NOTDIR);
    is(link("f", &"x".repeat(256)), Errno::NAMETOOLONG);
    assert_eq!(fs::metadata(subject.path("f")).unwrap().nlink(), 1);
}

/// SEMANTICS: "RENAME_WHITEOUT: EINVAL."
fn a_whiteout_is_refused(subject: &Subject<'_>) {
    fs::write(subject.path("f"), b"f").unwrap();
    let renamed = renameat_with(CWD, subject.path("f"), CWD, subject.path("g"), RenameFlags::WHITEOUT);
    assert_eq!(renamed, Err(Errno::INVAL));
    assert_eq!(fs::read(subject.path("f")).unwrap(), b"f");
}

/// SEMANTICS: "`mount -o remount` changes `ro`, `rw`, `exec`, `noexec` and `quota`, and nothing else; `ro` waits for no
/// file that is open for writing (EBUSY), and `rw` is refused where the mount was made with `--read-only`."
fn a_remount_changes_what_the_kernel_keeps(subject: &Subject<'_>) {
    let remount = |words: &str| {
        let arguments = ["mount", "s3://any", "-o", words];
        run::run(mount::tarn().unwrap().args(arguments).arg(subject.root()), CHANGE_LIMIT).unwrap()
    };
    let refused = |words: &str, why: &str| {
        let outcome = remount(words);
        assert!(!outcome.status.success() && outcome.stderr.contains(why), "{words}: {outcome:?}");
    };
    let file = File::create(subject.path("f")).unwrap();
    refused("rw,remount,ro", "open for writing");
    drop(file);
    assert!(remount("rw,nosuid,nodev,user_id=0,remount,ro,noexec").status.success());
    is(File::create(subject.path("g")), Errno::ROFS);
    assert_eq!(fs::read(subject.path("f")).unwrap(), b"");
    let status = run::must(mount::tarn().unwrap().arg("status").arg(subject.root()), CHANGE_LIMIT).unwrap();
    assert!(status.contains("read-only"), "{status}");
    assert!(remount("ro,remount,rw,exec").status.success());
    fs::write(subject.path("g"), b"written again").unwrap();
    subject.take_mount().unmount().unwrap();
    let mount = subject.plan().clone().with(&["--read-only"]).mount().unwrap();
    refused("remount,rw", "--read-only");
    mount.unmount().unwrap();
    refused("remount,ro", "not a mount of tarn");
    subject.mount_again().unwrap();
}

/// SEMANTICS: "The mount is `nosuid` and `nodev`: set-id bits and device nodes are kept and shown, and have
/// no effect."
fn set_id_bits_and_devices_have_no_effect(subject: &Subject<'_>) {
    let_in(subject);
    // By another process: a file that this one's children have open for writing does not run.
    run::must(run::command("cp").arg("/usr/bin/id").arg(subject.path("id")), CHANGE_LIMIT).unwrap();
    fs::set_permissions(subject.path("id"), Permissions::from_mode(0o4755)).unwrap();
    assert_eq!(fs::metadata(subject.path("id")).unwrap().mode() & 0o7777, 0o4755);
    assert_eq!(as_user(1, "./id -u", subject).stdout, b"1\n");
    let null = rustix::fs::makedev(1, 3);
    mknodat(CWD, subject.path("null"), FileType::CharacterDevice, Mode::from_raw_mode(0o666), null).unwrap();
    assert_eq!(fs::metadata(subject.path("null")).unwrap().rdev(), null);
    is(File::open(subject.path("null")), Errno::ACCESS);
}

/// SEMANTICS: "The birth time is kept; Linux asks no FUSE file system through this library for it, so statx
/// does not show it."
fn no_birth_time_is_shown(subject: &Subject<'_>) {
    fs::write(subject.path("f"), b"f").unwrap();
    fs::metadata(subject.path("f")).unwrap().created().unwrap_err();
    assert!(subject.bucket().head("f").unwrap().metadata.contains_key("file-btime"));
}

/// SEMANTICS: "Lengths over 5 TiB, the largest object, are EFBIG, for `ftruncate`, `posix_fallocate` and every
/// `write` that does not pass through."
fn lengths_over_five_tebibytes_are_refused(subject: &Subject<'_>) {
    const MOST: u64 = 5 << 40;
    let file = File::create(subject.path("f")).unwrap();
    is(file.set_len(MOST + 1), Errno::FBIG);
    assert_eq!(fallocate(&file, FallocateFlags::empty(), MOST, 1), Err(Errno::FBIG));
    if subject.mode() == subject::Mode::Ordinary {
        is(file.write_all_at(b"x", MOST), Errno::FBIG);
    }
    assert_eq!(file.metadata().unwrap().len(), 0);
}

/// SEMANTICS: "`open(O_RDONLY|O_TRUNC)` says so too, but Linux has a FUSE file emptied before it looks."
fn a_running_program_is_emptied_before_it_is_refused(subject: &Subject<'_>) {
    let path = subject.path("cat");
    run::must(run::command("cp").arg("/bin/cat").arg(&path), CHANGE_LIMIT).unwrap();
    let mut child = Command::new(&path).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(b"it runs\n").unwrap();
    let mut said = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(said, "it runs\n");
    // A program that is emptied while it runs dies of it; one that sleeps in the kernel does not.
    wait::eventually(CHANGE_LIMIT, "the program waits for more", || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", child.id()))?;
        Ok(stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('S')).then_some(()))
    })
    .unwrap();
    let opened = rustix::fs::open(&path, OFlags::RDONLY | OFlags::TRUNC, Mode::empty());
    assert_eq!(opened.unwrap_err(), Errno::TXTBSY);
    assert_eq!(fs::metadata(&path).unwrap().len(), 0);
    child.kill().unwrap();
    child.wait().unwrap();
}

/// SEMANTICS: "MinIO accepts an object `a` and then a key `a/b`, and lists `a/b` no more: no client finds it
/// there."
fn minio_lists_nothing_below_an_object(subject: &Subject<'_>) {
    subject.bucket().put("a", b"object").unwrap();
    subject.bucket().put("a/b", b"below").unwrap();
    assert_eq!(subject.bucket().keys().unwrap(), ["a"]);
    let names: Vec<_> =
        fs::read_dir(subject.root()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["a"]);
    assert_eq!(fs::read(subject.path("a")).unwrap(), b"object");
    is(fs::read(subject.path("a/b")), Errno::NOTDIR);
    subject.bucket().delete("a/b").unwrap();
}
