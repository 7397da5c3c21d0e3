//! What a mount can say of itself: how much is not in the bucket yet, and which conflicts there were.

use super::Vfs;
use crate::clock;
use crate::inode::{Node, Stage};
use crate::session_log::time::Time;
use crate::session_log::{CONFLICTS_MAX, ConflictRecord, Record};
use std::time::{Duration, SystemTime};

/// The state of a mount at one moment.
#[derive(Debug, Clone, Default)]
pub struct Overview {
    /// Files and directories that the kernel or a handle knows.
    pub inodes: usize,
    /// Open files and directories.
    pub handles: usize,
    /// Files with bytes that the bucket does not have.
    pub dirty_files: usize,
    /// Bytes on disk of these files.
    pub dirty_bytes: u64,
    /// How long ago the one that waits longest was last written.
    pub oldest: Option<Duration>,
    /// The last conflicts, oldest first.
    pub conflicts: Vec<Conflict>,
}

/// Another client changed an object that was written here; both sides were kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The key that holds the other side.
    pub key: String,
    /// The key that holds ours.
    pub kept_as: String,
    /// When it was found.
    pub at: SystemTime,
}

impl Vfs {
    /// How the mount is doing.
    pub fn overview(&self) -> Overview {
        let inodes = self.table.all();
        let mut overview = Overview {
            inodes: inodes.len(),
            handles: self.handles.len(),
            conflicts: self.conflict_notes.lock().clone(),
            ..Overview::default()
        };
        for inode in inodes {
            let Node::File(file) = &inode.node else { continue };
            let state = file.state.lock();
            if let Some((bytes, written)) = state.pending().and_then(dirty) {
                overview.dirty_files += 1;
                overview.dirty_bytes += bytes;
                let age = clock::now().duration_since(written).unwrap_or_default();
                overview.oldest = overview.oldest.max(Some(age));
            }
        }
        overview
    }

    pub(super) fn note_conflict(&self, key: String, kept_as: String) {
        let conflict = Conflict { key, kept_as, at: clock::now() };
        self.log.note(|| Record::Conflict((&conflict).into()));
        self.log.flush();
        let mut conflicts = self.conflict_notes.lock();
        if conflicts.len() == CONFLICTS_MAX {
            conflicts.remove(0);
        }
        conflicts.push(conflict);
    }
}

impl From<&Conflict> for ConflictRecord {
    fn from(Conflict { key, kept_as, at }: &Conflict) -> Self {
        Self { key: key.clone(), kept_as: kept_as.clone(), at: Time(*at) }
    }
}

impl From<&ConflictRecord> for Conflict {
    fn from(ConflictRecord { key, kept_as, at }: &ConflictRecord) -> Self {
        Self { key: key.clone(), kept_as: kept_as.clone(), at: at.0 }
    }
}

/// Bytes and time of the last write, if the bucket may lack some of them.
fn dirty(stage: &Stage) -> Option<(u64, SystemTime)> {
    use std::os::unix::fs::MetadataExt;
    let meta = stage.file.staged.file().metadata().ok()?;
    let written = meta.modified().ok()?;
    let committed = stage.committed.as_ref().is_some_and(|known| {
        known.writes == stage.writes && known.stamp.size == meta.len() && known.stamp.modified() == written
    });
    (!committed).then_some((meta.blocks() * 512, written))
}
