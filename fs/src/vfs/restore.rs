//! Takes a mount over from a worker that was killed: inodes, handles and staged files as the session log has them.
//!
//! Invariant: what the kernel was told stays true. What can be asked for again is not kept: a restored inode
//! without local changes believes nothing older than itself, and its first use asks the store.

use super::Vfs;
use super::call::Earlier;
use super::handle::{DirHandle, FileHandle, Handle};
use super::readdir::DirStream;
use crate::clock;
use crate::error::{Error, Result};
use crate::inode::{
    Committed, Content, Directory, File, FileState, Handles, Ino, Inode, Marker, Node, Overlay, Place,
    RemoteFile, Serving, Stage,
};
use crate::journal::{Entry, StagedFile};
use crate::name::Name;
use crate::session_log::{
    ContentRecord, FileRecord, HandleState, How, InodeState, NodeRecord, OverlayRecord, StagedRecord, State,
};
use crate::store::{Headers, Version};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use tarn_cache::{Access, Object, ObjectId};

/// What the handles of one inode are.
#[derive(Debug, Default, Clone, Copy)]
struct Use {
    handles: Handles,
    cached: u32,
    passthrough: u32,
}

impl Vfs {
    /// Becomes what `state` says. Called once, before the first request and before [`Vfs::recover`].
    pub fn restore(self: &Arc<Self>, state: &State) -> Result<()> {
        if let Some(usage) = state.stored {
            self.quota.recall(usage, None);
        }
        let mut uses: HashMap<u64, Use> = HashMap::new();
        for handle in state.handles.values() {
            uses.entry(handle.ino).or_default().count(handle.how);
        }
        for (ino, inode) in &state.inodes {
            self.restore_inode(Ino(*ino), inode, uses.get(ino).copied().unwrap_or_default())?;
        }
        for (fh, handle) in &state.handles {
            self.restore_handle(*fh, handle)?;
        }
        self.table.restore_numbers(state.last_ino);
        self.handles.restore_numbers(state.last_fh);
        *self.conflict_notes.lock() = state.conflicts.iter().map(Into::into).collect();
        self.fence.take_over(state);
        self.earlier.set(Earlier::of(state)).map_err(|_| Error::Internal("a mount is restored once"))?;
        for inode in self.table.all() {
            self.catch_up(&inode);
        }
        Ok(())
    }

    /// Takes up what the killed worker did in the background. To be called after [`Vfs::recover`]: what it had begun
    /// to rename is under its new name by then.
    pub fn go_on(self: &Arc<Self>) {
        for inode in self.table.all() {
            self.go_on_with(&inode);
        }
    }

    /// The journal learns what the bucket has before the session log does: the file rests on that.
    pub(super) fn catch_up(&self, inode: &Inode) {
        let (Some(file), Ok(key)) = (inode.file(), self.table.key(inode.ino)) else { return };
        let mut state = file.state.lock();
        let Content::Staged(stage) = &mut state.content else { return };
        let (belongs, base) = stage.file.get(|record| (record.key.clone(), record.base.clone()));
        if belongs != key {
            return;
        }
        if stage.base.as_ref().map(|version| &version.etag) == base.as_ref().map(|base| &base.etag) {
            return;
        }
        stage.committed = None;
        match base {
            Some(base) => stage.rest_on(Version::from(&base), false),
            None => stage.base = None,
        }
    }

    /// Takes up what the killed worker did for a staged file in the background.
    fn go_on_with(self: &Arc<Self>, inode: &Arc<Inode>) {
        let Some(file) = inode.file() else { return };
        let (promised, writers) = {
            let state = file.state.lock();
            let Content::Staged(stage) = &state.content else { return };
            let staged = &stage.file.staged;
            staged.keep(stage.file.is_closed());
            // In the middle of a rename it waits a while for that, which the kernel sends again.
            let moves = self.table.key(inode.ino).is_ok_and(|key| stage.file.get(|record| record.key != key));
            let waits = stage.file.is_closed() && stage.committed.is_none() && !moves;
            let bytes = || staged.file().metadata().map_or(0, |data| data.len());
            (waits.then(bytes), state.handles.writers)
        };
        match promised {
            Some(bytes) => self.enqueue(inode, bytes),
            // Its last writer is gone, and with the killed worker whoever watched what it had mapped.
            None if writers == 0 => self.watch_mapping(inode),
            None => {}
        }
    }

    fn restore_inode(&self, ino: Ino, state: &InodeState, used: Use) -> Result<()> {
        let place = match &state.place {
            Some(place) => {
                let name = Name::parse(OsStr::from_bytes(&place.name))?;
                Some(Place { parent: Ino(place.parent), name })
            }
            None => None,
        };
        let node = match &state.node {
            NodeRecord::Directory { touched } => {
                let posix = self.options.defaults.directory(clock::now());
                let directory = Directory::new(posix, Headers::default(), Marker::Unknown, clock::instant());
                if let Some(at) = touched {
                    directory.state.lock().touch(at.0);
                }
                Node::Directory(Box::new(directory))
            }
            NodeRecord::File(file) => Node::File(Box::new(File::new(self.restore_file(ino, file, used)?))),
        };
        self.table.restore(Arc::new(Inode { ino, node }), place, state.lookups);
        Ok(())
    }

    fn restore_file(&self, ino: Ino, record: &FileRecord, used: Use) -> Result<FileState> {
        let (content, headers, posix_changed) = match &record.content {
            ContentRecord::Remote { version, object } => {
                let remote = RemoteFile::new(version.clone().into());
                if !used.handles.none() {
                    *remote.object.lock() = self.restore_object(object.as_deref(), &remote.version)?;
                }
                (Content::Remote(Arc::new(remote)), Headers::default(), false)
            }
            ContentRecord::Staged(staged) => self.restore_staged(ino, staged)?,
        };
        let described = matches!(content, Content::Staged(_));
        let mut state = FileState::new(record.posix, headers, content, described);
        state.doubted = Some(state.checked);
        state.posix_changed = posix_changed;
        state.superseded = record.superseded;
        state.handles = used.handles;
        state.serving = match used {
            Use { passthrough: 0, cached: 0, .. } => Serving::Idle,
            Use { passthrough: 0, cached, .. } => Serving::Cached { handles: cached },
            Use { passthrough, .. } => {
                Serving::Passthrough { handles: passthrough, file: Arc::new(passed_file(&state.content)?) }
            }
        };
        Ok(state)
    }

    fn restore_object(&self, key: Option<&str>, version: &Version) -> Result<Option<Arc<Object>>> {
        let Some(key) = key else { return Ok(None) };
        let id = ObjectId::new(self.bucket.clone(), key, version.etag.as_str(), version.size);
        Ok(Some(self.cache.object(&id)?))
    }

    fn restore_staged(&self, ino: Ino, record: &StagedRecord) -> Result<(Content, Headers, bool)> {
        let base: Option<Version> = record.base.clone().map(Into::into);
        let orphan = self.cache.orphan(&record.name)?;
        let journaled = orphan.as_ref().and_then(|orphan| orphan.label().and_then(Entry::read));
        let (Some(orphan), Some(Entry::File(journaled))) = (orphan, journaled) else {
            // The worker was killed between the rename into the clean store and its record of it.
            if record.committed.is_none() {
                tracing::error!(
                    ino = ino.0,
                    staged = record.name,
                    "a staged file is gone; its changes are lost"
                );
            }
            let version = base.unwrap_or_else(|| Version::unknown(clock::now()));
            return Ok((Content::Remote(Arc::new(RemoteFile::new(version))), Headers::default(), false));
        };
        let file = StagedFile::new(orphan.adopt()?, self.bucket.clone(), *journaled);
        // Another keeper may have the mount now.
        if let Err(error) = file.note(|record| record.owner = Some(self.options.owner)) {
            tracing::warn!(ino = ino.0, %error, "between two workers another mount may take this staged file");
        }
        // It stays on disk if this worker gets no further than this.
        file.staged.keep(true);
        let overlay = record.overlay.as_ref().map(|overlay| self.restore_overlay(overlay)).transpose()?;
        let dirty = overlay.as_ref().is_some_and(|overlay| !overlay.dirty.is_empty());
        let committed = record.committed.filter(|_| !dirty).map(|committed| Committed {
            stamp: committed.stamp,
            writes: 0,
            crc64nvme: committed.crc64nvme,
            crcs: None,
        });
        let (file, claim) = (Arc::new(file), Arc::new(self.quota.claim()));
        let size = file.staged.file().metadata()?.len();
        let stage = Stage { file, base, committed, overlay, writes: 0, copied: None, unsure: true, claim };
        stage.claim.take_over(stage.excess(size));
        Ok((Content::Staged(Box::new(stage)), record.headers.clone(), record.posix_changed))
    }

    fn restore_overlay(&self, record: &OverlayRecord) -> Result<Overlay> {
        let base = RemoteFile::new(record.base.clone().into());
        *base.object.lock() = self.restore_object(record.object.as_deref(), &base.version)?;
        Ok(Overlay { dirty: record.dirty.clone(), base: Arc::new(base), base_len: record.base_len })
    }

    fn restore_handle(&self, fh: u64, state: &HandleState) -> Result<()> {
        // An open that was never answered may have outlived its inode.
        let Ok(inode) = self.table.inode(Ino(state.ino)) else { return Ok(()) };
        self.table.pin(inode.ino);
        let handle = match state.how {
            How::Directory => {
                let shown = DirStream::resumed(&state.shown);
                Handle::Directory(Arc::new(DirHandle { inode, stream: tokio::sync::Mutex::new(shown) }))
            }
            How::File { writes, passthrough, .. } => {
                Handle::File(Arc::new(FileHandle { inode, writes, passthrough }))
            }
        };
        self.replace_handle(fh, handle);
        Ok(())
    }
}

impl Use {
    fn count(&mut self, how: How) {
        let How::File { writes, passthrough, .. } = how else { return };
        *(if writes { &mut self.handles.writers } else { &mut self.handles.readers }) += 1;
        *(if passthrough { &mut self.passthrough } else { &mut self.cached }) += 1;
    }
}

/// The file that the kernel passes an inode through to. It has it by its id, which stays; this one stands for it, and
/// need not be the same if the local copy has gone since.
fn passed_file(content: &Content) -> Result<std::fs::File> {
    let found = match content {
        Content::Staged(stage) => stage.file.staged.reopen(Access::Read).ok(),
        Content::Remote(remote) => {
            remote.object.lock().as_ref().and_then(|object| object.open_whole(Access::Read).ok())
        }
    };
    match found {
        Some(file) => Ok(file),
        None => Ok(std::fs::File::open("/dev/null")?),
    }
}
