use super::*;
use crate::meta::{Kind, Posix};
use crate::session_log::time::Time;
use crate::session_log::{ConflictRecord, FileRecord, OverlayRecord, StagedRecord, VersionRecord};
use crate::store::{ETag, Headers, Version};
use std::time::{Duration, SystemTime};

fn version(tag: &str) -> VersionRecord {
    let version =
        Version { etag: ETag::new(tag), size: 100, last_modified: SystemTime::UNIX_EPOCH, version_id: None };
    (&version).into()
}

fn file(content: ContentRecord) -> NodeRecord {
    let posix = Posix::new(Kind::File, SystemTime::UNIX_EPOCH);
    NodeRecord::File(Box::new(FileRecord { posix, content, superseded: false }))
}

fn layer() -> NodeRecord {
    let overlay = OverlayRecord {
        base: version("a"),
        object: None,
        base_len: 100,
        dirty: crate::write::Extents::default(),
    };
    let staged = StagedRecord {
        name: "slot".into(),
        base: Some(version("a")),
        committed: None,
        overlay: Some(overlay),
        headers: Headers::default(),
        posix_changed: false,
    };
    file(ContentRecord::Staged(Box::new(staged)))
}

fn place(parent: u64, name: &str) -> Option<PlaceRecord> {
    Some(PlaceRecord { parent, name: name.into() })
}

fn inode(ino: u64, node: NodeRecord) -> Record {
    Record::Inode { ino, place: place(1, "f"), lookups: 1, node }
}

fn state(records: impl IntoIterator<Item = Record>) -> State {
    let mut state = State::default();
    records.into_iter().for_each(|record| state.apply(record));
    state
}

fn conflict(key: &str) -> ConflictRecord {
    let at = Time(SystemTime::UNIX_EPOCH);
    ConflictRecord { key: key.to_owned(), kept_as: format!("{key}.conflict"), at }
}

fn removed(second: u64) -> RemovedRecord {
    let at = Time(SystemTime::UNIX_EPOCH + Duration::from_secs(second));
    RemovedRecord { born: vec![at], before: at, at, is_there: false }
}

/// Every kind of record once.
fn everything() -> Vec<Record> {
    let how = How::File { writes: true, passthrough: true, direct: false, sync: false };
    let remote = ContentRecord::Remote { version: version("b"), object: Some("key".into()) };
    let NodeRecord::File(changed) = file(remote.clone()) else { panic!("a file") };
    vec![
        Record::Started { passthrough: true },
        Record::Given { ino: 90, fh: 80 },
        inode(2, layer()),
        inode(3, file(remote)),
        inode(4, NodeRecord::Directory { touched: None }),
        inode(5, NodeRecord::Directory { touched: None }),
        Record::Dirty { ino: 2, start: 5, end: 9 },
        Record::Dirty { ino: 2, start: 7, end: 20 },
        Record::Moved { ino: 3, place: place(4, "elsewhere") },
        Record::LookedUp { ino: 3 },
        Record::LookedUp { ino: 3 },
        Record::Forgotten { ino: 3, count: 2 },
        Record::File { ino: 3, file: changed },
        Record::Touched { ino: 4, at: Time(SystemTime::UNIX_EPOCH) },
        Record::Gone { ino: 5 },
        Record::Opened { fh: 7, unique: 70, ino: 2, how },
        Record::Opened { fh: 8, unique: 72, ino: 4, how: How::Directory },
        Record::Opened { fh: 9, unique: 74, ino: 3, how },
        Record::Closed { fh: 9 },
        Record::Backing { ino: 2, id: Some(1) },
        Record::Backing { ino: 3, id: Some(2) },
        Record::Backing { ino: 3, id: None },
        Record::Shown { fh: 8, at: 0, anew: false, names: vec![b"a".to_vec(), b"b".to_vec()] },
        Record::Shown { fh: 8, at: 5, anew: true, names: vec![b"f".to_vec()] },
        Record::Shown { fh: 8, at: 9, anew: false, names: vec![Vec::new()] },
        Record::Intent { unique: 76, at: Time(SystemTime::UNIX_EPOCH) },
        Record::Conflict(conflict("f")),
        Record::Quota { bytes: 1 },
        Record::Quota { bytes: 0 },
        Record::Stored { usage: Usage { bytes: 7, files: 1 } },
        Record::Removed { key: "k".into(), removed: removed(1) },
    ]
}

#[test]
fn the_last_word_counts() {
    let state = state(everything());
    assert_eq!((state.passthrough, state.last_ino, state.last_fh), (Some(true), 90, 80));
    assert_eq!(state.inodes.keys().copied().collect::<Vec<_>>(), [2, 3, 4]);
    assert_eq!((state.inodes[&3].lookups, state.inodes[&3].place.clone()), (1, place(4, "elsewhere")));
    assert_eq!(state.inodes[&4].node, NodeRecord::Directory { touched: Some(Time(SystemTime::UNIX_EPOCH)) });
    assert_eq!(state.handles.keys().copied().collect::<Vec<_>>(), [7, 8]);
    assert_eq!(state.handles[&8].shown, BTreeMap::from([(5, b"f".to_vec()), (9, Vec::new())]));
    assert_eq!(state.backings, BTreeMap::from([(2, 1)]));
    assert_eq!(state.intents(), HashMap::from([(76, SystemTime::UNIX_EPOCH)]));
    assert_eq!(state.conflicts, [conflict("f")]);
    assert_eq!(state.removed, BTreeMap::from([("k".into(), removed(1))]));
    assert_eq!((state.quota, state.stored), (Some(0), Some(Usage { bytes: 7, files: 1 })));
}

#[test]
fn written_ranges_are_joined() {
    let state = state(everything());
    let NodeRecord::File(file) = &state.inodes[&2].node else { panic!("a file") };
    let ContentRecord::Staged(staged) = &file.content else { panic!("staged") };
    let dirty = staged.overlay.as_ref().expect("a layer").dirty.iter();
    assert!(dirty.eq(std::iter::once(5..20)));
}

#[test]
fn the_short_form_gives_the_same_state() {
    let long = state(everything());
    assert_eq!(state(long.records()), long);
    assert_eq!(state(State::default().records()), State::default());
}

#[test]
fn old_intents_go_first() {
    let most = INTENTS_MAX as u64;
    let at = Time(SystemTime::UNIX_EPOCH);
    let state = state((0..most + 2).map(|unique| Record::Intent { unique, at }));
    assert_eq!(state.intents().len(), INTENTS_MAX);
    assert!(!state.intents().contains_key(&1) && state.intents().contains_key(&(most + 1)));
}

#[test]
fn old_conflicts_go_first() {
    let state = state((0..=CONFLICTS_MAX).map(|n| Record::Conflict(conflict(&n.to_string()))));
    assert_eq!(state.conflicts.len(), CONFLICTS_MAX);
    assert_eq!(state.conflicts.front(), Some(&conflict("1")));
}

#[test]
fn the_short_form_leaves_out_what_was_removed_long_ago() {
    let seconds = REMOVED_FOR.as_secs();
    let keys = [("long ago", 1), ("lately", 2), ("now", 2 + seconds)];
    let keys = keys.map(|(key, at)| Record::Removed { key: key.into(), removed: removed(at) });
    let short = state(state(keys).records());
    assert_eq!(short.removed.keys().collect::<Vec<_>>(), ["lately", "now"]);
}
