//! Requests on open directories.

use super::super::answer::Patience;
use super::super::decode::{call, directory};
use super::super::{Adapter, errno, file_attr};
use crate::inode::Ino;
use crate::vfs::{Call, DirEntry, EntryKind, Lookups};
use fuser::{
    Errno, FileHandle, FileType, FopenFlags, Generation, INodeNo, ReplyDirectory, ReplyDirectoryPlus,
    ReplyEmpty, ReplyOpen, Request,
};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

/// A reply that takes entries until it is full.
pub(super) trait Entries: Send + 'static {
    /// Whether the kernel counts a look-up for each entry.
    const LOOKUPS: Lookups;
    /// Name of the request.
    const OP: &'static str;

    /// Adds an entry; true if there was no room for it.
    fn add(&mut self, entry: DirEntry<'_>) -> bool;
    /// Sends what was added.
    fn ok(self);
    /// Sends an error in its place.
    fn error(self, errno: Errno);
}

/// Only kernels without READDIRPLUS ask this.
impl Entries for ReplyDirectory {
    const LOOKUPS: Lookups = Lookups::NotCounted;
    const OP: &'static str = "readdir";

    fn add(&mut self, entry: DirEntry<'_>) -> bool {
        let (ino, kind) = match entry.kind {
            EntryKind::Dot(ino) => (ino, FileType::Directory),
            EntryKind::Child { attr, .. } => (attr.ino, file_attr(&attr).kind),
        };
        Self::add(self, INodeNo(ino.0), entry.cookie, kind, entry.name)
    }

    fn ok(self) {
        Self::ok(self);
    }

    fn error(self, errno: Errno) {
        Self::error(self, errno);
    }
}

impl Entries for ReplyDirectoryPlus {
    const LOOKUPS: Lookups = Lookups::Counted;
    const OP: &'static str = "readdirplus";

    fn add(&mut self, entry: DirEntry<'_>) -> bool {
        let (attr, ttl) = match entry.kind {
            EntryKind::Dot(ino) => (directory(ino), Duration::ZERO),
            EntryKind::Child { attr, ttl } => (file_attr(&attr), ttl),
        };
        Self::add(self, attr.ino, entry.cookie, entry.name, &ttl, &attr, Generation(0))
    }

    fn ok(self) {
        Self::ok(self);
    }

    fn error(self, errno: Errno) {
        Self::error(self, errno);
    }
}

pub(super) fn open(fs: &Adapter, call: Call, ino: INodeNo, reply: ReplyOpen) {
    fs.run_now(
        call,
        || fs.vfs.opendir(Ino(ino.0)),
        |opened| match opened {
            Ok(fh) => reply.opened(FileHandle(fh), FopenFlags::empty()),
            Err(error) => reply.error(errno("opendir", &error)),
        },
    );
}

pub(super) fn read<R: Entries>(fs: &Adapter, request: &Request, fh: FileHandle, offset: u64, reply: R) {
    let (vfs, reply) = (Arc::clone(&fs.vfs), Arc::new(Mutex::new(Some(reply))));
    let entries = Arc::clone(&reply);
    let work = async move {
        // A request that has been answered takes no more.
        let add = |entry: DirEntry<'_>| entries.lock().as_mut().is_none_or(|reply| reply.add(entry));
        vfs.readdir(fh.0, offset, R::LOOKUPS, add).await
    };
    fs.run(call(request, R::OP), Patience::Bounded, work, move |result| {
        let Some(reply) = reply.lock().take() else { return };
        match result {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(errno(R::OP, &error)),
        }
    });
}

/// Changes of a directory are in the bucket before they are answered; files in it may wait for their upload.
pub(super) fn sync(fs: &Adapter, call: Call, ino: INodeNo, reply: ReplyEmpty) {
    let vfs = Arc::clone(&fs.vfs);
    fs.run_empty(call, Patience::Unbounded, async move { vfs.fsyncdir(Ino(ino.0)).await }, reply);
}

pub(super) fn release(fs: &Adapter, call: Call, fh: FileHandle, reply: ReplyEmpty) {
    fs.run_now(
        call,
        || fs.vfs.releasedir(fh.0),
        |result| match result {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(errno("releasedir", &error)),
        },
    );
}
