//! What the store counts. Numbers only; names of metrics and their export belong to the caller.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one [`Store`](crate::Store) since it was opened, and how full it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Reads answered from the disk.
    pub hits: u64,
    /// Reads that found a block missing.
    pub misses: u64,
    /// Blocks written.
    pub filled_blocks: u64,
    /// Blocks verified against their checksum, good or bad.
    pub verified_blocks: u64,
    /// Blocks whose bytes did not have their checksum, or could not be read to the end.
    pub bad_blocks: u64,
    /// Objects whose map or data file was unusable and was dropped.
    pub bad_objects: u64,
    /// Blocks and objects that were not kept, because the disk or the budget was full.
    pub full: u64,
    /// Reads and writes of the disk that failed otherwise; each was a miss or was not kept.
    pub io_errors: u64,
    /// Objects removed, or thinned out, to make room.
    pub evictions: u64,
    /// Bytes that this freed.
    pub evicted_bytes: u64,
    /// Bytes on disk in clean objects, of all processes together, about.
    pub used_bytes: u64,
    /// Bytes of objects that are held.
    pub held_bytes: u64,
}

/// The live side of [`Stats`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) hits: Counter,
    pub(crate) misses: Counter,
    pub(crate) filled_blocks: Counter,
    pub(crate) verified_blocks: Counter,
    pub(crate) bad_blocks: Counter,
    pub(crate) bad_objects: Counter,
    pub(crate) full: Counter,
    pub(crate) io_errors: Counter,
    pub(crate) evictions: Counter,
    pub(crate) evicted_bytes: Counter,
}

impl Counters {
    /// What they show now.
    pub(crate) fn read(&self, used_bytes: u64, held_bytes: u64) -> Stats {
        Stats {
            hits: self.hits.get(),
            misses: self.misses.get(),
            filled_blocks: self.filled_blocks.get(),
            verified_blocks: self.verified_blocks.get(),
            bad_blocks: self.bad_blocks.get(),
            bad_objects: self.bad_objects.get(),
            full: self.full.get(),
            io_errors: self.io_errors.get(),
            evictions: self.evictions.get(),
            evicted_bytes: self.evicted_bytes.get(),
            used_bytes,
            held_bytes,
        }
    }
}

/// One counter.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub(crate) fn one(&self) {
        self.add(1);
    }

    /// `count` more.
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
