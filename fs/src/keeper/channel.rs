//! What keeper and worker say to each other: JSON over a socket that keeps messages apart, with descriptors beside
//! them. Keeper and worker may be of different versions.

use crate::fuse::session::{FS_TYPE, Mounted, mountinfo};
use crate::mount::record::Outcome;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// The longest message.
const MESSAGE_MAX: usize = 128 << 10;
/// Descriptors with one message.
const FDS_MAX: usize = 2;
/// Files that a report names; the log has them all.
const NAMED_MAX: usize = 200;

/// From the keeper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// Reach the bucket for a new mount at this directory, then say [`Report::Connected`]. With the log.
    Start {
        /// The mount point, as bytes.
        dir: Vec<u8>,
    },
    /// The mount stands; serve it from its INIT on. With the device.
    Serve(MountedAt),
    /// Go on serving a mount whose worker is gone. With device and log.
    Adopt {
        /// The mount.
        mounted: MountedAt,
        /// How many workers died before.
        restarts: Restarts,
    },
    /// Finish what is under way, begin nothing, and end: the next worker waits.
    HandOver,
}

/// From the worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// The first word of every worker.
    Hello {
        /// Its version.
        version: String,
        /// The session logs that it reads and writes.
        format: u32,
    },
    /// Something the user should know.
    Warning(String),
    /// The bucket can be reached: mount.
    Connected,
    /// The kernel is being answered.
    Serving,
    /// It cannot be done.
    Failed(String),
    /// The mount is gone and the worker is about to end.
    Ended {
        /// What the last drain did.
        outcome: Outcome,
        /// What went wrong.
        error: Option<String>,
    },
}

impl Report {
    /// The end of a mount, short enough for one message.
    pub fn ended(mut outcome: Outcome, error: Option<String>) -> Self {
        outcome.failed.truncate(NAMED_MAX);
        Self::Ended { outcome, error }
    }
}

/// The workers of a mount that died.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restarts {
    /// How many.
    pub count: u64,
    /// How the last of them died: `signal: 9 (SIGKILL)`.
    pub last: String,
}

/// A mount as the keeper made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountedAt {
    id: u64,
    device: String,
    dir: Vec<u8>,
    source: String,
    /// See [`Mounted::resends`].
    resends: bool,
}

impl From<&Mounted> for MountedAt {
    fn from(Mounted { entry, resends, .. }: &Mounted) -> Self {
        let dir = entry.dir.clone().into_os_string().into_vec();
        let (device, source) = (entry.device.clone(), entry.source.clone());
        Self { id: entry.id, device, dir, source, resends: *resends }
    }
}

impl MountedAt {
    /// The mount, with the device that came with it.
    pub fn with(self, fd: OwnedFd) -> Mounted {
        let Self { id, device, dir, source, resends } = self;
        let dir = PathBuf::from(OsString::from_vec(dir));
        // They may change while it stands: the kernel's list has them.
        let options = String::new();
        let entry = mountinfo::Entry { id, device, dir, options, source, fs_type: FS_TYPE.to_owned() };
        Mounted { entry, device: fd, resends }
    }
}

/// One end.
#[derive(Debug)]
pub struct Channel(OwnedFd);

impl Channel {
    /// Both ends.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, other) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self(one), Self(other)))
    }

    /// The end that this process was started with, as its standard input.
    pub fn inherited() -> io::Result<Self> {
        Ok(Self(io::stdin().as_fd().try_clone_to_owned()?))
    }

    /// The same end once more.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self(self.0.try_clone()?))
    }

    /// Sends a message and copies of descriptors.
    pub fn send<T: Serialize>(&self, message: &T, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let text = serde_json::to_vec(message)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(io::Error::other("too many descriptors for one message"));
        }
        rustix::io::retry_on_intr(|| {
            sendmsg(&self.0, &[IoSlice::new(&text)], &mut control, SendFlags::NOSIGNAL)
        })?;
        Ok(())
    }

    /// Waits for the next message; `None` once the other end is gone.
    pub fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let mut text = vec![0; MESSAGE_MAX];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = rustix::io::retry_on_intr(|| {
            recvmsg(&self.0, &mut [IoSliceMut::new(&mut text)], &mut control, RecvFlags::CMSG_CLOEXEC)
        });
        let length = match received {
            Ok(received) => received.bytes,
            Err(rustix::io::Errno::CONNRESET) => 0,
            Err(errno) => return Err(errno.into()),
        };
        if length == 0 {
            return Ok(None);
        }
        let mut fds = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                fds.extend(received);
            }
        }
        Ok(Some((serde_json::from_slice(&text[..length])?, fds)))
    }
}

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> Self {
        channel.0
    }
}

impl From<OwnedFd> for Channel {
    fn from(socket: OwnedFd) -> Self {
        Self(socket)
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn messages_arrive_whole_with_their_descriptors() {
        let (keeper, worker) = Channel::pair().expect("a pair");
        let file = tempfile::tempfile().expect("a file");
        let order = Order::Start { dir: b"/mnt/\xff".to_vec() };
        keeper.send(&order, &[file.as_fd()]).expect("sent");
        keeper.send(&order, &[]).expect("sent");
        let (received, fds) = worker.receive::<Order>().expect("received").expect("a message");
        assert_eq!(received, order);
        let copy = std::fs::File::from(fds.into_iter().next().expect("a descriptor"));
        assert_eq!(copy.metadata().expect("stat").ino(), file.metadata().expect("stat").ino());
        assert_eq!(worker.receive::<Order>().expect("received").expect("a message").0, order);
        drop(keeper);
        assert!(worker.receive::<Order>().expect("the end").is_none());
    }
}
