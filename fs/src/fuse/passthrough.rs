//! Backing files: which inode passes through to which local file.
//!
//! Invariant: while an inode has a passthrough handle, all its handles have the same backing id; the id is
//! closed after the last of them is released.

use crate::error::Result;
use crate::vfs::{Opened, Serve, Vfs};
use fuser::{BackingId, FileHandle, FopenFlags, ReplyOpen};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

/// Backing ids in use.
#[derive(Debug, Default)]
pub(super) struct Backings {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    by_handle: HashMap<u64, Arc<BackingId>>,
    by_inode: HashMap<u64, Weak<BackingId>>,
}

impl Backings {
    /// The inode's backing id for one more handle; registers the file if it has none.
    pub(super) fn take(
        &self,
        ino: u64,
        fh: u64,
        register: impl FnOnce() -> std::io::Result<BackingId>,
    ) -> std::io::Result<Arc<BackingId>> {
        let mut state = self.state.lock();
        let id = match state.by_inode.get(&ino).and_then(Weak::upgrade) {
            Some(id) => id,
            None => Arc::new(register()?),
        };
        state.by_inode.insert(ino, Arc::downgrade(&id));
        state.by_handle.insert(fh, Arc::clone(&id));
        Ok(id)
    }

    /// A handle is released.
    pub(super) fn release(&self, ino: u64, fh: u64) {
        let mut state = self.state.lock();
        state.by_handle.remove(&fh);
        if state.by_inode.get(&ino).is_some_and(|id| id.strong_count() == 0) {
            state.by_inode.remove(&ino);
        }
    }
}

/// What the kernel is told about an open file.
pub(super) enum Reply {
    Passthrough(Arc<BackingId>),
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
            Ok(id) => return Ok(Reply::Passthrough(id)),
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
        Serve::Cached { keep_pages: true } => FopenFlags::FOPEN_KEEP_CACHE,
        Serve::Direct => FopenFlags::FOPEN_DIRECT_IO,
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
        Ok(Reply::Passthrough(id)) => reply.opened_passthrough(fh, FopenFlags::empty(), &id),
        Ok(Reply::Flags(flags)) => reply.opened(fh, flags),
        Err(error) => reply.error(super::errno("open", &error)),
    }
}
