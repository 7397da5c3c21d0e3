//! The only user of [`fuser::Filesystem`]: decode, call, reply.
//!
//! An operation is a future. It is polled once on the thread that read the request, so that what needs no
//! waiting is answered there; otherwise it goes on in the runtime. A panic in one request answers EIO.
//!
//! What it does not do: locks are left to the kernel (local to the node), permissions to `default_permissions`.

mod answer;
mod buffer;
mod decode;
mod gate;
mod ops;
mod outcome;
mod passthrough;
pub mod session;

pub use answer::errno;
pub use gate::{Answered, Gate, Kind as AnsweredKind};

use crate::inode::Attr;
use crate::meta::Kind;
use crate::session_log::State;
use crate::vfs::Vfs;
use fuser::{FileAttr, FileType, INodeNo};
use passthrough::Backings;
use session::DeviceSlot;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// Settings of the adapter.
#[derive(Debug, Clone)]
pub struct AdapterOptions {
    /// Let the kernel read and write local files by itself where it can.
    pub passthrough: bool,
    /// Gets the kernel's device when there is one.
    pub device: DeviceSlot,
    /// A read or a look-up that takes longer has failed.
    pub deadline: Duration,
}

/// Serves one [`Vfs`] to the kernel. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Adapter {
    vfs: Arc<Vfs>,
    runtime: tokio::runtime::Handle,
    device: DeviceSlot,
    deadline: Duration,
    backings: Arc<Backings>,
    /// Passthrough is wanted and the kernel has not refused it.
    passthrough: Arc<AtomicBool>,
    /// What an earlier worker and the kernel agreed on passthrough.
    agreed: Option<bool>,
    gate: Gate,
}

impl Adapter {
    /// An adapter whose waiting requests run on `runtime`.
    pub fn new(vfs: Arc<Vfs>, runtime: tokio::runtime::Handle, options: AdapterOptions) -> Self {
        let passthrough = Arc::new(AtomicBool::new(options.passthrough));
        let backings = Arc::new(Backings::new(options.device.clone(), vfs.log().clone()));
        Self {
            vfs,
            runtime,
            device: options.device,
            deadline: options.deadline,
            backings,
            passthrough,
            agreed: None,
            gate: Gate::default(),
        }
    }

    /// Where requests are stopped for another worker.
    pub fn gate(&self) -> Gate {
        self.gate.clone()
    }

    /// Takes over what an earlier worker has told the kernel.
    pub fn restore(&mut self, state: &State) {
        self.agreed = state.passthrough;
        self.backings.restore(state);
    }

    /// Whether files are passed through; settled when the kernel has answered INIT.
    pub fn passthrough(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.passthrough)
    }
}

/// The kernel's form of what `stat` shows.
fn file_attr(attr: &Attr) -> FileAttr {
    let kind = match attr.posix.kind {
        Kind::File => FileType::RegularFile,
        Kind::Directory => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::Fifo => FileType::NamedPipe,
        Kind::Socket => FileType::Socket,
        Kind::CharDevice { .. } => FileType::CharDevice,
        Kind::BlockDevice { .. } => FileType::BlockDevice,
    };
    FileAttr {
        ino: INodeNo(attr.ino.0),
        size: attr.size,
        blocks: attr.allocated.div_ceil(512),
        atime: attr.posix.atime,
        mtime: attr.posix.mtime,
        ctime: attr.posix.ctime,
        crtime: attr.posix.btime,
        kind,
        perm: (attr.posix.mode & 0o7777) as u16,
        nlink: attr.links,
        uid: attr.posix.uid,
        gid: attr.posix.gid,
        rdev: attr.posix.kind.rdev(),
        blksize: 1 << 20,
        flags: 0,
    }
}
