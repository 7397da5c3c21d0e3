//! Making things: files, directories, symbolic links.

use super::lookup::{Description, Entry};
use super::open::{OpenFlags, Opened};
use super::{Caller, Vfs};
use crate::clock;
use crate::error::{Error, Result};
use crate::inode::{
    Child, Content, File, FileState, Ino, Inode, Listing, Marker, Node, Place, Stage, StagedFile,
};
use crate::meta::{self, Kind, Posix};
use crate::name::Name;
use crate::store::{Condition, ErrorKind, Headers};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::sync::Arc;

/// The longest target of a symbolic link (`PATH_MAX` less its NUL).
const TARGET_MAX: usize = 4095;

impl Vfs {
    /// Makes and opens a file (`FUSE_CREATE`). The object appears with the first flush.
    pub async fn create(
        &self,
        parent: Ino,
        name: &OsStr,
        mode: u32,
        caller: Caller,
        flags: OpenFlags,
        passthrough: bool,
    ) -> Result<(Entry, Opened)> {
        self.writable()?;
        let name = Name::parse(name)?;
        let keys = self.namespace.read().await;
        match self.resolve(parent, &name).await {
            Ok(_) if flags.exclusive => return Err(Error::Exists),
            // The store decides who was first, on whichever node: the object must be there before the answer.
            Err(Error::NotFound) if flags.exclusive => {
                drop(keys);
                let posix = self.new_posix(Kind::File, mode, caller);
                let entry = self.put_new(parent, name.as_ref(), posix, Bytes::new()).await?;
                let opened = self.open(entry.attr.ino, flags, passthrough).await;
                // Without an answer the kernel counts no look-up.
                let opened = opened.inspect_err(|_| self.forget(entry.attr.ino, 1))?;
                return Ok((entry, opened));
            }
            Ok(inode) => {
                drop(keys);
                let opened = self.open(inode.ino, flags, passthrough).await?;
                return Ok((self.entry(&inode, Some(Place { parent, name })), opened));
            }
            Err(Error::NotFound) => {}
            Err(error) => return Err(error),
        }
        if !name.is_plain() {
            drop(keys);
            return self.create_odd(parent, name.as_ref(), mode, caller, flags, passthrough).await;
        }
        let posix = self.new_posix(Kind::File, mode, caller);
        let inode = self.new_file(parent, &name, posix)?;
        let opened = self.finish_open(&inode, OpenFlags { write: true, ..flags }, passthrough)?;
        Ok((self.entry(&inode, Some(Place { parent, name })), opened))
    }

    /// Makes and opens a file whose key a server may refuse: the object is there before the file, so that the
    /// refusal is the answer to the create and not to a close that nobody looks at.
    async fn create_odd(
        &self,
        parent: Ino,
        name: &OsStr,
        mode: u32,
        caller: Caller,
        flags: OpenFlags,
        passthrough: bool,
    ) -> Result<(Entry, Opened)> {
        let entry = self.make_file(parent, name, mode, caller).await?;
        match self.open(entry.attr.ino, flags, passthrough).await {
            Ok(opened) => Ok((entry, opened)),
            Err(error) => {
                self.forget(entry.attr.ino, 1);
                Err(error)
            }
        }
    }

    fn new_posix(&self, kind: Kind, mode: u32, caller: Caller) -> Posix {
        Posix { kind, mode: mode & 0o7777, uid: caller.uid, gid: caller.gid, mtime: clock::now() }
    }

    fn new_file(&self, parent: Ino, name: &Name, posix: Posix) -> Result<Arc<Inode>> {
        let key = self.table.prefix(parent)?.key(name)?;
        let staged = self.cache.stage(&self.label(&key, None))?;
        let stage = Stage {
            file: Arc::new(StagedFile { staged }),
            base: None,
            committed: None,
            overlay: None,
            writes: 0,
            copied: None,
        };
        let content = Content::Staged(Box::new(stage));
        let file = File::new(FileState::new(posix, posix.mtime, Headers::default(), content, true));
        let place = Place { parent, name: name.clone() };
        self.touch_directory(parent);
        Ok(self.table.insert(place, |ino| Inode { ino, node: Node::File(Box::new(file)) }))
    }

    /// Makes an empty file without opening it (`FUSE_MKNOD` of a regular file).
    pub async fn make_file(&self, parent: Ino, name: &OsStr, mode: u32, caller: Caller) -> Result<Entry> {
        self.put_new(parent, name, self.new_posix(Kind::File, mode, caller), Bytes::new()).await
    }

    /// Makes a symbolic link: an object whose bytes are the target.
    pub async fn symlink(&self, parent: Ino, name: &OsStr, target: &OsStr, caller: Caller) -> Result<Entry> {
        let bytes = target.as_encoded_bytes();
        if bytes.len() > TARGET_MAX {
            return Err(Error::Name(crate::name::NameError::TooLong));
        }
        let posix = self.new_posix(Kind::Symlink, 0o777, caller);
        self.put_new(parent, name, posix, Bytes::copy_from_slice(bytes)).await
    }

    async fn put_new(&self, parent: Ino, name: &OsStr, posix: Posix, body: Bytes) -> Result<Entry> {
        self.writable()?;
        let name = Name::parse(name)?;
        let _keys = self.namespace.read().await;
        self.must_be_free(parent, &name).await?;
        self.must_suit_a_file(parent, &name).await?;
        let key = self.table.prefix(parent)?.key(&name)?;
        let mut headers = Headers::default();
        meta::write(&posix, &mut headers);
        let version = match self.store.put(&key, body, &headers, Condition::Absent).await {
            Ok(version) => version,
            Err(error) if error.kind == ErrorKind::Precondition => {
                // Another client was first: what is known here of the directory is old.
                self.forget_listing(parent);
                return Err(Error::Exists);
            }
            Err(error) => return Err(error.into()),
        };
        let place = Place { parent, name: name.clone() };
        let inode = self.insert_file(place.clone(), version.clone(), Description::Known(posix, headers));
        self.learned(parent);
        self.entry_changed(parent, &name, Some(Child::Object(version)));
        self.touch_directory(parent);
        Ok(self.entry(&inode, Some(place)))
    }

    /// The target of a symbolic link.
    pub async fn readlink(&self, ino: Ino) -> Result<Bytes> {
        let inode = self.table.inode(ino)?;
        let file = inode.file().ok_or(Error::Invalid("not a symbolic link"))?;
        let Content::Remote(remote) = file.state.lock().content.clone() else {
            return Err(Error::Invalid("not a symbolic link"));
        };
        if file.state.lock().posix.kind != Kind::Symlink || remote.version.size > TARGET_MAX as u64 {
            return Err(Error::Invalid("not a symbolic link"));
        }
        let target = self.target(ino, &remote)?;
        let bytes = self.fetcher.read(&target, 0..remote.version.size).await;
        *remote.object.lock() = None;
        bytes
    }

    /// Makes a directory: a marker object `name/`.
    pub async fn mkdir(&self, parent: Ino, name: &OsStr, mode: u32, caller: Caller) -> Result<Entry> {
        self.writable()?;
        let name = Name::parse(name)?;
        let _keys = self.namespace.read().await;
        self.must_be_free(parent, &name).await?;
        let posix = self.new_posix(Kind::Directory, mode, caller);
        let started = clock::instant();
        let marker = self.table.prefix(parent)?.dir(&name)?.marker().ok_or(Error::Exists)?;
        match self.put_marker(&marker, &posix).await {
            Ok(()) => {}
            Err(Error::Store(error)) if error.kind == ErrorKind::Precondition => return Err(Error::Exists),
            Err(error) => return Err(error),
        }
        let place = Place { parent, name: name.clone() };
        let inode = self.insert_directory(place.clone(), posix, Marker::Present);
        if let Some(directory) = inode.directory() {
            *directory.listing.lock() = Some(Arc::new(Listing::new(BTreeMap::new(), started)));
        }
        self.entry_changed(parent, &name, Some(Child::Directory));
        self.touch_directory(parent);
        Ok(self.entry(&inode, Some(place)))
    }

    /// Writes the marker object of a directory that has none.
    pub(super) async fn put_marker(&self, marker: &crate::name::Key, posix: &Posix) -> Result<()> {
        let content_type = Some("application/x-directory".to_owned());
        let mut headers = Headers { content_type, ..Headers::default() };
        meta::write(posix, &mut headers);
        self.store.put(marker, Bytes::new(), &headers, Condition::Absent).await?;
        Ok(())
    }

    async fn must_be_free(&self, parent: Ino, name: &Name) -> Result<()> {
        match self.resolve(parent, name).await {
            Ok(_) => Err(Error::Exists),
            Err(Error::NotFound) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// A directory whose entries changed shows a new time; it is not worth a request.
    pub(super) fn touch_directory(&self, ino: Ino) {
        if let Ok(inode) = self.table.inode(ino)
            && let Some(directory) = inode.directory()
        {
            directory.state.lock().posix.mtime = clock::now();
        }
    }
}
