//! The table of inodes, their places in the tree and the kernel's look-up counts.

use super::{Ino, Inode};
use crate::error::{Error, Result};
use crate::name::{Key, Name, Prefix};
use crate::session_log::{PlaceRecord, Record, SessionLog};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Where an inode hangs in the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its directory.
    pub parent: Ino,
    /// Its name there.
    pub name: Name,
}

/// All inodes that the kernel or an open handle may name.
#[derive(Debug)]
pub struct Table {
    prefix: Prefix,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    log: SessionLog,
    next: u64,
    entries: HashMap<Ino, Entry>,
    children: HashMap<Ino, BTreeMap<Name, Ino>>,
}

#[derive(Debug)]
struct Entry {
    inode: Arc<Inode>,
    /// `None` once removed, replaced or superseded: only handles and the kernel know it.
    place: Option<Place>,
    /// The kernel's look-up count.
    lookups: u64,
    /// Open handles and unfinished work: the entry stays while it is not 0.
    pins: u64,
}

impl Table {
    /// A table whose root stands for the keys below `prefix`. What becomes of its inodes is noted in `log`.
    pub fn new(prefix: Prefix, root: Inode, log: SessionLog) -> Self {
        let entry = Entry { inode: Arc::new(root), place: None, lookups: 1, pins: 1 };
        let entries = HashMap::from([(Ino::ROOT, entry)]);
        let children = HashMap::new();
        Self { prefix, state: Mutex::new(State { log, next: 2, entries, children }) }
    }

    /// Puts an inode back that an earlier worker had. Nothing is noted: the log has it.
    pub fn restore(&self, inode: Arc<Inode>, place: Option<Place>, lookups: u64) {
        let mut state = self.state.lock();
        let ino = inode.ino;
        if let Some(place) = &place {
            state.children.entry(place.parent).or_default().insert(place.name.clone(), ino);
        }
        state.entries.insert(ino, Entry { inode, place, lookups, pins: 0 });
    }

    /// Gives out only numbers above `last` from now on.
    pub fn restore_numbers(&self, last: u64) {
        let mut state = self.state.lock();
        state.next = state.next.max(last + 1);
    }

    /// The inode with this number.
    pub fn inode(&self, ino: Ino) -> Result<Arc<Inode>> {
        self.state.lock().entries.get(&ino).map(|entry| Arc::clone(&entry.inode)).ok_or(Error::BadHandle)
    }

    /// The inode at `name` in `parent`, if it is known here.
    pub fn child(&self, parent: Ino, name: &Name) -> Option<Arc<Inode>> {
        let state = self.state.lock();
        let ino = state.children.get(&parent)?.get(name)?;
        state.entries.get(ino).map(|entry| Arc::clone(&entry.inode))
    }

    /// All inodes known in `parent`, by name.
    pub fn children(&self, parent: Ino) -> Vec<(Name, Arc<Inode>)> {
        let state = self.state.lock();
        let Some(children) = state.children.get(&parent) else { return Vec::new() };
        let known =
            |(name, ino): (&Name, &Ino)| Some((name.clone(), Arc::clone(&state.entries.get(ino)?.inode)));
        children.iter().filter_map(known).collect()
    }

    /// At most `count` inodes known in `parent`, in the order of their names from `first` on.
    pub fn children_from(&self, parent: Ino, first: &Name, count: usize) -> Vec<(Name, Arc<Inode>)> {
        let state = self.state.lock();
        let Some(children) = state.children.get(&parent) else { return Vec::new() };
        let known =
            |(name, ino): (&Name, &Ino)| Some((name.clone(), Arc::clone(&state.entries.get(ino)?.inode)));
        children.range(first.clone()..).filter_map(known).take(count).collect()
    }

    /// Whether anything is known in `parent`.
    pub fn has_children(&self, parent: Ino) -> bool {
        self.state.lock().children.get(&parent).is_some_and(|children| !children.is_empty())
    }

    /// Puts a new inode at `place`; whatever was there loses its place. `make` gets the new number.
    pub fn insert(&self, place: Place, make: impl FnOnce(Ino) -> Inode) -> Arc<Inode> {
        let mut state = self.state.lock();
        let ino = Ino(state.next);
        state.next += 1;
        let inode = Arc::new(make(ino));
        state.detach_name(&place.parent, &place.name);
        state.children.entry(place.parent).or_default().insert(place.name.clone(), ino);
        state.log.note(|| introduced(&inode, Some(&place), 0));
        state
            .entries
            .insert(ino, Entry { inode: Arc::clone(&inode), place: Some(place), lookups: 0, pins: 0 });
        inode
    }

    /// Takes the name away; the inode lives on while it is looked up or pinned.
    pub fn remove(&self, ino: Ino) {
        let mut state = self.state.lock();
        if let Some(place) = state.entries.get(&ino).and_then(|entry| entry.place.clone()) {
            state.detach_name(&place.parent, &place.name);
        }
        state.collect(ino);
    }

    /// Moves an inode to another place; whatever was there loses its place.
    pub fn rename(&self, ino: Ino, to: Place) {
        let mut state = self.state.lock();
        if let Some(from) = state.entries.get(&ino).and_then(|entry| entry.place.clone()) {
            state.detach_name(&from.parent, &from.name);
        }
        state.detach_name(&to.parent, &to.name);
        state.children.entry(to.parent).or_default().insert(to.name.clone(), ino);
        state.log.note(|| moved(ino, Some(&to)));
        if let Some(entry) = state.entries.get_mut(&ino) {
            entry.place = Some(to);
        }
    }

    /// Swaps the places of two inodes.
    pub fn exchange(&self, first: Ino, second: Ino) {
        let mut state = self.state.lock();
        let place = |ino| state.entries.get(&ino).and_then(|entry| entry.place.clone());
        let (Some(one), Some(other)) = (place(first), place(second)) else { return };
        for (ino, place) in [(first, other), (second, one)] {
            state.children.entry(place.parent).or_default().insert(place.name.clone(), ino);
            state.log.note(|| moved(ino, Some(&place)));
            if let Some(entry) = state.entries.get_mut(&ino) {
                entry.place = Some(place);
            }
        }
    }

    /// Where the inode is; `None` if its name is gone. The root has no place.
    pub fn place(&self, ino: Ino) -> Option<Place> {
        self.state.lock().entries.get(&ino)?.place.clone()
    }

    /// The prefix of a directory's keys; an error once the directory is removed.
    pub fn prefix(&self, directory: Ino) -> Result<Prefix> {
        let state = self.state.lock();
        let mut names = Vec::new();
        let mut ino = directory;
        while ino != Ino::ROOT {
            let place =
                state.entries.get(&ino).and_then(|entry| entry.place.as_ref()).ok_or(Error::NotFound)?;
            names.push(place.name.clone());
            ino = place.parent;
        }
        let root = Ok(self.prefix.clone());
        names.iter().rev().fold(root, |prefix, name| Ok(prefix?.dir(name)?))
    }

    /// The key of a file; an error once the file is removed.
    pub fn key(&self, file: Ino) -> Result<Key> {
        let place = self.place(file).ok_or(Error::NotFound)?;
        Ok(self.prefix(place.parent)?.key(&place.name)?)
    }

    /// Whether `ancestor` is `ino` or above it.
    pub fn is_below(&self, ino: Ino, ancestor: Ino) -> bool {
        let state = self.state.lock();
        let mut at = Some(ino);
        while let Some(ino) = at {
            if ino == ancestor {
                return true;
            }
            at = state.entries.get(&ino).and_then(|entry| entry.place.as_ref()).map(|place| place.parent);
        }
        false
    }

    /// Counts one look-up that the kernel is about to be told of. A `FUSE_FORGET` that crossed the look-up may
    /// have dropped the inode meanwhile; then it comes back, at `place` if that is still free.
    pub fn looked_up(&self, inode: &Arc<Inode>, place: Option<Place>) {
        let mut state = self.state.lock();
        if let Some(entry) = state.entries.get_mut(&inode.ino) {
            entry.lookups += 1;
            state.log.note(|| Record::LookedUp { ino: inode.ino.0 });
            return;
        }
        let place = place.filter(|place| {
            let siblings = state.children.entry(place.parent).or_default();
            *siblings.entry(place.name.clone()).or_insert(inode.ino) == inode.ino
        });
        state.log.note(|| introduced(inode, place.as_ref(), 1));
        state.entries.insert(inode.ino, Entry { inode: Arc::clone(inode), place, lookups: 1, pins: 0 });
    }

    /// Takes look-ups back (`FUSE_FORGET`).
    pub fn forget(&self, ino: Ino, count: u64) {
        let mut state = self.state.lock();
        if let Some(entry) = state.entries.get_mut(&ino) {
            entry.lookups = entry.lookups.saturating_sub(count);
            state.log.note(|| Record::Forgotten { ino: ino.0, count });
        }
        state.collect(ino);
    }

    /// Keeps the inode while a handle is open or work on it is unfinished.
    pub fn pin(&self, ino: Ino) {
        if let Some(entry) = self.state.lock().entries.get_mut(&ino) {
            entry.pins += 1;
        }
    }

    /// The counterpart of [`Self::pin`].
    pub fn unpin(&self, ino: Ino) {
        let mut state = self.state.lock();
        if let Some(entry) = state.entries.get_mut(&ino) {
            entry.pins = entry.pins.saturating_sub(1);
        }
        state.collect(ino);
    }

    /// Every inode, by number.
    pub fn all(&self) -> Vec<Arc<Inode>> {
        let entries = &self.state.lock().entries;
        let mut inodes: Vec<_> = entries.values().map(|entry| Arc::clone(&entry.inode)).collect();
        inodes.sort_unstable_by_key(|inode| inode.ino);
        inodes
    }

    /// How many inodes there are.
    pub fn len(&self) -> usize {
        self.state.lock().entries.len()
    }

    /// Never true: the root is always there.
    pub fn is_empty(&self) -> bool {
        false
    }
}

impl State {
    fn detach_name(&mut self, parent: &Ino, name: &Name) {
        let Some(ino) = self.children.get_mut(parent).and_then(|children| children.remove(name)) else {
            return;
        };
        if self.children.get(parent).is_some_and(BTreeMap::is_empty) {
            self.children.remove(parent);
        }
        if let Some(entry) = self.entries.get_mut(&ino) {
            entry.place = None;
            self.log.note(|| moved(ino, None));
        }
        self.collect(ino);
    }

    /// Drops the inode if nothing refers to it, then its parent if that was all that held it.
    fn collect(&mut self, ino: Ino) {
        let mut at = Some(ino);
        while let Some(ino) = at.take() {
            let Some(entry) = self.entries.get(&ino) else { return };
            if entry.lookups > 0 || entry.pins > 0 || self.children.contains_key(&ino) {
                return;
            }
            let place = self.entries.remove(&ino).and_then(|entry| entry.place);
            self.log.note(|| Record::Gone { ino: ino.0 });
            if let Some(place) = place {
                if let Some(children) = self.children.get_mut(&place.parent) {
                    children.remove(&place.name);
                    if children.is_empty() {
                        self.children.remove(&place.parent);
                    }
                }
                at = Some(place.parent);
            }
        }
    }
}

fn introduced(inode: &Inode, place: Option<&Place>, lookups: u64) -> Record {
    Record::Inode { ino: inode.ino.0, place: place.map(placed), lookups, node: inode.record() }
}

fn moved(ino: Ino, place: Option<&Place>) -> Record {
    Record::Moved { ino: ino.0, place: place.map(placed) }
}

fn placed(place: &Place) -> PlaceRecord {
    PlaceRecord { parent: place.parent.0, name: place.name.as_bytes().to_vec() }
}

#[cfg(test)]
mod tests;
