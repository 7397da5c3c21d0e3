//! Writes that are to be safe when they return, and writes past the page cache.

use rustix::fs::OFlags;
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use tarn_tests::subject::{Mode, Subject};
use tarn_tests::suite::{Behaviour, On};
use tarn_tests::{behaviours, data};

pub(crate) const ALL: &[Behaviour] = behaviours!(
    On::EveryFileSystem,
    direct_reads_and_writes_are_the_files_bytes,
    synchronous_and_plain_handles_see_each_other,
    a_synchronous_file_can_be_appended_and_mapped,
);

pub(crate) const TARN: &[Behaviour] = behaviours!(
    On::Tarn,
    a_synchronous_write_is_in_the_bucket_when_it_returns,
    a_synchronous_write_beside_passed_through_handles_is_in_the_bucket,
    what_is_synced_or_closed_is_in_the_bucket,
);

fn open(subject: &Subject<'_>, name: &str, flags: OFlags) -> File {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.custom_flags(flags.bits().cast_signed()).open(subject.path(name)).unwrap()
}

/// Bytes at an address that direct I/O takes.
struct Aligned(Vec<u8>, usize);

impl Aligned {
    const TO: usize = 4096;

    fn new(bytes: &[u8]) -> Self {
        let mut room = vec![0; bytes.len() + Self::TO];
        let start = room.as_ptr().align_offset(Self::TO);
        room[start..start + bytes.len()].copy_from_slice(bytes);
        Self(room, start)
    }

    fn bytes(&mut self, length: usize) -> &mut [u8] {
        &mut self.0[self.1..self.1 + length]
    }
}

/// SEMANTICS: "O_DIRECT is taken in both modes."
fn direct_reads_and_writes_are_the_files_bytes(subject: &Subject<'_>) {
    let bytes = data::bytes(1, 1 << 20);
    let file = match OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .custom_flags(OFlags::DIRECT.bits().cast_signed())
        .open(subject.path("f"))
    {
        Ok(file) => file,
        // A temporary folder in memory has no direct I/O to compare with.
        Err(error) if !subject.is_tarn() && error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
            return;
        }
        Err(error) => panic!("{error}"),
    };
    file.write_all_at(Aligned::new(&bytes).bytes(bytes.len()), 0).unwrap();
    file.write_all_at(Aligned::new(&[7; 4096]).bytes(4096), 8192).unwrap();
    let mut expected = bytes;
    expected[8192..12288].fill(7);
    let mut read = Aligned::new(&vec![0; expected.len()]);
    file.read_exact_at(read.bytes(expected.len()), 0).unwrap();
    assert!(read.bytes(expected.len()) == expected);
    drop(file);
    assert!(fs::read(subject.path("f")).unwrap() == expected);
    subject.remount().unwrap();
    let file = open(subject, "f", OFlags::DIRECT);
    file.read_exact_at(read.bytes(4096), 8192).unwrap();
    assert!(read.bytes(4096) == [7; 4096]);
}

fn synchronous_and_plain_handles_see_each_other(subject: &Subject<'_>) {
    let plain = open(subject, "f", OFlags::empty());
    plain.write_all_at(b"plain ....... plain", 0).unwrap();
    let sync = open(subject, "f", OFlags::SYNC);
    sync.write_all_at(b"in sync", 6).unwrap();
    let mut read = [0; 19];
    for file in [&plain, &sync] {
        file.read_exact_at(&mut read, 0).unwrap();
        assert_eq!(&read, b"plain in sync plain");
    }
    plain.write_all_at(b"again", 0).unwrap();
    sync.read_exact_at(&mut read, 0).unwrap();
    assert_eq!(&read, b"again in sync plain");
}

fn a_synchronous_file_can_be_appended_and_mapped(subject: &Subject<'_>) {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).custom_flags(OFlags::DSYNC.bits().cast_signed());
    let mut file = options.open(subject.path("log")).unwrap();
    let mut other = OpenOptions::new().append(true).open(subject.path("log")).unwrap();
    for line in 0..10 {
        writeln!(file, "{line}").unwrap();
        other.write_all(b"-\n").unwrap();
    }
    let expected: String = (0..10).map(|line| format!("{line}\n-\n")).collect();
    assert_eq!(fs::read_to_string(subject.path("log")).unwrap(), expected);
    let mapped =
        tarn_tests::mapping::Mapping::shared(&open(subject, "log", OFlags::SYNC), expected.len()).unwrap();
    assert_eq!(mapped.read(0, expected.len()), expected.as_bytes());
}

/// SEMANTICS: "With O_SYNC or O_DSYNC every write does; each costs an upload of the changed parts, or of the
/// whole file up to the size of one part."
fn a_synchronous_write_is_in_the_bucket_when_it_returns(subject: &Subject<'_>) {
    for (name, flags) in
        [("sync", OFlags::SYNC), ("dsync", OFlags::DSYNC), ("both", OFlags::SYNC | OFlags::DIRECT)]
    {
        let file = open(subject, name, flags);
        let mut bytes = Aligned::new(&data::bytes(3, 4096));
        file.write_all_at(bytes.bytes(4096), 0).unwrap();
        assert!(subject.bucket().get(name).unwrap() == bytes.bytes(4096), "{name}");
        bytes.bytes(4096).fill(9);
        file.write_all_at(bytes.bytes(4096), 0).unwrap();
        assert!(subject.bucket().get(name).unwrap() == bytes.bytes(4096), "{name}");
    }
}

fn a_synchronous_write_beside_passed_through_handles_is_in_the_bucket(subject: &Subject<'_>) {
    let plain = open(subject, "f", OFlags::empty());
    plain.write_all_at(b"plain", 0).unwrap();
    let sync = open(subject, "f", OFlags::DSYNC);
    sync.write_all_at(b"sync!", 5).unwrap();
    assert_eq!(subject.bucket().get("f").unwrap(), b"plainsync!");
    drop(sync);
    plain.write_all_at(b"later", 0).unwrap();
    drop(plain);
    assert_eq!(subject.bucket().get("f").unwrap(), b"latersync!");
}

/// SEMANTICS: "`fsync`, `fdatasync` and `close` return when the bucket has the file, and so does
/// `msync(MS_SYNC)` of one that does not pass through."
fn what_is_synced_or_closed_is_in_the_bucket(subject: &Subject<'_>) {
    let file = open(subject, "f", OFlags::empty());
    let there = |bytes: &[u8]| assert_eq!(subject.bucket().get("f").unwrap(), bytes);
    file.write_all_at(b"1....", 0).unwrap();
    file.sync_all().unwrap();
    there(b"1....");
    file.write_all_at(b"2", 1).unwrap();
    file.sync_data().unwrap();
    there(b"12...");
    file.write_all_at(b"3", 2).unwrap();
    drop(file);
    there(b"123..");
    if subject.mode() == Mode::Ordinary {
        let file = open(subject, "f", OFlags::empty());
        let mut mapping = tarn_tests::mapping::Mapping::shared(&file, 5).unwrap();
        mapping.write(3, b"4");
        mapping.sync().unwrap();
        there(b"1234.");
    }
}
