//! Filling an object: neighbouring blocks in one write, as the page cache keeps in one piece what one write
//! brings, and reads from larger pieces are faster (perf/FINDINGS.md).

use super::{Object, crc, on_disk};
use crate::error::{Error, Result, is_full};
use crate::key::BlockIndex;
use crate::object::map::BlockState;
use crate::store::shelf::Place;
use rustix::io::{Errno, pwritev, retry_on_intr};
use std::fs::File;
use std::io::{self, IoSlice};

/// A block and its bytes.
type Piece<'a> = (BlockIndex, &'a [u8]);

impl Object {
    /// Keeps the bytes of neighbouring blocks; those that are there already stay as they are. If there is no room,
    /// or the disk fails, nothing is kept and that is counted: the only errors are blocks that this object does not
    /// have.
    pub fn fill<B: AsRef<[u8]>>(&self, first: BlockIndex, blocks: &[B]) -> Result<()> {
        let indexes = (first.get()..=u64::MAX).map(BlockIndex::new);
        let pieces: Vec<Piece<'_>> = indexes.zip(blocks.iter().map(AsRef::as_ref)).collect();
        for (block, bytes) in &pieces {
            let (expected, actual) = (block.range(self.id.size()).len(), bytes.len() as u64);
            if actual == 0 || actual != expected {
                return Err(Error::BlockLength {
                    path: self.path().to_owned(),
                    block: *block,
                    expected,
                    actual,
                });
            }
        }
        let Some(place) = &self.place else {
            self.store.counters.full.add(pieces.len() as u64);
            return Ok(());
        };
        for run in pieces.split(|(block, _)| place.map.state(*block) == BlockState::Verified) {
            self.keep(place, run);
        }
        Ok(())
    }

    fn keep(&self, place: &Place, run: &[Piece<'_>]) {
        let Some((first, _)) = run.first() else { return };
        let len = run.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        if !self.store.admit(on_disk(len)) {
            return self.store.counters.full.add(run.len() as u64);
        }
        let write = || {
            self.check_length(place)?;
            write_all(&place.data, run, first.range(self.id.size()).start())
        };
        let written = match write() {
            Err(error) if is_full(&error) && self.store.make_room(len, len) => write(),
            other => other,
        };
        if let Err(error) = written {
            return self.store.count_failure(&Error::io("fill blocks of", &place.path, error));
        }
        for (block, bytes) in run {
            if place.map.publish(*block, crc::checksum(bytes)) {
                self.store.budget.grew(self.id.name(), on_disk(bytes.len() as u64));
            }
            self.store.counters.filled_blocks.one();
        }
    }
}

/// Writes the pieces one after the other from `offset`.
fn write_all(file: &File, run: &[Piece<'_>], mut offset: u64) -> io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> = run.iter().map(|(_, bytes)| IoSlice::new(bytes)).collect();
    let mut rest = slices.as_mut_slice();
    while !rest.is_empty() {
        match retry_on_intr(|| pwritev(file, rest, offset))? {
            // A full disk is an error of the system call; this is a file system that breaks its promise.
            0 => return Err(Errno::IO.into()),
            count => {
                offset += count as u64;
                IoSlice::advance_slices(&mut rest, count);
            }
        }
    }
    Ok(())
}
