//! Notes: small records that save their owner some work after a restart and that it can do without. Each is one
//! file, replaced as a whole; the oldest go when all together take too much.
//!
//! Invariants: a note is handed out as it was written, or not at all. Trouble with the disk is a missing note.

use crate::error::{Error, Result};
use crate::key::{BucketId, ObjectId};
use crate::object::crc;
use crate::store::Store;
use rustix::fs::OFlags;
use std::io::{Read, Write};
use std::sync::atomic::Ordering;

/// `tarn-not` in ASCII, then the version of the format.
const MAGIC: [u8; 8] = *b"tarnnot1";
/// Bytes of all notes together; above it the oldest go, down to three quarters.
const TOTAL_MAX: u64 = 64 << 20;
/// Bytes of one note.
const NOTE_MAX: usize = 16 << 20;
/// Notes written by one process between two looks at the total.
const LOOK_EVERY: u64 = 64;

impl Store {
    /// The note on `topic` of a bucket, as it was last written by any process.
    pub fn note(&self, bucket: &BucketId, topic: &str) -> Option<Vec<u8>> {
        let id = identity(bucket, topic);
        match self.read_note(&id) {
            Ok(found) => found.and_then(|bytes| decode(&id, &bytes).map(<[u8]>::to_vec)),
            Err(error) => {
                self.count_failure(&error);
                None
            }
        }
    }

    /// Keeps a note in place of an earlier one on the same topic. One that is too large is not kept.
    pub fn put_note(&self, bucket: &BucketId, topic: &str, note: &[u8]) {
        let id = identity(bucket, topic);
        if note.len() > NOTE_MAX || !self.admit(note.len() as u64) {
            return;
        }
        let count = self.notes.fetch_add(1, Ordering::Relaxed);
        let kept = self.write_note(&id, note).and_then(|()| {
            if count.is_multiple_of(LOOK_EVERY) { self.trim_notes(TOTAL_MAX) } else { Ok(()) }
        });
        if let Err(error) = kept {
            self.count_failure(&error);
        }
    }

    fn read_note(&self, id: &ObjectId) -> Result<Option<Vec<u8>>> {
        let name = id.name().to_string();
        let Some(mut file) = self.dirs.notes.open(&name, OFlags::RDONLY)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)
            .map_err(|error| Error::io("read", self.dirs.notes.path().join(&name), error))?;
        Ok(Some(bytes))
    }

    fn write_note(&self, id: &ObjectId, note: &[u8]) -> Result<()> {
        let (temporary, name) = (self.dirs.unique(), id.name().to_string());
        let mut file = self.dirs.tmp.create(&temporary)?;
        if let Err(error) = file.write_all(&encode(id, note)) {
            self.dirs.tmp.remove(&temporary)?;
            return Err(Error::io("write", self.dirs.tmp.path().join(&temporary), error));
        }
        self.dirs.tmp.rename(&temporary, &self.dirs.notes, &name)
    }

    /// Removes the oldest notes until all of them take three quarters of `max` bytes, if they take more than that.
    fn trim_notes(&self, max: u64) -> Result<()> {
        let notes = &self.dirs.notes;
        let mut found = Vec::new();
        for name in notes.names()? {
            if let Some(stat) = notes.stat(&name)? {
                found.push((stat.modified, stat.allocated, name));
            }
        }
        let mut total: u64 = found.iter().map(|(_, bytes, _)| bytes).sum();
        if total <= max {
            return Ok(());
        }
        found.sort_unstable();
        for (_, bytes, name) in found {
            if total <= max / 4 * 3 {
                break;
            }
            notes.remove(&name)?;
            total -= bytes;
        }
        Ok(())
    }
}

/// A note is found like an object without a version.
fn identity(bucket: &BucketId, topic: &str) -> ObjectId {
    ObjectId::new(bucket.clone(), topic, "", 0)
}

/// Magic, CRC64NVME of all that follows, length of the topic, topic, note.
fn encode(id: &ObjectId, note: &[u8]) -> Vec<u8> {
    let topic = topic(id);
    let mut tail = Vec::with_capacity(8 + topic.len() + note.len());
    tail.extend((topic.len() as u64).to_le_bytes());
    tail.extend(topic.as_bytes());
    tail.extend(note);
    [MAGIC.as_slice(), &crc::checksum(&tail).to_le_bytes(), &tail].concat()
}

fn decode<'a>(id: &ObjectId, bytes: &'a [u8]) -> Option<&'a [u8]> {
    let rest = bytes.strip_prefix(&MAGIC)?;
    let (sum, tail) = rest.split_first_chunk::<8>()?;
    if crc::checksum(tail) != u64::from_le_bytes(*sum) {
        return None;
    }
    let (length, tail) = tail.split_first_chunk::<8>()?;
    let (topic_found, note) = tail.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    (topic_found == topic(id).as_bytes()).then_some(note)
}

/// Bucket and topic; a bucket's identity has no line break.
fn topic(id: &ObjectId) -> String {
    format!("{}\n{}", id.bucket().as_str(), id.key())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreOptions;
    use std::sync::Arc;

    fn open(dir: &std::path::Path) -> Arc<Store> {
        let options =
            StoreOptions { dir: dir.join("cache"), max_bytes: 1 << 30, min_free_bytes: 0, boot_id: None };
        Store::open(options).unwrap()
    }

    #[test]
    fn a_note_outlives_its_store_and_is_found_by_bucket_and_topic() {
        let dir = tempfile::tempdir().unwrap();
        let bucket = BucketId::new("b");
        open(dir.path()).put_note(&bucket, "a/", b"old");
        open(dir.path()).put_note(&bucket, "a/", b"new");
        let store = open(dir.path());
        assert_eq!(store.note(&bucket, "a/").as_deref(), Some(b"new".as_slice()));
        assert_eq!(store.note(&bucket, "a"), None);
        assert_eq!(store.note(&BucketId::new("c"), "a/"), None);
    }

    #[test]
    fn a_damaged_note_is_none() {
        let id = identity(&BucketId::new("b"), "topic");
        let good = encode(&id, b"note");
        assert_eq!(decode(&id, &good), Some(b"note".as_slice()));
        assert_eq!(decode(&identity(&BucketId::new("b"), "other"), &good), None);
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 4;
            assert_eq!(decode(&id, &bad), None, "byte {at}");
            assert_eq!(decode(&id, &good[..at]), None, "cut at {at}");
        }
    }

    #[test]
    fn notes_do_not_take_more_than_their_room() {
        let dir = tempfile::tempdir().unwrap();
        let (store, bucket) = (open(dir.path()), BucketId::new("b"));
        for topic in 0..40 {
            store.put_note(&bucket, &topic.to_string(), &[7; 4096]);
        }
        store.trim_notes(64 << 10).unwrap();
        let left = (0..40).filter(|topic| store.note(&bucket, &topic.to_string()).is_some()).count();
        assert!((1..=8).contains(&left), "{left} notes of two pages in 64 KiB");
    }
}
