//! What a log comes to. Pure: records in, state out, and back to the fewest records that give the same state.

use super::record::{ConflictRecord, ContentRecord, How, NodeRecord, PlaceRecord, Record, RemovedRecord};
use super::time::Time;
use crate::quota::Usage;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, SystemTime};

/// Intents that are kept: far more than requests can be under way at once.
const INTENTS_MAX: usize = 4096;
/// How long a removed key is remembered: so long may a request for it be under way.
pub const REMOVED_FOR: Duration = Duration::from_secs(30);
/// Conflicts that are remembered for people; the objects beside the files remember them all.
pub const CONFLICTS_MAX: usize = 1000;

/// A mount as its last worker left it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    /// Whether files may be passed through; `None` if the kernel was never answered.
    pub passthrough: Option<bool>,
    /// Inode numbers up to this have been given out.
    pub last_ino: u64,
    /// Handle numbers up to this have been given out.
    pub last_fh: u64,
    /// The inodes by number.
    pub inodes: BTreeMap<u64, InodeState>,
    /// The handles by number.
    pub handles: BTreeMap<u64, HandleState>,
    /// Backing ids by inode.
    pub backings: BTreeMap<u64, u32>,
    /// The last conflicts, oldest first.
    pub conflicts: VecDeque<ConflictRecord>,
    /// The quota, if it was changed while the mount was in use; 0 is none.
    pub quota: Option<u64>,
    /// What the bucket held by the books of its quota.
    pub stored: Option<Usage>,
    /// What may come back, by its key.
    pub removed: BTreeMap<String, RemovedRecord>,
    intents: VecDeque<(u64, Time)>,
}

/// An inode.
#[derive(Debug, Clone, PartialEq)]
pub struct InodeState {
    /// Where it is.
    pub place: Option<PlaceRecord>,
    /// The kernel's look-ups.
    pub lookups: u64,
    /// What it is.
    pub node: NodeRecord,
}

/// An open file or directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandleState {
    /// The request that opened it.
    pub unique: u64,
    /// Its inode.
    pub ino: u64,
    /// How it is served.
    pub how: How,
    /// Of a directory: the names it has shown, by position.
    pub shown: BTreeMap<u64, Vec<u8>>,
}

impl State {
    /// Whether there is nothing to take over.
    pub fn is_new(&self) -> bool {
        self.passthrough.is_none()
    }

    /// The requests that may have been done already, each with the time that it was begun with.
    pub fn intents(&self) -> HashMap<u64, SystemTime> {
        self.intents.iter().map(|(unique, at)| (*unique, at.0)).collect()
    }

    /// Takes one more record.
    pub fn apply(&mut self, record: Record) {
        match record {
            Record::Started { passthrough } => self.passthrough = Some(passthrough),
            Record::Given { ino, fh } => {
                self.last_ino = self.last_ino.max(ino);
                self.last_fh = self.last_fh.max(fh);
            }
            Record::Inode { ino, place, lookups, node } => {
                self.last_ino = self.last_ino.max(ino);
                self.inodes.insert(ino, InodeState { place, lookups, node });
            }
            Record::Moved { ino, place } => self.change(ino, |inode| inode.place = place),
            Record::LookedUp { ino } => self.change(ino, |inode| inode.lookups += 1),
            Record::Forgotten { ino, count } => {
                self.change(ino, |inode| inode.lookups = inode.lookups.saturating_sub(count));
            }
            Record::Gone { ino } => drop(self.inodes.remove(&ino)),
            Record::File { ino, file } => self.change(ino, |inode| inode.node = NodeRecord::File(file)),
            Record::Touched { ino, at } => {
                self.change(ino, |inode| {
                    if let NodeRecord::Directory { touched } = &mut inode.node {
                        *touched = Some(at);
                    }
                });
            }
            Record::Dirty { ino, start, end } => self.change(ino, |inode| inode.dirty(start, end)),
            Record::Opened { fh, unique, ino, how } => {
                self.last_fh = self.last_fh.max(fh);
                self.handles.insert(fh, HandleState { unique, ino, how, shown: BTreeMap::new() });
            }
            Record::Closed { fh } => drop(self.handles.remove(&fh)),
            Record::Backing { ino, id: Some(id) } => drop(self.backings.insert(ino, id)),
            Record::Backing { ino, id: None } => drop(self.backings.remove(&ino)),
            Record::Shown { fh, at, anew, names } => {
                if let Some(handle) = self.handles.get_mut(&fh) {
                    if anew {
                        handle.shown.clear();
                    }
                    handle.shown.extend((at..).zip(names));
                }
            }
            Record::Quota { bytes } => self.quota = Some(bytes),
            Record::Stored { usage } => self.stored = Some(usage),
            Record::Intent { unique, at } => {
                if self.intents.len() == INTENTS_MAX {
                    self.intents.pop_front();
                }
                self.intents.push_back((unique, at));
            }
            Record::Removed { key, removed } => {
                self.removed.insert(key, removed);
            }
            Record::Conflict(conflict) => {
                if self.conflicts.len() == CONFLICTS_MAX {
                    self.conflicts.pop_front();
                }
                self.conflicts.push_back(conflict);
            }
        }
    }

    /// A record about an inode that is gone says nothing any more.
    fn change(&mut self, ino: u64, change: impl FnOnce(&mut InodeState)) {
        if let Some(inode) = self.inodes.get_mut(&ino) {
            change(inode);
        }
    }

    /// The fewest records that give this state.
    pub fn records(&self) -> impl Iterator<Item = Record> + '_ {
        let started = self.passthrough.map(|passthrough| Record::Started { passthrough });
        let given = Record::Given { ino: self.last_ino, fh: self.last_fh };
        let inodes = self.inodes.iter().map(|(ino, inode)| Record::Inode {
            ino: *ino,
            place: inode.place.clone(),
            lookups: inode.lookups,
            node: inode.node.clone(),
        });
        let handles = self.handles.iter().flat_map(|(fh, handle)| handle.records(*fh));
        let backings = self.backings.iter().map(|(ino, id)| Record::Backing { ino: *ino, id: Some(*id) });
        let intents = self.intents.iter().map(|(unique, at)| Record::Intent { unique: *unique, at: *at });
        let conflicts = self.conflicts.iter().cloned().map(Record::Conflict);
        let quota = self.quota.map(|bytes| Record::Quota { bytes });
        let stored = self.stored.map(|usage| Record::Stored { usage });
        let newest =
            self.removed.values().map(|removed| removed.at.0).max().unwrap_or(SystemTime::UNIX_EPOCH);
        let is_young = move |removed: &RemovedRecord| {
            newest.duration_since(removed.at.0).is_ok_and(|age| age <= REMOVED_FOR)
        };
        let removed = self.removed.iter().filter(move |(_, removed)| is_young(removed));
        let removed =
            removed.map(|(key, removed)| Record::Removed { key: key.clone(), removed: removed.clone() });
        let started = started.into_iter().chain([given]).chain(quota).chain(stored);
        started.chain(inodes).chain(handles).chain(backings).chain(intents).chain(conflicts).chain(removed)
    }
}

impl InodeState {
    fn dirty(&mut self, start: u64, end: u64) {
        let NodeRecord::File(file) = &mut self.node else { return };
        let ContentRecord::Staged(staged) = &mut file.content else { return };
        if let Some(overlay) = &mut staged.overlay {
            overlay.dirty.insert(start..end);
        }
    }
}

impl HandleState {
    fn records(&self, fh: u64) -> Vec<Record> {
        let opened = Record::Opened { fh, unique: self.unique, ino: self.ino, how: self.how };
        let runs = runs(&self.shown).into_iter();
        let shown = runs.map(|(at, names)| Record::Shown { fh, at, anew: false, names });
        std::iter::once(opened).chain(shown).collect()
    }
}

/// Names at consecutive positions, each run with the position of its first.
fn runs(shown: &BTreeMap<u64, Vec<u8>>) -> Vec<(u64, Vec<Vec<u8>>)> {
    let mut runs: Vec<(u64, Vec<Vec<u8>>)> = Vec::new();
    for (at, name) in shown {
        match runs.last_mut() {
            Some((first, names)) if *first + names.len() as u64 == *at => names.push(name.clone()),
            Some(_) | None => runs.push((*at, vec![name.clone()])),
        }
    }
    runs
}

#[cfg(test)]
mod tests;
