use super::*;
use crate::session_log::{NodeRecord, Record, SessionLog};

fn log() -> (File, LogFile) {
    let file = tempfile::tempfile().expect("a file");
    let (log, state) = LogFile::open(file.try_clone().expect("a copy")).expect("a new log");
    assert!(state.is_new());
    (file, log)
}

fn inode(ino: u64) -> Record {
    Record::Inode { ino, place: None, lookups: 1, node: NodeRecord::Directory { touched: None } }
}

fn bytes(records: impl IntoIterator<Item = Record>) -> Vec<u8> {
    let mut bytes = Vec::new();
    records.into_iter().for_each(|record| encode(&record, &mut bytes));
    bytes
}

fn inodes(file: &File) -> Vec<u64> {
    let (_, state) = LogFile::open(file.try_clone().expect("a copy")).expect("a log");
    state.inodes.keys().copied().collect()
}

#[test]
fn what_was_flushed_is_there_and_nothing_else() {
    let (file, log) = log();
    drop(log);
    let (log, _) = SessionLog::open(file.try_clone().expect("a copy")).expect("a log");
    log.note(|| inode(2));
    log.flush();
    log.note(|| inode(3));
    assert_eq!(inodes(&file), [2]);
}

#[test]
fn a_torn_last_record_is_left_out_wherever_it_is_torn() {
    let whole = bytes([inode(2), inode(3)]);
    let first = bytes([inode(2)]).len();
    for cut in first..whole.len() {
        let (file, mut log) = log();
        log.append(&whole[..cut]).expect("written");
        assert_eq!(inodes(&file), [2], "cut at {cut}");
        // The next worker goes on where the whole records end.
        let (mut log, _) = LogFile::open(file.try_clone().expect("a copy")).expect("a log");
        log.append(&bytes([inode(4)])).expect("written");
        assert_eq!(inodes(&file), [2, 4], "cut at {cut}");
    }
}

#[test]
fn a_long_log_becomes_short_and_keeps_its_state() {
    let (file, mut log) = log();
    let page = bytes((0..1000).map(|_| Record::LookedUp { ino: 2 }));
    log.append(&bytes([inode(2), inode(3), Record::Gone { ino: 3 }])).expect("written");
    let mut looked_up = 1;
    while log.start == PAGE {
        log.append(&page).expect("written");
        looked_up += 1000;
    }
    assert!(log.end - log.start < 1000, "short");
    log.append(&bytes([inode(4)])).expect("written");
    let (_, state) = LogFile::open(file.try_clone().expect("a copy")).expect("a log");
    assert_eq!(state.inodes.keys().copied().collect::<Vec<_>>(), [2, 4]);
    assert_eq!(state.inodes[&2].lookups, looked_up);
    let disk = std::os::unix::fs::MetadataExt::blocks(&file.metadata().expect("stat")) * 512;
    assert!(disk < 1 << 20, "{disk} bytes are still held");
}

#[test]
fn the_next_worker_finds_a_log_short_or_makes_it_so() {
    let (file, log) = log();
    drop(log);
    let records = bytes((0..100_000).map(|_| Record::LookedUp { ino: 2 }));
    assert!(records.len() as u64 > COMPACT_MIN);
    file.write_all_at(&bytes([inode(2)]), PAGE).expect("written");
    file.write_all_at(&records, PAGE + bytes([inode(2)]).len() as u64).expect("written");
    let (log, state) = LogFile::open(file.try_clone().expect("a copy")).expect("a log");
    assert!(log.end - log.start < 1000, "{log:?}");
    let (_, again) = LogFile::open(file).expect("a log");
    assert_eq!((again.inodes[&2].lookups, again), (100_001, state));
}

#[test]
fn what_is_no_log_of_this_format_is_refused() {
    let file = tempfile::tempfile().expect("a file");
    file.write_all_at(&[7; 5000], 0).expect("written");
    assert!(matches!(LogFile::open(file), Err(LogError::Damaged(_))));
    let (file, _) = log();
    file.write_all_at(&u64::from(FORMAT + 1).to_le_bytes(), 16).expect("written");
    assert!(matches!(LogFile::open(file), Err(LogError::Format(_))));
}
