//! Staged files: label, owner, promotion, the way back.

use crate::support::{Bench, bytes, fill, fill_all, id, label, misses};
use rustix::mm::{MapFlags, ProtFlags};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use tarn_cache::{
    Access, BLOCK_SIZE, BucketId, ByteRange, Error, PromoteWith, Staged, StagedLabel, Store, Taken,
};

const SIZE: u64 = 2 * BLOCK_SIZE + 9;

fn stage(store: &Arc<Store>, key: &str) -> Staged {
    let staged = store.stage(&label(key)).unwrap();
    staged.file().write_all_at(&bytes(&id(key, SIZE)), 0).unwrap();
    staged
}

fn block_crcs(key: &str) -> Vec<u64> {
    let crc = |block: &[u8]| crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, block);
    bytes(&id(key, SIZE)).chunks(BLOCK_SIZE as usize).map(crc).collect()
}

#[test]
fn a_promoted_file_is_cached_and_survives_a_reboot() {
    for with in [PromoteWith::Whole, PromoteWith::WholeWithCrcs(block_crcs("a"))] {
        let bench = Bench::new();
        let store = bench.open();
        let object = stage(&store, "a").promote(&id("a", SIZE), with.clone()).unwrap().unwrap();
        assert!(object.is_whole());
        assert_eq!(misses(&object), [0_u64; 0]);
        assert!(bench.files(".label").is_empty());
        drop(object);
        let later = bench.open_in_boot("second boot");
        assert_eq!(misses(&later.object(&id("a", SIZE)).unwrap()), [0_u64; 0], "{with:?}");
        assert_eq!(later.stats().bad_blocks, 0);
    }
}

#[test]
fn promotion_makes_no_copy() {
    use std::os::unix::fs::MetadataExt;
    let bench = Bench::new();
    let store = bench.open();
    let staged = stage(&store, "a");
    let inode = staged.file().metadata().unwrap().ino();
    let object = staged.promote(&id("a", SIZE), PromoteWith::Whole).unwrap().unwrap();
    assert_eq!(object.open_whole(Access::Read).unwrap().metadata().unwrap().ino(), inode);
}

#[test]
fn only_wholly_covered_blocks_of_a_range_are_kept() {
    let bench = Bench::new();
    let store = bench.open();
    let ranges = vec![ByteRange::at(5, 2 * BLOCK_SIZE - 5), ByteRange::at(2 * BLOCK_SIZE, 9)];
    let object = stage(&store, "a").promote(&id("a", SIZE), PromoteWith::Blocks(ranges)).unwrap().unwrap();
    assert_eq!(misses(&object), [0]);
}

#[test]
fn a_file_of_another_length_is_no_object_and_is_not_lost() {
    let bench = Bench::new();
    let store = bench.open();
    let staged = stage(&store, "a");
    let path = staged.path();
    let result = staged.promote(&id("a", SIZE + 1), PromoteWith::Whole);
    assert!(matches!(result, Err(Error::StagedLength { .. })), "{result:?}");
    assert_eq!(std::fs::read(&path).unwrap(), bytes(&id("a", SIZE)));
    assert_eq!(store.orphans().unwrap().len(), 1);
}

#[test]
fn promotion_fills_an_object_that_is_open_elsewhere() {
    let bench = Bench::new();
    let (store, other) = (bench.open(), bench.open());
    let theirs = other.object(&id("a", SIZE)).unwrap();
    fill(&theirs, [1]);
    let mine = stage(&store, "a").promote(&id("a", SIZE), PromoteWith::Whole).unwrap().unwrap();
    assert_eq!(misses(&mine), [0_u64; 0]);
    assert_eq!(misses(&theirs), [0_u64; 0]);
    assert!(bench.files(".label").is_empty());
}

#[test]
fn a_dropped_staged_file_leaves_nothing() {
    let bench = Bench::new();
    let store = bench.open();
    drop(stage(&store, "a"));
    stage(&store, "b").discard();
    assert!(bench.files(".data").is_empty() && bench.files(".label").is_empty());
}

#[test]
fn a_whole_object_is_taken_without_a_copy() {
    let bench = Bench::new();
    let store = bench.open();
    let object = store.object(&id("a", SIZE)).unwrap();
    fill_all(&object);
    let Taken::Staged(mut staged) = store.take(object, &label("a")).unwrap() else {
        panic!("nobody shares it")
    };
    assert!(!staged.has_other_writers().unwrap());
    assert_eq!(std::fs::read(staged.path()).unwrap(), bytes(&id("a", SIZE)));
    assert_eq!(misses(&store.object(&id("a", SIZE)).unwrap()), [0, 1, 2], "the clean object is gone");
    staged.file().write_all_at(b"changed", 0).unwrap();
}

#[test]
fn an_object_in_use_is_not_taken() {
    let bench = Bench::new();
    let (store, other) = (bench.open(), bench.open());
    let object = store.object(&id("a", SIZE)).unwrap();
    fill_all(&object);
    let second = Arc::clone(&object);
    let Taken::Shared(object) = store.take(object, &label("a")).unwrap() else {
        panic!("used in this process")
    };
    drop(second);

    let theirs = other.object(&id("a", SIZE)).unwrap();
    let Taken::Shared(object) = store.take(object, &label("a")).unwrap() else { panic!("used by another") };
    assert!(bench.files(".label").is_empty(), "a failed take leaves no staged file");
    assert_eq!(misses(&object), [0_u64; 0]);
    let Taken::Shared(theirs) = other.take(theirs, &label("a")).unwrap() else {
        panic!("the one who failed has kept its pin")
    };
    drop(theirs);
    assert!(matches!(store.take(object, &label("a")).unwrap(), Taken::Staged(_)));
}

#[test]
fn an_object_with_missing_blocks_is_not_taken() {
    let bench = Bench::new();
    let store = bench.open();
    let object = store.object(&id("a", SIZE)).unwrap();
    fill(&object, [0, 1]);
    assert!(matches!(store.take(object, &label("a")).unwrap(), Taken::Shared(_)));
}

#[test]
fn staged_files_of_a_dead_process_are_found_with_their_last_label() {
    let bench = Bench::new();
    let (store, other) = (bench.open(), bench.open());
    let staged = stage(&store, "a");
    let renamed = label("b");
    staged.relabel(&renamed).unwrap();
    assert!(other.orphans().unwrap().is_empty(), "its owner lives");
    // What the kernel does for a process that is killed: the lock goes, the files stay.
    staged.leave();
    let mut orphans = other.orphans().unwrap();
    assert_eq!(orphans.len(), 1);
    assert!(store.orphans().unwrap().is_empty(), "the finder has locked it");
    let orphan = orphans.remove(0);
    assert_eq!(orphan.label(), Some(&renamed));
    assert!(orphan.is_of_this_boot());
    let adopted = orphan.adopt().unwrap();
    assert_eq!(std::fs::read(adopted.path()).unwrap(), bytes(&id("a", SIZE)));
    drop(adopted);
    assert!(bench.files(".data").is_empty() && bench.files(".label").is_empty());
}

#[test]
fn an_orphan_of_another_boot_is_known_as_one() {
    let bench = Bench::new();
    stage(&bench.open(), "a").leave();
    let later = bench.open_in_boot("another");
    assert!(!later.orphans().unwrap()[0].is_of_this_boot());
}

fn of(bucket: BucketId) -> impl Fn(&StagedLabel) -> bool {
    move |label| label.bucket == bucket
}

#[test]
fn orphans_of_another_bucket_are_not_locked_by_who_looks_for_his_own() {
    let bench = Bench::new();
    let (store, other) = (bench.open(), bench.open());
    stage(&store, "a").leave();
    assert!(other.orphans_where(of(BucketId::new("another"))).unwrap().is_empty());
    let mine = label("a").bucket;
    let held = other.orphans_where(of(mine.clone())).unwrap();
    assert_eq!(held.len(), 1);
    assert!(store.orphans_where(of(mine.clone())).unwrap().is_empty(), "the finder has locked it");
}

#[test]
fn an_orphan_that_is_only_looked_at_stays() {
    let bench = Bench::new();
    let store = bench.open();
    stage(&store, "a").leave();
    drop(store.orphans().unwrap());
    assert_eq!(store.orphans().unwrap().len(), 1);
}

#[test]
fn an_orphan_without_a_readable_label_is_still_listed() {
    let bench = Bench::new();
    let store = bench.open();
    stage(&store, "a").leave();
    File::create(bench.file(".label")).unwrap();
    assert_eq!(store.orphans().unwrap()[0].label(), None);
    std::fs::remove_file(bench.file(".label")).unwrap();
    assert_eq!(store.orphans().unwrap()[0].label(), None);
}

#[test]
fn a_writer_is_seen_until_it_is_gone() {
    let bench = Bench::new();
    let mut staged = stage(&bench.open(), "a");
    assert!(!staged.has_other_writers().unwrap());
    let reader = staged.reopen(Access::Read).unwrap();
    assert!(!staged.has_other_writers().unwrap(), "a reader is no writer");
    let writer = staged.reopen(Access::ReadWrite).unwrap();
    assert!(staged.has_other_writers().unwrap());
    drop((writer, reader));
    assert!(!staged.has_other_writers().unwrap());
    staged.file().write_all_at(b"still ours to write", 0).unwrap();
}

#[test]
#[expect(unsafe_code, reason = "maps a file as an application would")]
fn a_shared_mapping_is_a_writer_after_its_file_is_closed() {
    let bench = Bench::new();
    let mut staged = stage(&bench.open(), "a");
    let writer = staged.reopen(Access::ReadWrite).unwrap();
    let access = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a fresh mapping, which nothing refers to.
    let mapped =
        unsafe { rustix::mm::mmap(std::ptr::null_mut(), 4096, access, MapFlags::SHARED, &writer, 0) }
            .unwrap();
    drop(writer);
    assert!(staged.has_other_writers().unwrap());
    // SAFETY: the mapping of above.
    unsafe { rustix::mm::munmap(mapped, 4096) }.unwrap();
    assert!(!staged.has_other_writers().unwrap());
}

#[test]
fn an_empty_staged_file_becomes_an_empty_object() {
    let bench = Bench::new();
    let store = bench.open();
    let staged = store.stage(&label("a")).unwrap();
    staged.file().write_all(b"").unwrap();
    assert!(staged.promote(&id("a", 0), PromoteWith::Whole).unwrap().unwrap().is_whole());
}
