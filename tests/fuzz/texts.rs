//! What other clients and the local disk have kept: names, metadata, records, maps.

use crate::{corpus, fuzz, fuzz_with};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;
use tarn_cache::{BLOCK_SIZE, BlockIndex, BucketId, Lookup, ObjectId, StagedLabel, Store, StoreOptions};
use tarn_fs::journal::Entry;
use tarn_fs::meta::{self, Attributes, Defaults, Kind};
use tarn_fs::name::{Key, Name, NameError, Prefix, Role};
use tarn_fs::store::{ETag, Headers, Version};
use tempfile::TempDir;

/// Each component of a key has one name, which leads back to it; each name of an entry has one component.
#[test]
fn names() {
    let root = Prefix::default();
    let parse = |bytes: &[u8]| Name::parse(OsStr::from_bytes(bytes));
    fuzz("names", |input| {
        if let Ok(name) = parse(input)
            && name.role() == Role::Entry
            && let Ok(key) = root.key(&name)
        {
            assert_eq!(Name::of(key.as_str()), Ok(name));
        }
        let Some(key) = std::str::from_utf8(input).ok().and_then(|text| Key::parse(text).ok()) else {
            return;
        };
        for component in key.as_str().split('/') {
            match Name::of(component) {
                Ok(name) => {
                    assert_eq!(parse(name.as_bytes()).as_ref(), Ok(&name));
                    if !component.is_empty() {
                        assert_eq!(root.key(&name).unwrap().as_str(), component);
                    }
                }
                Err(error) => assert_eq!(error, NameError::TooLong),
            }
        }
    });
}

/// What is read of metadata can be written, and is read as the same again.
#[test]
fn metadata() {
    let time = SystemTime::UNIX_EPOCH;
    let version = Version { etag: ETag::new("e"), size: 1, last_modified: time, version_id: None };
    let defaults =
        Defaults { uid: 1, gid: 2, file_mode: 0o644, dir_mode: 0o755, attributes: Attributes::Keep };
    fuzz("metadata", |input| {
        let mut headers = Headers::default();
        for line in String::from_utf8_lossy(input).lines() {
            if let Some((name, value)) = line.split_once('=') {
                headers.user.insert(name.to_lowercase(), value.to_owned());
            }
        }
        drop(meta::symlink_target(&headers));
        let xattrs = meta::Xattrs::read(&headers);
        for kind in [Kind::File, Kind::Directory] {
            let posix = meta::read(&headers, &version, kind, &defaults);
            assert_eq!(posix.mode & !0o7777, 0);
            let mut written = headers.clone();
            if meta::write(&posix, &mut written, Attributes::Keep).is_ok()
                && written.user.contains_key("file-atime")
            {
                assert_eq!(meta::read(&written, &version, kind, &defaults), posix);
                assert_eq!(meta::Xattrs::read(&written), xattrs);
            }
        }
    });
}

/// A record is read as it was written, or not at all.
#[test]
fn journal_record() {
    let bucket = BucketId::new("http://store/bucket");
    for record in corpus("journal_record") {
        assert!(
            Entry::read(&StagedLabel { bucket: bucket.clone(), record }).is_some(),
            "the corpus is understood"
        );
    }
    fuzz("journal_record", |input| {
        let label = StagedLabel { bucket: bucket.clone(), record: input.to_vec() };
        if let Some(entry) = Entry::read(&label) {
            assert_eq!(Entry::read(&entry.label(&bucket)), Some(entry));
        }
    });
}

const SIZE: u64 = BLOCK_SIZE + 100;

/// A store with one whole object, and a staged file whose owner is gone.
struct Disk {
    dir: TempDir,
    id: ObjectId,
    bytes: Vec<u8>,
}

impl Disk {
    fn new() -> Self {
        let id = ObjectId::new(BucketId::new("http://store/bucket"), "key", "etag", SIZE);
        let disk =
            Self { dir: TempDir::new().unwrap(), id, bytes: tarn_tests::data::bytes(1, SIZE as usize) };
        disk.fill(&disk.open("first boot"));
        disk
    }

    fn open(&self, boot: &str) -> Arc<Store> {
        let dir = self.dir.path().join("cache");
        let options = StoreOptions { dir, max_bytes: 1 << 30, min_free_bytes: 0, boot_id: Some(boot.into()) };
        Store::open(options).unwrap()
    }

    fn fill(&self, store: &Arc<Store>) {
        let object = store.object(&self.id).unwrap();
        for block in object.missing(self.id.range()) {
            let range = block.range(SIZE);
            let bytes = &self.bytes[range.start() as usize..range.end() as usize];
            object.fill(block, &[bytes]).unwrap();
        }
    }

    /// The only file below a folder whose name ends so.
    fn file(&self, folder: &str, end: &str) -> PathBuf {
        let mut folders = vec![self.dir.path().join("cache/v1").join(folder)];
        while let Some(folder) = folders.pop() {
            for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                if path.is_dir() {
                    folders.push(path);
                } else if path.to_string_lossy().ends_with(end) {
                    return path;
                }
            }
        }
        panic!("no file {end} in {folder}");
    }
}

/// Whatever stands in a map: a block has its bytes or is missing, and can be filled then.
#[test]
fn cache_map() {
    let disk = Disk::new();
    let (map, data) = (disk.file("objects", ".map"), disk.file("objects", ".data"));
    fuzz_with("cache_map", fs::read(&map).unwrap(), |input| {
        fs::write(&map, input).unwrap();
        fs::write(&data, &disk.bytes).unwrap();
        let store = disk.open("second boot");
        let object = store.object(&disk.id).unwrap();
        for block in [0, 1].map(BlockIndex::new) {
            let range = block.range(SIZE);
            let mut buffer = vec![0; range.len() as usize];
            if object.read(range.start(), &mut buffer).unwrap() == Lookup::Hit {
                assert!(buffer == disk.bytes[range.start() as usize..range.end() as usize]);
            }
        }
        disk.fill(&store);
        assert!(object.is_whole());
    });
}

/// Whatever stands in a label: the staged file is there, and is never taken for another's.
#[test]
fn staged_label() {
    let disk = Disk::new();
    let store = disk.open("first boot");
    let label = StagedLabel { bucket: BucketId::new("http://store/bucket"), record: b"record".to_vec() };
    store.stage(&label).unwrap().leave();
    drop(store);
    let path = disk.file("staged", ".label");
    fuzz("staged_label", |input| {
        fs::write(&path, input).unwrap();
        let store = disk.open("second boot");
        let orphans = store.orphans().unwrap();
        assert_eq!(orphans.len(), 1);
        if let Some(read) = orphans[0].label() {
            // As long as the checksum of what is changed is not changed with it.
            assert!(
                crate::corpus("staged_label")
                    .iter()
                    .any(|known| known.windows(read.record.len()).any(|part| part == read.record))
            );
        }
    });
}
