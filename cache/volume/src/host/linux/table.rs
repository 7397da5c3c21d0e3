//! The kernel's table of mounts. Pure.

use crate::id::VolumeId;
use rustix::fs::makedev;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// A mounted volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mounted {
    /// Where.
    pub(super) at: PathBuf,
    /// The number of its device.
    pub(super) device: u64,
    /// The type of its file system.
    pub(super) kind: String,
}

/// The volumes that are mounted in this directory, each under its own name. Of several mounts on one point the last
/// is the one that is seen.
pub(super) fn below(mountinfo: &str, directory: &Path) -> BTreeMap<VolumeId, Mounted> {
    let mounts = mountinfo.lines().filter_map(parse);
    let own = mounts.filter_map(|mount| {
        let name = mount.at.strip_prefix(directory).ok()?.to_str()?;
        Some((VolumeId::parse(name).ok()?, mount))
    });
    own.collect()
}

fn parse(line: &str) -> Option<Mounted> {
    let (fixed, rest) = line.split_once(" - ")?;
    let mut fields = fixed.split(' ').skip(2);
    let (major, minor) = fields.next()?.split_once(':')?;
    let device = makedev(major.parse().ok()?, minor.parse().ok()?);
    let at = unescape(fields.nth(1)?);
    Some(Mounted { at, device, kind: rest.split(' ').next()?.to_owned() })
}

/// Spaces, tabs, line breaks and backslashes are written as three octal digits.
fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let octal =
            after.get(..3).filter(|_| first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_below_the_directory_are_found_and_nothing_else() {
        let table = "\
            22 1 254:0 / / rw shared:1 - ext4 /dev/vda rw\n\
            30 22 7:1 / /var/my\\040cache/vol-00000001 rw,noatime - ext4 /dev/loop1 rw\n\
            31 22 7:2 / /var/my\\040cache/vol-00000002/cache rw - xfs /dev/loop2 rw\n\
            32 22 7:3 / /var/my\\040cache/other rw - xfs /dev/loop3 rw\n\
            33 22 7:4 / /mnt/vol-00000003 rw master:2 - xfs /dev/loop4 rw\n\
            nonsense\n";
        let found = below(table, Path::new("/var/my cache"));
        let at = PathBuf::from("/var/my cache/vol-00000001");
        let mounted = Mounted { at, device: makedev(7, 1), kind: "ext4".into() };
        assert_eq!(found, BTreeMap::from([(VolumeId::parse("vol-00000001").unwrap(), mounted)]));
    }
}
