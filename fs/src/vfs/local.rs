//! The local copy of one file, for whoever manages the cache: how much there is, fetch it, drop it, check it.

use super::Vfs;
use super::commit::blocking;
use super::namespace::Use;
use super::settle::let_go_if_idle;
use crate::error::Error;
use crate::inode::{Content, Ino, RemoteFile};
use crate::read::Target;
use std::sync::Arc;
use std::time::Duration;
use tarn_cache::{Hold, Object};

/// What to do with a local copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyAction {
    /// Nothing.
    Look,
    /// Fetch what is missing.
    Warm,
    /// Let it go, unless somebody has the file open.
    Drop,
    /// Read it and compare its checksums; damaged blocks go.
    Verify,
    /// Fetch what is missing, and keep it whatever room is needed, until the file changes.
    Pin,
    /// Take that back.
    Unpin,
}

/// A file and its local copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LocalCopy {
    /// Bytes of the file.
    pub size: u64,
    /// Bytes of it on the local disk.
    pub cached: u64,
    /// Blocks that were found damaged.
    pub damaged: u64,
    /// Whether it stays whatever room is needed.
    pub pinned: bool,
}

/// Why nothing was done to a local copy.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// It cannot be pinned beside what is pinned already.
    #[error("{pinned} bytes are pinned, {size} more are over the limit of {limit}")]
    Full {
        /// Bytes that are pinned.
        pinned: u64,
        /// Of the file.
        size: u64,
        /// Of the cache.
        limit: u64,
    },
    /// The disk would not take all of it.
    #[error("only {cached} of {size} bytes could be kept")]
    NoRoom {
        /// Bytes that were.
        cached: u64,
        /// Of the file.
        size: u64,
    },
    /// What is pinned is a version in the bucket.
    #[error("it is not in the bucket yet; flush it first")]
    Dirty,
    /// The file system says no.
    #[error(transparent)]
    Failed(#[from] Error),
}

impl From<tarn_cache::Error> for CopyError {
    fn from(error: tarn_cache::Error) -> Self {
        Self::Failed(error.into())
    }
}

/// The kernel tells of a close some time after it; so often, and with such pauses, one that may be under way is waited for.
const CLOSING: (u32, Duration) = (20, Duration::from_millis(50));

impl Vfs {
    /// Does `action` to the local copy of a file and says what is there then. Bytes that the bucket does not have
    /// yet are local by nature: nothing is done to them. A copy in use is not dropped.
    pub async fn local_copy(
        &self,
        ino: Ino,
        action: CopyAction,
    ) -> std::result::Result<LocalCopy, CopyError> {
        for _ in 0..CLOSING.0 {
            match self.local_copy_now(ino, action).await {
                Err(CopyError::Dirty) => tokio::time::sleep(CLOSING.1).await,
                done => return done,
            }
        }
        Err(CopyError::Dirty)
    }

    async fn local_copy_now(
        &self,
        ino: Ino,
        action: CopyAction,
    ) -> std::result::Result<LocalCopy, CopyError> {
        let inode = self.table.inode(ino)?;
        let file = inode.file().ok_or(Error::IsDirectory)?;
        let _held = self.hold(&[Use::Inode(ino)]).await;
        let _op = file.op.lock().await;
        let content = file.state.lock().content.clone();
        let remote = match content {
            Content::Remote(remote) => remote,
            Content::Staged(_) if action == CopyAction::Pin => return Err(CopyError::Dirty),
            Content::Staged(stage) => {
                let size = stage.file.staged.file().metadata().map_err(Error::from)?.len();
                return Ok(LocalCopy { size, cached: size, ..LocalCopy::default() });
            }
        };
        let done = self.act(ino, &remote, action).await;
        let_go_if_idle(file);
        done
    }

    async fn act(
        &self,
        ino: Ino,
        remote: &Arc<RemoteFile>,
        action: CopyAction,
    ) -> std::result::Result<LocalCopy, CopyError> {
        let size = remote.version.size;
        let id = self.object_id(&self.table.key(ino)?, &remote.version);
        let copy = |object: Option<&Object>, damaged| {
            let pinned = self.cache.is_held(&id)?;
            Ok(LocalCopy { size, cached: object.map_or(0, Object::present), damaged, pinned })
        };
        match action {
            CopyAction::Look => copy(self.cache.find(&id)?.as_deref(), 0),
            CopyAction::Warm => {
                let target = self.target(ino, remote)?;
                self.fetcher.fetch_whole(&target).await?;
                copy(Some(&target.object), 0)
            }
            CopyAction::Pin => {
                let target = self.target(ino, remote)?;
                self.pin(&target).await?;
                copy(Some(&target.object), 0)
            }
            CopyAction::Unpin => {
                self.cache.release(&id)?;
                copy(self.cache.find(&id)?.as_deref(), 0)
            }
            CopyAction::Drop => {
                self.cache.forget(&id)?;
                copy(self.cache.find(&id)?.as_deref(), 0)
            }
            CopyAction::Verify => {
                let Some(object) = self.cache.find(&id)? else { return copy(None, 0) };
                let damaged = {
                    let object = Arc::clone(&object);
                    blocking(move || Ok(object.scrub())).await?
                };
                copy(Some(&object), damaged)
            }
        }
    }

    /// First the hold, so that nothing is fetched that may not stay.
    async fn pin(&self, target: &Target) -> std::result::Result<(), CopyError> {
        let (object, size) = (&target.object, target.object.id().size());
        let uncached = CopyError::NoRoom { cached: 0, size };
        match self.cache.hold(object)? {
            Hold::Held => {}
            Hold::Full { held } => {
                return Err(CopyError::Full { pinned: held, size, limit: self.cache.limit() });
            }
            Hold::Uncached => return Err(uncached),
        }
        let fetched = self.fetcher.fetch_whole(target).await;
        if fetched.is_ok() && object.is_whole() {
            return Ok(());
        }
        self.cache.release(object.id())?;
        fetched?;
        Err(CopyError::NoRoom { cached: object.present(), size })
    }
}
