//! `RENAME_EXCHANGE`: two names swap what they stand for.

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use tarn_tests::subject::Subject;
use tarn_tests::suite::{Behaviour, On};
use tarn_tests::{behaviours, data};

pub(crate) const ALL: &[Behaviour] = behaviours!(
    On::EveryFileSystem,
    two_files_swap_content_and_attributes,
    files_open_for_writing_swap,
    a_reader_keeps_its_file_through_an_exchange,
    links_swap,
    two_directories_swap_their_entries,
    a_file_and_a_directory_swap,
    an_exchange_needs_both_names,
    a_directory_is_not_exchanged_with_what_is_in_it,
    an_exchange_may_not_replace_or_keep,
);

/// What an exchange sets aside leaves no trace.
pub(crate) const TARN: &[Behaviour] = behaviours!(On::Tarn, an_exchange_leaves_two_objects);

fn exchange(subject: &Subject<'_>, one: &str, other: &str) -> Result<(), Errno> {
    renameat_with(CWD, subject.path(one), CWD, subject.path(other), RenameFlags::EXCHANGE)
}

/// SEMANTICS: "RENAME_EXCHANGE works on files, links and directories, also on one of each."
fn two_files_swap_content_and_attributes(subject: &Subject<'_>) {
    for size in [0, 1000, 9 << 20] {
        let (one, other) = (data::bytes(1, size), data::bytes(2, 5000));
        fs::write(subject.path("one"), &one).unwrap();
        fs::write(subject.path("other"), &other).unwrap();
        fs::set_permissions(subject.path("one"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(subject.path("other"), fs::Permissions::from_mode(0o751)).unwrap();
        let inode = fs::metadata(subject.path("one")).unwrap().ino();
        exchange(subject, "one", "other").unwrap();
        assert_eq!(fs::metadata(subject.path("other")).unwrap().ino(), inode, "the inode moves");
        for _ in 0..2 {
            assert!(fs::read(subject.path("one")).unwrap() == other);
            assert!(fs::read(subject.path("other")).unwrap() == one);
            assert_eq!(fs::metadata(subject.path("one")).unwrap().mode() & 0o777, 0o751);
            assert_eq!(fs::metadata(subject.path("other")).unwrap().mode() & 0o777, 0o600);
            subject.remount().unwrap();
        }
    }
}

fn files_open_for_writing_swap(subject: &Subject<'_>) {
    let mut one = File::create(subject.path("one")).unwrap();
    let mut other = File::create(subject.path("other")).unwrap();
    one.write_all(b"first ").unwrap();
    other.write_all(b"second ").unwrap();
    exchange(subject, "one", "other").unwrap();
    one.write_all(b"and on").unwrap();
    other.write_all(b"goes on").unwrap();
    drop((one, other));
    assert_eq!(fs::read(subject.path("one")).unwrap(), b"second goes on");
    assert_eq!(fs::read(subject.path("other")).unwrap(), b"first and on");
}

fn a_reader_keeps_its_file_through_an_exchange(subject: &Subject<'_>) {
    let (one, other) = (data::bytes(1, 9 << 20), data::bytes(2, 10_000));
    fs::write(subject.path("one"), &one).unwrap();
    fs::write(subject.path("other"), &other).unwrap();
    subject.remount().unwrap();
    let (first, second) =
        (File::open(subject.path("one")).unwrap(), File::open(subject.path("other")).unwrap());
    exchange(subject, "one", "other").unwrap();
    let (mut read_one, mut read_other) = (vec![0; one.len()], vec![0; other.len()]);
    first.read_exact_at(&mut read_one, 0).unwrap();
    second.read_exact_at(&mut read_other, 0).unwrap();
    assert!(read_one == one && read_other == other);
}

/// SEMANTICS: "RENAME_EXCHANGE works on files, links and directories, also on one of each."
fn links_swap(subject: &Subject<'_>) {
    std::os::unix::fs::symlink("target", subject.path("link")).unwrap();
    fs::write(subject.path("file"), b"file").unwrap();
    exchange(subject, "link", "file").unwrap();
    assert_eq!(fs::read(subject.path("link")).unwrap(), b"file");
    assert_eq!(fs::read_link(subject.path("file")).unwrap().to_str(), Some("target"));
}

/// SEMANTICS: "RENAME_EXCHANGE works on files, links and directories, also on one of each."
fn two_directories_swap_their_entries(subject: &Subject<'_>) {
    fs::create_dir_all(subject.path("a/deep")).unwrap();
    fs::create_dir_all(subject.path("parent/b")).unwrap();
    fs::write(subject.path("a/deep/f"), b"of a").unwrap();
    fs::write(subject.path("parent/b/g"), b"of b").unwrap();
    let mut open = File::create(subject.path("a/open")).unwrap();
    open.write_all(b"before ").unwrap();
    exchange(subject, "a", "parent/b").unwrap();
    open.write_all(b"after").unwrap();
    drop(open);
    for _ in 0..2 {
        assert_eq!(fs::read(subject.path("a/g")).unwrap(), b"of b");
        assert_eq!(fs::read(subject.path("parent/b/deep/f")).unwrap(), b"of a");
        assert_eq!(fs::read(subject.path("parent/b/open")).unwrap(), b"before after");
        assert_eq!(fs::read_dir(subject.path("a")).unwrap().count(), 1);
        assert_eq!(fs::read_dir(subject.root()).unwrap().count(), 2);
        subject.remount().unwrap();
    }
}

/// SEMANTICS: "RENAME_EXCHANGE works on files, links and directories, also on one of each."
fn a_file_and_a_directory_swap(subject: &Subject<'_>) {
    fs::create_dir(subject.path("x")).unwrap();
    fs::write(subject.path("x/inside"), b"inside").unwrap();
    fs::write(subject.path("y"), b"file").unwrap();
    exchange(subject, "x", "y").unwrap();
    assert_eq!(fs::read(subject.path("x")).unwrap(), b"file");
    assert_eq!(fs::read(subject.path("y/inside")).unwrap(), b"inside");
    exchange(subject, "x", "y").unwrap();
    assert_eq!(fs::read(subject.path("y")).unwrap(), b"file");
    assert_eq!(fs::read(subject.path("x/inside")).unwrap(), b"inside");
}

fn an_exchange_needs_both_names(subject: &Subject<'_>) {
    fs::write(subject.path("here"), b"here").unwrap();
    assert_eq!(exchange(subject, "here", "nowhere"), Err(Errno::NOENT));
    assert_eq!(exchange(subject, "nowhere", "here"), Err(Errno::NOENT));
    exchange(subject, "here", "here").unwrap();
    assert_eq!(fs::read(subject.path("here")).unwrap(), b"here");
}

fn a_directory_is_not_exchanged_with_what_is_in_it(subject: &Subject<'_>) {
    fs::create_dir_all(subject.path("a/b")).unwrap();
    assert_eq!(exchange(subject, "a", "a/b"), Err(Errno::INVAL));
    assert_eq!(exchange(subject, "a/b", "a"), Err(Errno::INVAL));
    assert!(subject.path("a/b").is_dir());
}

fn an_exchange_may_not_replace_or_keep(subject: &Subject<'_>) {
    fs::write(subject.path("one"), b"1").unwrap();
    fs::write(subject.path("other"), b"2").unwrap();
    for flags in
        [RenameFlags::EXCHANGE | RenameFlags::NOREPLACE, RenameFlags::EXCHANGE | RenameFlags::WHITEOUT]
    {
        let both = renameat_with(CWD, subject.path("one"), CWD, subject.path("other"), flags);
        assert_eq!(both, Err(Errno::INVAL));
    }
    assert_eq!(fs::read(subject.path("one")).unwrap(), b"1");
}

fn an_exchange_leaves_two_objects(subject: &Subject<'_>) {
    fs::write(subject.path("one"), b"1").unwrap();
    fs::write(subject.path("other"), b"22").unwrap();
    exchange(subject, "one", "other").unwrap();
    let objects = subject.bucket().objects().unwrap();
    let found: Vec<_> = objects.iter().map(|object| (&*object.key, object.size)).collect();
    assert_eq!(found, [("one", 2), ("other", 1)]);
}
