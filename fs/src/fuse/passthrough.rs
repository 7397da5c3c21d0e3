//! Backing files: which inode passes through to which local file.
//!
//! Invariant: while an inode has a passthrough handle, all its handles have the same backing id; the id is
//! closed after the last of them is released.

use crate::error::Result;
use crate::vfs::{Opened, Serve, Vfs};
use fuser::{BackingId, FileHandle, FopenFlags, ReplyOpen};
use parking_lot::Mutex;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Backing ids in use. `Id` is [`BackingId`] but in tests.
#[derive(Debug)]
pub(super) struct Backings<Id = BackingId> {
    by_inode: Mutex<HashMap<u64, Backing<Id>>>,
}

#[derive(Debug)]
struct Backing<Id> {
    id: Arc<Id>,
    /// Handles that the kernel has not released. Nothing else says whether the id still stands for the inode's
    /// file: a thread that has just answered an open may hold the id a moment longer than its handle lives.
    handles: HashSet<u64>,
}

impl<Id> Default for Backings<Id> {
    fn default() -> Self {
        Self { by_inode: Mutex::default() }
    }
}

impl<Id> Backings<Id> {
    /// The inode's backing id for one more handle; registers the file if it has none.
    pub(super) fn take(
        &self,
        ino: u64,
        fh: u64,
        register: impl FnOnce() -> std::io::Result<Id>,
    ) -> std::io::Result<Arc<Id>> {
        let mut by_inode = self.by_inode.lock();
        let backing = match by_inode.entry(ino) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(free) => {
                free.insert(Backing { id: Arc::new(register()?), handles: HashSet::new() })
            }
        };
        backing.handles.insert(fh);
        Ok(Arc::clone(&backing.id))
    }

    /// A handle is released.
    pub(super) fn release(&self, ino: u64, fh: u64) {
        let mut by_inode = self.by_inode.lock();
        if let Entry::Occupied(mut known) = by_inode.entry(ino) {
            known.get_mut().handles.remove(&fh);
            if known.get().handles.is_empty() {
                known.remove();
            }
        }
    }
}

/// What the kernel is told about an open file.
pub(super) enum Reply {
    Passthrough(Arc<BackingId>, FopenFlags),
    Flags(FopenFlags),
}

/// Registers the backing file, or falls back to serving the handle here if the kernel refuses.
pub(super) fn serve(
    vfs: &Vfs,
    backings: &Backings,
    enabled: &AtomicBool,
    ino: u64,
    opened: Opened,
    register: impl FnOnce(&std::fs::File) -> std::io::Result<BackingId>,
) -> Result<Reply> {
    let served = match opened.serve {
        Serve::Passthrough(file) => match backings.take(ino, opened.fh, || register(&file)) {
            // With this flag the kernel keeps the backing file for mappings and sends reads and writes here
            // (`fs/fuse/file.c`, fuse_file_write_iter).
            Ok(id) if opened.sync => return Ok(Reply::Passthrough(id, FopenFlags::FOPEN_DIRECT_IO)),
            Ok(id) => return Ok(Reply::Passthrough(id, FopenFlags::empty())),
            Err(error) => {
                if enabled.swap(false, Ordering::Relaxed) {
                    tracing::info!(%error, "the kernel refuses passthrough; files are served by tarn");
                }
                vfs.refuse_passthrough(opened.fh)?
            }
        },
        served @ (Serve::Cached { .. } | Serve::Direct) => served,
    };
    Ok(Reply::Flags(match served {
        Serve::Direct => FopenFlags::FOPEN_DIRECT_IO,
        Serve::Cached { .. } if opened.sync => FopenFlags::FOPEN_DIRECT_IO,
        Serve::Cached { keep_pages: true } => FopenFlags::FOPEN_KEEP_CACHE,
        Serve::Cached { keep_pages: false } | Serve::Passthrough(_) => FopenFlags::empty(),
    }))
}

/// Answers FUSE_OPEN.
pub(super) fn reply_open(
    vfs: &Vfs,
    backings: &Backings,
    enabled: &AtomicBool,
    ino: u64,
    opened: Opened,
    reply: ReplyOpen,
) {
    let fh = FileHandle(opened.fh);
    match serve(vfs, backings, enabled, ino, opened, |file| reply.open_backing(file)) {
        Ok(Reply::Passthrough(id, flags)) => reply.opened_passthrough(fh, flags, &id),
        Ok(Reply::Flags(flags)) => reply.opened(fh, flags),
        Err(error) => reply.error(super::errno("open", &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_of_an_inode_share_its_file_until_the_last_is_released() {
        let backings = Backings::default();
        let first = backings.take(1, 10, || Ok("first file")).expect("registered");
        assert_eq!(*backings.take(1, 11, || Ok("never")).expect("shared"), "first file");
        backings.release(1, 10);
        assert_eq!(*backings.take(1, 12, || Ok("never")).expect("shared"), "first file");
        backings.release(1, 11);
        backings.release(1, 12);
        // The thread that answered the first open still has its id, but no handle has it any more.
        assert_eq!(*backings.take(1, 13, || Ok("second file")).expect("registered"), "second file");
        drop(first);
    }

    #[test]
    fn a_file_that_the_kernel_refuses_leaves_nothing() {
        let backings = Backings::default();
        backings.take(1, 10, || Err(std::io::ErrorKind::PermissionDenied.into())).expect_err("refused");
        assert_eq!(*backings.take(1, 11, || Ok(7)).expect("registered"), 7);
    }
}
