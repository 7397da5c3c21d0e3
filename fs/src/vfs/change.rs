//! Making things: files, directories, symbolic links, special files.

use super::lookup::{Description, Entry};
use super::namespace::Use;
use super::open::{OpenFlags, Opened};
use super::{Caller, Vfs};
use crate::clock;
use crate::config::Exclusive;
use crate::error::{Error, Result};
use crate::inode::{Child, Content, File, FileState, Ino, Inode, Listing, Marker, Node, Place, Stage, Stamp};
use crate::journal::StagedFile;
use crate::meta::acl::{self, Maker};
use crate::meta::{self, Attributes, Kind, Posix};
use crate::name::{Key, Name, NameError};
use crate::session_log::{self, time::Time};
use crate::store::{Condition, ErrorKind, Headers};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::sync::Arc;

/// The longest target of a symbolic link (`PATH_MAX` less its NUL).
const TARGET_MAX: usize = 4095;

impl Vfs {
    /// Makes and opens a file (`FUSE_CREATE`). The object appears with the first flush; before the answer if the
    /// store has to say who was first (`O_EXCL`, [`Exclusive::Bucket`]), or whether it takes such a name at all.
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
        if let Some((handle, opened)) = self.opened_earlier() {
            return Ok((self.entry(&handle.inode, Some(Place { parent, name })), opened));
        }
        let held = self.hold(&[Use::Name(parent, &name)]).await;
        match self.resolve(parent, &name).await {
            // Whose it is shows when it is made.
            Ok(_) if flags.exclusive && self.may_be_done() => {}
            Ok(inode) if flags.exclusive && !self.is_half_made(&inode) => return Err(Error::Exists),
            Ok(inode) => {
                drop(held);
                let opened = self.open(inode.ino, flags, passthrough).await?;
                return Ok((self.entry(&inode, Some(Place { parent, name })), opened));
            }
            Err(Error::NotFound) if name.is_long() => return Err(Error::Name(NameError::TooLong)),
            Err(Error::NotFound) => self.quota.must_have_room()?,
            Err(error) => return Err(error),
        }
        let wins_in_bucket = flags.exclusive && self.options.exclusive == Exclusive::Bucket;
        if wins_in_bucket || !name.is_plain() {
            drop(held);
            let entry = self.mknod(parent, name.as_ref(), Kind::File, mode, caller).await?;
            let opened = self.open(entry.attr.ino, flags, passthrough).await;
            // Without an answer the kernel counts no look-up.
            let opened = opened.inspect_err(|_| self.forget(entry.attr.ino, 1))?;
            return Ok((entry, opened));
        }
        let inode = self.new_file(parent, &name, mode, caller)?;
        let opened = self.finish_open(&inode, OpenFlags { write: true, ..flags }, passthrough)?;
        Ok((self.entry(&inode, Some(Place { parent, name })), opened))
    }

    /// Whether the worker of this very request was killed when it had made the file and not yet opened it.
    fn is_half_made(&self, inode: &Inode) -> bool {
        let Some(file) = inode.file().filter(|_| self.is_resent()) else { return false };
        let state = file.state.lock();
        let Content::Staged(stage) = &state.content else { return false };
        let is_new = stage.base.is_none() && stage.committed.is_none() && !stage.file.is_closed();
        is_new && state.handles.none()
    }

    /// Attributes and headers of something new, as its directory hands them on.
    fn inherit(&self, parent: Ino, made: Posix, mode: u32, caller: Caller) -> Result<(Posix, Headers)> {
        let directory = self.table.inode(parent)?;
        let state = directory.directory().ok_or(Error::NotDirectory)?.state.lock();
        let Caller { uid, gid, umask } = caller;
        let (inherited, headers) =
            acl::inherit(made, Maker { uid, gid, umask, mode }, &state.posix, &state.headers);
        let defaults = &self.options.defaults;
        match defaults.attributes {
            Attributes::Keep => Ok((inherited, headers)),
            Attributes::Fixed => Ok((defaults.of(made.kind, made.mtime), Headers::default())),
        }
    }

    fn new_file(&self, parent: Ino, name: &Name, mode: u32, caller: Caller) -> Result<Arc<Inode>> {
        let key = self.table.prefix(parent)?.key(name)?;
        let record = self.open_record(key, None);
        let staged = self.cache.stage(&self.label(&record))?;
        clock::stamp(staged.file())?;
        // The local file's own time: from now on it says when the file was written last.
        let made = Posix::new(Kind::File, Stamp::of(staged.file())?.modified());
        let (posix, headers) = self.inherit(parent, made, mode, caller)?;
        let stage = Stage {
            file: Arc::new(StagedFile::new(staged, self.bucket.clone(), record)),
            base: None,
            committed: None,
            overlay: None,
            writes: 0,
            copied: None,
            unsure: false,
            claim: Arc::new(self.quota.claim()),
        };
        let content = Content::Staged(Box::new(stage));
        let file = File::new(FileState::new(posix, headers, content, true));
        let place = Place { parent, name: name.clone() };
        self.touch_directory(parent);
        Ok(self.table.insert(place, |ino| Inode { ino, node: Node::File(Box::new(file)) }))
    }

    /// Makes an empty file or a special file without opening it (`FUSE_MKNOD`).
    pub async fn mknod(
        &self,
        parent: Ino,
        name: &OsStr,
        kind: Kind,
        mode: u32,
        caller: Caller,
    ) -> Result<Entry> {
        self.put_new(parent, name, (kind, mode, caller), Bytes::new()).await
    }

    /// Makes a symbolic link: an object whose bytes are the target.
    pub async fn symlink(&self, parent: Ino, name: &OsStr, target: &OsStr, caller: Caller) -> Result<Entry> {
        let bytes = target.as_encoded_bytes();
        if bytes.len() > TARGET_MAX {
            return Err(Error::Name(NameError::TooLong));
        }
        let caller = Caller { umask: 0, ..caller };
        self.put_new(parent, name, (Kind::Symlink, 0o777, caller), Bytes::copy_from_slice(bytes)).await
    }

    async fn put_new(
        &self,
        parent: Ino,
        name: &OsStr,
        (kind, mode, caller): (Kind, u32, Caller),
        body: Bytes,
    ) -> Result<Entry> {
        self.writable()?;
        let name = Name::to_make(name)?;
        let place = Place { parent, name };
        let _held = self.hold(&[Use::from(&place)]).await;
        let key = self.table.prefix(parent)?.key(&place.name)?;
        if let Some(earlier) = self.made_earlier(&place, &key).await? {
            return Ok(earlier);
        }
        self.must_suit_a_file(parent, &place.name).await?;
        let made = Posix::new(kind, self.intend());
        let (posix, mut headers) = self.inherit(parent, made, mode, caller)?;
        meta::write(&posix, &mut headers, self.options.defaults.attributes)?;
        let version = match self.store.put(&key, body, &headers, Condition::Absent).await {
            Ok(version) => version,
            Err(error) if error.kind == ErrorKind::Precondition => return self.lost(&place, &key).await,
            Err(error) => {
                // It may have arrived.
                self.forget_listing(parent);
                return Err(error.into());
            }
        };
        self.count_change(&key, None, Some(version.size));
        let inode = self.insert_file(place.clone(), version.clone(), Description::Known(posix, headers));
        self.learned(parent);
        self.entry_changed(parent, &place.name, Some(Child::Object(version)));
        self.touch_directory(parent);
        Ok(self.entry(&inode, Some(place)))
    }

    /// The target of a symbolic link.
    pub async fn readlink(&self, ino: Ino) -> Result<Bytes> {
        let inode = self.table.inode(ino)?;
        let file = inode.file().ok_or(Error::Invalid("not a symbolic link"))?;
        let (content, kind, kept) = {
            let state = file.state.lock();
            (state.content.clone(), state.posix.kind, meta::symlink_target(&state.headers))
        };
        let Content::Remote(remote) = content else {
            return Err(Error::Invalid("not a symbolic link"));
        };
        if kind != Kind::Symlink || remote.version.size > TARGET_MAX as u64 {
            return Err(Error::Invalid("not a symbolic link"));
        }
        if let Some(target) = kept {
            return Ok(target.into());
        }
        let target = self.target(ino, &remote)?;
        let bytes = self.fetcher.read(&target, 0..remote.version.size).await;
        *remote.object.lock() = None;
        bytes
    }

    /// Makes a directory: a marker object `name/`.
    pub async fn mkdir(&self, parent: Ino, name: &OsStr, mode: u32, caller: Caller) -> Result<Entry> {
        self.writable()?;
        let name = Name::to_make(name)?;
        let place = Place { parent, name };
        let _held = self.hold(&[Use::from(&place)]).await;
        let marker = self.table.prefix(parent)?.dir(&place.name)?.marker().ok_or(Error::Exists)?;
        if let Some(earlier) = self.made_earlier(&place, &marker).await? {
            return Ok(earlier);
        }
        let made = Posix::new(Kind::Directory, self.intend());
        let (posix, headers) = self.inherit(parent, made, mode, caller)?;
        let started = clock::instant();
        match self.put_marker(&marker, &posix, headers.clone()).await {
            Ok(()) => {}
            Err(Error::Store(error)) if error.kind == ErrorKind::Precondition => {
                return self.lost(&place, &marker).await;
            }
            Err(error) => {
                self.forget_listing(parent);
                return Err(error);
            }
        }
        let inode = self.insert_directory(place.clone(), Marker::Present);
        if let Some(directory) = inode.directory() {
            let mut state = directory.state.lock();
            (state.posix, state.headers) = (posix, headers);
            drop(state);
            *directory.listing.lock() = Some(Arc::new(Listing::new(BTreeMap::new(), started)));
        }
        self.entry_changed(parent, &place.name, Some(Child::Directory));
        self.touch_directory(parent);
        Ok(self.entry(&inode, Some(place)))
    }

    /// Writes the marker object of a directory that has none.
    pub(super) async fn put_marker(
        &self,
        marker: &crate::name::Key,
        posix: &Posix,
        headers: Headers,
    ) -> Result<()> {
        let mut headers = marker_headers(headers);
        meta::write(posix, &mut headers, self.options.defaults.attributes)?;
        self.store.put(marker, Bytes::new(), &headers, Condition::Absent).await?;
        Ok(())
    }

    /// Another client was first with a name: what is known here of the directory is old.
    pub(super) fn lost_name(&self, parent: Ino) -> Error {
        self.forget_listing(parent);
        Error::Exists
    }

    /// What has the name, if this very request made it before its worker was killed: that is known by the time of its
    /// birth. `None` if the name is free and there is room.
    async fn made_earlier(&self, place: &Place, key: &Key) -> Result<Option<Entry>> {
        let inode = match self.resolve(place.parent, &place.name).await {
            Ok(inode) => inode,
            Err(Error::NotFound) => return self.quota.must_have_room().map(|()| None),
            Err(error) => return Err(error),
        };
        let at = self.begun().ok_or(Error::Exists)?;
        match self.head_if_any(key).await? {
            Some(found) if meta::was_made_at(&found.headers, at) => {
                Ok(Some(self.entry(&inode, Some(place.clone()))))
            }
            Some(_) | None => Err(Error::Exists),
        }
    }

    /// The store has refused to make what is there: another client's, or what this request itself has made.
    async fn lost(&self, place: &Place, key: &Key) -> Result<Entry> {
        let lost = self.lost_name(place.parent);
        if !self.may_be_done() {
            return Err(lost);
        }
        self.made_earlier(place, key).await?.ok_or(lost)
    }

    /// A directory whose entries changed shows a new time; it is not worth a request.
    pub(super) fn touch_directory(&self, ino: Ino) {
        if let Ok(inode) = self.table.inode(ino)
            && let Some(directory) = inode.directory()
        {
            let at = clock::now();
            directory.state.lock().touch(at);
            self.log.note(|| session_log::Record::Touched { ino: ino.0, at: Time(at) });
        }
    }
}

/// Headers of a marker object.
pub(super) fn marker_headers(headers: Headers) -> Headers {
    Headers { content_type: Some("application/x-directory".to_owned()), ..headers }
}
