//! Removing files and directories.

use super::Vfs;
use super::namespace::Use;
use super::readdir::is_local;
use crate::clock;
use crate::error::{Error, Result};
use crate::inode::{Content, Ino, Inode, Marker};
use crate::name::{Key, Name};
use crate::store::{Depth, ETag, ErrorKind, ListRequest, Listed};
use std::ffi::OsStr;
use std::sync::Arc;
use std::time::SystemTime;

/// How often another client may change an object while it is being removed.
const CHANGES_MAX: usize = 5;

impl Vfs {
    /// Removes a file or symbolic link. Open handles keep its bytes.
    pub async fn unlink(&self, parent: Ino, name: &OsStr) -> Result<()> {
        self.writable()?;
        let name = Name::parse(name)?;
        let _held = self.hold(&[Use::Name(parent, &name)]).await;
        let inode = match self.resolve(parent, &name).await {
            Err(Error::NotFound) if self.may_be_done() => return self.removed(parent, &name).await,
            found => found?,
        };
        let file = inode.file().ok_or(Error::IsDirectory)?;
        let _op = file.op.lock().await;
        let _commit = file.commit.lock().await;
        self.keep_readable(&inode).await?;
        self.note(&inode);
        self.intend();
        if in_bucket(&inode) || may_have_arrived(&inode) {
            let key = self.table.prefix(parent)?.key(&name)?;
            let size = file.state.lock().version().map(|version| version.size);
            self.delete_any(&inode, &name, &key).await.inspect_err(|_| self.fence.spare(&key))?;
            self.count_change(&key, size, None);
        }
        self.table.remove(inode.ino);
        self.give_up(&inode).await;
        self.removed(parent, &name).await
    }

    /// The directory has an entry less.
    async fn removed(&self, parent: Ino, name: &Name) -> Result<()> {
        self.entry_changed(parent, name, None);
        self.touch_directory(parent);
        self.keep_directory(parent).await
    }

    /// The name of a file is gone or another's: what is staged of it belongs nowhere any more.
    pub(super) async fn give_up(&self, inode: &Inode) {
        let Some(file) = inode.file() else { return };
        let Content::Staged(stage) = file.state.lock().content.clone() else { return };
        stage.claim.give_up();
        self.unrecord(&stage.file);
        let _tried = self.uploader.abandon(&stage.file).await;
    }

    /// Removes an empty directory and its marker.
    pub async fn rmdir(&self, parent: Ino, name: &OsStr) -> Result<()> {
        self.writable()?;
        let name = Name::parse(name)?;
        let _held = self.hold(&[Use::Name(parent, &name)]).await;
        let inode = match self.resolve(parent, &name).await {
            Err(Error::NotFound) if self.may_be_done() => return self.removed(parent, &name).await,
            found => found?,
        };
        inode.directory().ok_or(Error::NotDirectory)?;
        self.must_be_empty(&inode).await?;
        self.intend();
        if let Some(marker) = self.table.prefix(inode.ino)?.marker() {
            self.fence.removing(&marker, None, false);
            self.delete_one(&marker).await.inspect_err(|_| self.fence.spare(&marker))?;
        }
        self.table.remove(inode.ino);
        self.entry_changed(parent, &name, None);
        self.uncover(parent, &name);
        self.touch_directory(parent);
        self.keep_directory(parent).await
    }

    /// Empty here and in the bucket, but for an empty marker.
    pub(super) async fn must_be_empty(&self, inode: &Arc<Inode>) -> Result<()> {
        if self.table.children(inode.ino).iter().any(|(_, child)| is_local(child)) {
            return Err(Error::NotEmpty);
        }
        let prefix = self.table.prefix(inode.ino)?;
        let request = ListRequest::new(prefix.clone(), Depth::Subtree, 2);
        let page = self.store.list(request).await?;
        let marker = prefix.marker();
        let is_marker = |listed: &&Listed| Some(&listed.key) == marker.as_ref() && listed.version.size == 0;
        let others = page.objects.iter().filter(|listed| !is_marker(listed)).count();
        if others + page.unusable > 0 { Err(Error::NotEmpty) } else { Ok(()) }
    }

    /// A directory that exists only through its keys would vanish with the last of them: it gets a marker.
    pub(super) async fn keep_directory(&self, ino: Ino) -> Result<()> {
        let inode = self.table.inode(ino)?;
        let directory = inode.directory().ok_or(Error::NotDirectory)?;
        if ino == Ino::ROOT || directory.state.lock().marker == Marker::Present {
            return Ok(());
        }
        if self.fresh_listing(directory).is_some_and(|listing| !listing.is_empty()) {
            return Ok(());
        }
        let prefix = self.table.prefix(ino)?;
        if self.has_keys(&prefix).await? {
            return Ok(());
        }
        let Some(marker) = prefix.marker() else { return Ok(()) };
        let (posix, headers) = {
            let state = directory.state.lock();
            (state.posix, state.headers.clone())
        };
        match self.put_marker(&marker, &posix, headers).await {
            Ok(()) => {}
            Err(Error::Store(error)) if error.kind == ErrorKind::Precondition => {}
            Err(error) => return Err(error),
        }
        let mut state = directory.state.lock();
        state.marker = Marker::Present;
        state.checked = clock::instant();
        Ok(())
    }

    /// Removes the object of a file, whatever another client has made of it meanwhile.
    async fn delete_any(&self, inode: &Inode, name: &Name, key: &Key) -> Result<()> {
        let mut known = inode.file().and_then(|file| file.state.lock().version().cloned());
        self.keep_away(inode, key);
        for _ in 0..CHANGES_MAX {
            let found = match known.take() {
                Some(version) => Some(version),
                None => self.head_if_any(key).await?.map(|found| found.version),
            };
            match found {
                Some(version) if !self.delete_file(name, key, &version.etag).await? => {}
                Some(_) | None => return Ok(()),
            }
        }
        Err(Error::Stale("other clients change the object all the time".to_owned()))
    }

    /// What is about to be removed stays away though an earlier worker's upload of it may be under way.
    fn keep_away(&self, inode: &Inode, key: &Key) {
        let (born, unheard) = history(inode);
        self.fence.removing(key, born, unheard);
    }

    /// Removes the object of a file for good, unless another client has changed it; says whether it did.
    pub(super) async fn delete_for_good(
        &self,
        inode: &Inode,
        name: &Name,
        key: &Key,
        version: &ETag,
    ) -> Result<bool> {
        self.keep_away(inode, key);
        let deleted = self.delete_file(name, key, version).await;
        if !matches!(deleted, Ok(true)) {
            self.fence.spare(key);
        }
        deleted
    }

    pub(super) async fn delete_one(&self, key: &Key) -> Result<()> {
        self.delete_all(std::slice::from_ref(key)).await
    }

    /// Deletes keys; the first that could not be deleted is the error.
    pub(super) async fn delete_all(&self, keys: &[Key]) -> Result<()> {
        for (_, result) in self.store.delete(keys).await? {
            result?;
        }
        Ok(())
    }
}

/// Whether the bucket may have the staged file although the answer to its upload was lost. The caller holds
/// [`File::commit`](crate::inode::File::commit).
pub(super) fn may_have_arrived(inode: &Inode) -> bool {
    let unsure = |content: &Content| matches!(content, Content::Staged(stage) if stage.unsure);
    inode.file().is_some_and(|file| unsure(&file.state.lock().content))
}

/// When a file was made, and whether an answer to a commit of it may have been lost.
fn history(inode: &Inode) -> (Option<SystemTime>, bool) {
    let Some(file) = inode.file() else { return (None, false) };
    let state = file.state.lock();
    let unheard = match &state.content {
        Content::Staged(stage) => stage.file.get(|record| !record.attempts.is_empty()),
        Content::Remote(_) => false,
    };
    (Some(state.posix.btime), unheard)
}

/// Whether the bucket has an object for the file.
pub(super) fn in_bucket(inode: &Inode) -> bool {
    inode.file().is_some_and(|file| file.state.lock().version().is_some())
}
