//! The requests of the kernel, one method each: decode, call, reply.

use super::answer::{Patience, answer, errno, guarded};
use super::decode::{absent, allocate, caller, directory, keeps_set_id, open_flags, rename_mode, time};
use super::passthrough::{Reply, reply_open, serve};
use super::{Adapter, file_attr};
use crate::error::{Error, Result};
use crate::inode::Ino;
use crate::vfs::{DirEntry, Entry, EntryKind, Lookups, Seek, SetAttr};
use fuser::{
    BsdFileFlags, CopyFileRangeFlags, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    InitFlags, KernelConfig, LockOwner, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr,
    Request, TimeOrNow, WriteFlags,
};
use parking_lot::Mutex;
use std::cell::RefCell;
use std::ffi::OsStr;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

/// Bytes of the largest request: the kernel's limit is `fs.fuse.max_pages_limit`, 256 pages.
const REQUEST_MAX: u32 = 1 << 20;
/// Requests the kernel keeps under way for read-ahead.
const BACKGROUND: u16 = 64;

thread_local! {
    /// Where a request thread reads into before it answers.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Adapter {
    fn run<T: Send + 'static>(
        &self,
        patience: Patience,
        work: impl Future<Output = Result<T>> + Send + 'static,
        reply: impl FnOnce(Result<T>) + Send + 'static,
    ) {
        answer(&self.runtime, patience, work, reply);
    }

    fn run_entry(
        &self,
        work: impl Future<Output = Result<Entry>> + Send + 'static,
        op: &'static str,
        reply: ReplyEntry,
    ) {
        let (ttl, negative) = (self.vfs.attr_ttl(), op == "lookup");
        self.run(Patience::Bounded, work, move |result| match result {
            Ok(entry) => reply.entry(&entry.ttl, &file_attr(&entry.attr), Generation(0)),
            // Inode 0 with a lifetime: the kernel remembers that there is nothing.
            Err(Error::NotFound) if negative => reply.entry(&ttl, &absent(), Generation(0)),
            Err(error) => reply.error(errno(op, &error)),
        });
    }

    fn run_empty(
        &self,
        patience: Patience,
        work: impl Future<Output = Result<()>> + Send + 'static,
        op: &'static str,
        reply: ReplyEmpty,
    ) {
        self.run(patience, work, move |result| match result {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(errno(op, &error)),
        });
    }

    fn wants_passthrough(&self) -> bool {
        self.passthrough.load(Ordering::Relaxed)
    }
}

impl Filesystem for Adapter {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        let wanted = [
            InitFlags::FUSE_ATOMIC_O_TRUNC,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_ASYNC_DIO,
            InitFlags::FUSE_CACHE_SYMLINKS,
            InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP,
            // Without it the kernel asks for an attribute before each write, passed through or not.
            InitFlags::FUSE_HANDLE_KILLPRIV_V2,
        ];
        for flag in wanted {
            if config.add_capabilities(flag).is_err() {
                tracing::debug!(?flag, "not offered by this kernel");
            }
        }
        if self.wants_passthrough() {
            let offered = config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).is_ok();
            let stacked = offered && config.set_max_stack_depth(1).is_ok();
            self.passthrough.store(stacked, Ordering::Relaxed);
        }
        // Each setter answers with the nearest value it takes; the kernel's own bounds hold anyway.
        let _ = config.set_max_write(REQUEST_MAX);
        let _ = config.set_max_background(BACKGROUND);
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let (vfs, name) = (Arc::clone(&self.vfs), name.to_owned());
        self.run_entry(async move { vfs.lookup(Ino(parent.0), &name).await }, "lookup", reply);
    }

    fn forget(&self, _request: &Request, ino: INodeNo, count: u64) {
        self.vfs.forget(Ino(ino.0), count);
    }

    fn getattr(&self, _request: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        let (vfs, ttl) = (Arc::clone(&self.vfs), self.vfs.attr_ttl());
        self.run(
            Patience::Bounded,
            async move { vfs.getattr(Ino(ino.0)).await },
            move |result| match result {
                Ok(attr) => reply.attr(&ttl, &file_attr(&attr)),
                Err(error) => reply.error(errno("getattr", &error)),
            },
        );
    }

    fn setattr(
        &self,
        request: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let drop_set_id = size.is_some() && !keeps_set_id(request);
        let set = SetAttr { mode, uid, gid, size, mtime: mtime.map(time), drop_set_id };
        let (vfs, ttl) = (Arc::clone(&self.vfs), self.vfs.attr_ttl());
        let work = async move { vfs.setattr(Ino(ino.0), set).await };
        self.run(Patience::Unbounded, work, move |result| match result {
            Ok(attr) => reply.attr(&ttl, &file_attr(&attr)),
            Err(error) => reply.error(errno("setattr", &error)),
        });
    }

    fn readlink(&self, _request: &Request, ino: INodeNo, reply: ReplyData) {
        let vfs = Arc::clone(&self.vfs);
        self.run(
            Patience::Bounded,
            async move { vfs.readlink(Ino(ino.0)).await },
            move |result| match result {
                Ok(target) => reply.data(&target),
                Err(error) => reply.error(errno("readlink", &error)),
            },
        );
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        _rdev: u32,
        reply: ReplyEntry,
    ) {
        if mode & libc::S_IFMT != libc::S_IFREG {
            return reply.error(errno("mknod", &Error::NotPermitted("special files are not kept")));
        }
        let (vfs, name, caller) = (Arc::clone(&self.vfs), name.to_owned(), caller(request));
        let work = async move { vfs.make_file(Ino(parent.0), &name, mode, caller).await };
        self.run_entry(work, "mknod", reply);
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        let (vfs, name, caller) = (Arc::clone(&self.vfs), name.to_owned(), caller(request));
        self.run_entry(async move { vfs.mkdir(Ino(parent.0), &name, mode, caller).await }, "mkdir", reply);
    }

    fn unlink(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (vfs, name) = (Arc::clone(&self.vfs), name.to_owned());
        let work = async move { vfs.unlink(Ino(parent.0), &name).await };
        self.run_empty(Patience::Unbounded, work, "unlink", reply);
    }

    fn rmdir(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (vfs, name) = (Arc::clone(&self.vfs), name.to_owned());
        self.run_empty(
            Patience::Bounded,
            async move { vfs.rmdir(Ino(parent.0), &name).await },
            "rmdir",
            reply,
        );
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let (vfs, name, caller) = (Arc::clone(&self.vfs), name.to_owned(), caller(request));
        let target = target.as_os_str().to_owned();
        let work = async move { vfs.symlink(Ino(parent.0), &name, &target, caller).await };
        self.run_entry(work, "symlink", reply);
    }

    fn rename(
        &self,
        _request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let (vfs, name, new_name) = (Arc::clone(&self.vfs), name.to_owned(), new_name.to_owned());
        let work = async move {
            vfs.rename((Ino(parent.0), &name), (Ino(new_parent.0), &new_name), rename_mode(flags)?).await
        };
        self.run_empty(Patience::Unbounded, work, "rename", reply);
    }

    fn open(&self, request: &Request, ino: INodeNo, flags: fuser::OpenFlags, reply: ReplyOpen) {
        let (vfs, flags, passthrough) =
            (Arc::clone(&self.vfs), open_flags(request, flags.0), self.wants_passthrough());
        let (backings, enabled, again) =
            (Arc::clone(&self.backings), Arc::clone(&self.passthrough), Arc::clone(&self.vfs));
        let work = async move { vfs.open(Ino(ino.0), flags, passthrough).await };
        self.run(Patience::Unbounded, work, move |result| match result {
            Ok(opened) => reply_open(&again, &backings, &enabled, ino.0, opened, reply),
            Err(error) => reply.error(errno("open", &error)),
        });
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let (vfs, name, caller) = (Arc::clone(&self.vfs), name.to_owned(), caller(request));
        let (flags, passthrough) = (open_flags(request, flags), self.wants_passthrough());
        let (backings, enabled, again) =
            (Arc::clone(&self.backings), Arc::clone(&self.passthrough), Arc::clone(&self.vfs));
        let work = async move { vfs.create(Ino(parent.0), &name, mode, caller, flags, passthrough).await };
        self.run(Patience::Bounded, work, move |result| {
            let (entry, opened) = match result {
                Ok(made) => made,
                Err(error) => return reply.error(errno("create", &error)),
            };
            let (attr, fh) = (file_attr(&entry.attr), FileHandle(opened.fh));
            let register = |file: &std::fs::File| reply.open_backing(file);
            match serve(&again, &backings, &enabled, attr.ino.0, opened, register) {
                Ok(Reply::Passthrough(id)) => {
                    reply.created_passthrough(&entry.ttl, &attr, Generation(0), fh, FopenFlags::empty(), &id);
                }
                Ok(Reply::Flags(flags)) => reply.created(&entry.ttl, &attr, Generation(0), fh, flags),
                Err(error) => reply.error(errno("create", &error)),
            }
        });
    }

    fn read(
        &self,
        _request: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: fuser::OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let _context = self.runtime.enter();
        let length = size as usize;
        BUFFER.with_borrow_mut(|buffer| {
            if buffer.len() < length {
                buffer.resize(length, 0);
            }
            match guarded(|| self.vfs.read_now(fh.0, offset, &mut buffer[..length])) {
                Ok(Some(got)) => reply.data(&buffer[..got]),
                Err(error) => reply.error(errno("read", &error)),
                Ok(None) => {
                    let vfs = Arc::clone(&self.vfs);
                    let work = async move { vfs.read(fh.0, offset, length).await };
                    self.run(Patience::Bounded, work, move |result| match result {
                        Ok(bytes) => reply.data(&bytes),
                        Err(error) => reply.error(errno("read", &error)),
                    });
                }
            }
        });
    }

    fn write(
        &self,
        _request: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _flags: fuser::OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let write = || {
            if write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID) {
                self.vfs.drop_set_id(fh.0)?;
            }
            self.vfs.write(fh.0, offset, data)
        };
        match guarded(write) {
            Ok(()) => reply.written(u32::try_from(data.len()).unwrap_or(u32::MAX)),
            Err(error) => reply.error(errno("write", &error)),
        }
    }

    fn flush(&self, _request: &Request, _ino: INodeNo, fh: FileHandle, _owner: LockOwner, reply: ReplyEmpty) {
        let vfs = Arc::clone(&self.vfs);
        self.run_empty(Patience::Unbounded, async move { vfs.flush(fh.0).await }, "flush", reply);
    }

    fn fsync(&self, _request: &Request, _ino: INodeNo, fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        let vfs = Arc::clone(&self.vfs);
        self.run_empty(Patience::Unbounded, async move { vfs.flush(fh.0).await }, "fsync", reply);
    }

    fn release(
        &self,
        _request: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _flags: fuser::OpenFlags,
        _owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.backings.release(ino.0, fh.0);
        let vfs = Arc::clone(&self.vfs);
        self.run_empty(Patience::Unbounded, async move { vfs.release(fh.0).await }, "release", reply);
    }

    fn opendir(&self, _request: &Request, ino: INodeNo, _flags: fuser::OpenFlags, reply: ReplyOpen) {
        match guarded(|| self.vfs.opendir(Ino(ino.0))) {
            Ok(fh) => reply.opened(FileHandle(fh), FopenFlags::empty()),
            Err(error) => reply.error(errno("opendir", &error)),
        }
    }

    fn readdir(&self, _request: &Request, _ino: INodeNo, fh: FileHandle, offset: u64, reply: ReplyDirectory) {
        // Only kernels without READDIRPLUS ask this; they count no look-ups.
        let (vfs, reply) = (Arc::clone(&self.vfs), Arc::new(Mutex::new(Some(reply))));
        let sink = Arc::clone(&reply);
        let work = async move {
            let add = |entry: DirEntry<'_>| {
                let (ino, kind) = match entry.kind {
                    EntryKind::Dot(ino) => (ino, FileType::Directory),
                    EntryKind::Child { attr, .. } => (attr.ino, file_attr(&attr).kind),
                };
                let mut sink = sink.lock();
                sink.as_mut().is_none_or(|reply| reply.add(INodeNo(ino.0), entry.cookie, kind, entry.name))
            };
            vfs.readdir(fh.0, offset, Lookups::NotCounted, add).await
        };
        self.run(Patience::Bounded, work, move |result| {
            let Some(reply) = reply.lock().take() else { return };
            match result {
                Ok(()) => reply.ok(),
                Err(error) => reply.error(errno("readdir", &error)),
            }
        });
    }

    fn readdirplus(
        &self,
        _request: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        reply: ReplyDirectoryPlus,
    ) {
        let (vfs, reply) = (Arc::clone(&self.vfs), Arc::new(Mutex::new(Some(reply))));
        let sink = Arc::clone(&reply);
        let work = async move {
            let add = |entry: DirEntry<'_>| {
                let (attr, ttl) = match entry.kind {
                    EntryKind::Dot(ino) => (directory(ino), Duration::ZERO),
                    EntryKind::Child { attr, ttl } => (file_attr(&attr), ttl),
                };
                let mut sink = sink.lock();
                sink.as_mut().is_none_or(|reply| {
                    reply.add(attr.ino, entry.cookie, entry.name, &ttl, &attr, Generation(0))
                })
            };
            vfs.readdir(fh.0, offset, Lookups::Counted, add).await
        };
        self.run(Patience::Bounded, work, move |result| {
            let Some(reply) = reply.lock().take() else { return };
            match result {
                Ok(()) => reply.ok(),
                Err(error) => reply.error(errno("readdirplus", &error)),
            }
        });
    }

    fn releasedir(
        &self,
        _request: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: fuser::OpenFlags,
        reply: ReplyEmpty,
    ) {
        match guarded(|| self.vfs.releasedir(fh.0)) {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(errno("releasedir", &error)),
        }
    }

    fn fsyncdir(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        // Every change of a directory is in the bucket before it is answered.
        reply.ok();
    }

    fn statfs(&self, _request: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        let space = self.vfs.statfs();
        let blocks = space.total / u64::from(space.block);
        reply.statfs(
            blocks,
            blocks,
            blocks,
            u64::MAX >> 16,
            u64::MAX >> 16,
            space.block,
            space.name_max,
            space.block,
        );
    }

    fn setxattr(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _name: &OsStr,
        _value: &[u8],
        _flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        reply.error(errno("setxattr", &Error::Unsupported("extended attributes")));
    }

    fn getxattr(&self, _request: &Request, _ino: INodeNo, _name: &OsStr, _size: u32, reply: ReplyXattr) {
        reply.error(errno("getxattr", &Error::NoAttribute));
    }

    fn listxattr(&self, _request: &Request, _ino: INodeNo, size: u32, reply: ReplyXattr) {
        if size == 0 { reply.size(0) } else { reply.data(&[]) }
    }

    fn removexattr(&self, _request: &Request, _ino: INodeNo, _name: &OsStr, reply: ReplyEmpty) {
        reply.error(errno("removexattr", &Error::NoAttribute));
    }

    fn fallocate(
        &self,
        _request: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        match guarded(|| self.vfs.fallocate(fh.0, offset, length, allocate(mode)?)) {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(errno("fallocate", &error)),
        }
    }

    fn lseek(
        &self,
        _request: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let found = guarded(|| {
            let offset = u64::try_from(offset).map_err(|_negative| Error::NoSuchOffset)?;
            match whence {
                libc::SEEK_DATA => self.vfs.seek(fh.0, offset, Seek::Data),
                libc::SEEK_HOLE => self.vfs.seek(fh.0, offset, Seek::Hole),
                _ => Err(Error::Invalid("whence")),
            }
        });
        match found {
            Ok(found) => reply.offset(found.cast_signed()),
            Err(error) => reply.error(errno("lseek", &error)),
        }
    }

    fn copy_file_range(
        &self,
        _request: &Request,
        _ino_in: INodeNo,
        fh_in: FileHandle,
        offset_in: u64,
        _ino_out: INodeNo,
        fh_out: FileHandle,
        offset_out: u64,
        len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let vfs = Arc::clone(&self.vfs);
        let work =
            async move { vfs.copy_file_range((fh_in.0, offset_in), (fh_out.0, offset_out), len).await };
        self.run(Patience::Unbounded, work, move |result| match result {
            Ok(copied) => reply.written(copied),
            Err(error) => reply.error(errno("copy_file_range", &error)),
        });
    }
}
