//! Budget, free space and full disks.

use crate::disk::SmallDisk;
use crate::support::{Bench, bytes, fill, fill_all, id, label, misses, open_at};
use std::os::unix::fs::FileExt;
use tarn_cache::{Access, BLOCK_SIZE, BlockIndex, Lookup, PromoteWith, Store, StoreOptions};

const MIB: u64 = 1 << 20;

fn on_disk(bench: &Bench) -> u64 {
    use std::os::unix::fs::MetadataExt;
    bench.files("").iter().map(|file| std::fs::metadata(file).unwrap().blocks() * 512).sum()
}

#[test]
fn old_objects_make_room_for_new_ones() {
    let bench = Bench::with_budget(8 * MIB);
    let store = bench.open();
    for n in 0..40 {
        let object = store.object(&id(&format!("object {n}"), MIB)).unwrap();
        fill_all(&object);
        assert_eq!(misses(&object), [0_u64; 0], "a new object is kept");
    }
    assert!(on_disk(&bench) <= 8 * MIB, "{}", on_disk(&bench));
    let stats = store.stats();
    assert!(stats.evicted_bytes >= 31 * MIB && stats.used_bytes <= 8 * MIB, "{stats:?}");
    assert_eq!(stats.full, 0);
}

#[test]
fn an_open_object_is_not_evicted_whoever_has_it_open() {
    let bench = Bench::with_budget(8 * MIB);
    let (store, other) = (bench.open(), bench.open());
    let (mine, theirs) = (store.object(&id("mine", MIB)).unwrap(), other.object(&id("theirs", MIB)).unwrap());
    fill_all(&mine);
    fill_all(&theirs);
    for n in 0..40 {
        fill_all(&store.object(&id(&format!("object {n}"), MIB)).unwrap());
    }
    // Another process still finds what these two have open.
    let third = bench.open();
    for key in ["mine", "theirs"] {
        assert_eq!(misses(&third.object(&id(key, MIB)).unwrap()), [0_u64; 0], "{key}");
    }
    drop((mine, theirs, third));
    // Objects that are used again and again push out what is not.
    for n in 40..80 {
        for _ in 0..3 {
            fill_all(&store.object(&id(&format!("object {n}"), MIB)).unwrap());
        }
    }
    assert_eq!(misses(&store.object(&id("mine", MIB)).unwrap()).len(), 4, "and once closed it goes");
}

#[test]
fn objects_of_another_process_are_evicted_too() {
    let bench = Bench::with_budget(8 * MIB);
    let (store, other) = (bench.open(), bench.open());
    for n in 0..7 {
        fill_all(&other.object(&id(&format!("theirs {n}"), MIB)).unwrap());
    }
    for n in 0..20 {
        fill_all(&store.object(&id(&format!("mine {n}"), MIB)).unwrap());
    }
    assert!(on_disk(&bench) <= 8 * MIB, "{}", on_disk(&bench));
    assert_eq!(misses(&store.object(&id("mine 19", MIB)).unwrap()), [0_u64; 0]);
}

#[test]
fn an_object_beyond_the_budget_is_kept_as_far_as_it_goes() {
    let bench = Bench::with_budget(4 * MIB);
    let store = bench.open();
    let object = store.object(&id("huge", 10 * MIB)).unwrap();
    fill_all(&object);
    let missed = misses(&object);
    assert!((24..=27).contains(&missed.len()), "{missed:?}");
    assert_eq!(store.stats().full, missed.len() as u64);
    assert!(on_disk(&bench) <= 4 * MIB);
}

#[test]
fn staged_files_are_never_evicted() {
    let bench = Bench::with_budget(4 * MIB);
    let store = bench.open();
    let staged = store.stage(&label("dirty")).unwrap();
    staged.file().write_all_at(&bytes(&id("dirty", 6 * MIB)), 0).unwrap();
    store.stage(&label("orphan")).unwrap().leave();
    for n in 0..20 {
        fill_all(&store.object(&id(&format!("object {n}"), MIB)).unwrap());
    }
    assert_eq!(std::fs::read(staged.path()).unwrap(), bytes(&id("dirty", 6 * MIB)));
    assert_eq!(store.orphans().unwrap().len(), 1);
    assert!(store.stats().evictions > 0);
}

#[test]
fn promotion_makes_room_too() {
    let bench = Bench::with_budget(4 * MIB);
    let store = bench.open();
    for n in 0..12 {
        let id = id(&format!("object {n}"), MIB);
        let staged = store.stage(&label(id.key())).unwrap();
        staged.file().write_all_at(&bytes(&id), 0).unwrap();
        assert!(staged.promote(&id, PromoteWith::Whole).unwrap().unwrap().is_whole());
    }
    assert!(on_disk(&bench) <= 5 * MIB, "{}", on_disk(&bench));
}

/// Fills an object of 65 MiB, whole or but for its last block, and closes it; then room for 2 MiB is needed.
/// Returns which of its blocks are missing afterwards.
fn make_room_beside_a_large_object(hand_out: bool) -> Vec<u64> {
    let bench = Bench::with_budget(66 * MIB);
    let store = bench.open();
    let size = 65 * MIB;
    let block = vec![5; BLOCK_SIZE as usize];
    let object = store.object(&id("large", size)).unwrap();
    let blocks = size / BLOCK_SIZE;
    let filled = if hand_out { blocks } else { blocks - 1 };
    for index in 0..filled {
        object.fill(BlockIndex::new(index), &[&block]).unwrap();
    }
    if hand_out {
        object.open_whole(Access::Read).unwrap();
    }
    drop(object);
    fill_all(&store.object(&id("small", 2 * MIB)).unwrap());
    let object = store.object(&id("large", size)).unwrap();
    let mut buffer = block.clone();
    for index in 0..blocks {
        if object.read(index * BLOCK_SIZE, &mut buffer).unwrap() == Lookup::Hit {
            assert!(buffer == block, "a hole was served as bytes");
        }
    }
    object.missing(object.id().range()).iter().map(|block| block.get()).collect()
}

#[test]
fn a_large_partial_object_loses_its_last_blocks_only() {
    let missed = make_room_beside_a_large_object(false);
    assert!((5..40).contains(&missed.len()), "{missed:?}");
    assert_eq!(missed.last(), Some(&259));
    assert_eq!(missed.len() as u64, 260 - missed[0], "they are the last ones");
}

#[test]
fn a_file_that_was_handed_out_never_gets_holes() {
    assert_eq!(make_room_beside_a_large_object(true).len(), 260, "it goes as a whole or not at all");
}

#[test]
fn the_bytes_on_disk_are_counted_anew_by_who_opens_the_store_alone() {
    let bench = Bench::new();
    fill_all(&bench.open().object(&id("a", 3 * MIB)).unwrap());
    for wrong in [u64::MAX, 0] {
        std::fs::write(bench.file("usage"), wrong.to_le_bytes()).unwrap();
        let store = bench.open();
        store.survey().unwrap();
        let used = store.stats().used_bytes;
        assert!((3 * MIB..3 * MIB + 16384).contains(&used), "{used}");
        let other = bench.open();
        std::fs::write(bench.file("usage"), wrong.to_le_bytes()).unwrap();
        other.survey().unwrap();
        store.survey().unwrap();
        assert_eq!(
            store.stats().used_bytes,
            wrong,
            "whoever may be in the middle of a change counts nothing"
        );
    }
}

#[test]
fn what_was_there_before_makes_room_though_nobody_has_looked() {
    let bench = Bench::with_budget(8 * MIB);
    for n in 0..6 {
        fill_all(&bench.open().object(&id(&format!("before {n}"), MIB)).unwrap());
    }
    let store = bench.open();
    for n in 0..4 {
        fill_all(&store.object(&id(&format!("since {n}"), MIB)).unwrap());
    }
    for n in 0..4 {
        assert_eq!(misses(&store.object(&id(&format!("since {n}"), MIB)).unwrap()), [0_u64; 0], "{n}");
    }
    assert_eq!(misses(&store.object(&id("before 0", MIB)).unwrap()).len(), 4);
}

#[test]
fn a_full_disk_evicts_and_then_keeps_nothing_but_fails_no_reader() {
    let bench = Bench::new();
    let Some(disk) = SmallDisk::in_memory(bench.dir.path(), 8) else { return };
    let store = open_at(&disk.cache(), 1 << 40, "boot");
    for n in 0..30 {
        let object = store.object(&id(&format!("object {n}"), MIB)).unwrap();
        fill_all(&object);
        assert_eq!(misses(&object), [0_u64; 0]);
    }
    assert!(store.stats().evictions > 0);
    // Now somebody else takes all the room.
    let huge = store.object(&id("huge", 20 * MIB)).unwrap();
    fill_all(&huge);
    assert!(misses(&huge).len() > 40);
    assert!(store.stats().full > 0);
    let filler = std::fs::File::create(disk.path().join("filler")).unwrap();
    let mut at = 0;
    while filler.write_all_at(&[1; 4096], at).is_ok() {
        at += 4096;
    }
    let object = store.object(&id("late", MIB)).unwrap();
    fill(&object, [0, 1]);
    assert!(!object.is_whole());
    misses(&object);
    misses(&huge);
}

#[test]
fn the_floor_of_free_space_is_kept() {
    let bench = Bench::new();
    let Some(disk) = SmallDisk::in_memory(bench.dir.path(), 64) else { return };
    let options =
        StoreOptions { dir: disk.cache(), max_bytes: 1 << 40, min_free_bytes: 32 * MIB, boot_id: None };
    let store = Store::open(options).unwrap();
    for n in 0..80 {
        fill_all(&store.object(&id(&format!("object {n}"), MIB)).unwrap());
    }
    // It looks at the disk every 8 MiB.
    assert!(store.free_bytes().unwrap() >= 24 * MIB, "{}", store.free_bytes().unwrap());
    assert!(store.stats().evictions > 0);
}

#[test]
fn under_the_floor_nothing_is_kept() {
    let bench = Bench::new();
    let Some(disk) = SmallDisk::in_memory(bench.dir.path(), 64) else { return };
    let options =
        StoreOptions { dir: disk.cache(), max_bytes: 1 << 40, min_free_bytes: 65 * MIB, boot_id: None };
    let store = Store::open(options).unwrap();
    let object = store.object(&id("a", 150 * BLOCK_SIZE)).unwrap();
    fill_all(&object);
    assert_eq!(misses(&object).len(), 150);
    assert_eq!(store.stats().full, 150);
}
