//! POSIX access control lists: how they and the permission bits follow each other. The kernel checks access by
//! them; keeping mode and list in step, and handing a directory's default list to what is made in it, is left to
//! the file system. Pure.

use super::{Kind, Posix, Xattrs};
use crate::error::{Error, Result};
use crate::store::Headers;

/// The list that access is checked by.
pub const ACCESS: &str = "system.posix_acl_access";
/// The list that what is made in a directory begins with.
pub const DEFAULT: &str = "system.posix_acl_default";

const USER_OBJ: u16 = 0x01;
const GROUP_OBJ: u16 = 0x04;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    tag: u16,
    permissions: u16,
    id: u32,
}

/// A list as Linux writes it into the attribute (`linux/posix_acl_xattr.h`, version 2).
#[derive(Debug, Clone, PartialEq, Eq)]
struct Acl {
    entries: Vec<Entry>,
}

impl Acl {
    const VERSION: [u8; 4] = 2u32.to_le_bytes();

    fn parse(bytes: &[u8]) -> Option<Self> {
        let entries = bytes.strip_prefix(&Self::VERSION)?.chunks(8).map(|entry| {
            let entry: [u8; 8] = entry.try_into().ok()?;
            let [t0, t1, p0, p1, id @ ..] = entry;
            Some(Entry {
                tag: u16::from_le_bytes([t0, t1]),
                permissions: u16::from_le_bytes([p0, p1]) & 7,
                id: u32::from_le_bytes(id),
            })
        });
        let acl = Self { entries: entries.collect::<Option<_>>()? };
        // Without these three it says nothing about the permission bits.
        [USER_OBJ, GROUP_OBJ, OTHER].iter().all(|tag| acl.has(*tag)).then_some(acl)
    }

    fn bytes(&self) -> Vec<u8> {
        let entry = |entry: &Entry| {
            [&entry.tag.to_le_bytes()[..], &entry.permissions.to_le_bytes(), &entry.id.to_le_bytes()].concat()
        };
        Self::VERSION.into_iter().chain(self.entries.iter().flat_map(entry)).collect()
    }

    fn has(&self, tag: u16) -> bool {
        self.entries.iter().any(|entry| entry.tag == tag)
    }

    /// The tags whose permissions are the three digits of the mode, and how far those are shifted.
    fn classes(&self) -> [(u16, u32); 3] {
        let group = if self.has(MASK) { MASK } else { GROUP_OBJ };
        [(USER_OBJ, 6), (group, 3), (OTHER, 0)]
    }

    /// Mode bits as the list says them.
    fn mode(&self) -> u32 {
        let digit = |(tag, shift): (u16, u32)| {
            let entry = self.entries.iter().find(|entry| entry.tag == tag);
            entry.map_or(0, |entry| u32::from(entry.permissions) << shift)
        };
        self.classes().into_iter().map(digit).sum()
    }

    /// Takes the permissions of the three classes from a mode.
    fn set_mode(&mut self, mode: u32) {
        for (tag, shift) in self.classes() {
            for entry in self.entries.iter_mut().filter(|entry| entry.tag == tag) {
                entry.permissions = (mode >> shift & 7) as u16;
            }
        }
    }

    /// Whether it says no more than a mode does.
    fn is_minimal(&self) -> bool {
        self.entries.len() == 3
    }
}

/// Sets the access list: the mode follows it, and a list that says no more than the mode is not kept.
pub fn set_access(posix: &mut Posix, xattrs: &mut Xattrs, value: &[u8]) -> Result<()> {
    let acl = Acl::parse(value).ok_or(Error::Invalid("not an access control list"))?;
    posix.mode = posix.mode & !0o777 | acl.mode();
    if acl.is_minimal() {
        xattrs.remove(ACCESS);
    } else {
        xattrs.set(ACCESS, acl.bytes());
    }
    Ok(())
}

/// After chmod: the access list follows the mode.
pub fn follow_mode(mode: u32, headers: &mut Headers) {
    let mut xattrs = Xattrs::read(headers);
    let Some(mut acl) = xattrs.value(ACCESS).and_then(Acl::parse) else { return };
    acl.set_mode(mode);
    xattrs.set(ACCESS, acl.bytes());
    xattrs.write(headers);
}

/// The process that makes something, and what it asks for.
#[derive(Debug, Clone, Copy)]
pub struct Maker {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bits taken from the mode, unless the directory has a default list.
    pub umask: u32,
    /// Permission bits asked for.
    pub mode: u32,
}

/// Mode, owner and lists of something that is made in a directory with these attributes.
///
/// A set-gid directory hands on its group, and its bit to directories (inode(7)); a default list hands on itself
/// in place of the umask (acl(5)).
pub fn inherit(posix: Posix, maker: Maker, directory: &Posix, above: &Headers) -> (Posix, Headers) {
    let set_gid = directory.mode & libc::S_ISGID != 0;
    let gid = if set_gid { directory.gid } else { maker.gid };
    let bit = if set_gid && posix.kind == Kind::Directory { libc::S_ISGID } else { 0 };
    let mut made = Posix { mode: maker.mode & 0o7777 | bit, uid: maker.uid, gid, ..posix };
    let (mut xattrs, mut headers) = (Xattrs::default(), Headers::default());
    let above = Xattrs::read(above);
    let default = above.value(DEFAULT).filter(|_| posix.kind != Kind::Symlink);
    match default.and_then(|value| Some((value, Acl::parse(value)?))) {
        None => made.mode &= !(maker.umask & 0o777),
        Some((value, mut acl)) => {
            made.mode &= acl.mode() | !0o777;
            acl.set_mode(made.mode);
            if !acl.is_minimal() {
                xattrs.set(ACCESS, acl.bytes());
            }
            if posix.kind == Kind::Directory {
                xattrs.set(DEFAULT, value.to_vec());
            }
        }
    }
    xattrs.write(&mut headers);
    (made, headers)
}

#[cfg(test)]
mod tests;
