//! Single wrong bits, anywhere in a store's files, found after a reboot. The quick run takes some, `TARN_FULL=1` ten
//! thousand.

use crate::support::{Bench, fill_all, id, label, misses};
use std::collections::BTreeMap;
use std::path::PathBuf;
use tarn_cache::{BLOCK_SIZE, BucketId};

const SIZES: [(&str, u64); 3] = [("a", 2 * BLOCK_SIZE + 1000), ("b", 700), ("c", BLOCK_SIZE)];
const NOTE: &[u8] = b"what HEAD said of a directory";

/// Numbers that are the same in each run (xorshift64*).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % bound
    }
}

/// Objects, a note, and a staged file whose owner is gone.
fn filled() -> (Bench, BTreeMap<PathBuf, Vec<u8>>) {
    let bench = Bench::new();
    {
        let store = bench.open();
        for (key, size) in SIZES {
            fill_all(&store.object(&id(key, size)).unwrap());
        }
        store.put_note(&bucket(), "topic", NOTE);
        let staged = store.stage(&label("open")).unwrap();
        staged.relabel(&label("closed")).unwrap();
        staged.leave();
    }
    let files = bench.files("").into_iter();
    let image = files.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
    (bench, image)
}

fn bucket() -> BucketId {
    BucketId::new("http://store/bucket")
}

/// What a store says of a directory with one wrong bit: how many pieces it found to be bad. Whatever it serves is right,
/// and what it does not serve can be filled again.
fn found(bench: &Bench) -> u64 {
    let store = bench.open_in_boot("second boot");
    let mut found = 0;
    for (key, size) in SIZES {
        let object = store.object(&id(key, size)).unwrap();
        found += misses(&object).len() as u64;
        fill_all(&object);
        assert_eq!(misses(&object), [0_u64; 0], "{key} is healed");
        assert_eq!(object.scrub(), 0, "{key} is healed on the disk");
    }
    match store.note(&bucket(), "topic") {
        None => found += 1,
        Some(note) => assert_eq!(note, NOTE),
    }
    let orphans = store.orphans().unwrap();
    assert_eq!(orphans.len(), 1, "a staged file is never lost");
    match orphans[0].label() {
        None => found += 1,
        Some(read) => assert_eq!(*read, label("closed")),
    }
    found
}

#[test]
fn a_flipped_bit_in_any_file_is_found_healed_and_never_served() {
    let rounds = if std::env::var_os("TARN_FULL").is_some_and(|value| value == "1") { 10_000 } else { 300 };
    let (bench, image) = filled();
    assert_eq!(found(&bench), 0, "all is well before");
    let mut numbers = Numbers(1);
    let mut harmless = 0;
    for round in 0..rounds {
        std::fs::remove_dir_all(bench.path()).unwrap();
        drop(bench.open());
        for (path, bytes) in &image {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        // Each file as often as another, however long it is.
        let files = image.iter().filter(|(_, bytes)| !bytes.is_empty());
        let (path, bytes) = files.clone().nth(numbers.below(files.count() as u64) as usize).unwrap();
        let bit = numbers.below(bytes.len() as u64 * 8);
        let mut bad = bytes.clone();
        bad[(bit / 8) as usize] ^= 1 << (bit % 8);
        std::fs::write(path, bad).unwrap();
        let found = found(&bench);
        let name = path.to_string_lossy();
        let context = format!("round {round}, bit {bit} of {name}");
        if name.ends_with(".map") {
            // A flag, or the tag of a block that is then read and compared, spoils nothing.
            harmless += u64::from(found == 0);
        } else if name.ends_with("usage") {
            assert_eq!(found, 0, "{context}");
        } else {
            assert_eq!(found, 1, "{context}");
        }
    }
    println!("{rounds} bits, {harmless} of them in tags and flags of maps");
    assert!(harmless < rounds / 3, "{harmless} bits of maps were not found");
}
