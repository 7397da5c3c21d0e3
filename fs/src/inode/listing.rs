//! The complete listing of one directory as the store gave it, kept in step with what is changed here.

use crate::name::Name;
use crate::store::Version;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::time::Instant;

/// An entry of a listing.
#[derive(Debug, Clone)]
pub enum Child {
    /// An object; its version.
    Object(Version),
    /// A directory: keys below it, or its marker.
    Directory,
}

/// Every entry of one directory. Only complete listings become one, so absence in it means absence.
#[derive(Debug)]
pub struct Listing {
    entries: Mutex<BTreeMap<Name, Child>>,
    /// When its first page was asked for.
    pub fetched: Instant,
}

/// Listings larger than this are streamed and not kept.
pub const LISTING_MAX_ENTRIES: usize = 200_000;

impl Listing {
    /// A complete listing.
    pub fn new(entries: BTreeMap<Name, Child>, fetched: Instant) -> Self {
        Self { entries: Mutex::new(entries), fetched }
    }

    /// The entry with this name.
    pub fn entry<N: Ord + ?Sized>(&self, name: &N) -> Option<Child>
    where
        Name: std::borrow::Borrow<N>,
    {
        self.entries.lock().get(name).cloned()
    }

    /// Puts an entry that was made or changed here.
    pub fn put(&self, name: &Name, child: Child) {
        self.entries.lock().insert(name.clone(), child);
    }

    /// Takes an entry out that was removed here.
    pub fn remove(&self, name: &Name) {
        self.entries.lock().remove(name);
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.lock().len()
    }

    /// Whether the directory is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All entries, in the order of their names.
    pub fn snapshot(&self) -> Vec<(Name, Child)> {
        self.entries.lock().iter().map(|(name, child)| (name.clone(), child.clone())).collect()
    }
}
