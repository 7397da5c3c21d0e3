//! POSIX attributes of a file and how they are kept in the user metadata of its object.
//!
//! Written in the AWS dialect (`file-permissions`, `file-owner`, `file-group`, `file-mtime`), as AWS's own file
//! gateways do; the dialects of s3fs (`mode`, `uid`, `gid`, `mtime`) and rclone (`mtime`) are read too.
//! An object without metadata gets the mount's defaults. Pure.

use crate::store::{Headers, Version};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory: a marker object, a common prefix, or only known here.
    Directory,
    /// A symbolic link; the object's bytes are its target.
    Symlink,
}

impl Kind {
    const fn format_bits(self) -> u32 {
        match self {
            Self::File => libc::S_IFREG,
            Self::Directory => libc::S_IFDIR,
            Self::Symlink => libc::S_IFLNK,
        }
    }
}

/// The attributes that chmod, chown and utimensat change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Posix {
    /// What it is.
    pub kind: Kind,
    /// Permission bits, with set-id and sticky: 12 bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last change of the content.
    pub mtime: SystemTime,
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
}

impl Defaults {
    /// A directory nobody has described.
    pub fn directory(&self, mtime: SystemTime) -> Posix {
        Posix { kind: Kind::Directory, mode: self.dir_mode, uid: self.uid, gid: self.gid, mtime }
    }

    /// A file nobody has described.
    pub fn file(&self, mtime: SystemTime) -> Posix {
        Posix { kind: Kind::File, mode: self.file_mode, uid: self.uid, gid: self.gid, mtime }
    }
}

/// Reads the attributes of an object. What is missing or malformed takes the default. `kind` is what the key
/// says (a marker is a directory); only a regular key may turn out to be a symbolic link.
pub fn read(headers: &Headers, version: &Version, kind: Kind, defaults: &Defaults) -> Posix {
    let field = |names: [&str; 2]| names.iter().find_map(|name| headers.user.get(*name));
    let mut posix = match kind {
        Kind::Directory => defaults.directory(version.last_modified),
        Kind::File | Kind::Symlink => defaults.file(version.last_modified),
    };
    let octal = headers.user.get("file-permissions").and_then(|text| u32::from_str_radix(text, 8).ok());
    let mode = octal.or_else(|| headers.user.get("mode").and_then(|text| text.parse().ok()));
    if let Some(mode) = mode {
        posix.mode = mode & 0o7777;
        if kind == Kind::File && mode & libc::S_IFMT == libc::S_IFLNK {
            posix.kind = Kind::Symlink;
        }
    }
    let number = |names| field(names).and_then(|text| text.parse().ok());
    posix.uid = number(["file-owner", "uid"]).unwrap_or(posix.uid);
    posix.gid = number(["file-group", "gid"]).unwrap_or(posix.gid);
    posix.mtime = field(["file-mtime", "mtime"]).and_then(|text| parse_time(text)).unwrap_or(posix.mtime);
    posix
}

/// Writes the attributes into `headers`, beside whatever else is there.
pub fn write(posix: &Posix, headers: &mut Headers) {
    let mode = posix.kind.format_bits() | posix.mode;
    let mut set = |name: &str, value: String| headers.user.insert(name.to_owned(), value);
    set("file-permissions", format!("{mode:07o}"));
    set("file-owner", posix.uid.to_string());
    set("file-group", posix.gid.to_string());
    set("file-mtime", format!("{}ns", nanoseconds(posix.mtime)));
    // One dialect per object: a stale value of another would contradict ours.
    for foreign in ["mode", "uid", "gid", "mtime"] {
        headers.user.remove(foreign);
    }
}

fn nanoseconds(time: SystemTime) -> i128 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_nanos().cast_signed(),
        Err(before) => -before.duration().as_nanos().cast_signed(),
    }
}

/// Seconds with an optional fraction (s3fs, rclone), or a whole number with `ns`, `ms` or `s` (AWS).
fn parse_time(text: &str) -> Option<SystemTime> {
    let scaled = |number: &str, scale: i128| number.parse::<i128>().ok()?.checked_mul(scale);
    let nanos = if let Some(number) = text.strip_suffix("ns") {
        scaled(number, 1)?
    } else if let Some(number) = text.strip_suffix("ms") {
        scaled(number, 1_000_000)?
    } else {
        let (whole, fraction) =
            text.trim_end_matches('s').split_once('.').unwrap_or((text.trim_end_matches('s'), ""));
        let digits: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
        let fraction = digits.parse::<u32>().ok()?;
        let whole = scaled(whole, 1_000_000_000)?;
        if text.starts_with('-') { whole - i128::from(fraction) } else { whole + i128::from(fraction) }
    };
    let length = Duration::from_nanos(u64::try_from(nanos.unsigned_abs()).ok()?);
    if nanos < 0 { UNIX_EPOCH.checked_sub(length) } else { UNIX_EPOCH.checked_add(length) }
}

#[cfg(test)]
mod tests;
