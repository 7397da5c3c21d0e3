//! POSIX attributes of a file and how they are kept in the user metadata of its object.
//!
//! Written in the AWS dialect (`file-permissions`, `file-owner`, `file-group`, `file-mtime`, `file-atime`), as
//! AWS's own file gateways do, with `file-ctime`, `file-btime` and `file-rdev` beside it. The dialects of s3fs
//! (`mode`, `uid`, `gid`, `atime`, `mtime`, `ctime`), geesefs (the same with `rdev` and `--symlink-target`) and
//! rclone (`mtime`) are read too. An object without metadata gets the mount's defaults. Pure.
//!
//! Invariant: no text in any field is an error; what cannot be read counts as absent.

pub mod acl;
mod text;
mod xattr;

pub use xattr::{Xattrs, drop_capabilities, has_capabilities};

use crate::error::{Error, Result};
use crate::name::Key;
use crate::store::{Headers, Version};
use std::time::SystemTime;

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory: a marker object, a common prefix, or only known here.
    Directory,
    /// A symbolic link; the object's bytes are its target.
    Symlink,
    /// A named pipe; like all below, an empty object.
    Fifo,
    /// The name of a Unix socket.
    Socket,
    /// A character device.
    CharDevice {
        /// Its number, as Linux encodes it in 32 bits.
        rdev: u32,
    },
    /// A block device.
    BlockDevice {
        /// Its number, as Linux encodes it in 32 bits.
        rdev: u32,
    },
}

impl Kind {
    /// The kind that the format bits of `mode` say; without any it is a regular file. `rdev` counts for devices.
    pub const fn of_mode(mode: u32, rdev: u32) -> Option<Self> {
        match mode & libc::S_IFMT {
            0 | libc::S_IFREG => Some(Self::File),
            libc::S_IFDIR => Some(Self::Directory),
            libc::S_IFLNK => Some(Self::Symlink),
            libc::S_IFIFO => Some(Self::Fifo),
            libc::S_IFSOCK => Some(Self::Socket),
            libc::S_IFCHR => Some(Self::CharDevice { rdev }),
            libc::S_IFBLK => Some(Self::BlockDevice { rdev }),
            _ => None,
        }
    }

    const fn format_bits(self) -> u32 {
        match self {
            Self::File => libc::S_IFREG,
            Self::Directory => libc::S_IFDIR,
            Self::Symlink => libc::S_IFLNK,
            Self::Fifo => libc::S_IFIFO,
            Self::Socket => libc::S_IFSOCK,
            Self::CharDevice { .. } => libc::S_IFCHR,
            Self::BlockDevice { .. } => libc::S_IFBLK,
        }
    }

    /// The number of a device, 0 for all else.
    pub const fn rdev(self) -> u32 {
        match self {
            Self::CharDevice { rdev } | Self::BlockDevice { rdev } => rdev,
            Self::File | Self::Directory | Self::Symlink | Self::Fifo | Self::Socket => 0,
        }
    }
}

/// What `stat` says beside the size, and chmod, chown and utimensat change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Posix {
    /// What it is.
    pub kind: Kind,
    /// Permission bits, with set-id and sticky: 12 bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last access, as utimensat set it; reading does not move it.
    #[serde(with = "crate::session_log::time")]
    pub atime: SystemTime,
    /// Last change of the content.
    #[serde(with = "crate::session_log::time")]
    pub mtime: SystemTime,
    /// Last change of the content or the attributes.
    #[serde(with = "crate::session_log::time")]
    pub ctime: SystemTime,
    /// When it was made.
    #[serde(with = "crate::session_log::time")]
    pub btime: SystemTime,
}

impl Posix {
    /// Something made at `time`, with mode and owner 0.
    pub const fn new(kind: Kind, time: SystemTime) -> Self {
        Self { kind, mode: 0, uid: 0, gid: 0, atime: time, mtime: time, ctime: time, btime: time }
    }
}

/// Whose mode and owner a mount shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attributes {
    /// Those that the object keeps; the mount's where it keeps none.
    Keep,
    /// The mount's, for every object; chmod and chown are refused.
    Fixed,
}

impl Posix {
    /// The permission bits after a change of the content or the owner by somebody who may not keep set-id bits:
    /// without `S_ISUID`, and without `S_ISGID` where the group may execute (`file_remove_privs` of the kernel).
    pub fn mode_without_set_id(&self) -> u32 {
        if self.kind == Kind::Directory {
            return self.mode;
        }
        let group = if self.mode & libc::S_IXGRP == 0 { 0 } else { libc::S_ISGID };
        self.mode & !(libc::S_ISUID | group)
    }
}

/// The attributes of objects that carry none.
#[derive(Debug, Clone, Copy)]
pub struct Defaults {
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits of files.
    pub file_mode: u32,
    /// Permission bits of directories.
    pub dir_mode: u32,
    /// Whether they hold for objects that carry some, too.
    pub attributes: Attributes,
}

impl Defaults {
    /// A directory nobody has described.
    pub fn directory(&self, time: SystemTime) -> Posix {
        self.of(Kind::Directory, time)
    }

    /// A file nobody has described.
    pub fn file(&self, time: SystemTime) -> Posix {
        self.of(Kind::File, time)
    }

    /// Something of this kind, made at `time`.
    pub fn of(&self, kind: Kind, time: SystemTime) -> Posix {
        let mode = match kind {
            Kind::Directory => self.dir_mode,
            Kind::Symlink => 0o777,
            Kind::File | Kind::Fifo | Kind::Socket | Kind::CharDevice { .. } | Kind::BlockDevice { .. } => {
                self.file_mode
            }
        };
        Posix { mode, uid: self.uid, gid: self.gid, ..Posix::new(kind, time) }
    }
}

/// Target of a symbolic link of geesefs, percent-encoded; such an object is empty.
const SYMLINK_TARGET: &str = "--symlink-target";

/// Reads the attributes of an object. What is missing or malformed takes the default. A marker is a directory
/// whatever it says; any other key is one of the other kinds.
pub fn read(headers: &Headers, version: &Version, marker: Kind, defaults: &Defaults) -> Posix {
    let number = |names: [&str; 2]| first(headers, names, |text| text.parse::<u32>().ok());
    let time = |names: [&str; 2]| first(headers, names, text::time);
    let mode = headers.user.get("file-permissions").and_then(|text| u32::from_str_radix(text, 8).ok());
    let mode = mode.or_else(|| headers.user.get("mode").and_then(|text| text::mode(text)));
    let rdev = number(["file-rdev", "rdev"]).unwrap_or(0);
    let kind = match mode.and_then(|mode| Kind::of_mode(mode, rdev)) {
        _ if marker == Kind::Directory => Kind::Directory,
        _ if headers.user.contains_key(SYMLINK_TARGET) => Kind::Symlink,
        None | Some(Kind::Directory) => Kind::File,
        Some(kind) => kind,
    };
    let mtime = time(["file-mtime", "mtime"]).unwrap_or(version.last_modified);
    let default = defaults.of(kind, mtime);
    let posix = Posix {
        atime: time(["file-atime", "atime"]).unwrap_or(mtime),
        ctime: time(["file-ctime", "ctime"]).unwrap_or(version.last_modified),
        btime: time(["file-btime", "btime"]).unwrap_or(version.last_modified),
        ..default
    };
    match defaults.attributes {
        Attributes::Fixed => posix,
        Attributes::Keep => Posix {
            mode: mode.map_or(default.mode, |mode| mode & 0o7777),
            uid: number(["file-owner", "uid"]).unwrap_or(default.uid),
            gid: number(["file-group", "gid"]).unwrap_or(default.gid),
            ..posix
        },
    }
}

/// The first of the entries that can be read.
fn first<T>(headers: &Headers, names: [&str; 2], parse: impl Fn(&str) -> Option<T>) -> Option<T> {
    names.into_iter().find_map(|name| parse(headers.user.get(name)?))
}

/// The target of a symbolic link that keeps it in its metadata.
pub fn symlink_target(headers: &Headers) -> Option<Vec<u8>> {
    headers.user.get(SYMLINK_TARGET).map(|text| percent_encoding::percent_decode_str(text).collect())
}

/// What tells a commit from every other one: the time of change in nanoseconds, where there was room for it.
pub fn commit_time(headers: &Headers) -> Option<&str> {
    headers.user.get("file-ctime").map(String::as_str)
}

/// What [`commit_time`] says of an object that was written with this time of change.
pub fn commit_mark(time: SystemTime) -> String {
    text::nanoseconds(time)
}

/// Whether the object says that it was changed last before this time.
pub fn was_changed_before(headers: &Headers, time: SystemTime) -> bool {
    commit_time(headers).and_then(text::time).is_some_and(|changed| changed < time)
}

/// Whether the object was made at this time, to the nanosecond.
pub fn was_made_at(headers: &Headers, time: SystemTime) -> bool {
    headers.user.get("file-btime").is_some_and(|text| *text == text::nanoseconds(time))
}

/// The media type that the extension of a name stands for, as the clients of S3 that upload files set it.
pub fn media_type(key: &Key) -> Option<&'static str> {
    mime_guess::from_path(key.as_str()).first_raw()
}

/// Writes the attributes into `headers`, beside whatever else is there. Where there is no room for all, the times
/// that few programs ask for stay out; if that is not enough the answer is [`Error::NoRoom`], with nothing changed.
pub fn write(posix: &Posix, headers: &mut Headers, attributes: Attributes) -> Result<()> {
    let mut user = headers.user.clone();
    let mut set = |name: &str, value: String| user.insert(name.to_owned(), value);
    // Where the mount's own mode and owner are shown, the object's are not touched; what it is must be said.
    let plain = matches!(posix.kind, Kind::File | Kind::Directory);
    if attributes == Attributes::Keep || !plain {
        set("file-permissions", format!("{:07o}", posix.kind.format_bits() | posix.mode));
        set("file-owner", posix.uid.to_string());
        set("file-group", posix.gid.to_string());
    }
    if posix.kind.rdev() != 0 {
        set("file-rdev", posix.kind.rdev().to_string());
    }
    set("file-mtime", text::nanoseconds(posix.mtime));
    set("file-ctime", text::nanoseconds(posix.ctime));
    set("file-btime", text::nanoseconds(posix.btime));
    set("file-atime", text::nanoseconds(posix.atime));
    // One dialect per object: a stale value of another would contradict ours.
    if attributes == Attributes::Keep {
        for foreign in ["mode", "uid", "gid", "rdev"] {
            user.remove(foreign);
        }
    }
    for foreign in ["atime", "mtime", "ctime", "btime"] {
        user.remove(foreign);
    }
    let mut written = Headers { user, ..headers.clone() };
    for spare in ["file-atime", "file-btime", "file-ctime"] {
        if fits(&written) {
            break;
        }
        written.user.remove(spare);
    }
    if !fits(&written) {
        return Err(Error::NoRoom);
    }
    *headers = written;
    Ok(())
}

/// Bytes of user metadata that S3 keeps with an object.
const USER_METADATA_MAX: usize = 2048;

/// Whether a store takes so much user metadata. Counted as the strictest does, with the prefix of every name.
fn fits(headers: &Headers) -> bool {
    let entry = |(name, value): (&String, &String)| "x-amz-meta-".len() + name.len() + value.len();
    headers.user.iter().map(entry).sum::<usize>() <= USER_METADATA_MAX
}

#[cfg(test)]
mod tests;
