//! Bounded disks for tests: an ext4 image of its own on a loop device, which can fill up without filling the machine's.
//!
//! Only root can mount one. The mount lives in the mount namespace of the test program (see [`crate::suite`]) and
//! is gone with it, however it ends.

use crate::run;
use anyhow::{Context, Result};
use rustix::ioctl::{Opcode, Setter, opcode};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(60);

/// An ext4 file system on a sparse image.
#[derive(Debug)]
pub struct Disk {
    home: TempDir,
    options: &'static str,
}

/// What of what waits to be written is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// All of it.
    All,
    /// All but the log of the file system: names and lengths are there, bytes are not.
    AllButTheLog,
}

impl Disk {
    /// Makes and mounts a file system of `size_mib`.
    pub fn new(size_mib: u64) -> Result<Self> {
        // It lives no longer than the test: without a journal and barriers a server's many fsyncs cost nothing. What is removed
        // goes back to the disk of the image.
        Self::make(size_mib, &["-O", "^has_journal"], "loop,nobarrier,discard")
    }

    /// The same as people have it, for what happens to it when it loses its power.
    pub fn with_journal(size_mib: u64) -> Result<Self> {
        Self::make(size_mib, &[], "loop")
    }

    fn make(size_mib: u64, features: &[&str], options: &'static str) -> Result<Self> {
        let home = tempfile::Builder::new().prefix("tarn-disk-").tempdir().context("folder for a disk")?;
        let image = home.path().join("image");
        std::fs::File::create(&image)?.set_len(size_mib << 20)?;
        std::fs::create_dir(home.path().join("mount"))?;
        let mut mkfs = Command::new("mkfs.ext4");
        run::must(mkfs.args(["-q", "-m", "0", "-F"]).args(features).arg(&image), LIMIT)?;
        let disk = Self { home, options };
        disk.mount()?;
        Ok(disk)
    }

    fn mount(&self) -> Result<()> {
        let image = self.home.path().join("image");
        run::must(Command::new("mount").args(["-o", self.options]).arg(image).arg(self.path()), LIMIT)
            .map(drop)
    }

    /// Brings to the disk what waits to be written.
    pub fn sync(&self) -> Result<()> {
        let root = std::fs::File::open(self.path()).context("open the disk's root")?;
        rustix::fs::syncfs(root).context("sync the disk")
    }

    /// From now on nothing is written any more, and what waited for it is lost (`EXT4_IOC_SHUTDOWN`). Whoever uses the disk gets
    /// EIO until it is mounted again.
    #[expect(unsafe_code, reason = "the call has no safe form")]
    pub fn lose_power(&self, loss: Loss) -> Result<()> {
        const SHUTDOWN: Opcode = opcode::read::<u32>(b'X', 125);
        let flags: u32 = match loss {
            Loss::All => 2,
            Loss::AllButTheLog => 1,
        };
        let root = std::fs::File::open(self.path()).context("open the disk's root")?;
        // SAFETY: the call reads one word, whatever its number says.
        let done = unsafe { rustix::ioctl::ioctl(root, Setter::<SHUTDOWN, u32>::new(flags)) };
        done.context("shut the disk down")
    }

    /// Mounts it again after it lost its power. Nobody may use it any more.
    pub fn mount_again(&self) -> Result<()> {
        run::must(Command::new("umount").arg(self.path()), LIMIT)?;
        self.mount()
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
