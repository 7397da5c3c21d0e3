//! Open files and directories by their handle numbers.

use super::Vfs;
use super::readdir::DirStream;
use crate::error::{Error, Result};
use crate::inode::Inode;
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// An open file or directory.
#[derive(Debug, Clone)]
pub enum Handle {
    /// A file.
    File(Arc<FileHandle>),
    /// A directory.
    Directory(Arc<DirHandle>),
}

/// An open file.
#[derive(Debug)]
pub struct FileHandle {
    /// The file.
    pub inode: Arc<Inode>,
    /// Whether it may write.
    pub writes: bool,
    /// Whether the kernel reads and writes it by itself.
    pub passthrough: bool,
}

/// An open directory.
#[derive(Debug)]
pub struct DirHandle {
    /// The directory.
    pub inode: Arc<Inode>,
    /// Where its reader is.
    pub stream: tokio::sync::Mutex<DirStream>,
}

/// All handles of a mount.
#[derive(Debug, Default)]
pub(super) struct HandleTable {
    next: AtomicU64,
    open: RwLock<HashMap<u64, Handle>>,
}

impl HandleTable {
    /// How many are open.
    pub(super) fn len(&self) -> usize {
        self.open.read().len()
    }

    /// The files that the kernel writes by itself.
    pub(super) fn unseen_writers(&self) -> Vec<Arc<FileHandle>> {
        let unseen = |handle: &Handle| match handle {
            Handle::File(file) => Some(Arc::clone(file)).filter(|file| file.writes && file.passthrough),
            Handle::Directory(_) => None,
        };
        self.open.read().values().filter_map(unseen).collect()
    }

    /// Gives out only numbers above `last` from now on.
    pub(super) fn restore_numbers(&self, last: u64) {
        self.next.fetch_max(last, Ordering::Relaxed);
    }

    fn insert(&self, handle: Handle) -> u64 {
        let fh = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        self.open.write().insert(fh, handle);
        fh
    }
}

impl Vfs {
    pub(super) fn add_handle(&self, handle: Handle) -> u64 {
        self.handles.insert(handle)
    }

    /// Takes the handle out, to close it. `None` if an earlier worker has closed it, but was killed before it said so.
    pub(super) fn take_handle(&self, fh: u64) -> Result<Option<Handle>> {
        let taken = self.handles.open.write().remove(&fh);
        if taken.is_none() && !self.is_resent() {
            return Err(Error::BadHandle);
        }
        Ok(taken)
    }

    pub(super) fn replace_handle(&self, fh: u64, handle: Handle) {
        self.handles.open.write().insert(fh, handle);
    }

    /// The open file `fh`.
    pub(super) fn file_handle(&self, fh: u64) -> Result<Arc<FileHandle>> {
        match self.handles.open.read().get(&fh) {
            Some(Handle::File(file)) => Ok(Arc::clone(file)),
            Some(Handle::Directory(_)) => Err(Error::IsDirectory),
            None => Err(Error::BadHandle),
        }
    }

    /// Whether `fh` is a file that is open for writing.
    pub fn writes(&self, fh: u64) -> bool {
        self.file_handle(fh).is_ok_and(|handle| handle.writes)
    }

    /// The open directory `fh`.
    pub(super) fn dir_handle(&self, fh: u64) -> Result<Arc<DirHandle>> {
        match self.handles.open.read().get(&fh) {
            Some(Handle::Directory(directory)) => Ok(Arc::clone(directory)),
            Some(Handle::File(_)) => Err(Error::NotDirectory),
            None => Err(Error::BadHandle),
        }
    }
}
