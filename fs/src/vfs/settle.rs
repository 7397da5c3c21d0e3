//! The end of a file's work: the last writer's release, promotion into the clean store, the drain at unmount.

use super::Vfs;
use super::commit::{blocking, checksums, whole_crc};
use super::handle::Handle;
use super::namespace::Use;
use super::open::uncount;
use super::recall::Worth;
use crate::clock;
use crate::config::Commit;
use crate::error::{Error, Result};
use crate::inode::{Committed, Content, File, Inode, Node, RemoteFile, Stamp};
use crate::session_log::Record;
use futures::{StreamExt, stream};
use std::sync::Arc;
use std::time::Duration;
use tarn_cache::PromoteWith;

/// How often a file that is still mapped for writing is looked at.
const MAPPED_POLL: Duration = Duration::from_millis(500);

/// How often a drain says how far it is.
const PROGRESS: Duration = Duration::from_secs(5);

/// Failed commits of a mapped file before it is left to the end of the mount.
const MAPPED_FAILURES_MAX: u32 = 10;

/// How an unmount ended.
#[derive(Debug, Default)]
pub struct DrainReport {
    /// Files that were put into the bucket.
    pub committed: usize,
    /// Files that could not be, with the reason.
    pub failed: Vec<(String, String)>,
}

impl Vfs {
    /// Closes a handle (`FUSE_RELEASE`). Every close has been flushed before; what a shared mapping wrote since
    /// is found and committed here.
    pub async fn release(self: &Arc<Self>, fh: u64) -> Result<()> {
        let Some(taken) = self.take_handle(fh)? else { return Ok(()) };
        let Handle::File(handle) = taken else { return Err(Error::BadHandle) };
        let file = handle.inode.file().ok_or(Error::IsDirectory)?;
        let writers = {
            let mut state = file.state.lock();
            uncount(&mut state, handle.passthrough);
            let count = if handle.writes { &mut state.handles.writers } else { &mut state.handles.readers };
            *count -= 1;
            state.handles.writers
        };
        let settled = match self.options.commit {
            _ if !handle.writes || writers > 0 => Ok(()),
            Commit::Close => self.settle(&handle.inode).await,
            Commit::Async { .. } => {
                self.settle_later(&handle.inode);
                Ok(())
            }
        };
        self.close_if_idle(file).await;
        self.log.note(|| Record::Closed { fh });
        if settled.is_ok() {
            self.table.unpin(handle.inode.ino);
        }
        // Otherwise it stays pinned, with its bytes: the next flush or the end of the mount tries again.
        settled
    }

    /// Settles in the background what is staged.
    fn settle_later(self: &Arc<Self>, inode: &Arc<Inode>) {
        let Some(file) = inode.file() else { return };
        let size = match &file.state.lock().content {
            Content::Staged(stage) if stage.overlay.is_none() => {
                stage.file.staged.file().metadata().map(|meta| meta.len())
            }
            Content::Staged(_) => Ok(0),
            Content::Remote(_) => return,
        };
        self.enqueue(inode, size.unwrap_or_default());
    }

    async fn settle(self: &Arc<Self>, inode: &Arc<Inode>) -> Result<()> {
        let _held = self.hold(&[Use::Inode(inode.ino)]).await;
        if self.settle_unlocked(inode).await? == Settled::Mapped {
            self.watch_mapping(inode);
        }
        Ok(())
    }

    /// Commits what is left and makes the staged file a clean object, unless somebody can still write to it.
    /// The caller holds the inode.
    pub(super) async fn settle_unlocked(&self, inode: &Arc<Inode>) -> Result<Settled> {
        let Some(file) = inode.file() else { return Ok(Settled::Clean) };
        let _op = file.op.lock().await;
        let superseded = {
            let state = file.state.lock();
            if state.handles.writers > 0 {
                return Ok(Settled::Open);
            }
            state.superseded
        };
        if superseded || self.table.key(inode.ino).is_err() {
            return Ok(Settled::Clean);
        }
        match has_other_writers(file)? {
            None => return Ok(Settled::Clean),
            Some(true) => {
                self.commit(inode).await?;
                return Ok(Settled::Mapped);
            }
            Some(false) => {}
        }
        self.distrust_times(file).await?;
        self.commit(inode).await?;
        // The promotion takes the staged file away: the log must know before that the bucket has it.
        self.log.flush();
        self.promote(inode, file).await?;
        self.note(inode);
        let_go_if_idle(file);
        Ok(Settled::Clean)
    }

    /// A mapping may have written without moving the times: then only checksums tell.
    async fn distrust_times(&self, file: &File) -> Result<()> {
        let Content::Staged(stage) = file.state.lock().content.clone() else { return Ok(()) };
        let Some(Committed { crc64nvme: Some(crc64nvme), stamp, .. }) = &stage.committed else {
            return Ok(());
        };
        let now = Stamp::of(stage.file.staged.file())?;
        if now.size != stamp.size || whole_crc(&checksums(&stage, now.size).await?, now.size) == *crc64nvme {
            return Ok(());
        }
        if let Content::Staged(stage) = &mut file.state.lock().content {
            stage.committed = None;
        }
        Ok(())
    }

    /// Turns the committed staged file into the clean object of its new version, by renaming it.
    async fn promote(&self, inode: &Inode, file: &File) -> Result<()> {
        // Its name went while the commit waited: the bytes go with the last handle.
        let Ok(key) = self.table.key(inode.ino) else { return Ok(()) };
        let stage = {
            let mut state = file.state.lock();
            let Content::Staged(stage) = &state.content else { return Ok(()) };
            let Some(version) = stage.base.clone().filter(|_| stage.committed.is_some()) else {
                return Ok(());
            };
            let remote = Arc::new(RemoteFile::new(version));
            match std::mem::replace(&mut state.content, Content::Remote(remote)) {
                Content::Staged(stage) => stage,
                Content::Remote(_) => return Ok(()),
            }
        };
        let Content::Remote(remote) = file.state.lock().content.clone() else { return Ok(()) };
        let with = match (&stage.overlay, stage.committed.and_then(|committed| committed.crcs)) {
            // The layer alone is no object; its base is fetched again when it is read.
            (Some(_), _) => return Ok(()),
            (None, Some(crcs)) => PromoteWith::WholeWithCrcs(Arc::unwrap_or_clone(crcs)),
            (None, None) => PromoteWith::Whole,
        };
        let Ok(staged) = Arc::try_unwrap(stage.file) else {
            // A read is still under way in it; the next open fetches the object.
            return Ok(());
        };
        let id = self.object_id(&key, &remote.version);
        let promoted = blocking(move || Ok(staged.staged.promote(&id, with)?)).await;
        match promoted {
            Ok(object) => *remote.object.lock() = object,
            Err(error) => tracing::warn!(%key, %error, "written file not kept in the cache"),
        }
        Ok(())
    }

    /// Lets the local copy go when nobody has the file open, so that it can be evicted. Not while an open is
    /// under way: it counts its handle last.
    async fn close_if_idle(&self, file: &File) {
        let _op = file.op.lock().await;
        let_go_if_idle(file);
    }

    /// Settles a file again until no mapping can write to it any more.
    pub(super) fn watch_mapping(self: &Arc<Self>, inode: &Arc<Inode>) {
        self.table.pin(inode.ino);
        let (vfs, inode) = (Arc::downgrade(self), Arc::clone(inode));
        self.runtime.spawn(async move {
            let mut failures = 0;
            while failures < MAPPED_FAILURES_MAX {
                clock::sleep(MAPPED_POLL).await;
                let Some(vfs) = vfs.upgrade() else { return };
                let _held = vfs.hold(&[Use::Inode(inode.ino)]).await;
                match vfs.settle_unlocked(&inode).await {
                    Ok(Settled::Mapped) => {}
                    Ok(Settled::Clean | Settled::Open) => return vfs.table.unpin(inode.ino),
                    Err(error) => {
                        failures += 1;
                        tracing::error!(ino = inode.ino.0, %error, "commit of a mapped file failed");
                    }
                }
            }
            // It stays pinned: the drain at the end of the mount tries once more.
        });
    }

    /// Commits everything that is not in the bucket yet.
    pub async fn drain(&self) -> DrainReport {
        let pending =
            |inode: &Arc<Inode>| inode.file().is_some_and(|file| file.state.lock().pending().is_some());
        let inodes: Vec<_> = self.table.all().into_iter().filter(pending).collect();
        let (total, mut said) = (inodes.len(), clock::instant());
        let parallel = self.options.max_requests.clamp(1, 16);
        let ends: Vec<_> = inodes.iter().map(|inode| self.drain_one(inode)).collect();
        let mut ended = stream::iter(ends).buffer_unordered(parallel);
        let mut report = DrainReport::default();
        let mut done = 0;
        while let Some(end) = ended.next().await {
            done += 1;
            match end {
                Ok(committed) => report.committed += usize::from(committed),
                Err(failed) => report.failed.push(failed),
            }
            if clock::since(said) >= PROGRESS {
                said = clock::instant();
                tracing::info!(done, total, failed = report.failed.len(), "draining");
            }
        }
        drop(ended);
        if report.failed.is_empty() {
            self.uploader.drop_rest().await;
            self.note_final_usage();
        }
        for inode in self.table.all() {
            if let Node::Directory(directory) = &inode.node {
                self.remember(&inode, directory, Worth::Anyway);
            }
        }
        tracing::info!(committed = report.committed, failed = report.failed.len(), "drained");
        report
    }

    /// Whether there was something to commit, or name and reason of what could not be.
    async fn drain_one(&self, inode: &Arc<Inode>) -> std::result::Result<bool, (String, String)> {
        let Some(file) = inode.file() else { return Ok(false) };
        let _held = self.hold(&[Use::Inode(inode.ino)]).await;
        let dirty = {
            let state = file.state.lock();
            state.posix_changed
                || matches!(&state.content, Content::Staged(stage) if stage.committed.is_none())
        };
        if let Err(error) = self.commit(inode).await {
            let name = self.table.key(inode.ino).map_or_else(|_| "(removed)".into(), |key| key.to_string());
            let kept = kept_path(file).unwrap_or_default();
            return Err((name, format!("{error}; kept in {kept} for the next mount of this bucket")));
        }
        if let Err(error) = self.settle_unlocked(inode).await {
            tracing::debug!(ino = inode.ino.0, %error, "not promoted at the end");
        }
        Ok(dirty)
    }
}

/// Closes the local copy of a file that nobody has open. The caller holds [`File::op`].
pub(super) fn let_go_if_idle(file: &File) {
    let state = file.state.lock();
    if let (Content::Remote(remote), true) = (&state.content, state.handles.none()) {
        *remote.object.lock() = None;
    }
}

/// Whether a mapping, or a read that is still under way, holds the staged file; `None` if there is none.
fn has_other_writers(file: &File) -> Result<Option<bool>> {
    match &mut file.state.lock().content {
        Content::Remote(_) => Ok(None),
        Content::Staged(stage) => match Arc::get_mut(&mut stage.file) {
            Some(file) => Ok(Some(file.staged.has_other_writers()?)),
            None => Ok(Some(true)),
        },
    }
}

fn kept_path(file: &File) -> Option<String> {
    match &file.state.lock().content {
        Content::Staged(stage) => Some(stage.file.staged.path().display().to_string()),
        Content::Remote(_) => None,
    }
}

/// What became of a file that was settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settled {
    /// The bucket has it and nobody can write to it.
    Clean,
    /// A handle can write to it.
    Open,
    /// A shared mapping can write to it.
    Mapped,
}
