//! Staged files: bytes that the bucket does not have yet.
//!
//! Two files each, `<name>.data` and `<name>.label`. The label carries the owner's record of the file; its owner
//! holds an exclusive lock on it, so that the files of a dead process can be told from those of a live one.
//!
//! Invariants: the label appears locked and before the data, and goes after it. Nothing here is evicted.
//! A staged file is removed when its owner drops it, and by nobody else.
//!
//! What it does not do: no fsync, and no look into the record; both belong to the caller's journal.

mod label;
mod orphan;
mod slot;

pub use orphan::OrphanStaged;
pub(crate) use orphan::{find_orphan, list_orphans};
pub(crate) use slot::Slot;

use crate::error::{Error, Result};
use crate::files;
use crate::key::{BlockIndex, BucketId, ByteRange, ObjectId};
use crate::object::{Access, Object, crc};
use crate::store::Store;
use crate::store::shelf::Removal;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

/// What a staged file is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagedLabel {
    /// The bucket.
    pub bucket: BucketId,
    /// What its owner, or whoever comes after it, must know of the file. Not interpreted here.
    pub record: Vec<u8>,
}

/// Which blocks of a staged file are kept as a clean object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PromoteWith {
    /// All; their checksums are computed.
    Whole,
    /// All, with the CRC64NVME of each as it was uploaded. If their number is not that of the blocks, they are
    /// computed.
    WholeWithCrcs(Vec<u64>),
    /// Those that lie wholly within one of these ranges.
    Blocks(Vec<ByteRange>),
}

/// A staged file. Dropping it removes it.
#[derive(Debug)]
pub struct Staged {
    slot: Slot,
    data: File,
}

impl Staged {
    pub(crate) fn new(slot: Slot, data: File) -> Self {
        Self { slot, data }
    }

    /// The file, for reading and writing.
    pub fn file(&self) -> &File {
        &self.data
    }

    /// Where it is. The name stays the same until it is promoted or discarded.
    pub fn path(&self) -> PathBuf {
        self.slot.path()
    }

    /// Its name in the store, by which [`Store::orphan`] finds it after a kill.
    pub fn name(&self) -> &str {
        self.slot.name()
    }

    /// Opens the file anew.
    pub fn reopen(&self, access: Access) -> Result<File> {
        self.slot.open_data(access)
    }

    /// Replaces the label.
    pub fn relabel(&self, label: &StagedLabel) -> Result<()> {
        self.slot.relabel(label, self.slot.store().boot.tag())
    }

    /// Removes it, as dropping it does.
    pub fn discard(self) {
        drop(self);
    }

    /// Closes it and leaves it on disk, as an orphan for whoever comes next.
    pub fn leave(self) {
        self.slot.leave_at_end();
    }

    /// Says whether dropping it leaves it on disk (`true`), as an orphan for whoever comes next: for bytes that
    /// could not be put anywhere else.
    pub fn keep(&self, keep: bool) {
        if keep { self.slot.leave_at_end() } else { self.slot.remove_at_end() }
    }

    /// Whether anybody but this owner can still write to the file: a file opened for writing, or a shared
    /// mapping of a file that was, even through a FUSE mount that passes through to it.
    ///
    /// Files from [`reopen`](Self::reopen) with [`Access::ReadWrite`] count; close them first.
    pub fn has_other_writers(&mut self) -> Result<bool> {
        // Our own descriptor is a writer as well, so for the question it becomes a reader.
        self.data = self.reopen(Access::Read)?;
        let written = files::has_writer(&self.data).map_err(|error| Error::io("lease", self.path(), error));
        self.data = self.reopen(Access::ReadWrite)?;
        written
    }

    /// Makes it the clean object `id`, whose bytes the bucket now has, without a copy. Whoever can still write
    /// to the file can spoil the object: ask [`has_other_writers`](Self::has_other_writers) first.
    ///
    /// `None` if the store could not keep it. A file that is not as long as the object is an error and stays on
    /// disk as an orphan.
    pub fn promote(self, id: &ObjectId, with: PromoteWith) -> Result<Option<Arc<Object>>> {
        let store = Arc::clone(self.slot.store());
        let len = self.data.metadata().map_err(|error| Error::io("stat", self.path(), error))?.len();
        if len != id.size() {
            let path = self.path();
            self.leave();
            return Err(Error::StagedLength { path, expected: id.size(), actual: len });
        }
        match self.install(&store, id, with) {
            Ok(object) => Ok(Some(object)),
            Err(error @ Error::Unsafe { .. }) => Err(error),
            Err(error) => {
                store.count_failure(&error);
                Ok(None)
            }
        }
    }

    fn install(self, store: &Arc<Store>, id: &ObjectId, with: PromoteWith) -> Result<Arc<Object>> {
        let crcs = self.crcs(id, with)?;
        let shard = store.shard(id.name())?;
        match shard.remove(id.name())? {
            Removal::Pinned | Removal::Held => {
                drop(shard);
                return self.pour(store.object(id)?, &crcs);
            }
            Removal::Freed(bytes) => store.budget.adjust(0, bytes),
            Removal::Absent => {}
        }
        let place = shard.adopt(id, &self.slot.data_name(), &crcs)?;
        drop(shard);
        let object = store.register(Object::new(store, id, place));
        store.budget.adjust(object.allocated(), 0);
        // Over the budget already or not: the object is pinned, others make room.
        store.admit(0);
        Ok(object)
    }

    /// Copies blocks into an object that somebody has open.
    fn pour(&self, object: Arc<Object>, crcs: &[(BlockIndex, u64)]) -> Result<Arc<Object>> {
        for &(block, _) in crcs {
            if !object.missing(block.range(object.id().size())).is_empty() {
                object.fill(block, &[self.block(block, object.id().size())?])?;
            }
        }
        Ok(object)
    }

    fn crcs(&self, id: &ObjectId, with: PromoteWith) -> Result<Vec<(BlockIndex, u64)>> {
        let blocks: Vec<BlockIndex> = match with {
            PromoteWith::WholeWithCrcs(crcs) if crcs.len() as u64 == id.blocks() => {
                return Ok(id.range().blocks().zip(crcs).collect());
            }
            PromoteWith::Whole | PromoteWith::WholeWithCrcs(_) => id.range().blocks().collect(),
            PromoteWith::Blocks(ranges) => {
                ranges.iter().flat_map(|range| range.whole_blocks(id.size())).collect()
            }
        };
        let crc = |block| Ok((block, crc::checksum(&self.block(block, id.size())?)));
        blocks.into_iter().map(crc).collect()
    }

    fn block(&self, block: BlockIndex, size: u64) -> Result<Vec<u8>> {
        let range = block.range(size);
        let mut bytes = vec![0; usize::try_from(range.len()).unwrap_or(0)];
        self.data
            .read_exact_at(&mut bytes, range.start())
            .map_err(|error| Error::io("read", self.path(), error))?;
        Ok(bytes)
    }
}
