//! Uploads in the background: of files that were closed before the bucket had them (`--commit=async`) and of those
//! that an earlier process left.
//!
//! Invariants:
//! - A file is in the backlog until the bucket has it, and its inode is pinned as long. It is tried again for ever,
//!   more and more seldom; nothing is given up.
//! - Of one key there is one file with a name; who replaces or removes it waits for its upload, so uploads of a key
//!   are in the order of the closes.
//!
//! What it does not do: it does not make writers wait. When the backlog is over its bounds, a close commits by itself,
//! as without `--commit=async`.

use super::Vfs;
use super::namespace::Use;
use super::settle::Settled;
use crate::clock;
use crate::config::Commit;
use crate::error::{Error, Result};
use crate::inode::{Content, Ino, Inode};
use crate::journal::State;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// The first pause after a failure, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));

/// Files that wait for their upload.
#[derive(Debug)]
pub(super) struct Backlog {
    pending: Mutex<HashMap<Ino, Pending>>,
    /// Files uploaded at once.
    uploads: Semaphore,
}

#[derive(Debug)]
struct Pending {
    bytes: u64,
    since: Instant,
    /// Counts the closes, so that one during an upload is not taken for done with it.
    round: u64,
    /// The last attempt failed.
    failed: bool,
}

impl Backlog {
    pub(super) fn new(parallel: usize) -> Self {
        Self { pending: Mutex::default(), uploads: Semaphore::new(parallel) }
    }

    /// Adds a file; true if it was not there yet.
    fn add(&self, ino: Ino, bytes: u64) -> bool {
        let mut pending = self.pending.lock();
        if let Some(known) = pending.get_mut(&ino) {
            known.bytes = bytes;
            known.round += 1;
            return false;
        }
        pending.insert(ino, Pending { bytes, since: clock::instant(), round: 0, failed: false });
        true
    }

    fn round(&self, ino: Ino) -> u64 {
        self.pending.lock().get(&ino).map_or(0, |pending| pending.round)
    }

    /// Takes a file out, unless it was closed again since `round`.
    fn done(&self, ino: Ino, round: u64) -> bool {
        let mut pending = self.pending.lock();
        match pending.get_mut(&ino) {
            Some(known) if known.round != round => {
                known.failed = false;
                false
            }
            Some(_) | None => {
                pending.remove(&ino);
                true
            }
        }
    }

    fn drop(&self, ino: Ino) {
        self.pending.lock().remove(&ino);
    }

    fn failed(&self, ino: Ino) {
        if let Some(pending) = self.pending.lock().get_mut(&ino) {
            pending.failed = true;
        }
    }

    /// Whether a close of this file must wait for the bucket: there is too much, or nothing gets through.
    fn is_closed_to(&self, ino: Ino, bytes: u64, (max_bytes, max_age): (u64, Duration)) -> bool {
        let pending = self.pending.lock();
        let others: u64 =
            pending.iter().filter(|(other, _)| **other != ino).map(|(_, file)| file.bytes).sum();
        others.saturating_add(bytes) > max_bytes
            || pending.values().any(|file| clock::since(file.since) > max_age)
            || pending.get(&ino).is_some_and(|file| file.failed)
    }

    /// How many files wait, with how many bytes.
    pub(super) fn waiting(&self) -> (usize, u64) {
        let pending = self.pending.lock();
        (pending.len(), pending.values().map(|file| file.bytes).sum())
    }
}

impl Vfs {
    /// What a close does: commits, or writes down that it must be done and answers.
    pub(super) async fn close(self: &Arc<Self>, inode: &Arc<Inode>) -> Result<()> {
        match self.options.commit {
            Commit::Close => self.commit(inode).await,
            Commit::Async { max_bytes, max_age } => self.put_off(inode, (max_bytes, max_age)).await,
        }
    }

    async fn put_off(self: &Arc<Self>, inode: &Arc<Inode>, bounds: (u64, Duration)) -> Result<()> {
        let Some(file) = inode.file() else { return Ok(()) };
        let Some(snapshot) = self.snapshot(inode.ino, file)? else { return Ok(()) };
        if snapshot.is_committed() {
            return Ok(());
        }
        self.must_fit(&snapshot, None)?;
        let bytes = snapshot.bytes();
        let noted = snapshot.stage.file.note(|record| {
            snapshot.close(record);
            record.closes += 1;
        });
        // Its name went meanwhile, perhaps to another client: the commit tells.
        let is_late = snapshot.stage.file.get(|record| record.state == State::Removed);
        if noted.is_err() || is_late || self.backlog.is_closed_to(inode.ino, bytes, bounds) {
            return self.commit(inode).await;
        }
        self.enqueue(inode, bytes);
        Ok(())
    }

    /// Uploads the file in the background, until the bucket has it.
    pub(super) fn enqueue(self: &Arc<Self>, inode: &Arc<Inode>, bytes: u64) {
        if !self.backlog.add(inode.ino, bytes) {
            return;
        }
        self.table.pin(inode.ino);
        self.runtime.spawn(work_off(Arc::downgrade(self), inode.ino));
    }

    /// Whether what was closed waits for its upload.
    pub(super) fn is_pending(&self, inode: &Inode) -> bool {
        self.backlog.pending.lock().contains_key(&inode.ino)
    }

    /// Uploads a file until it is not closed anew meanwhile; whether it failed and must be tried again.
    async fn try_once(self: &Arc<Self>, ino: Ino, failures: u32) -> bool {
        let Ok(inode) = self.table.inode(ino) else { return false };
        loop {
            let round = self.backlog.round(ino);
            let result = self.attempt(&inode).await;
            match result {
                Ok(()) if !self.backlog.done(ino, round) => {}
                Ok(()) => break,
                // A conflict: what was written is kept beside the other client's object.
                Err(error) if self.is_settled(&inode) => {
                    tracing::warn!(ino = ino.0, %error, "a closed file did not get its name");
                    self.backlog.drop(ino);
                    break;
                }
                Err(error) => {
                    self.backlog.failed(ino);
                    report(self, &inode, &error, failures);
                    if let Err(error) = self.note_sum(&inode).await {
                        tracing::warn!(%error, "a closed file has no checksum in the journal yet");
                    }
                    return true;
                }
            }
        }
        self.table.unpin(ino);
        false
    }

    async fn attempt(self: &Arc<Self>, inode: &Arc<Inode>) -> Result<()> {
        let _turn =
            self.backlog.uploads.acquire().await.map_err(|_closed| Error::Internal("backlog closed"))?;
        let _held = self.hold(&[Use::Inode(inode.ino)]).await;
        // Readers must not wait for an upload, as they would for what comes after it.
        self.commit_closed(inode).await?;
        if self.settle_unlocked(inode).await? == Settled::Mapped {
            self.watch_mapping(inode);
        }
        Ok(())
    }
}

impl Vfs {
    /// Commits what was closed, and nothing that a writer has begun since: that is open, and no more than begun.
    async fn commit_closed(&self, inode: &Inode) -> Result<()> {
        let Some(file) = inode.file() else { return Ok(()) };
        // Who opens the file for writing waits for this lock while it is closed.
        let _commit = file.commit.lock().await;
        let closed = matches!(&file.state.lock().content, Content::Staged(stage) if stage.file.is_closed());
        if closed { self.commit_locked(inode, file).await } else { Ok(()) }
    }
}

/// Tries until the file is in the bucket or the mount is gone. Holds on to neither between the attempts.
async fn work_off(vfs: Weak<Vfs>, ino: Ino) {
    let mut failures = 0;
    loop {
        match vfs.upgrade() {
            Some(vfs) if vfs.try_once(ino, failures).await => failures += 1,
            Some(_) | None => return,
        }
        clock::sleep(pause(failures)).await;
    }
}

/// The first failure and every tenth are worth a warning; the pauses in between grow.
fn report(vfs: &Vfs, inode: &Inode, error: &Error, failures: u32) {
    let key = vfs.table.key(inode.ino).map_or_else(|_| "(removed)".into(), |key| key.to_string());
    if failures.is_multiple_of(10) {
        let (files, bytes) = vfs.backlog.waiting();
        tracing::warn!(key, %error, failures, files, bytes, "a closed file is not in the bucket yet; trying again");
    } else {
        tracing::debug!(key, %error, failures, "a closed file is not in the bucket yet");
    }
}

/// Twice as long after each failure, with some chance in it.
pub(super) fn pause(failures: u32) -> Duration {
    clock::jitter(PAUSES.0.saturating_mul(1 << failures.min(16)).min(PAUSES.1))
}

impl Vfs {
    /// Whether nothing of the file waits for the bucket any more.
    fn is_settled(&self, inode: &Inode) -> bool {
        let Some(file) = inode.file() else { return true };
        let state = file.state.lock();
        state.superseded || matches!(state.content, Content::Remote(_)) || self.table.key(inode.ino).is_err()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SEMANTICS: "What waits is bounded (`--backlog-size`, `--backlog-age`): beyond, and after a failed
    /// upload, a close waits for its own."
    #[test]
    fn a_backlog_is_bounded_in_bytes_and_age_and_by_failure() {
        let backlog = Backlog::new(1);
        let bounds = (100, Duration::from_secs(3600));
        assert!(backlog.add(Ino(2), 60));
        assert!(!backlog.is_closed_to(Ino(3), 40, bounds));
        assert!(backlog.is_closed_to(Ino(3), 41, bounds));
        assert!(!backlog.is_closed_to(Ino(2), 100, bounds), "its own bytes count once");
        assert!(backlog.is_closed_to(Ino(3), 1, (100, Duration::ZERO)));
        backlog.failed(Ino(2));
        assert!(backlog.is_closed_to(Ino(2), 1, bounds));
        assert!(!backlog.is_closed_to(Ino(3), 1, bounds));
    }

    #[test]
    fn a_close_during_an_upload_is_another_round() {
        let backlog = Backlog::new(1);
        backlog.add(Ino(2), 1);
        let round = backlog.round(Ino(2));
        assert!(!backlog.add(Ino(2), 2), "it is there already");
        assert!(!backlog.done(Ino(2), round));
        assert!(backlog.done(Ino(2), backlog.round(Ino(2))));
        assert_eq!(backlog.waiting(), (0, 0));
    }
}
