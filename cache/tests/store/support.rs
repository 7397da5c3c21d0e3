//! A directory with stores in it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use tarn_cache::{
    BLOCK_SIZE, BlockIndex, BucketId, Lookup, Object, ObjectId, StagedLabel, Store, StoreOptions,
};
use tempfile::TempDir;

/// A directory that several stores may open; each behaves like a process of its own.
pub(crate) struct Bench {
    pub(crate) dir: TempDir,
    pub(crate) max_bytes: u64,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self { dir: TempDir::new().unwrap(), max_bytes: 1 << 30 }
    }

    pub(crate) fn with_budget(max_bytes: u64) -> Self {
        Self { max_bytes, ..Self::new() }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("cache")
    }

    pub(crate) fn open(&self) -> Arc<Store> {
        self.open_in_boot("first boot")
    }

    pub(crate) fn open_in_boot(&self, boot: &str) -> Arc<Store> {
        open_at(&self.path(), self.max_bytes, boot)
    }

    /// The only file whose name ends so.
    pub(crate) fn file(&self, end: &str) -> PathBuf {
        let files = self.files(end);
        assert_eq!(files.len(), 1, "{files:?}");
        files[0].clone()
    }

    pub(crate) fn files(&self, end: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        collect(&self.path(), &mut found);
        found.retain(|path| path.to_string_lossy().ends_with(end));
        found
    }
}

pub(crate) fn open_at(dir: &Path, max_bytes: u64, boot: &str) -> Arc<Store> {
    Store::open(StoreOptions {
        dir: dir.to_owned(),
        max_bytes,
        min_free_bytes: 0,
        boot_id: Some(boot.to_owned()),
    })
    .unwrap()
}

fn collect(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, found);
        } else {
            found.push(path);
        }
    }
}

pub(crate) fn id(key: &str, size: u64) -> ObjectId {
    ObjectId::new(BucketId::new("http://store/bucket"), key, "etag-1", size)
}

pub(crate) fn label(key: &str) -> StagedLabel {
    StagedLabel { bucket: BucketId::new("http://store/bucket"), record: key.into() }
}

/// The bytes of an object: a function of its key.
pub(crate) fn bytes(id: &ObjectId) -> Vec<u8> {
    let seed = id.key().bytes().fold(7_u64, |seed, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte)));
    let mut state = seed | 1;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..id.size()).map(next).collect()
}

pub(crate) fn fill(object: &Object, blocks: impl IntoIterator<Item = u64>) {
    fill_from(object, &bytes(object.id()), blocks);
}

pub(crate) fn fill_from(object: &Object, all: &[u8], blocks: impl IntoIterator<Item = u64>) {
    for index in blocks {
        let range = BlockIndex::new(index).range(object.id().size());
        object.fill(BlockIndex::new(index), &[&all[range.start() as usize..range.end() as usize]]).unwrap();
    }
}

pub(crate) fn fill_all(object: &Object) {
    fill(object, 0..object.id().size().div_ceil(BLOCK_SIZE));
}

/// The indices of the blocks that miss; what is there must be right, and what misses must be listed.
pub(crate) fn misses(object: &Object) -> Vec<u64> {
    let missed = misses_now(object);
    let listed: Vec<u64> = object.missing(object.id().range()).iter().map(|block| block.get()).collect();
    assert_eq!(missed, listed, "what misses is what is to be fetched");
    missed
}

/// The same while others fill.
pub(crate) fn misses_now(object: &Object) -> Vec<u64> {
    misses_against(object, &bytes(object.id()))
}

pub(crate) fn misses_against(object: &Object, all: &[u8]) -> Vec<u64> {
    let mut missed = Vec::new();
    for block in object.id().range().blocks() {
        let range = block.range(object.id().size());
        let mut buffer = vec![0xEE; range.len() as usize];
        match object.read(range.start(), &mut buffer).unwrap() {
            Lookup::Hit => {
                let expected = &all[range.start() as usize..range.end() as usize];
                assert!(buffer == expected, "block {block} of {} has wrong bytes", object.id().key());
            }
            Lookup::Miss => missed.push(block.get()),
        }
    }
    missed
}
