//! Held objects: they are not evicted, whatever room is needed. A hold is an empty file `holds/NAME`, so that every
//! process sees it; the second word of `usage` counts the bytes of all of them.
//!
//! Invariants: holds appear and vanish under the lock of their object's shard. All held objects together fit into
//! the budget. A hold is for one version: it goes when the object becomes a staged file.

use super::Store;
use crate::error::Result;
use crate::key::{ObjectId, ObjectName};
use crate::object::{Object, on_disk};

/// How a wish to hold an object ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// It is held.
    Held,
    /// All held objects would not fit into the budget; so many bytes are held already.
    Full {
        /// Bytes.
        held: u64,
    },
    /// Nothing of it is kept on the disk.
    Uncached,
}

impl Store {
    /// Holds `object`: what there is of it, and what is filled later, stays until it is released or changed.
    pub fn hold(&self, object: &Object) -> Result<Hold> {
        let name = object.id().name();
        if object.place().is_none() {
            return Ok(Hold::Uncached);
        }
        let shard = self.shard(name)?;
        if shard.is_held(name)? {
            return Ok(Hold::Held);
        }
        let bytes = on_disk(object.id().size());
        if !self.budget.reserve(bytes) {
            return Ok(Hold::Full { held: self.budget.held() });
        }
        if let Err(error) = shard.hold(name) {
            self.budget.unreserve(bytes);
            return Err(error);
        }
        self.budget.set_aside(name);
        Ok(Hold::Held)
    }

    /// Lets the object `id` go when room is needed; says whether it was held.
    pub fn release(&self, id: &ObjectId) -> Result<bool> {
        let shard = self.shard(id.name())?;
        let held = shard.release(id.name())?;
        if held {
            self.budget.unreserve(on_disk(id.size()));
            self.budget.take_back(id.name(), shard.allocated(id.name())?);
        }
        Ok(held)
    }

    /// Whether the object `id` is held.
    pub fn is_held(&self, id: &ObjectId) -> Result<bool> {
        self.shard(id.name())?.is_held(id.name())
    }

    /// The names of all holds.
    pub(crate) fn holds(&self) -> Result<Vec<ObjectName>> {
        Ok(self.dirs.holds.names()?.iter().filter_map(|name| ObjectName::parse(name)).collect())
    }

    /// Counts the held bytes anew and drops holds of objects that are gone.
    pub(crate) fn count_holds(&self) -> Result<()> {
        let (before, mut held) = (self.budget.held(), 0);
        for name in self.holds()? {
            let shard = self.shard(name)?;
            match shard.len(name)? {
                Some(len) => held += on_disk(len),
                None => drop(shard.release(name)?),
            }
        }
        self.budget.correct_held(before, held);
        Ok(())
    }
}
