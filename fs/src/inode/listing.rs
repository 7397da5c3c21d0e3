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
    entries: Mutex<Entries>,
    /// When its first page was asked for.
    pub fetched: Instant,
}

#[derive(Debug)]
struct Entries {
    by_name: BTreeMap<Name, Child>,
    /// How many of them are directories.
    directories: u32,
}

/// Listings larger than this are streamed and not kept.
pub const LISTING_MAX_ENTRIES: usize = 200_000;

impl Listing {
    /// A complete listing.
    pub fn new(entries: BTreeMap<Name, Child>, fetched: Instant) -> Self {
        let count = entries.values().filter(|child| matches!(child, Child::Directory)).count();
        let directories = u32::try_from(count).unwrap_or(u32::MAX);
        Self { entries: Mutex::new(Entries { by_name: entries, directories }), fetched }
    }

    /// The entry with this name.
    pub fn entry<N: Ord + ?Sized>(&self, name: &N) -> Option<Child>
    where
        Name: std::borrow::Borrow<N>,
    {
        self.entries.lock().by_name.get(name).cloned()
    }

    /// Puts an entry that was made or changed here.
    pub fn put(&self, name: &Name, child: Child) {
        let mut entries = self.entries.lock();
        entries.directories += u32::from(matches!(child, Child::Directory));
        let replaced = entries.by_name.insert(name.clone(), child);
        entries.directories -= u32::from(matches!(replaced, Some(Child::Directory)));
    }

    /// Takes an entry out that was removed here.
    pub fn remove(&self, name: &Name) {
        let mut entries = self.entries.lock();
        let removed = entries.by_name.remove(name);
        entries.directories -= u32::from(matches!(removed, Some(Child::Directory)));
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.lock().by_name.len()
    }

    /// How many of the entries are directories.
    pub fn directories(&self) -> u32 {
        self.entries.lock().directories
    }

    /// Whether the directory is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All entries, in the order of their names.
    pub fn snapshot(&self) -> Vec<(Name, Child)> {
        self.entries.lock().by_name.iter().map(|(name, child)| (name.clone(), child.clone())).collect()
    }
}
