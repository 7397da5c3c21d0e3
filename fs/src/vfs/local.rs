//! The local copy of one file, for whoever manages the cache: how much there is, fetch it, drop it, check it.

use super::Vfs;
use super::commit::blocking;
use super::settle::let_go_if_idle;
use crate::error::{Error, Result};
use crate::inode::{Content, Ino, RemoteFile};
use std::sync::Arc;
use tarn_cache::Object;

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
}

impl Vfs {
    /// Does `action` to the local copy of a file and says what is there then. Bytes that the bucket does not have
    /// yet are local by nature: nothing is done to them. A copy in use is not dropped.
    pub async fn local_copy(&self, ino: Ino, action: CopyAction) -> Result<LocalCopy> {
        let inode = self.table.inode(ino)?;
        let file = inode.file().ok_or(Error::IsDirectory)?;
        let _keys = self.namespace.read().await;
        let _op = file.op.lock().await;
        let content = file.state.lock().content.clone();
        let remote = match content {
            Content::Remote(remote) => remote,
            Content::Staged(stage) => {
                let size = stage.file.staged.file().metadata()?.len();
                return Ok(LocalCopy { size, cached: size, damaged: 0 });
            }
        };
        let done = self.act(ino, &remote, action).await;
        let_go_if_idle(file);
        done
    }

    async fn act(&self, ino: Ino, remote: &Arc<RemoteFile>, action: CopyAction) -> Result<LocalCopy> {
        let size = remote.version.size;
        let id = self.object_id(&self.table.key(ino)?, &remote.version);
        let copy = |object: Option<&Object>, damaged| {
            Ok(LocalCopy { size, cached: object.map_or(0, Object::present), damaged })
        };
        match action {
            CopyAction::Look => copy(self.cache.find(&id)?.as_deref(), 0),
            CopyAction::Warm => {
                let target = self.target(ino, remote)?;
                self.fetcher.fetch_whole(&target).await?;
                copy(Some(&target.object), 0)
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
}
