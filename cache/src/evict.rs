//! Which object goes first when room is needed: S3-FIFO (Yang et al., SOSP 2023) at object granularity, with
//! weights in bytes. Pure.
//!
//! New objects enter a small queue (a tenth of the budget). One that was used again while there moves to the
//! main queue; the others leave, and only their names are remembered: if one comes back, it enters the main
//! queue at once. So a scan of objects that are read once passes through the small queue and leaves the rest
//! alone.
//!
//! Invariants: a key is in at most one of the two queues. The weight of a queue is the sum of its entries'.

mod hand;

pub(crate) use hand::Budget;

use lru::LruCache;
use std::hash::Hash;

/// Share of the budget for objects that were not used again yet.
const SMALL_SHARE: u64 = 10;
/// Uses that are counted; more make no difference.
const MAX_USES: u8 = 3;
/// Uses in the small queue that promote an object.
const PROMOTING_USES: u8 = 2;

/// An order of eviction over keys with weights.
#[derive(Debug)]
pub(crate) struct Policy<K: Hash + Eq + Copy> {
    small: Queue<K>,
    main: Queue<K>,
    ghost: LruCache<K, ()>,
    small_target: u64,
}

impl<K: Hash + Eq + Copy> Policy<K> {
    /// A policy for a budget of `capacity` bytes.
    pub(crate) fn new(capacity: u64) -> Self {
        Self {
            small: Queue::new(),
            main: Queue::new(),
            ghost: LruCache::unbounded(),
            small_target: capacity / SMALL_SHARE,
        }
    }

    /// Counts a use of `key`, which weighs `weight`; adds it if it is not there.
    pub(crate) fn touch(&mut self, key: K, weight: u64) {
        for queue in [&mut self.small, &mut self.main] {
            if let Some(entry) = queue.entries.peek_mut(&key) {
                entry.uses = (entry.uses + 1).min(MAX_USES);
                queue.weight = queue.weight - entry.weight + weight;
                entry.weight = weight;
                return;
            }
        }
        let queue = if self.ghost.pop(&key).is_some() { &mut self.main } else { &mut self.small };
        queue.push(key, Entry { weight, uses: 0 });
    }

    /// Adds those of `older` that it does not know, the oldest first, before all that were used once.
    pub(crate) fn add_older(&mut self, older: impl IntoIterator<Item = (K, u64)>) {
        let older: Vec<_> = older.into_iter().filter(|(key, _)| !self.contains(*key)).collect();
        let mut younger = std::mem::replace(&mut self.small, Queue::new());
        for (key, weight) in older {
            self.small.push(key, Entry { weight, uses: 0 });
        }
        while let Some((key, entry)) = younger.pop_first() {
            self.small.push(key, entry);
        }
    }

    /// Says that `key` weighs `bytes` more; nothing if it is not there.
    pub(crate) fn grow(&mut self, key: K, bytes: u64) {
        for queue in [&mut self.small, &mut self.main] {
            if let Some(entry) = queue.entries.peek_mut(&key) {
                entry.weight = entry.weight.saturating_add(bytes);
                queue.weight = queue.weight.saturating_add(bytes);
            }
        }
    }

    /// Forgets `key`: it is gone for another reason than room.
    pub(crate) fn remove(&mut self, key: K) {
        self.small.pop(key);
        self.main.pop(key);
    }

    /// Whether `key` has a place in the order.
    pub(crate) fn contains(&self, key: K) -> bool {
        self.small.entries.contains(&key) || self.main.entries.contains(&key)
    }

    /// Takes out the key that should go next, with its weight.
    pub(crate) fn victim(&mut self) -> Option<(K, u64)> {
        while self.small.weight > self.small_target || self.main.entries.is_empty() {
            let Some((key, entry)) = self.small.pop_first() else { break };
            if entry.uses < PROMOTING_USES {
                self.remember(key);
                return Some((key, entry.weight));
            }
            self.main.push(key, Entry { uses: 0, ..entry });
        }
        // Ends: every round takes a use from an entry, and an entry without uses is taken.
        while let Some((key, entry)) = self.main.pop_first() {
            if entry.uses == 0 {
                return Some((key, entry.weight));
            }
            self.main.push(key, Entry { uses: entry.uses - 1, ..entry });
        }
        None
    }

    /// Puts back a key that [`victim`](Self::victim) took out and that could not go, as the last to go.
    pub(crate) fn keep(&mut self, key: K, weight: u64) {
        self.ghost.pop(&key);
        self.remove(key);
        self.main.push(key, Entry { weight, uses: 0 });
    }

    /// How many keys it orders.
    pub(crate) fn len(&self) -> usize {
        self.small.entries.len() + self.main.entries.len()
    }

    /// Whether it orders none.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn remember(&mut self, key: K) {
        self.ghost.put(key, ());
        let bound = self.len().max(64);
        while self.ghost.len() > bound {
            self.ghost.pop_lru();
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    weight: u64,
    uses: u8,
}

/// First in, first out, with removal in between. The map's order of use is never changed after `put`.
#[derive(Debug)]
struct Queue<K: Hash + Eq> {
    entries: LruCache<K, Entry>,
    weight: u64,
}

impl<K: Hash + Eq + Copy> Queue<K> {
    fn new() -> Self {
        Self { entries: LruCache::unbounded(), weight: 0 }
    }

    fn push(&mut self, key: K, entry: Entry) {
        self.weight = self.weight.saturating_add(entry.weight);
        if let Some(old) = self.entries.put(key, entry) {
            self.weight = self.weight.saturating_sub(old.weight);
        }
    }

    fn pop(&mut self, key: K) {
        if let Some(entry) = self.entries.pop(&key) {
            self.weight = self.weight.saturating_sub(entry.weight);
        }
    }

    fn pop_first(&mut self) -> Option<(K, Entry)> {
        let (key, entry) = self.entries.pop_lru()?;
        self.weight = self.weight.saturating_sub(entry.weight);
        Some((key, entry))
    }
}

#[cfg(test)]
mod tests;
