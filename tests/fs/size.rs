//! Sizes and holes: truncate, fallocate, SEEK_DATA and SEEK_HOLE, copy_file_range.

use rustix::fs::{FallocateFlags, SeekFrom, copy_file_range, fallocate, seek};
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use tarn_tests::subject::Subject;
use tarn_tests::suite::{Behaviour, On};
use tarn_tests::{behaviours, data};

pub(crate) const ALL: &[Behaviour] = behaviours!(
    On::EveryFileSystem,
    truncate_by_path_shrinks_and_grows_a_closed_file,
    truncate_by_handle_shrinks_and_grows,
    truncate_and_grow_again_reads_zeros_not_the_old_bytes,
    truncate_of_a_directory_or_of_nothing_fails,
    fallocate_grows_the_file_with_zeros,
    fallocate_keeping_the_size_keeps_it,
    punching_a_hole_zeroes_only_the_hole,
    zeroing_a_range_zeroes_only_the_range,
    seek_data_and_hole_are_consistent_with_the_content,
    copy_file_range_copies_between_files,
    copy_file_range_within_a_file,
);

fn open(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

fn truncate_by_path_shrinks_and_grows_a_closed_file(subject: &Subject<'_>) {
    let mut expected = data::bytes(1, 700_000);
    fs::write(subject.path("f"), &expected).unwrap();
    for size in [500_000, 500_001, 1, 0, 300_000] {
        subject.remount().unwrap();
        rustix::fs::open(subject.path("f"), rustix::fs::OFlags::WRONLY, rustix::fs::Mode::empty())
            .and_then(|fd| rustix::fs::ftruncate(fd, size))
            .unwrap();
        expected.resize(size as usize, 0);
        assert_eq!(fs::metadata(subject.path("f")).unwrap().len(), size);
        assert!(fs::read(subject.path("f")).unwrap() == expected, "{size}");
    }
    // The system call by path, which no handle of the program carries.
    for size in [100_000_u64, 200_000, 0, 7] {
        let path = subject.path("f");
        let status = std::process::Command::new("truncate").arg(format!("--size={size}")).arg(&path).status();
        assert!(status.unwrap().success());
        expected.resize(size as usize, 0);
        assert!(fs::read(&path).unwrap() == expected, "{size}");
    }
}

fn truncate_by_handle_shrinks_and_grows(subject: &Subject<'_>) {
    let mut expected = data::bytes(2, 600_000);
    fs::write(subject.path("f"), &expected).unwrap();
    let file = open(&subject.path("f"));
    for size in [400_000, 900_000, 10, 5000] {
        file.set_len(size).unwrap();
        expected.resize(size as usize, 0);
        assert_eq!(file.metadata().unwrap().len(), size);
        assert!(fs::read(subject.path("f")).unwrap() == expected, "{size}");
    }
    file.write_all_at(b"end", 5000).unwrap();
    drop(file);
    expected.extend_from_slice(b"end");
    assert!(fs::read(subject.path("f")).unwrap() == expected);
}

fn truncate_and_grow_again_reads_zeros_not_the_old_bytes(subject: &Subject<'_>) {
    fs::write(subject.path("f"), data::bytes(3, 1_000_000)).unwrap();
    let file = open(&subject.path("f"));
    file.set_len(1_001).unwrap();
    file.set_len(1_000_000).unwrap();
    drop(file);
    let read = fs::read(subject.path("f")).unwrap();
    assert!(read[..1_001] == data::bytes(3, 1_001));
    assert!(read[1_001..].iter().all(|&byte| byte == 0));
}

fn truncate_of_a_directory_or_of_nothing_fails(subject: &Subject<'_>) {
    fs::create_dir(subject.path("d")).unwrap();
    let error = OpenOptions::new().write(true).open(subject.path("d")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::ISDIR.raw_os_error()));
    let error = OpenOptions::new().write(true).truncate(true).open(subject.path("none")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::NOENT.raw_os_error()));
}

fn fallocate_grows_the_file_with_zeros(subject: &Subject<'_>) {
    fs::write(subject.path("f"), b"data").unwrap();
    let file = open(&subject.path("f"));
    fallocate(&file, FallocateFlags::empty(), 0, 100_000).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 100_000);
    drop(file);
    let mut expected = vec![0; 100_000];
    expected[..4].copy_from_slice(b"data");
    assert!(fs::read(subject.path("f")).unwrap() == expected);
}

fn fallocate_keeping_the_size_keeps_it(subject: &Subject<'_>) {
    fs::write(subject.path("f"), b"data").unwrap();
    let file = open(&subject.path("f"));
    fallocate(&file, FallocateFlags::KEEP_SIZE, 0, 100_000).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 4);
    drop(file);
    assert_eq!(fs::read(subject.path("f")).unwrap(), b"data");
}

fn punching_a_hole_zeroes_only_the_hole(subject: &Subject<'_>) {
    zeroing(subject, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE);
}

fn zeroing_a_range_zeroes_only_the_range(subject: &Subject<'_>) {
    zeroing(subject, FallocateFlags::ZERO_RANGE);
}

fn zeroing(subject: &Subject<'_>, flags: FallocateFlags) {
    let mut expected = data::bytes(4, 1_000_000);
    fs::write(subject.path("f"), &expected).unwrap();
    subject.remount().unwrap();
    let file = open(&subject.path("f"));
    for (offset, len) in [(0, 10), (4096, 8192), (262_100, 300_000), (999_999, 1)] {
        fallocate(&file, flags, offset, len).unwrap();
        expected[offset as usize..(offset + len) as usize].fill(0);
        assert!(fs::read(subject.path("f")).unwrap() == expected, "{offset} {len}");
    }
    drop(file);
    subject.remount().unwrap();
    assert!(fs::read(subject.path("f")).unwrap() == expected);
}

/// Holes may be reported or not; but what is reported as a hole must read as zeros, and data must be found.
fn seek_data_and_hole_are_consistent_with_the_content(subject: &Subject<'_>) {
    let file = File::create(subject.path("f")).unwrap();
    let islands = [(1_u64 << 20, 4096_u64), (5 << 20, 100)];
    for (offset, len) in islands {
        file.write_all_at(&data::bytes(offset, len as usize), offset).unwrap();
    }
    file.set_len(8 << 20).unwrap();
    let check = |file: &File| {
        let content = fs::read(subject.path("f")).unwrap();
        let (mut at, mut data_seen) = (0, Vec::new());
        while let Ok(start) = seek(file, SeekFrom::Data(at)) {
            assert!(content[at as usize..start as usize].iter().all(|&byte| byte == 0), "{at}..{start}");
            let end = seek(file, SeekFrom::Hole(start)).unwrap();
            assert!(end > start && end <= 8 << 20);
            data_seen.push(start..end);
            at = end;
        }
        for (offset, len) in islands {
            let found = data_seen.iter().any(|d| d.start <= offset && offset + len <= d.end);
            assert!(found, "data at {offset} is found in {data_seen:?}");
        }
        assert_eq!(seek(file, SeekFrom::Data(8 << 20)).unwrap_err(), Errno::NXIO);
        assert_eq!(seek(file, SeekFrom::Hole(8 << 20)).unwrap_err(), Errno::NXIO);
    };
    check(&open(&subject.path("f")));
    drop(file);
    subject.remount().unwrap();
    check(&File::open(subject.path("f")).unwrap());
}

fn copy_file_range_copies_between_files(subject: &Subject<'_>) {
    let source = data::bytes(5, 12 << 20);
    fs::write(subject.path("from"), &source).unwrap();
    // The whole file, as cp does it.
    assert_eq!(fs::copy(subject.path("from"), subject.path("to")).unwrap(), 12 << 20);
    assert!(fs::read(subject.path("to")).unwrap() == source);
    // A piece from the middle to another offset of an existing file.
    let (from, to) = (File::open(subject.path("from")).unwrap(), open(&subject.path("to")));
    let (mut read_at, mut write_at) = (1_000_003, 77);
    while read_at < 3_000_003 {
        let left = (3_000_003 - read_at) as usize;
        assert!(copy_file_range(&from, Some(&mut read_at), &to, Some(&mut write_at), left).unwrap() > 0);
    }
    drop((from, to));
    let mut expected = source.clone();
    expected[77..2_000_077].copy_from_slice(&source[1_000_003..3_000_003]);
    assert!(fs::read(subject.path("to")).unwrap() == expected);
    assert!(fs::read(subject.path("from")).unwrap() == source);
}

fn copy_file_range_within_a_file(subject: &Subject<'_>) {
    let mut expected = data::bytes(6, 1_000_000);
    fs::write(subject.path("f"), &expected).unwrap();
    let file = open(&subject.path("f"));
    let (mut read_at, mut write_at) = (0, 900_000);
    while read_at < 300_000 {
        let left = (300_000 - read_at) as usize;
        assert!(copy_file_range(&file, Some(&mut read_at), &file, Some(&mut write_at), left).unwrap() > 0);
    }
    drop(file);
    expected.resize(1_200_000, 0);
    let (head, tail) = expected.split_at_mut(900_000);
    tail.copy_from_slice(&head[..300_000]);
    assert!(fs::read(subject.path("f")).unwrap() == expected);
}
