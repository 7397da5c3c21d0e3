//! Whatever happened to the files: a block is right or it misses.

use crate::support::{Bench, fill, fill_all, id, misses};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use tarn_cache::{Access, BLOCK_SIZE, Error};

const SIZE: u64 = 2 * BLOCK_SIZE + 1000;
const BLOCKS: [u64; 3] = [0, 1, 2];
/// Bytes of a block's entry in the map: checksum, then tag.
const ENTRY: usize = 16;

/// A directory with one whole object in it.
fn whole() -> Bench {
    let bench = Bench::new();
    fill_all(&bench.open().object(&id("a", SIZE)).unwrap());
    bench
}

/// Opens the object after a reboot. It must serve only right bytes, and be as good as new when it is filled.
fn misses_after_reboot(bench: &Bench) -> Vec<u64> {
    let store = bench.open_in_boot("second boot");
    let object = store.object(&id("a", SIZE)).unwrap();
    let missed = misses(&object);
    fill_all(&object);
    assert_eq!(misses(&object), [0_u64; 0], "a damaged object can be filled again");
    missed
}

fn write(path: impl AsRef<std::path::Path>, at: u64, bytes: &[u8]) {
    OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, at).unwrap();
}

#[test]
fn data_without_its_bit_is_a_miss() {
    let bench = Bench::new();
    fill(&bench.open().object(&id("a", SIZE)).unwrap(), [1]);
    // Killed between the write and the bit.
    write(bench.file(".data"), 0, &[7; BLOCK_SIZE as usize]);
    assert_eq!(misses(&bench.open().object(&id("a", SIZE)).unwrap()), [0, 2]);
    assert_eq!(misses_after_reboot(&bench), [0, 2]);
}

#[test]
fn a_bit_whose_data_was_lost_with_the_power_is_a_miss() {
    let bench = whole();
    write(bench.file(".data"), BLOCK_SIZE, &[0; BLOCK_SIZE as usize]);
    let store = bench.open_in_boot("second boot");
    assert_eq!(misses(&store.object(&id("a", SIZE)).unwrap()), [1]);
    assert_eq!(store.stats().bad_blocks, 1);
}

#[test]
fn every_image_that_a_loss_of_power_can_leave_is_safe() {
    let good = whole();
    let (data, map) = (std::fs::read(good.file(".data")).unwrap(), std::fs::read(good.file(".map")).unwrap());
    let table = map.len() - BLOCKS.len() * ENTRY;
    // Each of a block's data, checksum and tag reached the disk or did not.
    for image in 0..1_u32 << (3 * BLOCKS.len()) {
        let (mut data, mut map) = (data.clone(), map.clone());
        let mut expected = Vec::new();
        for block in BLOCKS {
            let lost = |part: u32| image >> (3 * block as u32 + part) & 1 == 1;
            let entry = table + block as usize * ENTRY;
            if lost(0) {
                let end = ((block + 1) * BLOCK_SIZE).min(SIZE);
                data[(block * BLOCK_SIZE) as usize..end as usize].fill(0);
            }
            if lost(1) {
                map[entry..entry + 8].fill(0);
            }
            if lost(2) {
                map[entry + 8..entry + 16].fill(0);
            }
            if lost(0) || lost(1) || lost(2) {
                expected.push(block);
            }
        }
        std::fs::write(good.file(".data"), &data).unwrap();
        std::fs::write(good.file(".map"), &map).unwrap();
        let store = good.open_in_boot("second boot");
        assert_eq!(misses(&store.object(&id("a", SIZE)).unwrap()), expected, "image {image:#b}");
    }
}

/// SEMANTICS: "Blocks on the local disk have a CRC64NVME, which is compared before their first use after a
/// reboot, and whenever `tarn cache verify` asks for it."
#[test]
fn a_flipped_byte_of_data_is_a_miss_of_its_block() {
    for (at, block) in [(0, 0), (BLOCK_SIZE - 1, 0), (BLOCK_SIZE, 1), (SIZE - 1, 2)] {
        let bench = whole();
        let file = File::open(bench.file(".data")).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        write(bench.file(".data"), at, &[byte[0] ^ 0x10]);
        assert_eq!(misses_after_reboot(&bench), [block], "byte {at}");
    }
}

#[test]
fn a_flipped_byte_anywhere_in_the_map_is_harmless() {
    let bench = whole();
    let (data, map) =
        (std::fs::read(bench.file(".data")).unwrap(), std::fs::read(bench.file(".map")).unwrap());
    let (data_path, map_path) = (bench.file(".data"), bench.file(".map"));
    let table = map.len() - BLOCKS.len() * ENTRY;
    for at in 0..map.len() {
        std::fs::write(&data_path, &data).unwrap();
        let mut bad = map.clone();
        bad[at] ^= 0x40;
        std::fs::write(&map_path, &bad).unwrap();
        let missed = misses_after_reboot(&bench);
        if at >= table && (at - table) % ENTRY < 8 {
            assert_eq!(missed, [((at - table) / ENTRY) as u64], "a checksum, byte {at}");
        } else if at >= table {
            assert_eq!(missed, [0_u64; 0], "a tag, byte {at}: present in some boot, and verified");
        } else if !(40..48).contains(&at) {
            assert_eq!(missed, BLOCKS, "the header, byte {at}");
        }
    }
}

#[test]
fn a_cut_map_is_an_empty_object() {
    let bench = whole();
    let len = std::fs::metadata(bench.file(".map")).unwrap().len();
    for cut in [0, 1, 8, 47, 48, len - 16, len - 1, len + 16] {
        OpenOptions::new().write(true).open(bench.file(".map")).unwrap().set_len(cut).unwrap();
        assert_eq!(misses_after_reboot(&bench), BLOCKS, "cut to {cut}");
    }
}

#[test]
fn cut_data_is_an_empty_object() {
    let bench = whole();
    for cut in [0, 1, BLOCK_SIZE, SIZE - 1, SIZE + 1] {
        OpenOptions::new().write(true).open(bench.file(".data")).unwrap().set_len(cut).unwrap();
        assert_eq!(misses_after_reboot(&bench), BLOCKS, "cut to {cut}");
    }
}

#[test]
fn data_cut_while_it_is_open_is_never_zeros() {
    let cut = |bench: &Bench, len| {
        OpenOptions::new().write(true).open(bench.file(".data")).unwrap().set_len(len).unwrap();
    };
    let bench = whole();
    let object = bench.open().object(&id("a", SIZE)).unwrap();
    cut(&bench, 0);
    assert_eq!(misses(&object), BLOCKS);

    // A fill extends the file again, before anybody has read from it.
    fill(&object, [0, 1]);
    cut(&bench, BLOCK_SIZE / 2);
    fill(&object, [2]);
    assert_eq!(misses(&object), [0, 1]);
}

#[test]
fn lost_files_are_an_empty_object() {
    for lost in [".data", ".map"] {
        let bench = whole();
        std::fs::remove_file(bench.file(lost)).unwrap();
        assert_eq!(misses_after_reboot(&bench), BLOCKS, "{lost}");
    }
}

#[test]
fn a_map_of_another_object_is_not_taken_for_ours() {
    let bench = whole();
    let map = std::fs::read(bench.file(".map")).unwrap();
    let data = std::fs::read(bench.file(".data")).unwrap();
    let other = Bench::new();
    fill_all(&other.open().object(&id("b", SIZE)).unwrap());
    // As if both keys had the same digest.
    std::fs::write(other.file(".map"), map).unwrap();
    std::fs::write(other.file(".data"), data).unwrap();
    let store = other.open();
    assert_eq!(misses(&store.object(&id("b", SIZE)).unwrap()), BLOCKS);
    assert_eq!(store.stats().bad_objects, 1);
}

#[test]
fn a_bad_block_takes_the_wholeness_away() {
    let bench = whole();
    write(bench.file(".data"), 5, b"flip");
    let store = bench.open_in_boot("second boot");
    let object = store.object(&id("a", SIZE)).unwrap();
    assert!(matches!(object.open_whole(Access::Read), Err(Error::NotWhole { .. })));
    assert!(!object.is_whole());
    assert_eq!(object.crc64nvme(), None);
    fill(&object, [0]);
    assert!(object.open_whole(Access::Read).is_ok());
}

#[test]
fn data_that_never_got_its_map_is_removed_by_a_survey() {
    let bench = whole();
    std::fs::remove_file(bench.file(".map")).unwrap();
    let store = bench.open();
    assert_eq!(bench.files(".data").len(), 1, "who opens a store looks at nothing");
    store.survey().unwrap();
    assert!(bench.files(".data").is_empty());
}

/// SEMANTICS: "Blocks on the local disk have a CRC64NVME, which is compared before their first use after a
/// reboot, and whenever `tarn cache verify` asks for it."
#[test]
fn a_scrub_finds_a_flipped_bit_in_a_block_that_this_boot_trusts() {
    let bench = whole();
    let store = bench.open();
    let object = store.object(&id("a", SIZE)).unwrap();
    assert_eq!(object.scrub(), 0);
    let mut byte = [0];
    let data = File::open(bench.file(".data")).unwrap();
    data.read_exact_at(&mut byte, BLOCK_SIZE + 5).unwrap();
    write(bench.file(".data"), BLOCK_SIZE + 5, &[byte[0] ^ 1]);
    assert_eq!(object.scrub(), 1);
    assert_eq!(misses(&object), [1]);
    assert_eq!(object.present(), SIZE - BLOCK_SIZE);
}
