//! Clean objects: filling, reading, remounting, sharing.

use crate::support::{Bench, bytes, fill, fill_all, fill_from, id, misses, misses_against};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use tarn_cache::{Access, BLOCK_SIZE, BlockIndex, ByteRange, Error, Lookup, Store, StoreOptions};

const SIZE: u64 = 3 * BLOCK_SIZE + 1000;

#[test]
fn what_was_filled_is_read_back() {
    let bench = Bench::new();
    let object = bench.open().object(&id("a", SIZE)).unwrap();
    assert_eq!(misses(&object), [0, 1, 2, 3]);
    fill(&object, [1, 3]);
    assert_eq!(misses(&object), [0, 2]);
    assert!(!object.is_whole());
    fill(&object, [0, 2]);
    assert_eq!(misses(&object), [0_u64; 0]);
    assert!(object.is_whole());
    let mut across = vec![0; 5000];
    assert_eq!(object.read(BLOCK_SIZE - 2500, &mut across).unwrap(), Lookup::Hit);
    let at = BLOCK_SIZE as usize - 2500;
    assert_eq!(across, bytes(object.id())[at..at + 5000]);
}

#[test]
fn neighbours_fill_together_and_leave_what_is_there() {
    let bench = Bench::new();
    let object = bench.open().object(&id("a", SIZE)).unwrap();
    let all = bytes(object.id());
    fill(&object, [1]);
    let mut blocks: Vec<Vec<u8>> = all.chunks(BLOCK_SIZE as usize).map(<[u8]>::to_vec).collect();
    blocks[1].fill(7);
    object.fill(BlockIndex::new(0), &blocks).unwrap();
    let mut read = vec![0; SIZE as usize];
    assert_eq!(object.read(0, &mut read).unwrap(), Lookup::Hit);
    assert!(read == all);
    assert_eq!(object.crc64nvme(), Some(crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, &all)));
    blocks.push(vec![0; 1000]);
    let beyond = object.fill(BlockIndex::new(0), &blocks);
    assert!(
        matches!(beyond, Err(Error::BlockLength { block, .. }) if block == BlockIndex::new(4)),
        "{beyond:?}"
    );
}

#[test]
fn blocks_stay_over_a_remount() {
    let bench = Bench::new();
    fill(&bench.open().object(&id("a", SIZE)).unwrap(), [0, 2]);
    let store = bench.open();
    assert_eq!(misses(&store.object(&id("a", SIZE)).unwrap()), [1, 3]);
    assert_eq!(store.stats().verified_blocks, 0, "nothing is verified within one boot");
}

#[test]
fn blocks_stay_over_a_reboot_and_are_verified_once() {
    let bench = Bench::new();
    fill_all(&bench.open().object(&id("a", SIZE)).unwrap());
    let store = bench.open_in_boot("second boot");
    let object = store.object(&id("a", SIZE)).unwrap();
    assert_eq!(misses(&object), [0_u64; 0]);
    assert_eq!(misses(&object), [0_u64; 0]);
    assert_eq!(store.stats().verified_blocks, 4);
    assert_eq!(store.stats().bad_blocks, 0);
}

#[test]
fn an_empty_object_is_whole_at_once() {
    let bench = Bench::new();
    let object = bench.open().object(&id("empty", 0)).unwrap();
    assert!(object.is_whole());
    assert!(object.missing(ByteRange::at(0, 100)).is_empty());
    assert_eq!(object.read(0, &mut []).unwrap(), Lookup::Hit);
    assert_eq!(object.open_whole(Access::Read).unwrap().metadata().unwrap().len(), 0);
    assert_eq!(object.crc64nvme(), Some(crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, b"")));
}

#[test]
fn the_whole_file_is_handed_out_when_it_is_whole() {
    let bench = Bench::new();
    let object = bench.open().object(&id("a", SIZE)).unwrap();
    fill(&object, [0, 1, 2]);
    assert!(matches!(object.open_whole(Access::Read), Err(Error::NotWhole { .. })));
    assert_eq!(object.crc64nvme(), None);
    fill(&object, [3]);
    let mut all = Vec::new();
    object.open_whole(Access::Read).unwrap().read_to_end(&mut all).unwrap();
    assert!(all == bytes(object.id()));
    let expected = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, &all);
    assert_eq!(object.crc64nvme(), Some(expected));
}

#[test]
fn only_whole_blocks_of_the_object_are_taken() {
    let bench = Bench::new();
    let object = bench.open().object(&id("a", SIZE)).unwrap();
    for (block, len) in [(0, BLOCK_SIZE - 1), (0, BLOCK_SIZE + 1), (3, BLOCK_SIZE), (4, 0), (u64::MAX, 1)] {
        let result = object.fill(BlockIndex::new(block), &[vec![0; len as usize]]);
        assert!(matches!(result, Err(Error::BlockLength { .. })), "{block} {len}: {result:?}");
    }
    assert_eq!(misses(&object), [0, 1, 2, 3]);
    assert!(matches!(object.read(SIZE - 1, &mut [0; 2]), Err(Error::OutOfRange { .. })));
}

#[test]
fn one_process_has_one_object_per_version() {
    let bench = Bench::new();
    let store = bench.open();
    let first = store.object(&id("a", SIZE)).unwrap();
    assert!(Arc::ptr_eq(&first, &store.object(&id("a", SIZE)).unwrap()));
    assert!(!Arc::ptr_eq(&first, &store.object(&id("a", SIZE + 1)).unwrap()));
}

#[test]
fn two_processes_see_each_others_blocks_at_once() {
    let bench = Bench::new();
    let (mine, theirs) = (bench.open(), bench.open());
    let (mine, theirs) = (mine.object(&id("a", SIZE)).unwrap(), theirs.object(&id("a", SIZE)).unwrap());
    fill(&mine, [0, 1]);
    assert_eq!(misses(&theirs), [2, 3]);
    fill(&theirs, [1, 2, 3]);
    assert_eq!(misses(&mine), [0_u64; 0]);
    assert!(mine.is_whole());
}

#[test]
fn many_threads_of_two_processes_fill_the_same_object() {
    let bench = Bench::new();
    let big = id("big", 40 * BLOCK_SIZE + 17);
    let all = bytes(&big);
    let stores = [bench.open(), bench.open()];
    std::thread::scope(|scope| {
        for worker in 0..6 {
            let (store, big, all) = (&stores[worker % 2], &big, &all);
            scope.spawn(move || {
                let object = store.object(big).unwrap();
                for round in 0..41 {
                    fill_from(&object, all, [(round * 7 + worker as u64 * 11) % 41]);
                    misses_against(&object, all);
                }
            });
        }
    });
    assert_eq!(misses(&stores[0].object(&big).unwrap()), [0_u64; 0]);
}

#[test]
fn a_key_cannot_leave_the_directory() {
    let bench = Bench::new();
    let store = bench.open();
    for key in ["../../x", "/etc/passwd", "..", ".", "", "a\0b", "a/b"] {
        fill_all(&store.object(&id(key, 10)).unwrap());
    }
    let outside: Vec<_> =
        std::fs::read_dir(bench.dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(outside, ["cache"]);
    assert_eq!(bench.files(".map").len(), 7);
}

#[test]
fn the_directory_is_private() {
    let bench = Bench::new();
    fill_all(&bench.open().object(&id("a", SIZE)).unwrap());
    let mode = |path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(bench.path()), 0o700);
    assert_eq!(mode(bench.file(".data")), 0o600);
    assert_eq!(mode(bench.file(".map")), 0o600);
}

fn options(dir: std::path::PathBuf) -> StoreOptions {
    StoreOptions { dir, max_bytes: 1 << 20, min_free_bytes: 0, boot_id: None }
}

#[test]
fn a_directory_open_to_others_is_refused() {
    let bench = Bench::new();
    std::fs::create_dir(bench.path()).unwrap();
    for mode in [0o710, 0o701, 0o777] {
        std::fs::set_permissions(bench.path(), PermissionsExt::from_mode(mode)).unwrap();
        assert!(matches!(Store::open(options(bench.path())), Err(Error::Unsafe { .. })), "{mode:o}");
    }
}

#[test]
fn a_directory_of_another_user_is_refused() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root to make a directory of another user");
        return;
    }
    let bench = Bench::new();
    std::fs::create_dir(bench.path()).unwrap();
    std::fs::set_permissions(bench.path(), PermissionsExt::from_mode(0o700)).unwrap();
    std::os::unix::fs::chown(bench.path(), Some(12345), None).unwrap();
    assert!(matches!(Store::open(options(bench.path())), Err(Error::Unsafe { .. })));
}

#[test]
fn symbolic_links_are_refused() {
    let bench = Bench::new();
    let elsewhere = bench.dir.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    std::fs::set_permissions(&elsewhere, PermissionsExt::from_mode(0o700)).unwrap();
    std::os::unix::fs::symlink(&elsewhere, bench.path()).unwrap();
    assert!(matches!(Store::open(options(bench.path())), Err(Error::Unsafe { .. })));
    std::fs::remove_file(bench.path()).unwrap();

    let store = bench.open();
    fill_all(&store.object(&id("a", SIZE)).unwrap());
    let (data, target) = (bench.file(".data"), elsewhere.join("file"));
    std::fs::rename(&data, &target).unwrap();
    std::os::unix::fs::symlink(&target, &data).unwrap();
    assert!(matches!(store.object(&id("a", SIZE)), Err(Error::Unsafe { .. })));
}

#[test]
fn find_opens_what_is_there_and_makes_nothing() {
    let bench = Bench::new();
    let store = bench.open();
    assert!(store.find(&id("a", SIZE)).unwrap().is_none());
    assert!(bench.files(".map").is_empty());
    fill(&store.object(&id("a", SIZE)).unwrap(), [1]);
    let found = bench.open().find(&id("a", SIZE)).unwrap().unwrap();
    assert_eq!(found.present(), BLOCK_SIZE);
}

#[test]
fn an_object_is_forgotten_unless_somebody_has_it_open() {
    let bench = Bench::new();
    let (store, other) = (bench.open(), bench.open());
    let object = store.object(&id("a", SIZE)).unwrap();
    fill_all(&object);
    assert!(!other.forget(object.id()).unwrap(), "another store has it open");
    drop(object);
    assert!(other.forget(&id("a", SIZE)).unwrap());
    assert!(bench.files(".data").is_empty());
    assert_eq!(store.stats().used_bytes, 0);
    assert!(other.forget(&id("a", SIZE)).unwrap(), "what is not there is forgotten");
}
