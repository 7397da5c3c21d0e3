//! Creating, writing and reading: any offset, any size, any number of handles.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use tarn_tests::subject::Subject;
use tarn_tests::suite::{Behaviour, On};
use tarn_tests::{behaviours, data};

pub(crate) const ALL: &[Behaviour] = behaviours!(
    On::EveryFileSystem,
    a_new_file_reads_back,
    an_empty_file_is_a_file,
    a_write_at_any_offset_changes_only_its_bytes,
    a_write_beyond_the_end_leaves_zeros_between,
    a_file_of_several_blocks_is_edited_in_place_after_a_remount,
    append_always_writes_at_the_end,
    append_to_an_existing_file_keeps_what_was_there,
    a_file_emptied_right_after_it_was_read_has_what_was_written,
    opening_with_truncation_drops_the_old_content,
    exclusive_creation_fails_on_an_existing_file,
    reading_past_the_end_is_short_and_then_empty,
    reading_a_handle_opened_for_writing_only_is_refused,
    writes_are_visible_to_another_handle_before_close,
    a_reader_that_was_opened_before_sees_what_is_written,
    two_writing_handles_both_count,
    a_file_written_in_odd_pieces_is_right,
);

fn a_new_file_reads_back(subject: &Subject<'_>) {
    for (name, size) in [("one", 1), ("page", 4096), ("block", 256 << 10), ("odd", (1 << 20) + 7)] {
        let bytes = data::bytes(size as u64, size);
        fs::write(subject.path(name), &bytes).unwrap();
        assert!(fs::read(subject.path(name)).unwrap() == bytes, "{name} right after writing");
        assert_eq!(fs::metadata(subject.path(name)).unwrap().len(), size as u64);
    }
    subject.remount().unwrap();
    for (name, size) in [("one", 1), ("page", 4096), ("block", 256 << 10), ("odd", (1 << 20) + 7)] {
        assert!(
            fs::read(subject.path(name)).unwrap() == data::bytes(size as u64, size),
            "{name} after a remount"
        );
    }
}

fn an_empty_file_is_a_file(subject: &Subject<'_>) {
    File::create(subject.path("empty")).unwrap();
    assert_eq!(fs::read(subject.path("empty")).unwrap(), b"");
    subject.remount().unwrap();
    let metadata = fs::metadata(subject.path("empty")).unwrap();
    assert!(metadata.is_file());
    assert_eq!(metadata.len(), 0);
}

fn a_write_at_any_offset_changes_only_its_bytes(subject: &Subject<'_>) {
    let mut expected = data::bytes(1, 300_000);
    fs::write(subject.path("f"), &expected).unwrap();
    let file = OpenOptions::new().read(true).write(true).open(subject.path("f")).unwrap();
    for (round, offset) in data::numbers(2, 299_000).take(50).enumerate() {
        let patch = data::bytes(100 + round as u64, 1 + round * 17);
        file.write_all_at(&patch, offset).unwrap();
        expected[offset as usize..offset as usize + patch.len()].copy_from_slice(&patch);
    }
    drop(file);
    assert!(fs::read(subject.path("f")).unwrap() == expected);
    subject.remount().unwrap();
    assert!(fs::read(subject.path("f")).unwrap() == expected);
}

fn a_write_beyond_the_end_leaves_zeros_between(subject: &Subject<'_>) {
    let file = File::create(subject.path("f")).unwrap();
    file.write_all_at(b"head", 0).unwrap();
    file.write_all_at(b"tail", 1 << 20).unwrap();
    drop(file);
    let mut expected = vec![0; (1 << 20) + 4];
    expected[..4].copy_from_slice(b"head");
    expected[1 << 20..].copy_from_slice(b"tail");
    assert!(fs::read(subject.path("f")).unwrap() == expected);
}

fn a_file_of_several_blocks_is_edited_in_place_after_a_remount(subject: &Subject<'_>) {
    let mut expected = data::bytes(3, 20 << 20);
    fs::write(subject.path("f"), &expected).unwrap();
    subject.remount().unwrap();
    let file = OpenOptions::new().write(true).open(subject.path("f")).unwrap();
    for offset in [0, 8 << 20, (16 << 20) - 3, (20 << 20) - 1] {
        let patch = data::bytes(offset, 5);
        file.write_all_at(&patch, offset).unwrap();
        let end = offset as usize + patch.len();
        expected.resize(expected.len().max(end), 0);
        expected[offset as usize..end].copy_from_slice(&patch);
    }
    drop(file);
    assert!(fs::read(subject.path("f")).unwrap() == expected);
    subject.remount().unwrap();
    assert!(fs::read(subject.path("f")).unwrap() == expected);
}

fn append_always_writes_at_the_end(subject: &Subject<'_>) {
    let mut first = OpenOptions::new().append(true).create(true).open(subject.path("log")).unwrap();
    let mut second = OpenOptions::new().append(true).open(subject.path("log")).unwrap();
    first.write_all(b"one ").unwrap();
    second.write_all(b"two ").unwrap();
    first.seek(SeekFrom::Start(0)).unwrap();
    first.write_all(b"three").unwrap();
    drop((first, second));
    assert_eq!(fs::read(subject.path("log")).unwrap(), b"one two three");
}

fn append_to_an_existing_file_keeps_what_was_there(subject: &Subject<'_>) {
    let mut expected = data::bytes(4, 400_001);
    fs::write(subject.path("log"), &expected).unwrap();
    for round in 0..3 {
        subject.remount().unwrap();
        let mut file = OpenOptions::new().append(true).open(subject.path("log")).unwrap();
        let line = data::bytes(50 + round, 1000);
        file.write_all(&line).unwrap();
        expected.extend_from_slice(&line);
    }
    assert!(fs::read(subject.path("log")).unwrap() == expected);
}

/// The kernel reports a close some time after it: what is opened meanwhile must not get the old file.
fn a_file_emptied_right_after_it_was_read_has_what_was_written(subject: &Subject<'_>) {
    for round in 0..200 {
        let (path, written) = (subject.path(&format!("f{round}")), format!("written again {round}"));
        fs::write(&path, "written first, and longer than the second").unwrap();
        assert!(fs::read(&path).unwrap().starts_with(b"written first"), "{round}");
        assert_eq!(fs::metadata(&path).unwrap().len(), 41);
        assert!(fs::read(&path).unwrap().starts_with(b"written first"), "{round}");
        fs::write(&path, &written).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), written);
    }
}

fn opening_with_truncation_drops_the_old_content(subject: &Subject<'_>) {
    fs::write(subject.path("f"), data::bytes(5, 1 << 20)).unwrap();
    let mut file = File::create(subject.path("f")).unwrap();
    assert_eq!(fs::metadata(subject.path("f")).unwrap().len(), 0);
    file.write_all(b"new").unwrap();
    drop(file);
    assert_eq!(fs::read(subject.path("f")).unwrap(), b"new");
    // Truncation alone, without a write, is a change too.
    drop(File::create(subject.path("f")).unwrap());
    assert_eq!(fs::read(subject.path("f")).unwrap(), b"");
}

fn exclusive_creation_fails_on_an_existing_file(subject: &Subject<'_>) {
    fs::write(subject.path("f"), b"old").unwrap();
    let error = File::create_new(subject.path("f")).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(fs::read(subject.path("f")).unwrap(), b"old");
}

fn reading_past_the_end_is_short_and_then_empty(subject: &Subject<'_>) {
    fs::write(subject.path("f"), b"0123456789").unwrap();
    let file = File::open(subject.path("f")).unwrap();
    let mut buffer = [0; 100];
    assert_eq!(file.read_at(&mut buffer, 6).unwrap(), 4);
    assert_eq!(&buffer[..4], b"6789");
    assert_eq!(file.read_at(&mut buffer, 10).unwrap(), 0);
    assert_eq!(file.read_at(&mut buffer, 1 << 30).unwrap(), 0);
}

fn reading_a_handle_opened_for_writing_only_is_refused(subject: &Subject<'_>) {
    let mut file = File::create(subject.path("f")).unwrap();
    let error = file.read(&mut [0; 4]).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::BADF.raw_os_error()));
}

fn writes_are_visible_to_another_handle_before_close(subject: &Subject<'_>) {
    let file = File::create(subject.path("f")).unwrap();
    file.write_all_at(b"first", 0).unwrap();
    assert_eq!(fs::read(subject.path("f")).unwrap(), b"first");
    file.write_all_at(b"FIRST and more", 0).unwrap();
    assert_eq!(fs::read(subject.path("f")).unwrap(), b"FIRST and more");
    assert_eq!(fs::metadata(subject.path("f")).unwrap().len(), 14);
}

fn a_reader_that_was_opened_before_sees_what_is_written(subject: &Subject<'_>) {
    fs::write(subject.path("f"), b"old old old").unwrap();
    let reader = File::open(subject.path("f")).unwrap();
    let mut buffer = [0; 11];
    reader.read_exact_at(&mut buffer, 0).unwrap();
    let writer = OpenOptions::new().write(true).open(subject.path("f")).unwrap();
    writer.write_all_at(b"new", 4).unwrap();
    reader.read_exact_at(&mut buffer, 0).unwrap();
    assert_eq!(&buffer, b"old new old");
}

fn two_writing_handles_both_count(subject: &Subject<'_>) {
    fs::write(subject.path("f"), [b'.'; 20]).unwrap();
    let first = OpenOptions::new().write(true).open(subject.path("f")).unwrap();
    let second = OpenOptions::new().write(true).open(subject.path("f")).unwrap();
    first.write_all_at(b"first", 0).unwrap();
    second.write_all_at(b"second", 10).unwrap();
    drop(first);
    second.write_all_at(b"!", 19).unwrap();
    drop(second);
    assert_eq!(fs::read(subject.path("f")).unwrap(), b"first.....second...!");
}

fn a_file_written_in_odd_pieces_is_right(subject: &Subject<'_>) {
    let expected = data::bytes(6, 9_000_000);
    let mut file = File::create(subject.path("f")).unwrap();
    let mut rest = &expected[..];
    for size in data::numbers(7, 200_000) {
        if rest.is_empty() {
            break;
        }
        let (piece, after) = rest.split_at((size as usize + 1).min(rest.len()));
        file.write_all(piece).unwrap();
        rest = after;
    }
    drop(file);
    assert!(fs::read(subject.path("f")).unwrap() == expected);
}
