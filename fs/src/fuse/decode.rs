//! The kernel's words in those of the file system.

use super::file_attr;
use crate::error::{Error, Result};
use crate::inode::{Attr, Ino};
use crate::meta::{Kind, Posix};
use crate::vfs::{Allocate, Call, Caller, OpenFlags, RenameMode, XattrMode};
use fuser::{FileType, INodeNo, RenameFlags, ReplyXattr, Request, TimeOrNow};
use std::time::{Duration, SystemTime};

/// The attributes of nothing, for a negative entry.
pub(super) fn absent() -> fuser::FileAttr {
    let posix = Posix::new(Kind::File, SystemTime::UNIX_EPOCH);
    file_attr(&Attr { ino: Ino(0), size: 0, allocated: 0, links: 1, posix })
}

/// The kernel sets this bit in the number of a request that it sends once more (`FUSE_UNIQUE_RESEND`).
const RESENT: u64 = 1 << 63;

pub(super) fn call(request: &Request, op: &'static str) -> Call {
    let unique = request.unique().0;
    let call = Call { op, unique: unique & !RESENT, resent: unique & RESENT != 0, thread: request.pid() };
    if call.resent {
        tracing::info!(op, "sent again");
    }
    call
}

pub(super) fn caller(request: &Request, umask: u32) -> Caller {
    Caller { uid: request.uid(), gid: request.gid(), umask }
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

/// A time to be set. fuser takes the nanoseconds of a time before 1970 off, where the kernel adds them to the
/// second before; they are put back here.
pub(super) fn time(time: TimeOrNow, now: SystemTime) -> SystemTime {
    match time {
        TimeOrNow::Now => now,
        TimeOrNow::SpecificTime(time) => match SystemTime::UNIX_EPOCH.duration_since(time) {
            Ok(before) => time + 2 * Duration::from_nanos(before.subsec_nanos().into()),
            Err(_since) => time,
        },
    }
}

pub(super) fn xattr_mode(flags: i32) -> Result<XattrMode> {
    match flags {
        0 => Ok(XattrMode::Any),
        libc::XATTR_CREATE => Ok(XattrMode::Create),
        libc::XATTR_REPLACE => Ok(XattrMode::Replace),
        _ => Err(Error::Invalid("an attribute is created or replaced, not both")),
    }
}

/// Answers with an attribute's value or a list of names, or with its size if that is all that was asked.
pub(super) fn reply_xattr(reply: ReplyXattr, room: u32, value: &[u8]) {
    let size = u32::try_from(value.len()).unwrap_or(u32::MAX);
    match room {
        0 => reply.size(size),
        _ if room < size => reply.error(fuser::Errno::ERANGE),
        _ => reply.data(value),
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
