//! The hand that makes room: keeps the clean objects under their byte budget and the disk over its floor of
//! free space.
//!
//! How bytes are counted: the file `usage`, mapped by every process, holds the bytes on disk of all clean objects
//! and those of the held ones. Fills add to it, removals take away, and a process that opened the store alone counts
//! anew, once. It may be off by what a killed process had under way, by what changed during the count and by rounding
//! to disk blocks; the floor of free space is asked of the file system and is exact. Staged files count only through
//! the floor.
//!
//! Each process orders the objects that a survey found and those it has used since it opened the store, but the held
//! ones; when it runs out of candidates it looks at the disk for those of others. Work is done by the thread that fills, at most [`MAX_VICTIMS`] removals
//! a call, one thread at a time. When nothing can be removed, the next [`PATIENCE`] fills are refused at once.

use super::Policy;
use crate::error::Result;
use crate::files::Dir;
use crate::key::ObjectName;
use crate::mapping::Mapping;
use crate::store::Store;
use crate::store::shelf::Removal;
use parking_lot::Mutex;
use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};

/// Removals in one call.
const MAX_VICTIMS: usize = 128;
/// Refused fills before the disk is searched for victims again.
const PATIENCE: u64 = 64;
/// Bytes between two looks at the free space.
const FLOOR_INTERVAL: u64 = 8 << 20;
/// Partial objects from this size on lose blocks instead of everything.
const LARGE: u64 = 64 << 20;
/// What is freed beyond need, at most, so that not every fill evicts.
const MAX_SLACK: u64 = 256 << 20;
/// Words of the file `usage`.
const WORDS: usize = 2;

/// The state of the hand.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: u64,
    floor: u64,
    usage: Mapping,
    policy: Mutex<Policy<ObjectName>>,
    /// Objects that are held, as far as this process knows: they have no place in the order. After the policy's lock.
    held: Mutex<HashSet<ObjectName>>,
    /// Held while victims are removed.
    sweep: Mutex<()>,
    since_floor: AtomicU64,
    patience: AtomicU64,
}

impl Budget {
    /// The budget of the store in `root`: at most `limit` bytes, and `floor` bytes of the disk left free.
    pub(crate) fn open(root: &Dir, limit: u64, floor: u64) -> Result<Self> {
        let path = root.path().join("usage");
        let failed = |error| crate::Error::io("map", &path, error);
        let file = root.open_or_create("usage")?;
        let words = (WORDS * size_of::<u64>()) as u64;
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, words)
            .map_err(|error| failed(error.into()))?;
        Ok(Self {
            limit,
            floor,
            usage: Mapping::new(&file, WORDS).map_err(failed)?,
            policy: Mutex::new(Policy::new(limit)),
            held: Mutex::default(),
            sweep: Mutex::new(()),
            since_floor: AtomicU64::new(FLOOR_INTERVAL),
            patience: AtomicU64::new(0),
        })
    }

    /// Bytes that all clean objects together may take.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Bytes of the disk that are left free.
    pub(crate) fn floor(&self) -> u64 {
        self.floor
    }

    /// Bytes on disk of all clean objects, about.
    pub(crate) fn used(&self) -> u64 {
        self.word().load(Ordering::Relaxed)
    }

    /// There were `counted` bytes on disk and not `before`; what came and left meanwhile counts too.
    pub(crate) fn correct_used(&self, before: u64, counted: u64) {
        correct(self.word(), before, counted);
    }

    /// Says that an object grew by `bytes` on disk.
    pub(crate) fn grew(&self, name: ObjectName, bytes: u64) {
        self.word().fetch_add(bytes, Ordering::Relaxed);
        self.policy.lock().grow(name, bytes);
    }

    /// Says that `bytes` came to the clean objects, or left them.
    pub(crate) fn adjust(&self, came: u64, left: u64) {
        let next = |used: u64| Some(used.saturating_add(came).saturating_sub(left));
        // Never an error: `next` always has a value.
        let _previous = self.word().fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }

    /// Says that an object of `bytes` on disk was used.
    pub(crate) fn touch(&self, name: ObjectName, bytes: u64) {
        let mut policy = self.policy.lock();
        if !self.held.lock().contains(&name) {
            policy.touch(name, bytes);
        }
    }

    /// Adds objects that were found on disk, the oldest first, but those in `holds`.
    pub(crate) fn learn(&self, found: &[(ObjectName, u64)], holds: Vec<ObjectName>) {
        let mut policy = self.policy.lock();
        let mut held = self.held.lock();
        *held = holds.into_iter().collect();
        policy.add_older(found.iter().copied().filter(|(name, _)| !held.contains(name)));
    }

    /// Bytes of all held objects.
    pub(crate) fn held(&self) -> u64 {
        self.held_word().load(Ordering::Relaxed)
    }

    /// The same for the bytes of all held objects.
    pub(crate) fn correct_held(&self, before: u64, counted: u64) {
        correct(self.held_word(), before, counted);
    }

    /// Sets which objects are held.
    pub(crate) fn set_holds(&self, holds: Vec<ObjectName>) {
        *self.held.lock() = holds.into_iter().collect();
    }

    /// Counts `bytes` more as held, if all of them still fit.
    pub(crate) fn reserve(&self, bytes: u64) -> bool {
        let next = |held: u64| held.checked_add(bytes).filter(|held| *held <= self.limit);
        self.held_word().fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }

    /// Counts `bytes` as held no more.
    pub(crate) fn unreserve(&self, bytes: u64) {
        let next = |held: u64| Some(held.saturating_sub(bytes));
        // Never an error: `next` always has a value.
        let _previous = self.held_word().fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }

    /// Takes a held object out of the order.
    pub(crate) fn set_aside(&self, name: ObjectName) {
        let mut policy = self.policy.lock();
        policy.remove(name);
        self.held.lock().insert(name);
    }

    /// Gives an object that is held no more a place in the order again.
    pub(crate) fn take_back(&self, name: ObjectName, bytes: u64) {
        let mut policy = self.policy.lock();
        self.held.lock().remove(&name);
        policy.touch(name, bytes);
    }

    /// Forgets an object that is no clean object any more.
    pub(crate) fn forget(&self, name: ObjectName) {
        let mut policy = self.policy.lock();
        policy.remove(name);
        self.held.lock().remove(&name);
    }

    fn word(&self) -> &AtomicU64 {
        &self.usage.words()[0]
    }

    fn held_word(&self) -> &AtomicU64 {
        &self.usage.words()[1]
    }

    fn slack(&self) -> u64 {
        (self.limit / 64).min(MAX_SLACK)
    }
}

/// Takes the difference between what was there and what was believed to be there.
fn correct(word: &AtomicU64, before: u64, counted: u64) {
    let next = |now: u64| match counted.checked_sub(before) {
        Some(more) => Some(now.saturating_add(more)),
        None => Some(now.saturating_sub(before - counted)),
    };
    // Never an error: `next` always has a value.
    let _previous = word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
}

impl Store {
    /// Whether `bytes` more may be kept; makes room for them if it can.
    pub(crate) fn admit(&self, bytes: u64) -> bool {
        let budget = &self.budget;
        let since = budget.since_floor.fetch_add(bytes, Ordering::Relaxed);
        if budget.used().saturating_add(bytes) <= budget.limit && since < FLOOR_INTERVAL {
            return true;
        }
        self.excess(bytes) == 0 || self.make_room(bytes, 0)
    }

    /// Makes room for `bytes` and frees at least `at_least`. Returns whether there is room now.
    pub(crate) fn make_room(&self, bytes: u64, at_least: u64) -> bool {
        let budget = &self.budget;
        let _sweep = budget.sweep.lock();
        self.see(self.survey());
        let excess = self.excess(bytes);
        if excess == 0 && at_least == 0 {
            return true;
        }
        let waits = |left: u64| left.checked_sub(1);
        if budget.patience.fetch_update(Ordering::Relaxed, Ordering::Relaxed, waits).is_ok() {
            return false;
        }
        let freed = self.sweep(excess.saturating_add(budget.slack()).max(at_least));
        let room = self.excess(bytes) == 0 && freed >= at_least.min(1);
        if !room {
            budget.patience.store(PATIENCE, Ordering::Relaxed);
        }
        room
    }

    /// By how much the store would be over its budget or under its floor with `bytes` more. As long as it is,
    /// the free space is looked at for every fill.
    fn excess(&self, bytes: u64) -> u64 {
        let budget = &self.budget;
        let over = budget.used().saturating_add(bytes).saturating_sub(budget.limit);
        // A disk that does not answer is not a reason to evict; writing to it will tell.
        let free = self.free_bytes().unwrap_or(u64::MAX);
        let excess = over.max(budget.floor.saturating_add(bytes).saturating_sub(free));
        if excess == 0 {
            budget.since_floor.store(0, Ordering::Relaxed);
        }
        excess
    }

    /// Removes objects until `wanted` bytes are free or there is nothing to remove. Returns what it freed.
    fn sweep(&self, wanted: u64) -> u64 {
        let mut freed = 0;
        let mut pinned = Vec::new();
        let mut searched = false;
        for _ in 0..MAX_VICTIMS {
            if freed >= wanted {
                break;
            }
            let victim = self.budget.policy.lock().victim();
            let Some((name, weight)) = victim else {
                if searched || !self.search() {
                    break;
                }
                searched = true;
                continue;
            };
            match self.evict(name, weight, wanted - freed) {
                Ok(Evicted::All(bytes)) => freed += bytes,
                Ok(Evicted::Part(bytes)) => {
                    freed += bytes;
                    pinned.push((name, weight.saturating_sub(bytes)));
                }
                Ok(Evicted::Pinned) => pinned.push((name, weight)),
                Ok(Evicted::Held) => self.budget.set_aside(name),
                Err(error) => {
                    self.counters.io_errors.one();
                    tracing::warn!(%error, object = %name, "evicting an object failed");
                }
            }
        }
        let mut policy = self.budget.policy.lock();
        for (name, weight) in pinned {
            policy.keep(name, weight);
        }
        freed
    }

    fn evict(&self, name: ObjectName, weight: u64, wanted: u64) -> Result<Evicted> {
        let shard = self.shard(name)?;
        let thinned = if weight >= LARGE && weight > wanted { shard.thin(name, wanted)? } else { None };
        let (removal, all) = match thinned {
            Some(removal) => (removal, false),
            None => (shard.remove(name)?, true),
        };
        // The space is free when the shard has emptied its bin.
        drop(shard);
        let bytes = match removal {
            Removal::Pinned => return Ok(Evicted::Pinned),
            Removal::Held => return Ok(Evicted::Held),
            Removal::Absent => 0,
            Removal::Freed(bytes) => bytes,
        };
        self.budget.adjust(0, bytes);
        self.counters.evictions.one();
        self.counters.evicted_bytes.add(bytes);
        Ok(if all { Evicted::All(bytes) } else { Evicted::Part(bytes) })
    }

    /// Looks on disk for objects that this process does not know. Returns whether there are candidates now.
    fn search(&self) -> bool {
        let known = self.scan().and_then(|found| Ok((found, self.holds()?)));
        self.see(known.map(|(found, holds)| self.budget.learn(&found, holds)));
        !self.budget.policy.lock().is_empty()
    }

    fn see(&self, looked: Result<()>) {
        if let Err(error) = looked {
            self.counters.io_errors.one();
            tracing::warn!(%error, "looking for objects to evict failed");
        }
    }
}

enum Evicted {
    All(u64),
    Part(u64),
    Pinned,
    Held,
}
