//! Renaming files and directories, open or not, over others or not.

use rustix::fs::{Mode, OFlags, RawDir};
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use tarn_tests::subject::Subject;
use tarn_tests::suite::{Behaviour, On};
use tarn_tests::{behaviours, data};

pub(crate) const ALL: &[Behaviour] = behaviours!(
    On::EveryFileSystem,
    a_file_gets_its_new_name,
    a_file_moves_to_another_directory,
    rename_over_a_file_replaces_it,
    rename_over_open_file_keeps_reader,
    an_open_dirty_file_is_written_under_its_new_name,
    a_dirty_file_renamed_over_another_replaces_it,
    a_reader_of_a_renamed_file_reads_on,
    a_directory_with_content_moves,
    a_directory_moves_over_an_empty_one_only,
    a_file_open_in_a_renamed_directory_can_be_written,
    a_directory_cannot_move_into_itself,
    files_and_directories_do_not_replace_each_other,
    renaming_what_is_not_there_fails,
    renaming_to_itself_does_nothing,
    rename_without_replacing_refuses_an_existing_name,
    save_as_editors_do,
    a_rename_is_one_step_for_who_looks_on,
);

fn errno(result: io::Result<()>) -> Option<i32> {
    result.unwrap_err().raw_os_error()
}

fn is(errno: Errno) -> Option<i32> {
    Some(errno.raw_os_error())
}

fn a_file_gets_its_new_name(subject: &Subject<'_>) {
    for size in [0, 5, 9 << 20] {
        let bytes = data::bytes(size as u64, size);
        fs::write(subject.path("old"), &bytes).unwrap();
        fs::rename(subject.path("old"), subject.path("new")).unwrap();
        assert_eq!(fs::metadata(subject.path("old")).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(fs::read(subject.path("new")).unwrap() == bytes);
    }
}

fn a_file_moves_to_another_directory(subject: &Subject<'_>) {
    fs::create_dir(subject.path("a")).unwrap();
    fs::create_dir(subject.path("b")).unwrap();
    fs::write(subject.path("a/f"), b"content").unwrap();
    subject.remount().unwrap();
    fs::rename(subject.path("a/f"), subject.path("b/g")).unwrap();
    assert_eq!(fs::read(subject.path("b/g")).unwrap(), b"content");
    assert_eq!(fs::read_dir(subject.path("a")).unwrap().count(), 0);
}

fn rename_over_a_file_replaces_it(subject: &Subject<'_>) {
    fs::write(subject.path("old"), b"the new content").unwrap();
    fs::write(subject.path("target"), data::bytes(1, 100_000)).unwrap();
    fs::rename(subject.path("old"), subject.path("target")).unwrap();
    assert_eq!(fs::read(subject.path("target")).unwrap(), b"the new content");
    assert!(!subject.path("old").exists());
}

/// SEMANTICS: "A file that is removed or replaced here stays readable and writable through its open handles;
/// what is written to it then goes nowhere, as POSIX has it."
fn rename_over_open_file_keeps_reader(subject: &Subject<'_>) {
    let old = data::bytes(1, 2_000_000);
    fs::write(subject.path("target"), &old).unwrap();
    let mut reader = File::open(subject.path("target")).unwrap();
    let mut start = vec![0; 1000];
    reader.read_exact(&mut start).unwrap();
    fs::write(subject.path("new"), b"new").unwrap();
    fs::rename(subject.path("new"), subject.path("target")).unwrap();
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).unwrap();
    assert!(start == old[..1000] && rest == old[1000..], "the reader keeps the old file");
    assert_eq!(fs::read(subject.path("target")).unwrap(), b"new");
}

fn an_open_dirty_file_is_written_under_its_new_name(subject: &Subject<'_>) {
    let mut file = File::create(subject.path("old")).unwrap();
    file.write_all(b"before ").unwrap();
    fs::rename(subject.path("old"), subject.path("new")).unwrap();
    file.write_all(b"after").unwrap();
    drop(file);
    assert_eq!(fs::read(subject.path("new")).unwrap(), b"before after");
    assert!(!subject.path("old").exists());
}

fn a_dirty_file_renamed_over_another_replaces_it(subject: &Subject<'_>) {
    fs::write(subject.path("target"), b"target").unwrap();
    let mut file = File::create(subject.path("new")).unwrap();
    file.write_all(b"written ").unwrap();
    fs::rename(subject.path("new"), subject.path("target")).unwrap();
    file.write_all(b"on").unwrap();
    file.sync_all().unwrap();
    drop(file);
    assert_eq!(fs::read(subject.path("target")).unwrap(), b"written on");
    assert!(!subject.path("new").exists());
}

fn a_reader_of_a_renamed_file_reads_on(subject: &Subject<'_>) {
    let bytes = data::bytes(2, 3_000_000);
    fs::write(subject.path("old"), &bytes).unwrap();
    subject.remount().unwrap();
    let file = File::open(subject.path("old")).unwrap();
    fs::rename(subject.path("old"), subject.path("new")).unwrap();
    let mut read = vec![0; bytes.len()];
    file.read_exact_at(&mut read, 0).unwrap();
    assert!(read == bytes);
}

fn a_directory_with_content_moves(subject: &Subject<'_>) {
    fs::create_dir_all(subject.path("a/deep/er")).unwrap();
    fs::create_dir(subject.path("a/empty")).unwrap();
    for i in 0..30 {
        fs::write(subject.path(&format!("a/deep/f{i}")), data::bytes(i, 1000)).unwrap();
    }
    fs::write(subject.path("a/deep/er/last"), b"last").unwrap();
    fs::write(subject.path("ab"), b"a neighbour with the same start").unwrap();
    subject.remount().unwrap();
    fs::rename(subject.path("a"), subject.path("b")).unwrap();
    assert!(!subject.path("a").exists());
    for i in 0..30 {
        assert!(fs::read(subject.path(&format!("b/deep/f{i}"))).unwrap() == data::bytes(i, 1000), "{i}");
    }
    assert_eq!(fs::read(subject.path("b/deep/er/last")).unwrap(), b"last");
    assert!(subject.path("b/empty").is_dir());
    assert_eq!(fs::read(subject.path("ab")).unwrap(), b"a neighbour with the same start");
    subject.remount().unwrap();
    assert!(!subject.path("a").exists());
    assert!(subject.path("b/empty").is_dir());
}

/// SEMANTICS: "ENOTEMPTY: the target is a directory with entries."
fn a_directory_moves_over_an_empty_one_only(subject: &Subject<'_>) {
    fs::create_dir_all(subject.path("a")).unwrap();
    fs::write(subject.path("a/f"), b"f").unwrap();
    fs::create_dir(subject.path("empty")).unwrap();
    fs::create_dir(subject.path("full")).unwrap();
    fs::write(subject.path("full/g"), b"g").unwrap();
    let refused = errno(fs::rename(subject.path("a"), subject.path("full")));
    assert!(refused == is(Errno::NOTEMPTY) || refused == is(Errno::EXIST), "{refused:?}");
    fs::rename(subject.path("a"), subject.path("empty")).unwrap();
    assert_eq!(fs::read(subject.path("empty/f")).unwrap(), b"f");
    assert_eq!(fs::read(subject.path("full/g")).unwrap(), b"g");
}

fn a_file_open_in_a_renamed_directory_can_be_written(subject: &Subject<'_>) {
    fs::create_dir(subject.path("a")).unwrap();
    fs::write(subject.path("a/f"), b"old").unwrap();
    let mut dirty = File::create(subject.path("a/new")).unwrap();
    dirty.write_all(b"first ").unwrap();
    let mut existing = OpenOptions::new().append(true).open(subject.path("a/f")).unwrap();
    fs::rename(subject.path("a"), subject.path("b")).unwrap();
    dirty.write_all(b"second").unwrap();
    existing.write_all(b" and new").unwrap();
    drop((dirty, existing));
    assert_eq!(fs::read(subject.path("b/new")).unwrap(), b"first second");
    assert_eq!(fs::read(subject.path("b/f")).unwrap(), b"old and new");
}

/// SEMANTICS: "EINVAL: a directory does not move into itself."
fn a_directory_cannot_move_into_itself(subject: &Subject<'_>) {
    fs::create_dir_all(subject.path("a/b")).unwrap();
    assert_eq!(errno(fs::rename(subject.path("a"), subject.path("a/c"))), is(Errno::INVAL));
    assert_eq!(errno(fs::rename(subject.path("a"), subject.path("a/b/c"))), is(Errno::INVAL));
    assert!(subject.path("a/b").is_dir());
}

/// SEMANTICS: "EISDIR, ENOTDIR: a file and a directory do not replace each other."
fn files_and_directories_do_not_replace_each_other(subject: &Subject<'_>) {
    fs::create_dir(subject.path("d")).unwrap();
    fs::write(subject.path("f"), b"f").unwrap();
    assert_eq!(errno(fs::rename(subject.path("f"), subject.path("d"))), is(Errno::ISDIR));
    assert_eq!(errno(fs::rename(subject.path("d"), subject.path("f"))), is(Errno::NOTDIR));
    assert_eq!(errno(fs::rename(subject.path("f"), subject.path("f/x"))), is(Errno::NOTDIR));
}

fn renaming_what_is_not_there_fails(subject: &Subject<'_>) {
    assert_eq!(errno(fs::rename(subject.path("none"), subject.path("x"))), is(Errno::NOENT));
    fs::write(subject.path("f"), b"f").unwrap();
    assert_eq!(errno(fs::rename(subject.path("f"), subject.path("none/x"))), is(Errno::NOENT));
    assert_eq!(fs::read(subject.path("f")).unwrap(), b"f");
}

fn renaming_to_itself_does_nothing(subject: &Subject<'_>) {
    fs::write(subject.path("f"), b"f").unwrap();
    fs::rename(subject.path("f"), subject.path("f")).unwrap();
    assert_eq!(fs::read(subject.path("f")).unwrap(), b"f");
}

fn rename_without_replacing_refuses_an_existing_name(subject: &Subject<'_>) {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    fs::write(subject.path("a"), b"a").unwrap();
    fs::write(subject.path("b"), b"b").unwrap();
    let rename =
        |to: &str| renameat_with(CWD, subject.path("a"), CWD, subject.path(to), RenameFlags::NOREPLACE);
    assert_eq!(rename("b"), Err(Errno::EXIST));
    rename("c").unwrap();
    assert_eq!(fs::read(subject.path("b")).unwrap(), b"b");
    assert_eq!(fs::read(subject.path("c")).unwrap(), b"a");
}

fn save_as_editors_do(subject: &Subject<'_>) {
    fs::write(subject.path("text"), b"version 0").unwrap();
    for version in 1..20 {
        let mut temporary = File::create_new(subject.path("text.tmp")).unwrap();
        write!(temporary, "version {version}").unwrap();
        temporary.sync_all().unwrap();
        drop(temporary);
        fs::rename(subject.path("text"), subject.path("text~")).unwrap();
        fs::rename(subject.path("text.tmp"), subject.path("text")).unwrap();
        assert_eq!(fs::read_to_string(subject.path("text")).unwrap(), format!("version {version}"));
        assert_eq!(fs::read_to_string(subject.path("text~")).unwrap(), format!("version {}", version - 1));
    }
}

/// What one system call shows of a directory.
fn seen_at_once(subject: &Subject<'_>) -> Vec<String> {
    let dir = rustix::fs::open(subject.root(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut raw = RawDir::new(dir, &mut buffer);
    let mut names = Vec::new();
    while let Some(entry) = raw.next() {
        names.push(entry.unwrap().file_name().to_str().unwrap().to_owned());
        if raw.is_buffer_empty() {
            break;
        }
    }
    names.retain(|name| name != "." && name != "..");
    names
}

/// SEMANTICS: "Other nodes see the new name before the old one goes; local processes see one step."
fn a_rename_is_one_step_for_who_looks_on(subject: &Subject<'_>) {
    fs::write(subject.path("one"), b"content").unwrap();
    let done = AtomicBool::new(false);
    let wrong = std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let looks = std::iter::from_fn(|| (!done.load(Ordering::Relaxed)).then(|| seen_at_once(subject)));
            looks.filter(|names| names != &["one"] && names != &["other"]).collect::<Vec<_>>()
        });
        let renamed = (0..50).try_for_each(|_| {
            fs::rename(subject.path("one"), subject.path("other"))?;
            fs::rename(subject.path("other"), subject.path("one"))
        });
        done.store(true, Ordering::Relaxed);
        renamed.unwrap();
        watch.join().unwrap()
    });
    assert_eq!(wrong, [[""; 0]; 0], "neither both names nor none");
}
