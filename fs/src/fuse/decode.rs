//! The kernel's words in those of the file system.

use super::file_attr;
use crate::clock;
use crate::error::{Error, Result};
use crate::inode::{Attr, Ino};
use crate::meta::{Kind, Posix};
use crate::vfs::{Allocate, Caller, OpenFlags, RenameMode};
use fuser::{FileType, INodeNo, RenameFlags, Request, TimeOrNow};
use std::time::SystemTime;

/// The attributes of nothing, for a negative entry.
pub(super) fn absent() -> fuser::FileAttr {
    let posix = Posix { kind: Kind::File, mode: 0, uid: 0, gid: 0, mtime: SystemTime::UNIX_EPOCH };
    file_attr(&Attr { ino: Ino(0), size: 0, allocated: 0, ctime: SystemTime::UNIX_EPOCH, posix })
}

pub(super) fn caller(request: &Request) -> Caller {
    Caller { uid: request.uid(), gid: request.gid() }
}

/// Whether the caller keeps set-id bits through a truncation. The library does not hand on what the kernel says of
/// the caller's CAP_FSETID (`FUSE_OPEN_KILL_SUIDGID`, `FATTR_KILL_SUIDGID`); as a rule, root has it.
pub(super) fn keeps_set_id(request: &Request) -> bool {
    request.uid() == 0
}

/// Whether a write is to be safe when it returns. `O_SYNC` has the bit of `O_DSYNC` too.
pub(super) fn is_sync(flags: i32) -> bool {
    flags & libc::O_DSYNC != 0
}

pub(super) fn open_flags(request: &Request, flags: i32) -> OpenFlags {
    OpenFlags {
        write: flags & libc::O_ACCMODE != libc::O_RDONLY,
        truncate: flags & libc::O_TRUNC != 0,
        exclusive: flags & libc::O_EXCL != 0,
        drop_set_id: !keeps_set_id(request),
        sync: is_sync(flags),
    }
}

pub(super) fn time(time: TimeOrNow) -> SystemTime {
    match time {
        TimeOrNow::SpecificTime(time) => time,
        TimeOrNow::Now => clock::now(),
    }
}

pub(super) fn rename_mode(flags: RenameFlags) -> Result<RenameMode> {
    match flags {
        flags if flags.is_empty() => Ok(RenameMode::Replace),
        RenameFlags::RENAME_NOREPLACE => Ok(RenameMode::NoReplace),
        RenameFlags::RENAME_EXCHANGE => Ok(RenameMode::Exchange),
        _ => Err(Error::Invalid("rename replaces, does not replace, or exchanges; nothing else")),
    }
}

pub(super) fn allocate(mode: i32) -> Result<Allocate> {
    const KEEP: i32 = libc::FALLOC_FL_KEEP_SIZE;
    const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE | KEEP;
    const ZERO_KEEP: i32 = libc::FALLOC_FL_ZERO_RANGE | KEEP;
    match mode {
        0 => Ok(Allocate::Reserve { keep_size: false }),
        KEEP => Ok(Allocate::Reserve { keep_size: true }),
        PUNCH => Ok(Allocate::Punch),
        libc::FALLOC_FL_ZERO_RANGE => Ok(Allocate::Zero { keep_size: false }),
        ZERO_KEEP => Ok(Allocate::Zero { keep_size: true }),
        _ => Err(Error::Unsupported("this kind of fallocate")),
    }
}

/// The attributes of `.` and `..`, which the kernel does not look at.
pub(super) fn directory(ino: Ino) -> fuser::FileAttr {
    fuser::FileAttr { ino: INodeNo(ino.0), kind: FileType::Directory, ..absent() }
}
