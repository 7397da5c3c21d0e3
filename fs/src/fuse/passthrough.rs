//! Backing files: which inode passes through to which local file.
//!
//! Invariant: while an inode has a passthrough handle, all its handles have the same backing id; the id is
//! closed after the last of them is released. The kernel keeps ids for the connection, so they outlive a worker:
//! they are held as plain numbers here, which the session log has too.

use super::Adapter;
use super::session::DeviceSlot;
use crate::error::Result;
use crate::session_log::{How, Record, SessionLog, State};
use crate::vfs::{Opened, Serve};
use fuser::{BackingId, FopenFlags};
use parking_lot::Mutex;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::atomic::Ordering;

/// Backing ids in use.
#[derive(Debug)]
pub(super) struct Backings {
    by_inode: Mutex<HashMap<u64, Backing>>,
    device: DeviceSlot,
    log: SessionLog,
}

#[derive(Debug)]
struct Backing {
    id: u32,
    /// Handles that the kernel has not released. An open that is being answered counts already.
    handles: HashSet<u64>,
}

impl Backings {
    /// None yet. Ids are closed through `device`.
    pub(super) fn new(device: DeviceSlot, log: SessionLog) -> Self {
        Self { by_inode: Mutex::default(), device, log }
    }

    /// Takes over what an earlier worker had.
    pub(super) fn restore(&self, state: &State) {
        let mut by_inode = self.by_inode.lock();
        for (ino, id) in &state.backings {
            let passed = state.handles.iter().filter(|(_, handle)| {
                handle.ino == *ino && matches!(handle.how, How::File { passthrough: true, .. })
            });
            let handles: HashSet<u64> = passed.map(|(fh, _)| *fh).collect();
            if handles.is_empty() {
                self.close(*ino, *id);
            } else {
                by_inode.insert(*ino, Backing { id: *id, handles });
            }
        }
    }

    /// The inode's backing id for one more handle; registers the file if it has none.
    pub(super) fn take(
        &self,
        ino: u64,
        fh: u64,
        register: impl FnOnce() -> io::Result<u32>,
    ) -> io::Result<u32> {
        let mut by_inode = self.by_inode.lock();
        let backing = match by_inode.entry(ino) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(free) => {
                let id = register()?;
                self.log.note(|| Record::Backing { ino, id: Some(id) });
                free.insert(Backing { id, handles: HashSet::new() })
            }
        };
        backing.handles.insert(fh);
        Ok(backing.id)
    }

    /// A handle is released.
    pub(super) fn release(&self, ino: u64, fh: u64) {
        let mut by_inode = self.by_inode.lock();
        if let Entry::Occupied(mut known) = by_inode.entry(ino) {
            known.get_mut().handles.remove(&fh);
            if known.get().handles.is_empty() {
                self.close(ino, known.remove().id);
            }
        }
    }

    fn close(&self, ino: u64, id: u32) {
        // In this order: the next worker must not answer an open with an id that is closed.
        self.log.note(|| Record::Backing { ino, id: None });
        self.log.flush();
        // An id that stays until the end of the mount holds disk space, nothing else.
        if let Err(error) = self.device.close_backing(id) {
            tracing::debug!(ino, id, %error, "backing file not closed");
        }
    }
}

/// What the kernel is told about an open file.
pub(super) enum Reply {
    Passthrough(u32, FopenFlags),
    Flags(FopenFlags),
}

/// Registers the backing file, or falls back to serving the handle here if the kernel refuses. The log knows of
/// it when this returns.
pub(super) fn serve(
    fs: &Adapter,
    ino: u64,
    opened: Opened,
    register: impl FnOnce(&std::fs::File) -> io::Result<BackingId>,
) -> Result<Reply> {
    let (fh, sync) = (opened.fh, opened.sync);
    let served = match opened.serve {
        Serve::Passthrough(file) => {
            match fs.backings.take(ino, fh, || register(&file).map(BackingId::into_raw)) {
                Ok(id) => {
                    fs.vfs.log().flush();
                    // With this flag the kernel keeps the backing file for mappings and sends reads and writes here
                    // (`fs/fuse/file.c`, fuse_file_write_iter).
                    let flags = if sync { FopenFlags::FOPEN_DIRECT_IO } else { FopenFlags::empty() };
                    return Ok(Reply::Passthrough(id, flags));
                }
                Err(error) => {
                    if fs.passthrough.swap(false, Ordering::Relaxed) {
                        tracing::info!(%error, "the kernel refuses passthrough; files are served by tarn");
                    }
                    let served = fs.vfs.refuse_passthrough(fh)?;
                    fs.vfs.log().flush();
                    served
                }
            }
        }
        served @ (Serve::Cached { .. } | Serve::Direct) => served,
    };
    Ok(Reply::Flags(match served {
        Serve::Direct => FopenFlags::FOPEN_DIRECT_IO,
        Serve::Cached { .. } if sync => FopenFlags::FOPEN_DIRECT_IO,
        Serve::Cached { keep_pages: true } => FopenFlags::FOPEN_KEEP_CACHE,
        Serve::Cached { keep_pages: false } | Serve::Passthrough(_) => FopenFlags::empty(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backings() -> Backings {
        Backings::new(DeviceSlot::default(), SessionLog::none())
    }

    #[test]
    fn handles_of_an_inode_share_its_file_until_the_last_is_released() {
        let backings = backings();
        let never = || panic!("it has a file");
        assert_eq!(backings.take(1, 10, || Ok(7)).expect("registered"), 7);
        assert_eq!(backings.take(1, 11, never).expect("shared"), 7);
        backings.release(1, 10);
        assert_eq!(backings.take(1, 12, never).expect("shared"), 7);
        backings.release(1, 11);
        backings.release(1, 12);
        assert_eq!(backings.take(1, 13, || Ok(8)).expect("registered"), 8);
    }

    #[test]
    fn a_file_that_the_kernel_refuses_leaves_nothing() {
        let backings = backings();
        backings.take(1, 10, || Err(io::ErrorKind::PermissionDenied.into())).expect_err("refused");
        assert_eq!(backings.take(1, 11, || Ok(7)).expect("registered"), 7);
    }

    #[test]
    fn an_earlier_workers_ids_are_used_again_and_idle_ones_closed() {
        let how = How::File { writes: true, passthrough: true, direct: false, sync: false };
        let mut state = State::default();
        for record in [
            Record::Opened { fh: 10, unique: 2, ino: 1, how },
            Record::Backing { ino: 1, id: Some(7) },
            Record::Backing { ino: 2, id: Some(8) },
        ] {
            state.apply(record);
        }
        let backings = backings();
        backings.restore(&state);
        assert_eq!(backings.take(1, 11, || panic!("it has a file")).expect("shared"), 7);
        assert_eq!(backings.take(2, 12, || Ok(9)).expect("registered"), 9);
    }
}
