//! The requests of the kernel, one method each: decode, call, reply. What they do stands in a module per group.

mod attributes;
mod directories;
mod files;
mod names;

use super::answer::{Patience, Terms, answer, errno, guarded, seal};
use super::decode::{absent, call, keeps_set_id, time};
use super::gate::Pass;
use super::outcome::Outcome;
use super::{Adapter, file_attr};
use crate::clock;
use crate::error::{Error, Result};
use crate::inode::Ino;
use crate::session_log::Record;
use crate::vfs::{Call, Entry, SetAttr};
use fuser::{
    BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, Generation, INodeNo, InitFlags,
    IoctlFlags, KernelConfig, LockOwner, PollEvents, PollFlags, PollNotifier, RenameFlags, ReplyAttr,
    ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl,
    ReplyLseek, ReplyOpen, ReplyPoll, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use std::ffi::OsStr;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

/// Bytes of the largest request: the kernel's limit is `fs.fuse.max_pages_limit`, 256 pages.
pub(super) const REQUEST_MAX: u32 = 1 << 20;
/// Requests the kernel keeps under way for read-ahead.
const BACKGROUND: u16 = 64;

/// Requests that change names.
const NAMING: [&str; 7] = ["create", "mkdir", "mknod", "rename", "rmdir", "symlink", "unlink"];

impl Adapter {
    fn run<T: Outcome>(
        &self,
        call: Call,
        patience: Patience,
        work: impl Future<Output = Result<T>> + Send + 'static,
        reply: impl FnOnce(Result<T>) + Send + 'static,
    ) {
        self.run_inside(self.gate.enter(call.op), call, patience, work, reply);
    }

    /// The same for a request that has been let in.
    fn run_inside<T: Outcome>(
        &self,
        pass: Pass,
        call: Call,
        patience: Patience,
        work: impl Future<Output = Result<T>> + Send + 'static,
        reply: impl FnOnce(Result<T>) + Send + 'static,
    ) {
        let (vfs, fs) = (Arc::clone(&self.vfs), self.clone());
        let terms = Terms { patience, deadline: self.deadline, thread: call.thread };
        let device = NAMING.contains(&call.op).then(|| self.device.clone());
        let reply = move |result: Result<T>| {
            seal(&vfs, call);
            if let (Some(device), Err(error)) = (device, &result)
                && error.is_unclear()
            {
                // The kernel takes an error for nothing done.
                device.names_changed();
            }
            reply(result);
        };
        let unheard = move |outcome: T| outcome.unheard(&fs);
        answer(&self.runtime, pass, terms, call.during(work), reply, unheard);
        self.gate.rest();
    }

    /// Runs an operation that never waits.
    fn run_now<T>(&self, call: Call, work: impl FnOnce() -> Result<T>, reply: impl FnOnce(Result<T>)) {
        let pass = self.gate.enter(call.op);
        let result = call.during_now(|| guarded(&self.gate, work));
        seal(&self.vfs, call);
        reply(result);
        drop(pass);
        self.gate.rest();
    }

    fn run_entry(
        &self,
        call: Call,
        work: impl Future<Output = Result<Entry>> + Send + 'static,
        reply: ReplyEntry,
    ) {
        let (ttl, op) = (self.vfs.attr_ttl(), call.op);
        self.run(call, Patience::Bounded, work, move |result| match result {
            Ok(entry) => reply.entry(&entry.ttl, &file_attr(&entry.attr), Generation(0)),
            // Inode 0 with a lifetime: the kernel remembers that there is nothing.
            Err(Error::NotFound) if op == "lookup" => reply.entry(&ttl, &absent(), Generation(0)),
            Err(error) => reply.error(errno(op, &error)),
        });
    }

    fn run_empty(
        &self,
        call: Call,
        patience: Patience,
        work: impl Future<Output = Result<()>> + Send + 'static,
        reply: ReplyEmpty,
    ) {
        self.run(call, patience, work, move |result| match result {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(errno(call.op, &error)),
        });
    }

    /// Ends with attributes that the kernel does not know: a write to a mapping moves the times, and one past tarn
    /// takes set-id bits away.
    fn run_moving(
        &self,
        call: Call,
        ino: INodeNo,
        fh: FileHandle,
        work: impl Future<Output = Result<()>> + Send + 'static,
        reply: ReplyEmpty,
    ) {
        let device = self.vfs.writes(fh.0).then(|| self.device.clone());
        let work = async move {
            let result = work.await;
            if let Some(device) = device {
                device.attributes_moved(ino.0);
            }
            result
        };
        self.run_empty(call, Patience::Unbounded, work, reply);
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
            InitFlags::FUSE_POSIX_ACL,
            // The umask counts only where the directory has no default list.
            InitFlags::FUSE_DONT_MASK,
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
        match self.agreed {
            // Who takes over never sees the kernel's offer: what was agreed stands.
            Some(passthrough) => self.passthrough.store(passthrough, Ordering::Relaxed),
            None => {
                let passthrough = self.wants_passthrough();
                self.vfs.log().note(|| Record::Started { passthrough });
                self.vfs.log().flush();
            }
        }
        Ok(())
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        names::lookup(self, call(request, "lookup"), parent, name, reply);
    }

    fn forget(&self, _request: &Request, ino: INodeNo, count: u64) {
        self.vfs.forget(Ino(ino.0), count);
    }

    fn getattr(&self, request: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        attributes::getattr(self, call(request, "getattr"), ino, reply);
    }

    fn setattr(
        &self,
        request: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
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
        let now = clock::now();
        let (atime, mtime) = (atime.map(|set| time(set, now)), mtime.map(|set| time(set, now)));
        let set = SetAttr { mode, uid, gid, size, atime, mtime, drop_set_id };
        attributes::setattr(self, call(request, "setattr"), ino, set, reply);
    }

    fn readlink(&self, request: &Request, ino: INodeNo, reply: ReplyData) {
        names::readlink(self, call(request, "readlink"), ino, reply);
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        names::mknod(self, (request, umask), (parent, name), mode, rdev, reply);
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        names::mkdir(self, (request, umask), (parent, name), mode, reply);
    }

    fn unlink(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        names::unlink(self, call(request, "unlink"), parent, name, reply);
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        names::rmdir(self, call(request, "rmdir"), parent, name, reply);
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        names::symlink(self, request, (parent, name), target, reply);
    }

    fn link(
        &self,
        request: &Request,
        _ino: INodeNo,
        _new_parent: INodeNo,
        _new_name: &OsStr,
        reply: ReplyEntry,
    ) {
        // A key has one name. Programs that know EPERM from other file systems copy or rename instead.
        let refused = errno("link", &Error::NotPermitted("an object has one name"));
        self.run_now(call(request, "link"), || Ok(()), |_| reply.error(refused));
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        names::rename(self, call(request, "rename"), (parent, name), (new_parent, new_name), flags, reply);
    }

    fn open(&self, request: &Request, ino: INodeNo, flags: fuser::OpenFlags, reply: ReplyOpen) {
        files::open(self, request, ino, flags, reply);
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        files::create(self, (request, umask), (parent, name), mode, flags, reply);
    }

    fn read(
        &self,
        request: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: fuser::OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        files::read(self, call(request, "read"), fh, (offset, size), reply);
    }

    fn write(
        &self,
        request: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        flags: fuser::OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        files::write(self, call(request, "write"), fh, (offset, data), (write_flags, flags), reply);
    }

    fn flush(&self, request: &Request, ino: INodeNo, fh: FileHandle, _owner: LockOwner, reply: ReplyEmpty) {
        files::flush(self, call(request, "flush"), ino, fh, reply);
    }

    fn fsync(&self, request: &Request, ino: INodeNo, fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        files::fsync(self, call(request, "fsync"), ino, fh, reply);
    }

    fn release(
        &self,
        request: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _flags: fuser::OpenFlags,
        _owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        files::release(self, call(request, "release"), ino, fh, reply);
    }

    fn opendir(&self, request: &Request, ino: INodeNo, _flags: fuser::OpenFlags, reply: ReplyOpen) {
        directories::open(self, call(request, "opendir"), ino, reply);
    }

    fn readdir(&self, request: &Request, _ino: INodeNo, fh: FileHandle, offset: u64, reply: ReplyDirectory) {
        directories::read(self, request, fh, offset, reply);
    }

    fn readdirplus(
        &self,
        request: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        reply: ReplyDirectoryPlus,
    ) {
        directories::read(self, request, fh, offset, reply);
    }

    fn releasedir(
        &self,
        request: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: fuser::OpenFlags,
        reply: ReplyEmpty,
    ) {
        directories::release(self, call(request, "releasedir"), fh, reply);
    }

    fn fsyncdir(&self, request: &Request, ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        directories::sync(self, call(request, "fsyncdir"), ino, reply);
    }

    fn statfs(&self, _request: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        attributes::statfs(self, reply);
    }

    fn setxattr(
        &self,
        request: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        attributes::setxattr(self, request, ino, (name, value), flags, reply);
    }

    fn getxattr(&self, request: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        attributes::getxattr(self, call(request, "getxattr"), ino, name, size, reply);
    }

    fn listxattr(&self, request: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        attributes::listxattr(self, request, ino, size, reply);
    }

    fn removexattr(&self, request: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        attributes::removexattr(self, call(request, "removexattr"), ino, name, reply);
    }

    fn fallocate(
        &self,
        request: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        files::fallocate(self, call(request, "fallocate"), fh, (offset, length, mode), reply);
    }

    fn lseek(
        &self,
        request: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        files::lseek(self, call(request, "lseek"), fh, offset, whence, reply);
    }

    /// No file here is a device. Python asks at every open whether it is a terminal.
    fn ioctl(
        &self,
        request: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        _command: u32,
        _input: &[u8],
        _output_size: u32,
        reply: ReplyIoctl,
    ) {
        self.run_now(call(request, "ioctl"), || Ok(()), |_| reply.error(Errno::ENOTTY));
    }

    /// Files are always ready. The kernel takes this answer for all files and asks no more.
    fn poll(
        &self,
        request: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _notifier: PollNotifier,
        _events: PollEvents,
        _flags: PollFlags,
        reply: ReplyPoll,
    ) {
        self.run_now(call(request, "poll"), || Ok(()), |_| reply.error(Errno::ENOSYS));
    }

    fn copy_file_range(
        &self,
        request: &Request,
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
        let call = call(request, "copy_file_range");
        files::copy_file_range(self, call, (fh_in, offset_in), (fh_out, offset_out), len, reply);
    }
}
