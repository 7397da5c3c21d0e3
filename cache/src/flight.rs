//! One fetch per block, however many readers wait for it.
//!
//! Invariants: for one key there is at most one [`Lead`] at a time. A lead that goes away without a result
//! wakes its waiters with [`Landed::Abandoned`], so that one of them joins again and leads. Nothing is kept
//! after landing: publish to the store first, then to the waiters.

use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use tokio::sync::watch;

type Outcome<E> = Option<Result<Bytes, E>>;
type Table<K, E> = Mutex<HashMap<K, watch::Receiver<Outcome<E>>>>;

/// The fetches under way.
pub struct Flights<K: Hash + Eq + Clone, E: Clone> {
    table: Arc<Table<K, E>>,
}

impl<K: Hash + Eq + Clone, E: Clone> Flights<K, E> {
    /// None under way.
    pub fn new() -> Self {
        Self { table: Arc::default() }
    }

    /// Joins the fetch of `key`: leads it if nobody does.
    pub fn join(&self, key: K) -> Role<K, E> {
        let mut table = self.table.lock();
        if let Some(receiver) = table.get(&key) {
            return Role::Wait(Waiter { receiver: receiver.clone() });
        }
        let (sender, receiver) = watch::channel(None);
        table.insert(key.clone(), receiver);
        Role::Lead(Lead { table: Arc::clone(&self.table), key, sender })
    }

    /// How many fetches are under way.
    pub fn len(&self) -> usize {
        self.table.lock().len()
    }

    /// Whether none is under way.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K: Hash + Eq + Clone, E: Clone> Default for Flights<K, E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Hash + Eq + Clone, E: Clone> fmt::Debug for Flights<K, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flights").field("len", &self.len()).finish()
    }
}

/// What the caller has to do.
#[derive(Debug)]
pub enum Role<K: Hash + Eq + Clone, E: Clone> {
    /// Fetch it, then publish.
    Lead(Lead<K, E>),
    /// Wait for the one who fetches.
    Wait(Waiter<E>),
}

/// The duty to fetch one key.
pub struct Lead<K: Hash + Eq + Clone, E: Clone> {
    table: Arc<Table<K, E>>,
    key: K,
    sender: watch::Sender<Outcome<E>>,
}

impl<K: Hash + Eq + Clone, E: Clone> Lead<K, E> {
    /// What is to be fetched.
    pub fn key(&self) -> &K {
        &self.key
    }

    /// Hands the result to every waiter.
    pub fn publish(self, result: Result<Bytes, E>) {
        self.sender.send_replace(Some(result));
    }
}

impl<K: Hash + Eq + Clone, E: Clone> Drop for Lead<K, E> {
    fn drop(&mut self) {
        // Before the sender goes: whoever sees the flight abandoned can lead at once.
        self.table.lock().remove(&self.key);
    }
}

impl<K: Hash + Eq + Clone + fmt::Debug, E: Clone> fmt::Debug for Lead<K, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lead").field("key", &self.key).finish_non_exhaustive()
    }
}

/// A place among those who wait for a fetch.
pub struct Waiter<E: Clone> {
    receiver: watch::Receiver<Outcome<E>>,
}

impl<E: Clone> Waiter<E> {
    /// Waits until the fetch has landed. Dropping it leaves the fetch alone.
    pub async fn wait(mut self) -> Landed<E> {
        // An error means that the lead is gone; it may have published just before.
        let outcome = match self.receiver.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone(),
            Err(_) => None,
        };
        outcome.map_or(Landed::Abandoned, Landed::Done)
    }
}

impl<E: Clone> fmt::Debug for Waiter<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiter").finish_non_exhaustive()
    }
}

/// How a fetch ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Landed<E> {
    /// With the bytes, or with the error of the one who fetched.
    Done(Result<Bytes, E>),
    /// Without a result: join again.
    Abandoned,
}

#[cfg(test)]
mod tests;
