//! Requests on open files.

#![expect(unsafe_code, reason = "the library wants a promise for each backing id that it did not make")]

use super::super::answer::{Patience, guarded};
use super::super::decode::{allocate, call, caller, is_sync, open_flags};
use super::super::passthrough::{Reply, serve};
use super::super::{Adapter, errno, file_attr};
use crate::error::{Error, Result};
use crate::inode::Ino;
use crate::vfs::{Call, Seek, Vfs};
use fuser::{
    FileHandle, Generation, INodeNo, OpenFlags, ReplyCreate, ReplyData, ReplyEmpty, ReplyLseek, ReplyOpen,
    ReplyWrite, Request, WriteFlags,
};
use std::cell::RefCell;
use std::ffi::OsStr;
use std::sync::Arc;

thread_local! {
    /// Where a request thread reads into before it answers.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

pub(super) fn open(fs: &Adapter, request: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
    let (flags, passthrough, this) = (open_flags(request, flags.0), fs.wants_passthrough(), fs.clone());
    let vfs = Arc::clone(&fs.vfs);
    let work = async move { vfs.open(Ino(ino.0), flags, passthrough).await };
    fs.run(call(request, "open"), Patience::Unbounded, work, move |result| {
        let served = result.and_then(|opened| {
            let fh = FileHandle(opened.fh);
            Ok((fh, serve(&this, ino.0, opened, |file| reply.open_backing(file))?))
        });
        match served {
            Ok((fh, Reply::Passthrough(id, flags))) => {
                // SAFETY: the id is of this connection and stays open while the handle counts in `Backings`;
                // `into_raw` gives it back unclosed.
                let id = unsafe { reply.wrap_backing(id) };
                reply.opened_passthrough(fh, flags, &id);
                id.into_raw();
            }
            Ok((fh, Reply::Flags(flags))) => reply.opened(fh, flags),
            Err(error) => reply.error(errno("open", &error)),
        }
    });
}

pub(super) fn create(
    fs: &Adapter,
    (request, umask): (&Request, u32),
    (parent, name): (INodeNo, &OsStr),
    mode: u32,
    flags: i32,
    reply: ReplyCreate,
) {
    let (vfs, name, caller) = (Arc::clone(&fs.vfs), name.to_owned(), caller(request, umask));
    let (flags, passthrough, this) = (open_flags(request, flags), fs.wants_passthrough(), fs.clone());
    let work = async move { vfs.create(Ino(parent.0), &name, mode, caller, flags, passthrough).await };
    fs.run(call(request, "create"), Patience::Bounded, work, move |result| {
        let (entry, opened) = match result {
            Ok(made) => made,
            Err(error) => return reply.error(errno("create", &error)),
        };
        let (attr, fh) = (file_attr(&entry.attr), FileHandle(opened.fh));
        match serve(&this, attr.ino.0, opened, |file| reply.open_backing(file)) {
            Ok(Reply::Passthrough(id, flags)) => {
                // SAFETY: as for `open`.
                let id = unsafe { reply.wrap_backing(id) };
                reply.created_passthrough(&entry.ttl, &attr, Generation(0), fh, flags, &id);
                id.into_raw();
            }
            Ok(Reply::Flags(flags)) => reply.created(&entry.ttl, &attr, Generation(0), fh, flags),
            Err(error) => reply.error(errno("create", &error)),
        }
    });
}

pub(super) fn read(fs: &Adapter, call: Call, fh: FileHandle, (offset, size): (u64, u32), reply: ReplyData) {
    let (_context, pass) = (fs.runtime.enter(), fs.gate.enter(call.op));
    let length = size as usize;
    BUFFER.with_borrow_mut(|buffer| {
        if buffer.len() < length {
            buffer.resize(length, 0);
        }
        match guarded(&fs.gate, || fs.vfs.read_now(fh.0, offset, &mut buffer[..length])) {
            Ok(Some(got)) => reply.data(&buffer[..got]),
            Err(error) => reply.error(errno("read", &error)),
            Ok(None) => {
                let vfs = Arc::clone(&fs.vfs);
                let work = async move { vfs.read(fh.0, offset, length).await };
                fs.run_inside(pass, call, Patience::Bounded, work, move |result| match result {
                    Ok(bytes) => reply.data(&bytes),
                    Err(error) => reply.error(errno("read", &error)),
                });
            }
        }
    });
    fs.gate.rest();
}

pub(super) fn write(
    fs: &Adapter,
    call: Call,
    fh: FileHandle,
    (offset, data): (u64, &[u8]),
    (flags, open_flags): (WriteFlags, OpenFlags),
    reply: ReplyWrite,
) {
    let written = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let write = move |vfs: &Vfs, data: &[u8]| {
        if flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID) {
            vfs.drop_set_id(fh.0)?;
        }
        vfs.write(fh.0, offset, data)
    };
    let answer = move |result: Result<()>| match result {
        Ok(()) => reply.written(written),
        Err(error) => reply.error(errno("write", &error)),
    };
    if is_sync(open_flags.0) {
        let (vfs, data) = (Arc::clone(&fs.vfs), data.to_vec());
        let through = async move {
            write(&vfs, &data)?;
            vfs.fsync(fh.0).await
        };
        return fs.run(call, Patience::Unbounded, through, answer);
    }
    fs.run_now(call, || write(&fs.vfs, data), answer);
}

/// What a close needs.
pub(super) fn flush(fs: &Adapter, call: Call, ino: INodeNo, fh: FileHandle, reply: ReplyEmpty) {
    let vfs = Arc::clone(&fs.vfs);
    fs.run_moving(call, ino, fh, async move { vfs.flush(fh.0).await }, reply);
}

/// The bucket has the file when it is answered.
pub(super) fn fsync(fs: &Adapter, call: Call, ino: INodeNo, fh: FileHandle, reply: ReplyEmpty) {
    let vfs = Arc::clone(&fs.vfs);
    fs.run_moving(call, ino, fh, async move { vfs.fsync(fh.0).await }, reply);
}

pub(super) fn release(fs: &Adapter, call: Call, ino: INodeNo, fh: FileHandle, reply: ReplyEmpty) {
    fs.backings.release(ino.0, fh.0);
    let vfs = Arc::clone(&fs.vfs);
    fs.run_moving(call, ino, fh, async move { vfs.release(fh.0).await }, reply);
}

pub(super) fn fallocate(
    fs: &Adapter,
    call: Call,
    fh: FileHandle,
    (offset, length, mode): (u64, u64, i32),
    reply: ReplyEmpty,
) {
    fs.run_now(
        call,
        || fs.vfs.fallocate(fh.0, offset, length, allocate(mode)?),
        |result| match result {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(errno("fallocate", &error)),
        },
    );
}

pub(super) fn lseek(fs: &Adapter, call: Call, fh: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
    let find = || {
        let offset = u64::try_from(offset).map_err(|_negative| Error::NoSuchOffset)?;
        match whence {
            libc::SEEK_DATA => fs.vfs.seek(fh.0, offset, Seek::Data),
            libc::SEEK_HOLE => fs.vfs.seek(fh.0, offset, Seek::Hole),
            _ => Err(Error::Invalid("whence")),
        }
    };
    fs.run_now(call, find, |found| match found {
        Ok(found) => reply.offset(found.cast_signed()),
        Err(error) => reply.error(errno("lseek", &error)),
    });
}

pub(super) fn copy_file_range(
    fs: &Adapter,
    call: Call,
    from: (FileHandle, u64),
    to: (FileHandle, u64),
    length: u64,
    reply: ReplyWrite,
) {
    let vfs = Arc::clone(&fs.vfs);
    let work = async move { vfs.copy_file_range((from.0.0, from.1), (to.0.0, to.1), length).await };
    fs.run(call, Patience::Unbounded, work, move |result| match result {
        Ok(copied) => reply.written(copied),
        Err(error) => reply.error(errno("copy_file_range", &error)),
    });
}
