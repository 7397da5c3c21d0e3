//! Disks that are small or break, and what they do to the store. Needs root.

use crate::support::{fill_all, id, misses, open_at};
use rustix::fs::{Advice, fadvise};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use tarn_cache::BLOCK_SIZE;
use tempfile::TempDir;

/// A file system of its own, gone with the value.
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    /// A tmpfs of so many MiB, mounted in `dir`; `None`, with the reason printed, without root.
    pub(crate) fn in_memory(dir: &Path, mib: u64) -> Option<Self> {
        let path = Self::mount_point(dir)?;
        let options = std::ffi::CString::new(format!("size={mib}m")).unwrap();
        mount("tmpfs", &path, "tmpfs", MountFlags::empty(), Some(options.as_c_str())).unwrap();
        Some(Self(path))
    }

    /// An ext4 in the file `image`, mounted in `dir`; `None`, with the reason printed, where that is not possible.
    fn in_file(dir: &Path, image: &Path) -> Option<Self> {
        let path = Self::mount_point(dir)?;
        File::create(image).unwrap().set_len(64 << 20).unwrap();
        let run = |program: &str, args: &[&str], paths: &[&Path]| {
            let output = Command::new(program).args(args).args(paths).output();
            output.is_ok_and(|output| output.status.success())
        };
        if !run("mkfs.ext4", &["-q"], &[image]) || !run("mount", &["-o", "loop"], &[image, &path]) {
            println!("skipped: needs mkfs.ext4 and a loop device");
            return None;
        }
        Some(Self(path))
    }

    fn mount_point(dir: &Path) -> Option<PathBuf> {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: needs root to mount a small disk");
            return None;
        }
        let path = dir.join("disk");
        std::fs::create_dir(&path).unwrap();
        Some(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn cache(&self) -> PathBuf {
        self.0.join("cache")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        unmount(&self.0, UnmountFlags::DETACH).unwrap();
    }
}

#[test]
fn a_disk_that_cannot_be_read_is_a_miss() {
    let dir = TempDir::new().unwrap();
    let image = dir.path().join("image");
    let Some(disk) = SmallDisk::in_file(dir.path(), &image) else { return };
    let store = open_at(&disk.cache(), 1 << 30, "boot");
    let object = store.object(&id("a", 3 * BLOCK_SIZE)).unwrap();
    fill_all(&object);
    assert_eq!(misses(&object), [0_u64; 0]);

    // Out of memory with the bytes, then the disk is cut off behind its first megabytes.
    let data = File::open(object.path()).unwrap();
    data.sync_all().unwrap();
    fadvise(&data, 0, None, Advice::DontNeed).unwrap();
    File::options().write(true).open(&image).unwrap().set_len(4096).unwrap();
    assert_eq!(misses(&object), [0, 1, 2]);
    assert!(!object.is_whole());
    assert_eq!(store.stats().io_errors, 3);

    // A disk that cannot be written is no error to who brings a block either.
    fill_all(&object);
    fill_all(&store.object(&id("b", 100 * BLOCK_SIZE)).unwrap());
}
