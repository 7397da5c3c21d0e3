//! Handles and mappings: duplicates, children, threads, shared memory.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};
use tarn_tests::mapping::Mapping;
use tarn_tests::mount::CHANGE_LIMIT;
use tarn_tests::subject::Subject;
use tarn_tests::suite::{Behaviour, On};
use tarn_tests::{behaviours, data, run};

pub(crate) const ALL: &[Behaviour] = behaviours!(
    On::EveryFileSystem,
    a_duplicate_handle_writes_on_after_the_first_is_closed,
    a_child_that_inherits_a_handle_and_ends_does_not_end_it,
    a_child_writes_to_an_inherited_handle,
    a_write_through_a_mapping_is_in_the_file,
    a_mapping_written_after_close_is_committed,
    a_mapping_sees_what_a_handle_writes,
    a_private_read_of_a_large_file_through_a_mapping,
    many_threads_read_one_file,
    many_threads_write_files_of_their_own,
    many_threads_write_disjoint_parts_of_one_file,
    fsync_before_close_and_more_writes_after_it,
    a_hundred_handles_on_one_file,
    a_running_program_is_not_opened_for_writing,
    a_file_is_no_terminal_and_always_ready,
);

/// SEMANTICS: "Every file is ready at once for select and poll, and `ioctl(2)` answers ENOTTY."
fn a_file_is_no_terminal_and_always_ready(subject: &Subject<'_>) {
    fs::write(subject.path("f"), b"text").unwrap();
    let file = File::open(subject.path("f")).unwrap();
    for _ in 0..2 {
        assert_eq!(rustix::termios::tcgetattr(&file).unwrap_err(), rustix::io::Errno::NOTTY);
        let mut polled = [PollFd::new(&file, PollFlags::IN | PollFlags::OUT)];
        assert_eq!(poll(&mut polled, Some(&Timespec::default())).unwrap(), 1);
        assert!(polled[0].revents().contains(PollFlags::IN));
    }
}

fn a_duplicate_handle_writes_on_after_the_first_is_closed(subject: &Subject<'_>) {
    let mut first = File::create(subject.path("f")).unwrap();
    first.write_all(b"first ").unwrap();
    let mut second = first.try_clone().unwrap();
    drop(first);
    assert_eq!(fs::read(subject.path("f")).unwrap(), b"first ");
    second.write_all(b"second").unwrap();
    drop(second);
    assert_eq!(fs::read(subject.path("f")).unwrap(), b"first second");
}

fn a_child_that_inherits_a_handle_and_ends_does_not_end_it(subject: &Subject<'_>) {
    let mut file = File::create(subject.path("f")).unwrap();
    file.write_all(b"before ").unwrap();
    // The child's end closes its copy: a flush in the middle of our writing.
    let status = Command::new("true").stdout(Stdio::from(file.try_clone().unwrap())).status().unwrap();
    assert!(status.success());
    file.write_all(b"after").unwrap();
    drop(file);
    assert_eq!(fs::read(subject.path("f")).unwrap(), b"before after");
}

fn a_child_writes_to_an_inherited_handle(subject: &Subject<'_>) {
    let file = File::create(subject.path("f")).unwrap();
    let status = Command::new("sh").args(["-c", "echo one; echo two; echo three"]).stdout(file).status();
    assert!(status.unwrap().success());
    let status =
        Command::new("sh").arg("-c").arg("echo four >> \"$0\"").arg(subject.path("f")).status().unwrap();
    assert!(status.success());
    assert_eq!(fs::read_to_string(subject.path("f")).unwrap(), "one\ntwo\nthree\nfour\n");
}

fn read_write(subject: &Subject<'_>, name: &str) -> File {
    OpenOptions::new().read(true).write(true).open(subject.path(name)).unwrap()
}

fn a_write_through_a_mapping_is_in_the_file(subject: &Subject<'_>) {
    let mut expected = data::bytes(1, 1 << 20);
    fs::write(subject.path("f"), &expected).unwrap();
    subject.remount().unwrap();
    let file = read_write(subject, "f");
    let mut mapping = Mapping::shared(&file, 1 << 20).unwrap();
    assert!(mapping.read(0, 1 << 20) == expected);
    for offset in [0, 4095, 300_000, (1 << 20) - 10] {
        mapping.write(offset, b"0123456789");
        expected[offset..offset + 10].copy_from_slice(b"0123456789");
    }
    mapping.sync().unwrap();
    assert!(fs::read(subject.path("f")).unwrap() == expected);
    drop(mapping);
    drop(file);
    assert!(fs::read(subject.path("f")).unwrap() == expected);
    subject.remount().unwrap();
    assert!(fs::read(subject.path("f")).unwrap() == expected);
}

/// Written after close(2) and before munmap(2), without msync(2): the last that a file can change.
fn a_mapping_written_after_close_is_committed(subject: &Subject<'_>) {
    for (name, size) in [("small", 8192), ("large", 12 << 20)] {
        let mut expected = data::bytes(2, size);
        fs::write(subject.path(name), &expected).unwrap();
        let file = read_write(subject, name);
        let mut mapping = Mapping::shared(&file, size).unwrap();
        drop(file);
        mapping.write(size - 100, b"after close");
        expected[size - 100..size - 89].copy_from_slice(b"after close");
        drop(mapping);
        assert!(fs::read(subject.path(name)).unwrap() == expected, "{name} at once");
        subject.remount().unwrap();
        assert!(fs::read(subject.path(name)).unwrap() == expected, "{name} after a remount");
    }
}

fn a_mapping_sees_what_a_handle_writes(subject: &Subject<'_>) {
    fs::write(subject.path("f"), [b'.'; 8192]).unwrap();
    let file = read_write(subject, "f");
    let mut mapping = Mapping::shared(&file, 8192).unwrap();
    assert_eq!(mapping.read(5000, 3), b"...");
    file.write_all_at(b"abc", 5000).unwrap();
    assert_eq!(mapping.read(5000, 3), b"abc");
    mapping.write(100, b"xyz");
    let mut read = [0; 3];
    file.read_exact_at(&mut read, 100).unwrap();
    assert_eq!(&read, b"xyz");
}

fn a_private_read_of_a_large_file_through_a_mapping(subject: &Subject<'_>) {
    let expected = data::bytes(3, 16 << 20);
    fs::write(subject.path("f"), &expected).unwrap();
    subject.remount().unwrap();
    let file = read_write(subject, "f");
    let mapping = Mapping::shared(&file, 16 << 20).unwrap();
    for offset in [15 << 20, 0, 7 << 20, 3] {
        assert!(mapping.read(offset, 100_000) == expected[offset..offset + 100_000], "{offset}");
    }
}

fn many_threads_read_one_file(subject: &Subject<'_>) {
    let expected = data::bytes(4, 24 << 20);
    fs::write(subject.path("f"), &expected).unwrap();
    subject.remount().unwrap();
    let file = File::open(subject.path("f")).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..16 {
            let (file, expected, path) = (&file, &expected, subject.path("f"));
            scope.spawn(move || {
                let own = File::open(path).unwrap();
                let file = if thread % 2 == 0 { file } else { &own };
                let mut buffer = vec![0; 200_000];
                for offset in data::numbers(thread, 23 << 20).take(40) {
                    let count = file.read_at(&mut buffer, offset).unwrap();
                    let start = offset as usize;
                    assert!(count > 0 && buffer[..count] == expected[start..start + count], "{offset}");
                }
            });
        }
    });
}

fn many_threads_write_files_of_their_own(subject: &Subject<'_>) {
    std::thread::scope(|scope| {
        for thread in 0..8_u64 {
            scope.spawn(move || {
                fs::create_dir(subject.path(&format!("d{thread}"))).unwrap();
                for i in 0..20 {
                    let bytes = data::bytes(thread * 100 + i, (i as usize * 30_000) + 1);
                    fs::write(subject.path(&format!("d{thread}/f{i}")), bytes).unwrap();
                }
            });
        }
    });
    for thread in 0..8_u64 {
        for i in 0..20 {
            let expected = data::bytes(thread * 100 + i, (i as usize * 30_000) + 1);
            assert!(fs::read(subject.path(&format!("d{thread}/f{i}"))).unwrap() == expected);
        }
    }
}

fn many_threads_write_disjoint_parts_of_one_file(subject: &Subject<'_>) {
    const PART: usize = 1_300_001;
    let file = File::create(subject.path("f")).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let file = &file;
            scope.spawn(move || {
                let bytes = data::bytes(thread as u64, PART);
                for (i, piece) in bytes.chunks(70_000).enumerate() {
                    file.write_all_at(piece, (thread * PART + i * 70_000) as u64).unwrap();
                }
            });
        }
    });
    drop(file);
    let expected: Vec<u8> = (0..8).flat_map(|thread| data::bytes(thread, PART)).collect();
    assert!(fs::read(subject.path("f")).unwrap() == expected);
}

fn fsync_before_close_and_more_writes_after_it(subject: &Subject<'_>) {
    let mut file = File::create(subject.path("f")).unwrap();
    let mut expected = Vec::new();
    for round in 0..10 {
        let bytes = data::bytes(round, 50_000);
        file.write_all(&bytes).unwrap();
        expected.extend_from_slice(&bytes);
        file.sync_all().unwrap();
        if subject.is_tarn() {
            assert!(subject.bucket().get("f").unwrap() == expected, "fsync means in the bucket, {round}");
        }
    }
    file.write_all(b"last").unwrap();
    drop(file);
    expected.extend_from_slice(b"last");
    assert!(fs::read(subject.path("f")).unwrap() == expected);
}

fn a_hundred_handles_on_one_file(subject: &Subject<'_>) {
    fs::write(subject.path("f"), [b'.'; 100]).unwrap();
    let handles: Vec<File> = (0..100).map(|_| read_write(subject, "f")).collect();
    for (i, handle) in handles.iter().enumerate() {
        handle.write_all_at(b"x", i as u64).unwrap();
    }
    drop(handles);
    assert_eq!(fs::read(subject.path("f")).unwrap(), [b'x'; 100]);
}

/// SEMANTICS: "A program that runs cannot be opened for writing (ETXTBSY)."
fn a_running_program_is_not_opened_for_writing(subject: &Subject<'_>) {
    let path = subject.path("cat");
    run::must(run::command("cp").arg("/bin/cat").arg(&path), CHANGE_LIMIT).unwrap();
    let mut child = Command::new(&path).stdin(Stdio::piped()).spawn().unwrap();
    let error = OpenOptions::new().write(true).open(&path).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::TXTBSY.raw_os_error()));
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    OpenOptions::new().write(true).open(&path).unwrap();
}
