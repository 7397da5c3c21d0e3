//! Opening files and deciding how the kernel is served.

use super::Vfs;
use super::conflict::must_have_its_name;
use super::handle::{FileHandle, Handle};
use super::namespace::Use;
use super::settle::let_go_if_idle;
use crate::clock;
use crate::error::{Error, Result};
use crate::inode::{Content, File, FileState, Ino, Inode, Place, RemoteFile, Serving};
use crate::meta;
use crate::read::Target;
use crate::session_log::How;
use crate::store::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tarn_cache::Access;

/// What an open asks for.
#[derive(Debug, Clone, Copy, Default)]
pub struct OpenFlags {
    /// Any access but read-only.
    pub write: bool,
    /// `O_TRUNC`.
    pub truncate: bool,
    /// `O_EXCL`, of a create.
    pub exclusive: bool,
    /// The caller may not keep set-id bits when it truncates.
    pub drop_set_id: bool,
    /// `O_SYNC` or `O_DSYNC`: a write is in the bucket when it is answered.
    pub sync: bool,
}

/// An open file.
#[derive(Debug)]
pub struct Opened {
    /// The handle.
    pub fh: u64,
    /// How it is served.
    pub serve: Serve,
    /// Every write must come here: the kernel would finish it on the local disk.
    pub sync: bool,
}

impl Opened {
    fn how(&self, writes: bool) -> How {
        let (passthrough, direct) = match &self.serve {
            Serve::Passthrough(_) => (true, false),
            Serve::Direct => (false, true),
            Serve::Cached { .. } => (false, false),
        };
        How::File { writes, passthrough, direct, sync: self.sync }
    }
}

/// How the kernel gets at the bytes.
#[derive(Debug)]
pub enum Serve {
    /// It reads and writes this file itself.
    Passthrough(Arc<std::fs::File>),
    /// It asks tarn.
    Cached {
        /// The pages it still has are of this version.
        keep_pages: bool,
    },
    /// It asks tarn and keeps no pages: those of the local copy are enough while that fills.
    Direct,
}

/// An answer of the store as young as this is the current one: a look-up just before the open asked for it.
const JUST_NOW: Duration = Duration::from_millis(50);
/// Times an open starts again because the object changed under it.
const OPEN_TRIES: usize = 3;

impl Vfs {
    /// Opens a file (`FUSE_OPEN`). [`Error::Stale`] makes the kernel look the name up again, which finds the
    /// inode of the new version.
    pub async fn open(&self, ino: Ino, flags: OpenFlags, passthrough: bool) -> Result<Opened> {
        if flags.write || flags.truncate {
            self.writable()?;
        }
        if let Some((_, opened)) = self.opened_earlier() {
            return Ok(opened);
        }
        let inode = self.table.inode(ino)?;
        let file = inode.file().ok_or(Error::IsDirectory)?;
        let _held = self.hold(&[Use::Inode(ino)]).await;
        let _op = file.op.lock().await;
        let opened = self.open_locked(&inode, file, flags, passthrough).await;
        opened.inspect_err(|_| let_go_if_idle(file))
    }

    async fn open_locked(
        &self,
        inode: &Arc<Inode>,
        file: &File,
        flags: OpenFlags,
        passthrough: bool,
    ) -> Result<Opened> {
        for _ in 0..OPEN_TRIES {
            self.revalidate(inode, file).await?;
            let prepared = if flags.write || flags.truncate {
                self.stage(inode, file, flags.truncate).await
            } else {
                self.prepare_read(inode, file).await
            };
            match prepared {
                Ok(()) => return self.finish_open(inode, flags, passthrough),
                Err(error) if is_outdated(&error) => file.state.lock().doubted = Some(clock::instant()),
                Err(error) => return Err(error),
            }
        }
        Err(Error::Stale("the object keeps changing".into()))
    }

    /// Close-to-open: what is older than the lifetime is asked for again.
    async fn revalidate(&self, inode: &Arc<Inode>, file: &File) -> Result<()> {
        if self.is_doubtful(inode.ino, file) {
            let mut state = file.state.lock();
            state.doubted = state.doubted.max(clock::instant().checked_sub(JUST_NOW));
        }
        if self.is_fresh(inode) {
            return Ok(());
        }
        let version = || file.state.lock().version().cloned();
        let before = version();
        let Some(place) = self.table.place(inode.ino) else { return Ok(()) };
        let current = self.resolve(place.parent, &place.name).await;
        let same = || match (&before, &version()) {
            (Some(before), Some(now)) => before.same_bytes(now),
            (None, _) | (_, None) => true,
        };
        match current {
            Ok(current) if current.ino == inode.ino && same() => Ok(()),
            // Also if the inode now stands for the new version: the kernel must learn of its size first.
            Ok(_) => Err(Error::Stale("replaced by another client".into())),
            Err(Error::NotFound) if !file.state.lock().handles.none() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// A large object that is not here whole is read bit by bit later, and every read insists on the version of
    /// the open: that version must have been the current one at the open, not a lifetime ago.
    fn is_doubtful(&self, ino: Ino, file: &File) -> bool {
        let (content, checked) = {
            let state = file.state.lock();
            (state.content.clone(), state.checked)
        };
        let Content::Remote(remote) = content else { return false };
        if remote.version.size <= self.options.whole_max || clock::since(checked) < JUST_NOW {
            return false;
        }
        !self.target(ino, &remote).is_ok_and(|target| target.object.is_whole())
    }

    /// Makes the bytes readable: the local copy is opened, a small object is fetched whole.
    async fn prepare_read(&self, inode: &Inode, file: &File) -> Result<()> {
        let Content::Remote(remote) = file.state.lock().content.clone() else { return Ok(()) };
        let target = self.target(inode.ino, &remote)?;
        let size = remote.version.size;
        if size <= self.options.whole_max && !target.object.is_whole() {
            self.fetcher.fetch_whole(&target).await?;
            file.state.lock().checked = clock::instant();
        }
        self.fetcher.check(&target).await;
        Ok(())
    }

    /// A version that can be read: its local copy is open from here on.
    pub(super) fn target(&self, ino: Ino, remote: &Arc<RemoteFile>) -> Result<Target> {
        let key = self.table.key(ino);
        let mut slot = remote.object.lock();
        let object = match (slot.as_ref(), &key) {
            (Some(object), _) => Arc::clone(object),
            (None, Ok(key)) => {
                let object = self.cache.object(&self.object_id(key, &remote.version))?;
                *slot = Some(Arc::clone(&object));
                object
            }
            (None, Err(_)) => return Err(Error::Stale("removed".into())),
        };
        // A removed file is read from its local copy; a GET of its old key answers with another version or 404.
        let key = match key {
            Ok(key) => key,
            Err(_) => crate::name::Key::parse(object.id().key())?,
        };
        Ok(Target { key, remote: Arc::clone(remote), object })
    }

    /// Counts the handle and chooses how it is served.
    pub(super) fn finish_open(
        &self,
        inode: &Arc<Inode>,
        flags: OpenFlags,
        passthrough: bool,
    ) -> Result<Opened> {
        let file = inode.file().ok_or(Error::IsDirectory)?;
        let mut state = file.state.lock();
        must_have_its_name(&state)?;
        if flags.truncate && flags.drop_set_id {
            state.drop_set_id();
        }
        if flags.truncate {
            state.drop_capabilities();
        }
        // The kernel does not say who writes, or when, to a file that it passes through; these depend on it.
        let set_id = state.posix.mode != state.posix.mode_without_set_id();
        let privileged = set_id || meta::has_capabilities(&state.headers);
        // Near the quota every write is to be seen.
        let watched = flags.write && (privileged || self.quota.is_near());
        let serve = choose(&mut state, passthrough && !watched)?;
        if privileged && flags.write && matches!(serve, Serve::Passthrough(_)) {
            // An earlier handle holds the file in this mode, so the writes will not be seen: they count as done.
            if flags.drop_set_id {
                state.drop_set_id();
            }
            state.drop_capabilities();
        }
        if flags.write {
            state.handles.writers += 1;
        } else {
            state.handles.readers += 1;
        }
        drop(state);
        self.table.pin(inode.ino);
        let passthrough = matches!(serve, Serve::Passthrough(_));
        let handle = FileHandle { inode: Arc::clone(inode), writes: flags.write, passthrough };
        let sync = flags.write && flags.sync;
        let opened = Opened { fh: self.add_handle(Handle::File(Arc::new(handle))), serve, sync };
        self.note(inode);
        self.note_opened(opened.fh, inode.ino.0, opened.how(flags.write));
        Ok(opened)
    }

    /// The kernel refused to pass a handle through: it is served by tarn instead.
    pub fn refuse_passthrough(&self, fh: u64) -> Result<Serve> {
        let handle = self.file_handle(fh)?;
        let file = handle.inode.file().ok_or(Error::IsDirectory)?;
        uncount(&mut file.state.lock(), true);
        let mut state = file.state.lock();
        let serve = choose(&mut state, false)?;
        let handle =
            FileHandle { inode: Arc::clone(&handle.inode), writes: handle.writes, passthrough: false };
        let (ino, writes) = (handle.inode.ino.0, handle.writes);
        self.replace_handle(fh, Handle::File(Arc::new(handle)));
        let direct = matches!(serve, Serve::Direct);
        self.note_opened(fh, ino, How::File { writes, passthrough: false, direct, sync: false });
        Ok(serve)
    }

    /// Gives the name to a new inode of the same version, so that the next look-up finds that one. For a writer
    /// that cannot share the backing file of the readers of the old inode.
    pub(super) fn supersede(&self, inode: &Inode, remote: &RemoteFile) -> Error {
        if let Some(place) = self.table.place(inode.ino) {
            let description = {
                let state = inode.file().map(|file| file.state.lock());
                state.map(|state| super::lookup::Description::Known(state.posix, state.headers.clone()))
            };
            if let Some(description) = description {
                let place = Place { parent: place.parent, name: place.name };
                self.insert_file(place, remote.version.clone(), description);
            }
        }
        Error::Stale("the old version is open elsewhere".into())
    }
}

/// The way the kernel is served; counted.
fn choose(state: &mut FileState, passthrough: bool) -> Result<Serve> {
    let complete = match &state.content {
        Content::Staged(stage) => stage.overlay.is_none(),
        // Once it is passed through nobody compares anything any more.
        Content::Remote(remote) => {
            let whole = remote.object.lock().as_ref().is_some_and(|object| object.is_whole());
            whole && !remote.unchecked.load(Ordering::Acquire)
        }
    };
    match &mut state.serving {
        Serving::Passthrough { handles, file } => {
            *handles += 1;
            return Ok(Serve::Passthrough(Arc::clone(file)));
        }
        Serving::Cached { handles } => *handles += 1,
        Serving::Idle if passthrough && complete => {
            let file = Arc::new(backing(&state.content)?);
            state.serving = Serving::Passthrough { handles: 1, file: Arc::clone(&file) };
            state.kernel_pages = None;
            return Ok(Serve::Passthrough(file));
        }
        Serving::Idle => state.serving = Serving::Cached { handles: 1 },
    }
    // A mapping of it brings pages in all the same: it counts as a handle with pages.
    if passthrough && !complete && matches!(state.content, Content::Remote(_)) {
        return Ok(Serve::Direct);
    }
    let (version, spoiled) = match &state.content {
        Content::Remote(remote) => {
            (Some(remote.version.clone()), remote.spoiled.swap(false, Ordering::AcqRel))
        }
        Content::Staged(_) => (None, false),
    };
    let keep_pages = !spoiled
        && match (&state.kernel_pages, &version) {
            (Some(pages), Some(version)) => pages.same_bytes(version),
            (None, _) | (_, None) => false,
        };
    state.kernel_pages = version;
    Ok(Serve::Cached { keep_pages })
}

/// The local file that the kernel reads and writes by itself.
fn backing(content: &Content) -> Result<std::fs::File> {
    match content {
        Content::Staged(stage) => Ok(stage.file.staged.reopen(Access::Read)?),
        Content::Remote(remote) => {
            let slot = remote.object.lock();
            let object = slot.as_ref().ok_or(Error::Internal("a whole object is open"))?;
            Ok(object.open_whole(Access::Read)?)
        }
    }
}

/// Takes a handle's way of being served back.
pub(super) fn uncount(state: &mut FileState, passthrough: bool) {
    let idle = match &mut state.serving {
        Serving::Cached { handles } if !passthrough => {
            *handles -= 1;
            *handles == 0
        }
        Serving::Passthrough { handles, .. } if passthrough => {
            *handles -= 1;
            *handles == 0
        }
        Serving::Cached { .. } | Serving::Passthrough { .. } | Serving::Idle => false,
    };
    if idle {
        state.serving = Serving::Idle;
    }
}

/// What the store says may be that the version is gone: then the next look asks for the one that is there.
pub(super) fn doubt_outdated(file: &File, error: &Error) {
    if is_outdated(error) {
        file.state.lock().doubted = Some(clock::instant());
    }
}

/// Whether the store says that the version is gone.
pub(super) fn is_outdated(error: &Error) -> bool {
    matches!(error.store_kind(), Some(ErrorKind::Precondition | ErrorKind::NotFound))
}
