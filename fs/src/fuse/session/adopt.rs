//! Takes a running connection over from a worker that is dead.
//!
//! The library begins every session with the kernel's INIT, which comes once for a connection. So it gets one from
//! a socket of our own, and its descriptor is exchanged for the device before the first request is read. Then the
//! kernel is asked to send what the dead worker had read and not answered once more (`FUSE_NOTIFY_RESEND`, since
//! Linux 6.9). Older kernels cannot: there each worker reads from a clone of the device, and what it had not answered
//! fails when the clone is closed with its end.

#![expect(unsafe_code, reason = "dup2 over a descriptor that the library owns, and an ioctl of FUSE")]

use super::{SessionError, notice};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};

/// The kernel's device, known once there is a mount. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub struct DeviceSlot(Arc<OnceLock<OwnedFd>>);

impl DeviceSlot {
    /// Keeps a copy of the device.
    pub fn fill(&self, device: &OwnedFd) -> io::Result<()> {
        // A second one would be the same connection.
        let _ = self.0.set(device.try_clone()?);
        Ok(())
    }

    /// Lets the kernel close a backing file (`FUSE_DEV_IOC_BACKING_CLOSE`).
    pub(in crate::fuse) fn close_backing(&self, id: u32) -> io::Result<()> {
        const CLOSE: rustix::ioctl::Opcode = rustix::ioctl::opcode::write::<u32>(229, 2);
        let Some(device) = self.0.get() else { return Ok(()) };
        // SAFETY: the request takes a pointer to one u32, which `Setter` passes, and writes nothing.
        unsafe { rustix::ioctl::ioctl(device, rustix::ioctl::Setter::<CLOSE, u32>::new(id)) }?;
        Ok(())
    }

    /// Lets the kernel ask for the attributes of an inode anew.
    pub(in crate::fuse) fn attributes_moved(&self, ino: u64) {
        let Some(device) = self.0.get() else { return };
        match rustix::io::write(device, &notice::attributes_moved(ino)) {
            // It knows no such inode (any more), or there is no mount any more.
            Ok(_) | Err(Errno::NOENT | Errno::NODEV | Errno::CONNABORTED) => {}
            Err(errno) => tracing::warn!(ino, %errno, "the kernel shows old attributes for their lifetime"),
        }
    }

    /// Lets the kernel look every name up anew: one of them may not be what it takes it for. Older kernels believe what
    /// they know for its lifetime.
    pub(in crate::fuse) fn names_changed(&self) {
        let Some(device) = self.0.get() else { return };
        match rustix::io::write(device, &notice::names_changed()) {
            Ok(_) | Err(Errno::INVAL | Errno::NODEV | Errno::CONNABORTED) => {}
            Err(errno) => tracing::warn!(%errno, "the kernel shows old names for their lifetime"),
        }
    }
}

/// Whether this kernel sends requests again. Asks it to, so nobody may be serving.
pub(super) fn resends(device: BorrowedFd<'_>) -> bool {
    // Tests of older kernels run on this one, in development builds.
    let older = cfg!(debug_assertions) && std::env::var_os("TARN_NO_RESEND").is_some();
    !older && !matches!(rustix::io::write(device, &notice::resend()), Err(Errno::INVAL))
}

/// Another end of the same connection (`FUSE_DEV_IOC_CLONE`).
pub(super) fn clone_device(device: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    const CLONE: rustix::ioctl::Opcode = rustix::ioctl::opcode::read::<u32>(229, 0);
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let clone = rustix::fs::open("/dev/fuse", flags, rustix::fs::Mode::empty())?;
    let number = device.as_raw_fd().cast_unsigned();
    // SAFETY: the request takes a pointer to one u32, a descriptor, which `Setter` passes, and writes nothing.
    unsafe { rustix::ioctl::ioctl(&clone, rustix::ioctl::Setter::<CLONE, u32>::new(number)) }?;
    Ok(clone)
}

/// A session on `device` that skips the INIT.
pub(super) fn session<A: fuser::Filesystem>(
    device: BorrowedFd<'_>,
    adapter: A,
    config: fuser::Config,
    resends: bool,
) -> Result<fuser::Session<A>, SessionError> {
    let handshake = |error: Errno| SessionError::Handshake(error.into());
    let (theirs, ours) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map_err(handshake)?;
    rustix::io::write(&ours, &init_request()).map_err(handshake)?;
    let session = fuser::Session::from_fd(adapter, theirs, fuser::SessionACL::All, config)
        .map_err(SessionError::Handshake)?;
    let target = session.as_fd().as_raw_fd();
    // SAFETY: both descriptors are open. The session owns the target before and after: only what it stands for
    // changes, and nobody reads from it yet.
    if unsafe { libc::dup3(device.as_raw_fd(), target, libc::O_CLOEXEC) } != target {
        return Err(SessionError::Handshake(io::Error::last_os_error()));
    }
    if resends {
        match rustix::io::write(device, &notice::resend()) {
            // If it was unmounted meanwhile, the session ends at its first read.
            Ok(_) | Err(Errno::NODEV | Errno::CONNABORTED) => {}
            Err(errno) => return Err(handshake(errno)),
        }
    }
    Ok(session)
}

/// `fuse_in_header` and `fuse_init_in` of a kernel that offers everything; what was agreed stands in the log.
fn init_request() -> Vec<u8> {
    const LENGTH: u32 = 40 + 64;
    const INIT: u32 = 26;
    const VERSION: [u32; 2] = [7, 41];
    let mut request = Vec::with_capacity(LENGTH as usize);
    let mut words = |words: &[u32]| words.iter().for_each(|word| request.extend(word.to_ne_bytes()));
    words(&[LENGTH, INIT]);
    // unique, nodeid, uid, gid, pid, padding
    words(&[2, 0, 0, 0, 0, 0, 0, 0]);
    // version, read-ahead, flags, more flags, unused
    words(&VERSION);
    words(&[128 << 10, u32::MAX, u32::MAX]);
    words(&[0; 11]);
    request
}
