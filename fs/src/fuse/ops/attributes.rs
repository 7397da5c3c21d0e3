//! Requests on the attributes of files and of the file system.

use super::super::{Adapter, answer::Patience, errno, file_attr};
use crate::inode::Ino;
use crate::vfs::SetAttr;
use fuser::{INodeNo, ReplyAttr, ReplyStatfs};
use std::sync::Arc;

pub(super) fn getattr(fs: &Adapter, ino: INodeNo, reply: ReplyAttr) {
    let (vfs, ttl) = (Arc::clone(&fs.vfs), fs.vfs.attr_ttl());
    let work = async move { vfs.getattr(Ino(ino.0)).await };
    fs.run(Patience::Bounded, work, move |result| match result {
        Ok(attr) => reply.attr(&ttl, &file_attr(&attr)),
        Err(error) => reply.error(errno("getattr", &error)),
    });
}

pub(super) fn setattr(fs: &Adapter, ino: INodeNo, set: SetAttr, reply: ReplyAttr) {
    let (vfs, ttl) = (Arc::clone(&fs.vfs), fs.vfs.attr_ttl());
    let work = async move { vfs.setattr(Ino(ino.0), set).await };
    fs.run(Patience::Unbounded, work, move |result| match result {
        Ok(attr) => reply.attr(&ttl, &file_attr(&attr)),
        Err(error) => reply.error(errno("setattr", &error)),
    });
}

pub(super) fn statfs(fs: &Adapter, reply: ReplyStatfs) {
    let space = fs.vfs.statfs();
    let (blocks, files) = (space.total / u64::from(space.block), u64::MAX >> 16);
    reply.statfs(blocks, blocks, blocks, files, files, space.block, space.name_max, space.block);
}
