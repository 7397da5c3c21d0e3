//! `mount -o remount`: a mount that stands takes writes, or runs programs, from now on or no longer, or has another
//! quota. The kernel keeps the first two and checks them (mount(2), `MS_REMOUNT`), so whoever serves the mount need not
//! know; the quota is the serving process's.

use super::record::Registry;
use crate::config::Remount;
use crate::control;
use crate::fuse::session::mountinfo::{self, Entry};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount_remount};
use std::io;
use std::path::Path;

/// Why a mount stays as it is.
#[derive(Debug, thiserror::Error)]
pub enum RemountError {
    /// There is nothing to change.
    #[error("{0} is not a mount of tarn")]
    NotMounted(String),
    /// Whoever serves it was told so when it began.
    #[error("{0} was mounted with --read-only; unmount it and mount it again")]
    ReadOnly(String),
    /// Files are open for writing.
    #[error("{0}: files are open for writing; close them, then remount")]
    Busy(String),
    /// mount(2) is for root.
    #[error("{0}: only root can change a mount; unmount it and mount it again")]
    NotRoot(String),
    /// Who serves it did not take the quota.
    #[error(transparent)]
    Control(#[from] control::Error),
    /// Anything else.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Changes the mount at `dir`.
pub fn remount(dir: &Path, change: Remount, registry: &Registry) -> Result<(), RemountError> {
    let dir = std::fs::canonicalize(dir)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", dir.display())))?;
    let said = || dir.display().to_string();
    let entry =
        mountinfo::find_last(&dir)?.filter(Entry::is_tarn).ok_or_else(|| RemountError::NotMounted(said()))?;
    let served = registry.find(&dir)?;
    if change.read_only == Some(false) && served.is_some_and(|served| served.record.read_only) {
        return Err(RemountError::ReadOnly(said()));
    }
    if change.concerns_kernel() || change.quota.is_none() {
        mount_remount(&dir, flags(&entry, change), c"").map_err(|errno| match errno {
            Errno::BUSY => RemountError::Busy(said()),
            Errno::PERM | Errno::ACCESS => RemountError::NotRoot(said()),
            errno => RemountError::Io(errno.into()),
        })?;
    }
    match change.quota {
        Some(bytes) => set_quota(&registry.socket_of(&dir), bytes),
        None => Ok(()),
    }
}

fn set_quota(socket: &Path, bytes: u64) -> Result<(), RemountError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        control::Client::connect(socket).await?.set_quota(bytes).await?;
        Ok(())
    })
}

/// All that the kernel is to know: what is not named here is taken away.
fn flags(entry: &Entry, change: Remount) -> MountFlags {
    let mut flags = MountFlags::NOSUID | MountFlags::NODEV;
    flags.set(MountFlags::RDONLY, change.read_only.unwrap_or_else(|| entry.has("ro")));
    flags.set(MountFlags::NOEXEC, change.no_exec.unwrap_or_else(|| entry.has("noexec")));
    flags
}
