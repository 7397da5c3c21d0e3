//! The service manager that started this keeper, as a third holder of the mount's descriptors (sd_notify(3),
//! `FDSTORE=1`). If the keeper is killed or restarted, the next one gets them back and goes on with the mount; until
//! then programs wait.
//!
//! Invariant: what is stored belongs to one mount, and is taken out of the store when that has ended.

#![expect(unsafe_code, reason = "inherited descriptors are numbers")]

use crate::fuse::session::mountinfo::{self, Entry};
use rustix::event::{PollFd, PollFlags};
use rustix::process::{
    Flock, FlockType, Pid, PidfdFlags, Signal, fcntl_getlk, pidfd_open, pidfd_send_signal,
};
use sd_notify::NotifyState;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

/// The names of the descriptors in the store.
const DEVICE: &str = "tarn-device";
const LOG: &str = "tarn-log";

/// What an earlier keeper of this service has left.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) device: OwnedFd,
    pub(super) log: OwnedFd,
}

impl Stored {
    /// What the service manager has handed to this process. To be called once, before anything else is opened.
    pub(super) fn take() -> io::Result<Option<Self>> {
        let (mut device, mut log) = (None, None);
        for (number, name) in sd_notify::listen_fds_with_names()? {
            let slot = match name.as_str() {
                DEVICE => &mut device,
                LOG => &mut log,
                _ => continue,
            };
            // SAFETY: the service manager opened it for this process, and nobody here has taken it yet.
            *slot = Some(unsafe { OwnedFd::from_raw_fd(number) });
        }
        Ok(device.zip(log).map(|(device, log)| Self { device, log }))
    }

    /// The mount that the device belongs to, the last one made, if it still stands. The mount itself is not asked: nobody serves it.
    pub(super) fn mount(&self, dir: &Path) -> io::Result<Option<Entry>> {
        let mut mounts = mountinfo::read()?.into_iter().rev().filter(Entry::is_tarn);
        let found = match connection(self.device.as_fd())? {
            Some(number) => mounts.find(|entry| entry.device.rsplit(':').next() == Some(&number)),
            None => {
                let dir = std::path::absolute(dir)?;
                mounts.find(|entry| entry.dir == dir)
            }
        };
        Ok(found)
    }

    /// Kills the worker that still serves, if there is one: it locks the log while it lives.
    pub(super) fn end_worker(&self) -> io::Result<()> {
        while let Some(pid) = lock_holder(self.log.as_fd())? {
            let process = match pidfd_open(pid, PidfdFlags::empty()) {
                Ok(process) => process,
                Err(rustix::io::Errno::SRCH) => continue,
                Err(errno) => return Err(errno.into()),
            };
            // It may have ended, and its number may be another's: only who still has the lock is meant.
            if lock_holder(self.log.as_fd())? == Some(pid) {
                tracing::warn!(worker = pid.as_raw_nonzero(), "an earlier keeper's worker is ended");
                match pidfd_send_signal(&process, Signal::KILL) {
                    Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                    Err(errno) => return Err(errno.into()),
                }
            }
            super::wait(&mut [PollFd::new(&process, PollFlags::IN)], None)?;
        }
        Ok(())
    }
}

/// The process that has locked the log.
fn lock_holder(log: BorrowedFd<'_>) -> io::Result<Option<Pid>> {
    let asked = Flock::from(FlockType::WriteLock);
    match fcntl_getlk(log, &asked)? {
        Some(held) => {
            held.pid.map(Some).ok_or_else(|| io::Error::other("a process of another container serves it"))
        }
        None => Ok(None),
    }
}

/// The number of the connection of a device, where the kernel tells.
fn connection(device: BorrowedFd<'_>) -> io::Result<Option<String>> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", device.as_raw_fd()))?;
    Ok(info.lines().find_map(|line| Some(line.strip_prefix("fuse_connection:")?.trim().to_owned())))
}

/// Whether this process is a service.
pub(super) fn is_there() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// Hands copies of the descriptors to the service manager, which keeps as many as the unit allows
/// (`FileDescriptorStoreMax=`).
pub(super) fn store(device: BorrowedFd<'_>, log: BorrowedFd<'_>) {
    for (name, fd) in [(DEVICE, device), (LOG, log)] {
        if let Err(error) =
            sd_notify::notify_with_fds(&[NotifyState::FdStore, NotifyState::FdName(name)], &[fd])
        {
            tracing::warn!(%error, "the service manager cannot keep the mount when this process is killed");
        }
    }
}

/// Takes the descriptors out of the store: the mount has ended.
pub(super) fn forget() {
    for name in [DEVICE, LOG] {
        if let Err(error) = sd_notify::notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)]) {
            tracing::warn!(%error, "the service manager keeps a mount that has ended");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_not_locked_the_log_is_left_alone() {
        let file = || OwnedFd::from(tempfile::tempfile().expect("a file"));
        let stored = Stored { device: file(), log: file() };
        rustix::fs::fcntl_lock(&stored.log, rustix::fs::FlockOperation::LockExclusive).expect("locked");
        // A process does not see its own locks as others'.
        stored.end_worker().expect("nobody is there");
    }

    #[test]
    fn a_descriptor_that_is_no_device_has_no_connection() {
        let file = tempfile::tempfile().expect("a file");
        assert_eq!(connection(file.as_fd()).expect("readable"), None);
    }
}
