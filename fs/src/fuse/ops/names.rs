//! Requests on names: what stands in a directory under which name.

use super::super::decode::{call, caller, rename_mode};
use super::super::{Adapter, answer::Patience, errno};
use crate::error::Error;
use crate::inode::Ino;
use crate::meta::Kind;
use crate::vfs::Call;
use fuser::{INodeNo, RenameFlags, ReplyData, ReplyEmpty, ReplyEntry, Request};
use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;

pub(super) fn lookup(fs: &Adapter, call: Call, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
    let (vfs, name) = (Arc::clone(&fs.vfs), name.to_owned());
    fs.run_entry(call, async move { vfs.lookup(Ino(parent.0), &name).await }, reply);
}

pub(super) fn readlink(fs: &Adapter, call: Call, ino: INodeNo, reply: ReplyData) {
    let vfs = Arc::clone(&fs.vfs);
    let work = async move { vfs.readlink(Ino(ino.0)).await };
    fs.run(call, Patience::Bounded, work, move |result| match result {
        Ok(target) => reply.data(&target),
        Err(error) => reply.error(errno("readlink", &error)),
    });
}

pub(super) fn mknod(
    fs: &Adapter,
    (request, umask): (&Request, u32),
    (parent, name): (INodeNo, &OsStr),
    mode: u32,
    rdev: u32,
    reply: ReplyEntry,
) {
    let caller = caller(request, umask);
    let (vfs, name) = (Arc::clone(&fs.vfs), name.to_owned());
    let work = async move {
        let kind = Kind::of_mode(mode, rdev).ok_or(Error::Invalid("no such kind of file"))?;
        vfs.mknod(Ino(parent.0), &name, kind, mode, caller).await
    };
    fs.run_entry(call(request, "mknod"), work, reply);
}

pub(super) fn mkdir(
    fs: &Adapter,
    (request, umask): (&Request, u32),
    (parent, name): (INodeNo, &OsStr),
    mode: u32,
    reply: ReplyEntry,
) {
    let caller = caller(request, umask);
    let (vfs, name) = (Arc::clone(&fs.vfs), name.to_owned());
    let work = async move { vfs.mkdir(Ino(parent.0), &name, mode, caller).await };
    fs.run_entry(call(request, "mkdir"), work, reply);
}

pub(super) fn symlink(
    fs: &Adapter,
    request: &Request,
    (parent, name): (INodeNo, &OsStr),
    target: &Path,
    reply: ReplyEntry,
) {
    let (vfs, name) = (Arc::clone(&fs.vfs), name.to_owned());
    let (target, caller) = (target.as_os_str().to_owned(), caller(request, 0));
    let work = async move { vfs.symlink(Ino(parent.0), &name, &target, caller).await };
    fs.run_entry(call(request, "symlink"), work, reply);
}

pub(super) fn unlink(fs: &Adapter, call: Call, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
    let (vfs, name) = (Arc::clone(&fs.vfs), name.to_owned());
    let work = async move { vfs.unlink(Ino(parent.0), &name).await };
    fs.run_empty(call, Patience::Unbounded, work, reply);
}

pub(super) fn rmdir(fs: &Adapter, call: Call, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
    let (vfs, name) = (Arc::clone(&fs.vfs), name.to_owned());
    let work = async move { vfs.rmdir(Ino(parent.0), &name).await };
    fs.run_empty(call, Patience::Bounded, work, reply);
}

pub(super) fn rename(
    fs: &Adapter,
    call: Call,
    (parent, name): (INodeNo, &OsStr),
    (new_parent, new_name): (INodeNo, &OsStr),
    flags: RenameFlags,
    reply: ReplyEmpty,
) {
    let (vfs, name, new_name) = (Arc::clone(&fs.vfs), name.to_owned(), new_name.to_owned());
    let work = async move {
        vfs.rename((Ino(parent.0), &name), (Ino(new_parent.0), &new_name), rename_mode(flags)?).await
    };
    fs.run_empty(call, Patience::Unbounded, work, reply);
}
