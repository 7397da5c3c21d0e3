//! Requests on the attributes of files and of the file system.

use super::super::decode::{call, caller, reply_xattr, xattr_mode};
use super::super::{Adapter, answer::Patience, errno, file_attr};
use crate::inode::Ino;
use crate::vfs::{Call, SetAttr};
use fuser::{INodeNo, ReplyAttr, ReplyEmpty, ReplyStatfs, ReplyXattr, Request};
use std::ffi::OsStr;
use std::sync::Arc;

pub(super) fn getattr(fs: &Adapter, call: Call, ino: INodeNo, reply: ReplyAttr) {
    let (vfs, ttl) = (Arc::clone(&fs.vfs), fs.vfs.attr_ttl());
    let work = async move { vfs.getattr(Ino(ino.0)).await };
    fs.run(call, Patience::Bounded, work, move |result| match result {
        Ok(attr) => reply.attr(&ttl, &file_attr(&attr)),
        Err(error) => reply.error(errno("getattr", &error)),
    });
}

pub(super) fn setattr(fs: &Adapter, call: Call, ino: INodeNo, set: SetAttr, reply: ReplyAttr) {
    let (vfs, ttl) = (Arc::clone(&fs.vfs), fs.vfs.attr_ttl());
    let work = async move { vfs.setattr(Ino(ino.0), set).await };
    fs.run(call, Patience::Unbounded, work, move |result| match result {
        Ok(attr) => reply.attr(&ttl, &file_attr(&attr)),
        Err(error) => reply.error(errno("setattr", &error)),
    });
}

pub(super) fn statfs(fs: &Adapter, reply: ReplyStatfs) {
    let pass = fs.gate.enter("statfs");
    let space = fs.vfs.statfs();
    let [blocks, free] = [space.total, space.free].map(|bytes| bytes / u64::from(space.block));
    let files = u64::MAX >> 16;
    let free_files = files.saturating_sub(space.files);
    reply.statfs(blocks, free, free, files, free_files, space.block, space.name_max, space.block);
    drop(pass);
    fs.gate.rest();
}

pub(super) fn setxattr(
    fs: &Adapter,
    request: &Request,
    ino: INodeNo,
    (name, value): (&OsStr, &[u8]),
    flags: i32,
    reply: ReplyEmpty,
) {
    let (call, caller) = (call(request, "setxattr"), caller(request, 0));
    let (vfs, name, value) = (Arc::clone(&fs.vfs), name.to_owned(), value.to_vec());
    let work = async move { vfs.setxattr(Ino(ino.0), &name, &value, xattr_mode(flags)?, caller).await };
    fs.run_empty(call, Patience::Unbounded, work, reply);
}

pub(super) fn getxattr(fs: &Adapter, call: Call, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
    let (vfs, name) = (Arc::clone(&fs.vfs), name.to_owned());
    let work = async move { vfs.getxattr(Ino(ino.0), &name).await };
    fs.run(call, Patience::Bounded, work, move |result| match result {
        Ok(value) => reply_xattr(reply, size, &value),
        Err(error) => reply.error(errno("getxattr", &error)),
    });
}

pub(super) fn listxattr(fs: &Adapter, request: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
    let (call, caller) = (call(request, "listxattr"), caller(request, 0));
    let vfs = Arc::clone(&fs.vfs);
    let work = async move { vfs.listxattr(Ino(ino.0), caller).await };
    fs.run(call, Patience::Bounded, work, move |result| match result {
        Ok(names) => reply_xattr(reply, size, &names),
        Err(error) => reply.error(errno("listxattr", &error)),
    });
}

pub(super) fn removexattr(fs: &Adapter, call: Call, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
    let (vfs, name) = (Arc::clone(&fs.vfs), name.to_owned());
    let work = async move { vfs.removexattr(Ino(ino.0), &name).await };
    fs.run_empty(call, Patience::Unbounded, work, reply);
}
