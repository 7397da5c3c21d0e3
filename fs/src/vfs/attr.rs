//! `stat` and the changes of attributes.

use super::Vfs;
use crate::clock;
use crate::error::{Error, Result};
use crate::inode::{Attr, Content, Directory, File, Ino, Inode, Marker, Node, RemoteFile};
use crate::meta::{self, Posix};
use crate::name::Key;
use crate::store::{Condition, CopyRequest, ErrorKind, Headers, Version};
use bytes::Bytes;
use std::sync::Arc;
use std::time::SystemTime;

/// The attributes that are to change.
#[derive(Debug, Clone, Copy, Default)]
pub struct SetAttr {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Length.
    pub size: Option<u64>,
    /// Time of the last change of the content.
    pub mtime: Option<SystemTime>,
    /// Set-id bits go: the caller changes the content and may not keep them.
    pub drop_set_id: bool,
}

impl SetAttr {
    fn apply(&self, posix: &Posix) -> Posix {
        let drops = self.drop_set_id || self.uid.is_some() || self.gid.is_some();
        let kept = if drops { posix.mode_without_set_id() } else { posix.mode };
        Posix {
            mode: self.mode.map_or(kept, |mode| mode & 0o7777),
            uid: self.uid.unwrap_or(posix.uid),
            gid: self.gid.unwrap_or(posix.gid),
            mtime: self.mtime.unwrap_or(posix.mtime),
            ..*posix
        }
    }

    fn changes(&self, posix: &Posix) -> bool {
        let drops = self.drop_set_id && posix.mode != posix.mode_without_set_id();
        drops || self.mode.is_some() || self.uid.is_some() || self.gid.is_some() || self.mtime.is_some()
    }
}

impl Vfs {
    /// What `stat` shows, revalidated if it is too old to be believed.
    pub async fn getattr(&self, ino: Ino) -> Result<Attr> {
        let inode = self.table.inode(ino)?;
        if self.is_fresh(&inode) || self.is_open(&inode) {
            return Ok(inode.attr());
        }
        let Some(place) = self.table.place(ino) else { return Ok(inode.attr()) };
        let _keys = self.namespace.read().await;
        let current = self.resolve(place.parent, &place.name).await?;
        if current.ino == ino {
            Ok(current.attr())
        } else {
            Err(Error::Stale("replaced by another client".into()))
        }
    }

    /// An open file shows its handle's version, whatever the bucket has meanwhile.
    fn is_open(&self, inode: &Inode) -> bool {
        inode.file().is_some_and(|file| !file.state.lock().handles.none())
    }

    /// Changes attributes and length. A change that cannot be kept is refused.
    pub async fn setattr(&self, ino: Ino, set: SetAttr) -> Result<Attr> {
        self.writable()?;
        let inode = self.table.inode(ino)?;
        let _keys = self.namespace.read().await;
        match &inode.node {
            Node::Directory(directory) => {
                if set.size.is_some() {
                    return Err(Error::IsDirectory);
                }
                self.set_directory(ino, directory, &set).await?;
            }
            Node::File(file) => {
                if let Some(size) = set.size {
                    self.truncate(&inode, size).await?;
                }
                let posix = file.state.lock().posix;
                if set.changes(&posix) {
                    self.set_file(ino, file, &set).await?;
                }
                // A change by path has no close that would commit it.
                if file.state.lock().handles.writers == 0 {
                    self.settle_unlocked(&inode).await?;
                }
            }
        }
        Ok(inode.attr())
    }

    /// A writer who may not keep set-id bits changes the content (`FUSE_WRITE_KILL_SUIDGID`).
    pub fn drop_set_id(&self, fh: u64) -> Result<()> {
        let handle = self.file_handle(fh)?;
        if let Some(file) = handle.inode.file() {
            let mut state = file.state.lock();
            let mode = state.posix.mode_without_set_id();
            state.posix_changed |= mode != state.posix.mode;
            state.posix.mode = mode;
        }
        Ok(())
    }

    async fn set_directory(&self, ino: Ino, directory: &Directory, set: &SetAttr) -> Result<()> {
        let posix = set.apply(&directory.state.lock().posix);
        if let Some(marker) = self.table.prefix(ino)?.marker() {
            let (mut headers, present) = match self.store.head(&marker).await {
                Ok(info) => (info.headers, Some(info.version)),
                Err(error) if error.kind == ErrorKind::NotFound => (Headers::default(), None),
                Err(error) => return Err(error.into()),
            };
            meta::write(&posix, &mut headers);
            match present.filter(|version| version.size > 0) {
                // A marker with bytes keeps them.
                Some(version) => self.store.copy(copy_onto(marker, &version, headers)).await?,
                None => self.store.put(&marker, Bytes::new(), &headers, Condition::Always).await?,
            };
            directory.state.lock().marker = Marker::Present;
        }
        let mut state = directory.state.lock();
        state.posix = posix;
        state.checked = clock::instant();
        Ok(())
    }

    async fn set_file(&self, ino: Ino, file: &File, set: &SetAttr) -> Result<()> {
        self.describe(ino, file).await?;
        let _commit = file.commit.lock().await;
        let remote = {
            let mut state = file.state.lock();
            let posix = set.apply(&state.posix);
            match state.content.clone() {
                Content::Staged(stage) => {
                    if let Some(mtime) = set.mtime {
                        let times = std::fs::FileTimes::new().set_modified(mtime);
                        stage.file.staged.file().set_times(times)?;
                    }
                    state.posix = posix;
                    state.posix_changed = true;
                    state.ctime = clock::now();
                    return Ok(());
                }
                Content::Remote(remote) => (remote, posix, state.headers.clone()),
            }
        };
        let (remote, posix, mut headers) = remote;
        meta::write(&posix, &mut headers);
        let copied = self.copy_onto_itself(ino, &remote, headers.clone()).await?;
        let mut state = file.state.lock();
        state.content = Content::Remote(copied);
        state.posix = posix;
        state.headers = headers;
        state.ctime = clock::now();
        state.checked = clock::instant();
        Ok(())
    }

    /// New metadata for an object that is not changed otherwise. The bytes stay cached.
    pub(super) async fn copy_onto_itself(
        &self,
        ino: Ino,
        remote: &RemoteFile,
        headers: Headers,
    ) -> Result<Arc<RemoteFile>> {
        let Ok(key) = self.table.key(ino) else {
            // Removed while open: nothing in the bucket carries its attributes any more.
            return Ok(Arc::new(RemoteFile::with_object(
                remote.version.clone(),
                remote.object.lock().clone(),
            )));
        };
        let version = self.store.copy(copy_onto(key, &remote.version, headers)).await?;
        let object = remote.object.lock().clone();
        self.published(ino, &version);
        Ok(Arc::new(RemoteFile::with_object(version, object)))
    }

    /// Sees to it that the file's own attributes and headers are known, not only what a listing said.
    pub(super) async fn describe(&self, ino: Ino, file: &File) -> Result<()> {
        if file.state.lock().described {
            return Ok(());
        }
        let Ok(key) = self.table.key(ino) else { return Ok(()) };
        let info = self.store.head(&key).await?;
        if self.refresh(file, &info) {
            Ok(())
        } else {
            Err(Error::Stale("replaced by another client".into()))
        }
    }
}

/// A copy of an object onto itself with new headers.
fn copy_onto(key: Key, version: &Version, headers: Headers) -> CopyRequest {
    CopyRequest {
        from: key.clone(),
        if_match: version.etag.clone(),
        size: version.size,
        to: key,
        // The condition on the source is one on the destination as well: they are the same object.
        condition: Condition::Always,
        headers: Some(headers),
    }
}
