//! One version of an object on the local disk: reading blocks, filling blocks, handing out the whole file.
//!
//! Invariants:
//! - While an [`Object`] lives its files are pinned: no process removes them or takes blocks away.
//! - Bytes are handed out only from blocks that this boot wrote or verified.
//! - Trouble with the disk is a miss and a counter. A block that could not be read, or was found bad, counts as
//!   missing from then on, so that it is fetched and filled again.
//!
//! What it does not do: it fetches nothing, and it keeps no bytes in memory.

pub(crate) mod crc;
mod fill;
pub(crate) mod map;

use crate::error::{Error, Result};
use crate::key::{BlockIndex, ByteRange, ObjectId};
use crate::store::Store;
use crate::store::shelf::{self, Place};
use map::BlockState;
use rustix::fs::OFlags;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a file handed out may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading only.
    Read,
    /// Reading and writing.
    ReadWrite,
}

impl Access {
    pub(crate) fn flags(self) -> OFlags {
        match self {
            Self::Read => OFlags::RDONLY,
            Self::ReadWrite => OFlags::RDWR,
        }
    }
}

/// How a read ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// The buffer holds the bytes.
    Hit,
    /// A block is missing; the buffer holds nothing of use.
    Miss,
}

/// An open clean object, pinned.
#[derive(Debug)]
pub struct Object {
    id: ObjectId,
    store: Arc<Store>,
    /// `None` keeps nothing.
    place: Option<Place>,
    /// Every block before this one was seen verified.
    verified_below: AtomicU64,
}

impl Object {
    pub(crate) fn new(store: &Arc<Store>, id: &ObjectId, place: Place) -> Self {
        Self {
            id: id.clone(),
            store: Arc::clone(store),
            place: Some(place),
            verified_below: AtomicU64::new(0),
        }
    }

    /// An object that keeps nothing.
    pub(crate) fn uncached(store: &Arc<Store>, id: &ObjectId) -> Self {
        let store = Arc::clone(store);
        Self { id: id.clone(), store, place: None, verified_below: AtomicU64::new(0) }
    }

    /// Which version of which object it is.
    pub fn id(&self) -> &ObjectId {
        &self.id
    }

    /// Where its data file is; the store's directory if it keeps nothing.
    pub fn path(&self) -> &Path {
        self.place.as_ref().map_or(self.store.path(), |place| &place.path)
    }

    /// Whether every block is there. After a reboot they may still turn out bad.
    pub fn is_whole(&self) -> bool {
        let Some(place) = &self.place else { return false };
        let mut all_verified = true;
        for index in self.verified_below.load(Ordering::Acquire)..place.map.blocks() {
            match place.map.state(BlockIndex::new(index)) {
                BlockState::Verified if all_verified => {
                    self.verified_below.store(index + 1, Ordering::Release)
                }
                BlockState::Verified => {}
                BlockState::Unverified(_) => all_verified = false,
                BlockState::Absent => return false,
            }
        }
        true
    }

    /// The blocks of `range` that must be fetched. Blocks from before a reboot are read and verified first.
    pub fn missing(&self, range: ByteRange) -> Vec<BlockIndex> {
        let end = range.end().min(self.id.size());
        let range = ByteRange::new(range.start(), end).unwrap_or(ByteRange::at(end, 0));
        range.blocks().filter(|block| !self.ready(*block)).collect()
    }

    /// Reads `buffer.len()` bytes from `offset`, all of them or nothing.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<Lookup> {
        let range = ByteRange::at(offset, buffer.len() as u64);
        if range.end() > self.id.size() {
            return Err(Error::OutOfRange { path: self.path().to_owned(), range, size: self.id.size() });
        }
        let lookup = if self.read_ready(range, buffer) { Lookup::Hit } else { Lookup::Miss };
        match lookup {
            Lookup::Hit => self.store.counters.hits.one(),
            Lookup::Miss => self.store.counters.misses.one(),
        }
        Ok(lookup)
    }

    /// Opens the data file anew, to be handed to a kernel or a client. Every block was written or verified in
    /// this boot; a file that lacks one is [`Error::NotWhole`]. Keep this object as long as the file is in use.
    pub fn open_whole(&self, access: Access) -> Result<File> {
        let not_whole = || Error::NotWhole { path: self.path().to_owned() };
        let place = self.place.as_ref().filter(|_| self.verify_whole()).ok_or_else(not_whole)?;
        place.map.hand_out();
        let dir = self.store.dirs.shard(self.id.name())?;
        dir.open(&shelf::data_name(self.id.name()), access.flags())?.ok_or_else(not_whole)
    }

    /// CRC64NVME of the whole object, combined from its blocks; `None` if it is not whole.
    pub fn crc64nvme(&self) -> Option<u64> {
        let place = self.place.as_ref().filter(|_| self.verify_whole())?;
        let block = |block: BlockIndex| (place.map.crc(block), block.range(self.id.size()).len());
        Some(crc::combine(self.id.range().blocks().map(block)))
    }

    /// Whether every block is there and was written or verified in this boot; verifies what was not.
    pub(crate) fn verify_whole(&self) -> bool {
        self.is_whole() && {
            let from = self.verified_below.load(Ordering::Acquire);
            let all = (from..self.id.blocks()).all(|index| self.ready(BlockIndex::new(index)));
            all && self.is_whole()
        }
    }

    /// Bytes of the blocks that are there, verified or not.
    pub fn present(&self) -> u64 {
        let Some(place) = &self.place else { return 0 };
        let there = |block: &BlockIndex| place.map.state(*block) != BlockState::Absent;
        self.id.range().blocks().filter(there).map(|block| block.range(self.id.size()).len()).sum()
    }

    /// Reads every block that is there and compares it with its checksum, also those that this boot trusts.
    /// Damaged ones count as missing from then on; returns how many they were.
    pub fn scrub(&self) -> u64 {
        let Some(place) = &self.place else { return 0 };
        let damaged = |block: &BlockIndex| match place.map.state(*block) {
            BlockState::Absent => false,
            BlockState::Unverified(tag) => !self.verify(place, *block, tag),
            BlockState::Verified => !self.verify(place, *block, place.map.current_tag()),
        };
        self.id.range().blocks().filter(damaged).count() as u64
    }

    /// Makes every block that this boot trusts a missing one: what is here is not the object.
    pub fn discard_blocks(&self) {
        let Some(place) = &self.place else { return };
        self.verified_below.store(0, Ordering::Release);
        for block in
            self.id.range().blocks().filter(|block| place.map.withdraw(*block, place.map.current_tag()))
        {
            self.store.budget.adjust(0, on_disk(block.range(self.id.size()).len()));
            self.store.counters.bad_blocks.one();
        }
        tracing::warn!(path = %place.path.display(), "a local copy is unusable");
    }

    pub(crate) fn place(&self) -> Option<&Place> {
        self.place.as_ref()
    }

    /// Bytes on disk.
    pub(crate) fn allocated(&self) -> u64 {
        let Some(place) = &self.place else { return 0 };
        let data = place.data.metadata().map_or(0, |data| data.blocks() * 512);
        data + on_disk(map::Map::file_len(&self.id))
    }

    fn read_ready(&self, range: ByteRange, buffer: &mut [u8]) -> bool {
        let Some(place) = &self.place else { return range.is_empty() };
        if !range.blocks().all(|block| self.ready(block)) {
            return false;
        }
        match place.data.read_exact_at(buffer, range.start()) {
            Ok(()) => true,
            Err(error) => {
                for block in range.blocks() {
                    self.drop_block(place, block, place.map.current_tag(), Some(&error));
                }
                false
            }
        }
    }

    /// Whether the block may be used. One from before a reboot is verified.
    fn ready(&self, block: BlockIndex) -> bool {
        let Some(place) = &self.place else { return false };
        match place.map.state(block) {
            BlockState::Verified => true,
            BlockState::Absent => false,
            BlockState::Unverified(tag) => self.verify(place, block, tag),
        }
    }

    fn verify(&self, place: &Place, block: BlockIndex, tag: u64) -> bool {
        let range = block.range(self.id.size());
        let mut bytes = vec![0; usize::try_from(range.len()).unwrap_or(0)];
        self.store.counters.verified_blocks.one();
        let read = place.data.read_exact_at(&mut bytes, range.start());
        match read {
            Ok(()) if crc::checksum(&bytes) == place.map.crc(block) => {
                place.map.confirm(block, tag);
                true
            }
            read => {
                self.drop_block(place, block, tag, read.err().as_ref());
                // Another process may have filled it meanwhile.
                place.map.state(block) == BlockState::Verified
            }
        }
    }

    /// A data file that somebody cut would be zeros where the map says bytes, once a fill extends it again.
    fn check_length(&self, place: &Place) -> io::Result<()> {
        if place.data.metadata()?.len() == self.id.size() {
            return Ok(());
        }
        self.discard_blocks();
        place.data.set_len(self.id.size())
    }

    /// Makes a bad block a missing one.
    fn drop_block(&self, place: &Place, block: BlockIndex, tag: u64, error: Option<&io::Error>) {
        self.verified_below.fetch_min(block.get(), Ordering::AcqRel);
        if !place.map.withdraw(block, tag) {
            return;
        }
        self.store.budget.adjust(0, on_disk(block.range(self.id.size()).len()));
        self.store.counters.bad_blocks.one();
        if error.is_some_and(|error| error.kind() != io::ErrorKind::UnexpectedEof) {
            self.store.counters.io_errors.one();
        }
        tracing::warn!(path = %place.path.display(), %block, ?error, "a block on disk is unusable");
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        self.store.unregister(self.id.name());
    }
}

/// Bytes that `len` bytes take on disk, about.
pub(crate) fn on_disk(len: u64) -> u64 {
    len.next_multiple_of(4096)
}
