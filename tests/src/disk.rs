//! Bounded disks for tests: an ext4 image of its own on a loop device, which can fill up without filling the machine's.
//!
//! Only root can mount one. The mount lives in the mount namespace of the test program (see [`crate::suite`]) and
//! is gone with it, however it ends.

use crate::run;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(60);

/// An ext4 file system on a sparse image.
#[derive(Debug)]
pub struct Disk {
    home: TempDir,
}

impl Disk {
    /// Makes and mounts a file system of `size_mib`.
    pub fn new(size_mib: u64) -> Result<Self> {
        let home = tempfile::Builder::new().prefix("tarn-disk-").tempdir().context("folder for a disk")?;
        let image = home.path().join("image");
        std::fs::File::create(&image)?.set_len(size_mib << 20)?;
        let mount = home.path().join("mount");
        std::fs::create_dir(&mount)?;
        // It lives no longer than the test: without a journal and barriers a server's many fsyncs cost nothing. What is removed
        // goes back to the disk of the image.
        let features = ["-q", "-m", "0", "-O", "^has_journal", "-F"];
        run::must(Command::new("mkfs.ext4").args(features).arg(&image), LIMIT)?;
        run::must(
            Command::new("mount").args(["-o", "loop,nobarrier,discard"]).arg(&image).arg(&mount),
            LIMIT,
        )?;
        Ok(Self { home })
    }

    /// Its root folder.
    pub fn path(&self) -> PathBuf {
        self.home.path().join("mount")
    }

    /// Bytes that can still be written.
    pub fn free(&self) -> Result<u64> {
        free(&self.path())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Err(error) = run::must(Command::new("umount").arg("-l").arg(self.path()), LIMIT) {
            eprintln!("disk stays mounted: {error:#}");
        }
    }
}

/// Bytes that can still be written to the file system of `path`.
pub fn free(path: &Path) -> Result<u64> {
    let stat = rustix::fs::statvfs(path).context("statvfs")?;
    Ok(stat.f_bavail * stat.f_frsize)
}

/// Whether this process may mount disks.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
