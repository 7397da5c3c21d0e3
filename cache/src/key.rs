//! What an object, a block and a range of bytes are called. Pure.
//!
//! Invariants: an [`ObjectId`] names exactly one sequence of bytes: two objects with the same bucket, key, tag
//! and size hold the same bytes. A [`ByteRange`] never ends before it starts.

use md5::{Digest, Md5};
use std::fmt;
use std::sync::Arc;

/// Bytes in a block; the last block of an object may be shorter.
pub const BLOCK_SIZE: u64 = 256 * 1024;

/// A bucket on a server. The caller chooses the text, so that two buckets never share it (endpoint and name).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BucketId(Arc<str>);

impl BucketId {
    /// Takes any text.
    pub fn new(id: &str) -> Self {
        Self(id.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One version of one object.
#[derive(Debug, Clone)]
pub struct ObjectId {
    bucket: BucketId,
    key: Arc<str>,
    etag: Arc<str>,
    size: u64,
    name: ObjectName,
}

impl ObjectId {
    /// The version `etag` of `key`, which has `size` bytes.
    pub fn new(bucket: BucketId, key: &str, etag: &str, size: u64) -> Self {
        let name = ObjectName::of(bucket.as_str(), key, etag, size);
        Self { bucket, key: key.into(), etag: etag.into(), size, name }
    }

    /// The bucket it is in.
    pub fn bucket(&self) -> &BucketId {
        &self.bucket
    }

    /// Its key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The entity tag of the version.
    pub fn etag(&self) -> &str {
        &self.etag
    }

    /// Its length in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// How many blocks it has.
    pub fn blocks(&self) -> u64 {
        self.size.div_ceil(BLOCK_SIZE)
    }

    /// All its bytes.
    pub fn range(&self) -> ByteRange {
        ByteRange { start: 0, end: self.size }
    }

    /// What its files are called.
    pub(crate) fn name(&self) -> ObjectName {
        self.name
    }
}

impl PartialEq for ObjectId {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
            && self.size == other.size
            && self.bucket == other.bucket
            && self.key == other.key
            && self.etag == other.etag
    }
}

impl Eq for ObjectId {}

impl std::hash::Hash for ObjectId {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

/// The file name of an object: a 128-bit digest, so that no key can name a place outside of the store. It is a
/// name and no proof: the full identity stands in the map and is compared.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ObjectName(u128);

impl ObjectName {
    fn of(bucket: &str, key: &str, etag: &str, size: u64) -> Self {
        let mut digest = Md5::new();
        for part in [bucket, key, etag] {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        digest.update(size.to_le_bytes());
        Self(u128::from_be_bytes(digest.finalize().into()))
    }

    /// Reads 32 lower-case hexadecimal digits.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let name = Self(u128::from_str_radix(text, 16).ok()?);
        (name.to_string() == text).then_some(name)
    }

    /// The sub-directory it lies in.
    pub(crate) fn shard(self) -> u8 {
        self.0.to_be_bytes()[0]
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The number of a block within its object, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockIndex(u64);

impl BlockIndex {
    /// The block with this number.
    pub fn new(index: u64) -> Self {
        Self(index)
    }

    /// The block that holds the byte at `offset`.
    pub fn containing(offset: u64) -> Self {
        Self(offset / BLOCK_SIZE)
    }

    /// Its number.
    pub fn get(self) -> u64 {
        self.0
    }

    /// Its bytes in an object of `size`; empty beyond the end.
    pub fn range(self, size: u64) -> ByteRange {
        let start = self.0.saturating_mul(BLOCK_SIZE).min(size);
        ByteRange { start, end: start.saturating_add(BLOCK_SIZE).min(size) }
    }
}

impl fmt::Display for BlockIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Bytes from `start` up to, not including, `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ByteRange {
    start: u64,
    end: u64,
}

impl ByteRange {
    /// `start..end`, if it does not end before it starts.
    pub fn new(start: u64, end: u64) -> Option<Self> {
        (start <= end).then_some(Self { start, end })
    }

    /// `len` bytes from `start`, cut at the largest offset there is.
    pub fn at(start: u64, len: u64) -> Self {
        Self { start, end: start.saturating_add(len) }
    }

    /// Its first byte.
    pub fn start(self) -> u64 {
        self.start
    }

    /// The byte after its last.
    pub fn end(self) -> u64 {
        self.end
    }

    /// How many bytes.
    pub fn len(self) -> u64 {
        self.end - self.start
    }

    /// Whether it has no byte.
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// The blocks that hold at least one of its bytes.
    pub fn blocks(self) -> impl DoubleEndedIterator<Item = BlockIndex> + Clone + use<> {
        let end = if self.is_empty() { 0 } else { self.end.div_ceil(BLOCK_SIZE) };
        let start = if self.is_empty() { 0 } else { self.start / BLOCK_SIZE };
        (start..end).map(BlockIndex)
    }

    /// The blocks of an object of `size` bytes of which it holds every byte.
    pub fn whole_blocks(self, size: u64) -> impl DoubleEndedIterator<Item = BlockIndex> + Clone + use<> {
        let end = if self.end >= size { size.div_ceil(BLOCK_SIZE) } else { self.end / BLOCK_SIZE };
        (self.start.div_ceil(BLOCK_SIZE)..end).map(BlockIndex)
    }
}

impl fmt::Display for ByteRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.start, self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(key: &str, etag: &str) -> ObjectId {
        ObjectId::new(BucketId::new("b"), key, etag, 1)
    }

    #[test]
    fn parts_of_an_identity_do_not_run_together() {
        assert_ne!(id("ab", "c").name(), id("a", "bc").name());
        assert_eq!(id("ab", "c").name(), id("ab", "c").name());
    }

    #[test]
    fn a_name_is_stable_and_hexadecimal() {
        let name = id("../../etc/passwd", "e").name();
        assert_eq!(name.to_string(), "3a1ff41bfb1a9c51a87984505ab72a30");
        assert_eq!(ObjectName::parse(&name.to_string()), Some(name));
        for bad in ["", "..", "+0000000000000000000000000000001", "zz", &"A".repeat(32)] {
            assert_eq!(ObjectName::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn ranges_cover_blocks() {
        let touched = |start, end| ByteRange { start, end }.blocks().map(BlockIndex::get).collect::<Vec<_>>();
        assert_eq!(touched(0, 0), [0_u64; 0]);
        assert_eq!(touched(BLOCK_SIZE, BLOCK_SIZE), [0_u64; 0]);
        assert_eq!(touched(0, 1), [0]);
        assert_eq!(touched(BLOCK_SIZE - 1, BLOCK_SIZE + 1), [0, 1]);
        assert_eq!(touched(BLOCK_SIZE, 2 * BLOCK_SIZE), [1]);
    }

    #[test]
    fn a_whole_block_is_covered_from_end_to_end() {
        let size = 2 * BLOCK_SIZE + 10;
        let whole =
            |start, end| ByteRange { start, end }.whole_blocks(size).map(BlockIndex::get).collect::<Vec<_>>();
        assert_eq!(whole(0, size), [0, 1, 2]);
        assert_eq!(whole(1, size), [1, 2]);
        assert_eq!(whole(0, size - 1), [0, 1]);
        assert_eq!(whole(5, BLOCK_SIZE), [0_u64; 0]);
        assert_eq!(whole(2 * BLOCK_SIZE + 1, size), [0_u64; 0]);
    }

    #[test]
    fn the_last_block_is_short() {
        let size = BLOCK_SIZE + 3;
        assert_eq!(BlockIndex(1).range(size), ByteRange { start: BLOCK_SIZE, end: size });
        assert!(BlockIndex(2).range(size).is_empty());
        assert!(BlockIndex(u64::MAX).range(size).is_empty());
    }
}
