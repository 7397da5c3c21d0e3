//! Paths and ids as they come in calls, judged before anything is done with them.

use crate::error::{Error, Kind, Result};
use sha2::{Digest, Sha256};
use std::path::{Component, Path, PathBuf};
use tarn_fs::fuse::session::mountinfo;

/// The longest path of Linux.
const PATH_MAX: usize = 4096;
/// Longer ids are not for Kubernetes either.
const ID_MAX: usize = 1024;

/// Checks the id of a volume, ours or a static one's: free text of one line.
pub(super) fn volume_id(text: &str) -> Result<&str> {
    if text.is_empty() {
        return Err(Error::invalid("the volume id is missing"));
    }
    if text.len() > ID_MAX || text.contains(char::is_control) {
        return Err(Error::invalid("the volume id has over 1024 bytes or a control character"));
    }
    Ok(text)
}

/// Checks a path of a call: absolute, below the kubelet's folder, and without a symbolic link on the way.
pub(super) fn inside(root: &Path, what: &str, text: &str) -> Result<PathBuf> {
    if text.is_empty() {
        return Err(Error::invalid(format!("the {what} is missing")));
    }
    let path = Path::new(text);
    let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    // `components` passes over `.` and `//`; the kernel's table would show another text.
    let same = path.components().collect::<PathBuf>().as_os_str() == text.trim_end_matches('/');
    if text.len() > PATH_MAX || text.contains(char::is_control) || !path.is_absolute() || !plain || !same {
        return Err(Error::invalid(format!("the {what} {text:?} is no plain absolute path")));
    }
    let path = PathBuf::from(text.trim_end_matches('/'));
    if !path.starts_with(root) || path == root {
        return Err(Error::invalid(format!("the {what} {text:?} is not below {}", root.display())));
    }
    no_links(&path, what)?;
    Ok(path)
}

/// A symbolic link on the way, or at the end, would put the mount elsewhere. Only the part that exists can have one;
/// the last component is looked at without following it, because it may be a dead mount.
fn no_links(path: &Path, what: &str) -> Result<()> {
    let linked =
        |at: &Path| Error::invalid(format!("the {what} goes through a symbolic link at {}", at.display()));
    if let Some(parent) = path.parent()
        && let Some(existing) = parent.ancestors().find(|dir| dir.exists())
    {
        let real = existing.canonicalize();
        let real =
            real.map_err(|error| Error::local(format_args!("look at {}", existing.display()), &error))?;
        if real != existing {
            return Err(linked(existing));
        }
    }
    // A mount point is no link, and to ask a mount that does not answer would wait for ever.
    if mountinfo::find_last(path).is_ok_and(|entry| entry.is_some()) {
        return Ok(());
    }
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_symlink() => Err(linked(path)),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// A short name for the mount at `dir`, for its private folder.
pub(super) fn short(dir: &Path) -> String {
    let sum = Sha256::digest(dir.as_os_str().as_encoded_bytes());
    sum.iter().take(12).map(|byte| format!("{byte:02x}")).collect()
}

/// Reads the group of a pod's fsGroup.
pub(super) fn group(text: &str) -> Result<Option<u32>> {
    if text.is_empty() {
        return Ok(None);
    }
    let group =
        text.parse().map_err(|_| Error::new(Kind::Invalid, format!("the mount group {text:?} is no number")));
    group.map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_paths_are_refused() {
        let temp = tempfile::tempdir().expect("temp dir");
        let root = temp.path().canonicalize().expect("exists");
        let below = |path: &str| inside(&root, "target path", &format!("{}{path}", root.display()));
        assert!(below("/pods/x/mount").is_ok() && below("/pods/x/mount/").is_ok());
        std::os::unix::fs::symlink("/etc", root.join("link")).expect("symlink");
        for bad in ["", "/", "/../x", "/./x", "//x", "/x/../../y", "/x\ny", "/link", "/link/x"] {
            assert!(below(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "relative", "/etc/passwd", &"/x".repeat(3000)] {
            assert!(inside(&root, "target path", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn ids_and_groups() {
        assert!(volume_id("any text, of an administrator").is_ok());
        for bad in ["", "a\nb", "a\0b", &"x".repeat(2000)] {
            assert_eq!(volume_id(bad).expect_err("bad").kind, Kind::Invalid);
        }
        assert_eq!((group("").expect("none"), group("2000").expect("good")), (None, Some(2000)));
        assert!(group("-1").is_err() && group("1,uid=0").is_err());
    }
}
