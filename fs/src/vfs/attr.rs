//! `stat` and the changes of attributes.

use super::Vfs;
use super::namespace::Use;
use super::open::doubt_outdated;
use crate::clock;
use crate::config::Commit;
use crate::error::{Error, Result};
use crate::inode::{Attr, Content, Directory, File, FileState, Ino, Inode, Marker, Node, RemoteFile, Stamp};
use crate::meta::{self, Attributes, Posix, acl};
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
    /// Time of the last access.
    pub atime: Option<SystemTime>,
    /// Time of the last change of the content.
    pub mtime: Option<SystemTime>,
    /// Set-id bits go: the caller changes the content and may not keep them.
    pub drop_set_id: bool,
}

impl SetAttr {
    fn apply(&self, posix: &mut Posix, headers: &mut Headers) {
        let new_owner = self.uid.is_some() || self.gid.is_some();
        if self.drop_set_id || new_owner {
            posix.mode = posix.mode_without_set_id();
        }
        if new_owner {
            meta::drop_capabilities(headers);
        }
        if let Some(mode) = self.mode {
            posix.mode = mode & 0o7777;
            acl::follow_mode(mode, headers);
        }
        posix.uid = self.uid.unwrap_or(posix.uid);
        posix.gid = self.gid.unwrap_or(posix.gid);
        posix.atime = self.atime.unwrap_or(posix.atime);
        posix.mtime = self.mtime.unwrap_or(posix.mtime);
    }

    /// Whether nothing but the length changes. A change of nothing at all is one of the attributes: it moves ctime.
    fn is_truncation(&self, posix: &Posix) -> bool {
        let attributes = [self.mode, self.uid, self.gid];
        let times = [self.atime, self.mtime];
        let drops = self.drop_set_id && posix.mode != posix.mode_without_set_id();
        self.size.is_some()
            && !drops
            && attributes.iter().all(Option::is_none)
            && times.iter().all(Option::is_none)
    }
}

impl Vfs {
    /// What `stat` shows, revalidated if it is too old to be believed.
    pub async fn getattr(&self, ino: Ino) -> Result<Attr> {
        let inode = self.table.inode(ino)?;
        if self.is_fresh(&inode) || self.is_open(&inode) {
            return Ok(self.attr(&inode));
        }
        let Some(place) = self.table.place(ino) else {
            self.describe_root(&inode).await?;
            return Ok(self.attr(&inode));
        };
        let _held = self.hold(&[Use::from(&place), Use::Inode(ino)]).await;
        let current = self.resolve(place.parent, &place.name).await?;
        if current.ino == ino {
            Ok(self.attr(&current))
        } else {
            Err(Error::Stale("replaced by another client".into()))
        }
    }

    /// What `stat` shows of an inode, with the number of names it has here.
    pub(super) fn attr(&self, inode: &Inode) -> Attr {
        let attr = inode.attr();
        let links = match inode.directory() {
            _ if inode.ino != Ino::ROOT && self.table.place(inode.ino).is_none() => 0,
            Some(directory) => {
                directory.listing.lock().as_ref().map_or(1, |listing| 2 + listing.directories())
            }
            None => 1,
        };
        Attr { links, ..attr }
    }

    /// An open file shows its handle's version, whatever the bucket has meanwhile.
    fn is_open(&self, inode: &Inode) -> bool {
        inode.file().is_some_and(|file| !file.state.lock().handles.none())
    }

    /// Changes attributes and length. A change that cannot be kept is refused.
    pub async fn setattr(self: &Arc<Self>, ino: Ino, set: SetAttr) -> Result<Attr> {
        self.writable()?;
        let inode = self.table.inode(ino)?;
        let _held = self.hold(&[Use::Inode(ino)]).await;
        if let Some(size) = set.size {
            self.truncate(&inode, size).await?;
        }
        if !set.is_truncation(&inode.attr().posix) {
            let change = |posix: &mut Posix, headers: &mut Headers| {
                set.apply(posix, headers);
                Ok(())
            };
            self.change(&inode, change).await?;
        }
        self.settle_if_unwritten(&inode).await?;
        Ok(self.attr(&inode))
    }

    /// A change by path has no close that would commit it.
    pub(super) async fn settle_if_unwritten(self: &Arc<Self>, inode: &Arc<Inode>) -> Result<()> {
        if inode.file().is_none_or(|file| file.state.lock().handles.writers > 0) {
            return Ok(());
        }
        match self.options.commit {
            Commit::Close => {
                self.commit(inode).await?;
                self.settle_unlocked(inode).await.map(drop)
            }
            Commit::Async { .. } => self.close(inode).await,
        }
    }

    /// A writer who may not keep set-id bits changes the content (`FUSE_WRITE_KILL_SUIDGID`).
    pub fn drop_set_id(&self, fh: u64) -> Result<()> {
        let handle = self.file_handle(fh)?;
        if let Some(file) = handle.inode.file() {
            file.state.lock().drop_set_id();
            self.note(&handle.inode);
        }
        Ok(())
    }

    /// Changes attributes, as `change` says. The caller holds the inode, and settles a file that nobody writes.
    pub(super) async fn change(
        &self,
        inode: &Inode,
        change: impl FnOnce(&mut Posix, &mut Headers) -> Result<()>,
    ) -> Result<()> {
        match &inode.node {
            Node::Directory(directory) => self.change_directory(inode.ino, directory, change).await,
            Node::File(file) => {
                self.change_file(inode.ino, file, change).await?;
                self.note(inode);
                Ok(())
            }
        }
    }

    /// The attributes after a change, and the headers that keep them.
    fn revise(
        &self,
        mut posix: Posix,
        mut headers: Headers,
        change: impl FnOnce(&mut Posix, &mut Headers) -> Result<()>,
    ) -> Result<(Posix, Headers)> {
        let (attributes, shown) = (self.options.defaults.attributes, (posix.mode, posix.uid, posix.gid));
        change(&mut posix, &mut headers)?;
        if attributes == Attributes::Fixed && shown != (posix.mode, posix.uid, posix.gid) {
            return Err(Error::NotPermitted("this mount shows one mode and owner for all files"));
        }
        posix.ctime = clock::now();
        meta::write(&posix, &mut headers, attributes)?;
        Ok((posix, headers))
    }

    async fn change_directory(
        &self,
        ino: Ino,
        directory: &Directory,
        change: impl FnOnce(&mut Posix, &mut Headers) -> Result<()>,
    ) -> Result<()> {
        let (posix, headers, touched) = {
            let state = directory.state.lock();
            (state.posix, state.headers.clone(), state.touched)
        };
        let (posix, headers) = match self.table.prefix(ino).ok().and_then(|prefix| prefix.marker()) {
            // The root of a bucket has no object, a removed directory none any more: kept while it is known here.
            None => self.revise(posix, headers, change)?,
            Some(marker) => match self.store.head(&marker).await {
                Ok(info) => {
                    let (posix, headers) = self.revise(posix, info.headers, change)?;
                    self.copy(copy_onto(marker, &info.version, headers.clone())).await?;
                    (posix, headers)
                }
                Err(error) if error.kind == ErrorKind::NotFound => {
                    let (posix, headers) =
                        self.revise(posix, super::change::marker_headers(headers), change)?;
                    self.store.put(&marker, Bytes::new(), &headers, Condition::Absent).await?;
                    (posix, headers)
                }
                Err(error) => return Err(error.into()),
            },
        };
        let mut state = directory.state.lock();
        let since = state.touched.take().filter(|at| Some(*at) != touched);
        state.posix = posix;
        state.headers = headers;
        if let Some(at) = since {
            state.touch(at);
        }
        state.described = true;
        state.marker = Marker::Present;
        state.checked = clock::instant();
        Ok(())
    }

    async fn change_file(
        &self,
        ino: Ino,
        file: &File,
        change: impl FnOnce(&mut Posix, &mut Headers) -> Result<()>,
    ) -> Result<()> {
        self.describe(ino, file).await?;
        // An open must not stage what the copy below is about to replace.
        let _op = file.op.lock().await;
        let _commit = file.commit.lock().await;
        let (remote, posix, headers) = {
            let mut state = file.state.lock();
            match &state.content {
                Content::Remote(remote) => (Arc::clone(remote), state.posix, state.headers.clone()),
                Content::Staged(stage) => {
                    let stage = Arc::clone(&stage.file);
                    let before = state.written(Stamp::of(stage.staged.file())?.modified());
                    let (posix, headers) = self.revise(before, state.headers.clone(), change)?;
                    if posix.mtime != before.mtime {
                        let times = std::fs::FileTimes::new().set_modified(posix.mtime);
                        stage.staged.file().set_times(times)?;
                    }
                    state.posix = posix;
                    state.headers = headers;
                    state.posix_changed = true;
                    return Ok(());
                }
            }
        };
        let (posix, headers) = self.revise(posix, headers, change)?;
        let copied = self.copy_onto_itself(ino, &remote, headers.clone()).await;
        let copied = copied.inspect_err(|error| doubt_outdated(file, error))?;
        let mut state = file.state.lock();
        state.content = Content::Remote(copied);
        state.posix = posix;
        state.headers = headers;
        state.made();
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
        let version = self.copy(copy_onto(key, &remote.version, headers)).await?;
        let object = remote.object.lock().clone();
        self.published(ino, &version);
        Ok(Arc::new(RemoteFile::with_object(version, object)))
    }

    /// Sees to it that the file's own attributes and headers are known, not only what a listing said.
    pub(super) async fn describe(&self, ino: Ino, file: &File) -> Result<()> {
        if matches!(&*file.state.lock(), FileState { described: true, listed: false, .. }) {
            return Ok(());
        }
        let Ok(key) = self.table.key(ino) else { return Ok(()) };
        let asked = clock::instant();
        let info = self.store.head(&key).await?;
        if self.refresh(file, &info, asked) {
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
        log: None,
    }
}
