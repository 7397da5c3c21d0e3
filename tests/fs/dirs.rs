//! Directories: making, removing, listing; and removing files.

use rustix::fs::{Mode, OFlags, RawDir};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::fs::FileExt;
use std::path::Path;
use tarn_tests::subject::Subject;
use tarn_tests::suite::{Behaviour, On};
use tarn_tests::{behaviours, data};

pub(crate) const ALL: &[Behaviour] = behaviours!(
    On::EveryFileSystem,
    a_directory_is_made_listed_and_removed,
    an_empty_directory_survives_a_remount,
    a_directory_stays_when_its_last_file_goes,
    a_directory_with_content_is_not_removed,
    wrong_kinds_are_refused,
    what_is_not_there_is_not_found_until_it_is,
    listings_of_0_1_and_3000_files_are_complete,
    a_listing_goes_on_where_a_cookie_points,
    files_created_and_removed_while_listing_disturb_no_other,
    a_listing_says_what_each_entry_is,
    a_removed_file_is_gone,
    data_of_a_removed_open_file_stays_readable_and_writable,
    a_new_file_takes_the_name_of_a_removed_open_one,
    a_removed_file_that_was_never_closed_leaves_nothing,
    a_whole_tree_is_removed,
);

fn errno<T: std::fmt::Debug>(result: io::Result<T>) -> Option<i32> {
    result.unwrap_err().raw_os_error()
}

fn is(errno: Errno) -> Option<i32> {
    Some(errno.raw_os_error())
}

fn names(dir: &Path) -> BTreeSet<String> {
    let all: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let set: BTreeSet<String> = all.iter().map(|name| name.to_str().unwrap().to_owned()).collect();
    assert_eq!(all.len(), set.len(), "no name twice");
    set
}

fn a_directory_is_made_listed_and_removed(subject: &Subject<'_>) {
    fs::create_dir(subject.path("d")).unwrap();
    assert!(subject.path("d").is_dir());
    assert_eq!(names(subject.root()), BTreeSet::from(["d".to_owned()]));
    assert_eq!(errno(fs::create_dir(subject.path("d"))), is(Errno::EXIST));
    fs::remove_dir(subject.path("d")).unwrap();
    assert!(!subject.path("d").exists());
    assert!(names(subject.root()).is_empty());
    // The name is free for a file now.
    fs::write(subject.path("d"), b"a file").unwrap();
    assert_eq!(fs::read(subject.path("d")).unwrap(), b"a file");
}

fn an_empty_directory_survives_a_remount(subject: &Subject<'_>) {
    fs::create_dir_all(subject.path("a/b/c")).unwrap();
    subject.remount().unwrap();
    assert!(subject.path("a/b/c").is_dir());
    assert!(names(&subject.path("a/b/c")).is_empty());
}

fn a_directory_stays_when_its_last_file_goes(subject: &Subject<'_>) {
    fs::create_dir(subject.path("d")).unwrap();
    fs::write(subject.path("d/f"), b"f").unwrap();
    fs::remove_file(subject.path("d/f")).unwrap();
    assert!(subject.path("d").is_dir());
    subject.remount().unwrap();
    assert!(subject.path("d").is_dir());
    fs::rename(subject.path("d"), subject.path("e")).unwrap();
    assert!(subject.path("e").is_dir());
}

fn a_directory_with_content_is_not_removed(subject: &Subject<'_>) {
    fs::create_dir_all(subject.path("d/sub")).unwrap();
    assert_eq!(errno(fs::remove_dir(subject.path("d"))), is(Errno::NOTEMPTY));
    fs::remove_dir(subject.path("d/sub")).unwrap();
    fs::write(subject.path("d/f"), b"f").unwrap();
    assert_eq!(errno(fs::remove_dir(subject.path("d"))), is(Errno::NOTEMPTY));
    fs::remove_file(subject.path("d/f")).unwrap();
    // A file that is only open and not closed yet counts as well.
    let file = File::create(subject.path("d/open")).unwrap();
    assert_eq!(errno(fs::remove_dir(subject.path("d"))), is(Errno::NOTEMPTY));
    drop(file);
    fs::remove_file(subject.path("d/open")).unwrap();
    fs::remove_dir(subject.path("d")).unwrap();
}

fn wrong_kinds_are_refused(subject: &Subject<'_>) {
    fs::write(subject.path("f"), b"f").unwrap();
    fs::create_dir(subject.path("d")).unwrap();
    assert_eq!(errno(fs::remove_dir(subject.path("f"))), is(Errno::NOTDIR));
    assert_eq!(errno(fs::remove_file(subject.path("d"))), is(Errno::ISDIR));
    assert_eq!(errno(File::create(subject.path("d"))), is(Errno::ISDIR));
    assert_eq!(errno(fs::read(subject.path("d"))), is(Errno::ISDIR));
    assert_eq!(errno(fs::read_dir(subject.path("f"))), is(Errno::NOTDIR));
    assert_eq!(errno(fs::metadata(subject.path("f/x"))), is(Errno::NOTDIR));
    assert_eq!(errno(fs::create_dir(subject.path("f/x"))), is(Errno::NOTDIR));
    assert_eq!(errno(fs::create_dir(subject.path("f"))), is(Errno::EXIST));
}

fn what_is_not_there_is_not_found_until_it_is(subject: &Subject<'_>) {
    for _ in 0..3 {
        assert_eq!(errno(fs::metadata(subject.path("later"))), is(Errno::NOENT));
        assert_eq!(errno(File::open(subject.path("later"))), is(Errno::NOENT));
    }
    assert_eq!(errno(File::create(subject.path("none/f"))), is(Errno::NOENT));
    assert_eq!(errno(fs::remove_file(subject.path("later"))), is(Errno::NOENT));
    assert_eq!(errno(fs::remove_dir(subject.path("later"))), is(Errno::NOENT));
    assert_eq!(errno(fs::create_dir(subject.path("none/d"))), is(Errno::NOENT));
    fs::write(subject.path("later"), b"now").unwrap();
    assert_eq!(fs::read(subject.path("later")).unwrap(), b"now");
    fs::remove_file(subject.path("later")).unwrap();
    assert_eq!(errno(fs::metadata(subject.path("later"))), is(Errno::NOENT));
}

fn listings_of_0_1_and_3000_files_are_complete(subject: &Subject<'_>) {
    for count in [0, 1, 3000] {
        let dir = subject.path(&format!("d{count}"));
        fs::create_dir(&dir).unwrap();
        let expected: BTreeSet<String> = (0..count).map(|i| format!("file-{i:05}")).collect();
        for name in &expected {
            File::create(dir.join(name)).unwrap();
        }
        assert!(names(&dir) == expected, "{count}");
    }
    subject.remount().unwrap();
    assert_eq!(names(&subject.path("d0")).len(), 0);
    assert_eq!(names(&subject.path("d1")).len(), 1);
    assert_eq!(names(&subject.path("d3000")).len(), 3000);
}

/// Lists by the bare system call: names with the cookie to go on after each.
fn entries(dir: &rustix::fd::OwnedFd) -> Vec<(String, u64)> {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut raw = RawDir::new(dir, &mut buffer);
    let mut all = Vec::new();
    while let Some(entry) = raw.next() {
        let entry = entry.unwrap();
        all.push((entry.file_name().to_str().unwrap().to_owned(), entry.next_entry_cookie()));
    }
    all
}

fn a_listing_goes_on_where_a_cookie_points(subject: &Subject<'_>) {
    for i in 0..500 {
        File::create(subject.path(&format!("f{i}"))).unwrap();
    }
    let dir = rustix::fs::open(subject.root(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    let all = entries(&dir);
    assert_eq!(all.len(), 502, "with . and ..");
    for at in [0, 1, 2, 250, 499, 500] {
        // As seekdir() does: the cookie of an entry leads to the one after it.
        rustix::fs::seek(&dir, rustix::fs::SeekFrom::Start(all[at].1)).unwrap();
        let rest: Vec<String> = entries(&dir).into_iter().map(|entry| entry.0).collect();
        let expected: Vec<String> = all[at + 1..].iter().map(|entry| entry.0.clone()).collect();
        assert!(rest == expected, "after entry {at}: {} instead of {}", rest.len(), expected.len());
    }
    rustix::fs::seek(&dir, rustix::fs::SeekFrom::Start(0)).unwrap();
    assert_eq!(entries(&dir).len(), 502, "rewound");
}

fn files_created_and_removed_while_listing_disturb_no_other(subject: &Subject<'_>) {
    for i in 0..1000 {
        File::create(subject.path(&format!("stays-{i:04}"))).unwrap();
        File::create(subject.path(&format!("goes-{i:04}"))).unwrap();
    }
    let mut seen = Vec::new();
    for (count, entry) in fs::read_dir(subject.root()).unwrap().enumerate() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if count % 10 == 0 && count < 1000 {
            File::create(subject.path(&format!("comes-{count:04}"))).unwrap();
            fs::remove_file(subject.path(&format!("goes-{count:04}"))).unwrap();
        }
        seen.push(name);
    }
    let distinct: BTreeSet<&String> = seen.iter().collect();
    assert_eq!(distinct.len(), seen.len(), "no name twice");
    let stayed = seen.iter().filter(|name| name.starts_with("stays-")).count();
    assert_eq!(stayed, 1000, "who was there all the time is listed");
    assert_eq!(names(subject.root()).len(), 2000);
}

fn a_listing_says_what_each_entry_is(subject: &Subject<'_>) {
    fs::create_dir(subject.path("d")).unwrap();
    fs::write(subject.path("f"), b"12345").unwrap();
    for entry in fs::read_dir(subject.root()).unwrap() {
        let entry = entry.unwrap();
        let is_dir = entry.file_name() == "d";
        assert_eq!(entry.file_type().unwrap().is_dir(), is_dir);
        assert_eq!(entry.metadata().unwrap().is_dir(), is_dir);
        assert!(is_dir || entry.metadata().unwrap().len() == 5);
    }
}

fn a_removed_file_is_gone(subject: &Subject<'_>) {
    fs::write(subject.path("f"), b"f").unwrap();
    subject.remount().unwrap();
    fs::remove_file(subject.path("f")).unwrap();
    assert_eq!(errno(fs::read(subject.path("f"))), is(Errno::NOENT));
    assert!(names(subject.root()).is_empty());
    subject.remount().unwrap();
    assert!(names(subject.root()).is_empty());
}

/// SEMANTICS: "A file that is removed or replaced here stays readable and writable through its open handles;
/// what is written to it then goes nowhere, as POSIX has it."
fn data_of_a_removed_open_file_stays_readable_and_writable(subject: &Subject<'_>) {
    let bytes = data::bytes(1, 1_500_000);
    fs::write(subject.path("f"), &bytes).unwrap();
    let file = OpenOptions::new().read(true).write(true).open(subject.path("f")).unwrap();
    fs::remove_file(subject.path("f")).unwrap();
    let mut read = vec![0; bytes.len()];
    file.read_exact_at(&mut read, 0).unwrap();
    assert!(read == bytes);
    file.write_all_at(b"still here", 1_499_995).unwrap();
    let mut end = [0; 10];
    file.read_exact_at(&mut end, 1_499_995).unwrap();
    assert_eq!(&end, b"still here");
    assert_eq!(file.metadata().unwrap().len(), 1_500_005);
    file.sync_all().unwrap();
    drop(file);
    assert!(names(subject.root()).is_empty());
}

/// SEMANTICS: "A file that is removed or replaced here stays readable and writable through its open handles;
/// what is written to it then goes nowhere, as POSIX has it."
fn a_new_file_takes_the_name_of_a_removed_open_one(subject: &Subject<'_>) {
    fs::write(subject.path("f"), b"old").unwrap();
    let old = OpenOptions::new().read(true).write(true).open(subject.path("f")).unwrap();
    fs::remove_file(subject.path("f")).unwrap();
    fs::write(subject.path("f"), b"new").unwrap();
    old.write_all_at(b"OLD", 0).unwrap();
    let mut read = [0; 3];
    old.read_exact_at(&mut read, 0).unwrap();
    assert_eq!(&read, b"OLD");
    drop(old);
    assert_eq!(fs::read(subject.path("f")).unwrap(), b"new");
}

fn a_removed_file_that_was_never_closed_leaves_nothing(subject: &Subject<'_>) {
    let file = File::create(subject.path("f")).unwrap();
    file.write_all_at(&data::bytes(2, 100_000), 0).unwrap();
    fs::remove_file(subject.path("f")).unwrap();
    file.write_all_at(b"more", 100_000).unwrap();
    drop(file);
    assert!(names(subject.root()).is_empty());
    subject.remount().unwrap();
    assert!(names(subject.root()).is_empty());
}

fn a_whole_tree_is_removed(subject: &Subject<'_>) {
    for i in 0..10 {
        let dir = subject.path(&format!("t/d{i}/sub"));
        fs::create_dir_all(&dir).unwrap();
        for j in 0..10 {
            fs::write(dir.join(format!("f{j}")), data::bytes(j, 100)).unwrap();
        }
    }
    subject.remount().unwrap();
    fs::remove_dir_all(subject.path("t")).unwrap();
    assert!(names(subject.root()).is_empty());
}
