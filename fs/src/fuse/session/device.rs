//! The two ways to a mounted descriptor: mount(2) as root, and the set-uid helper fusermount3 for everybody else.

use super::{FS_TYPE, Mode, MountRequest, SessionError, options};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::ffi::CString;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

/// The helper of libfuse 3.
pub(super) const HELPER: &str = "fusermount3";
/// Tells the helper which descriptor takes the device.
const HELPER_SOCKET: &str = "_FUSE_COMMFD";

/// Mounts and returns the connected descriptor.
pub(super) fn mount(request: &MountRequest) -> Result<OwnedFd, SessionError> {
    if rustix::process::geteuid().is_root() { mount_as_root(request) } else { mount_by_helper(request) }
}

fn mount_as_root(request: &MountRequest) -> Result<OwnedFd, SessionError> {
    let fd = rustix::fs::open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, rustix::fs::Mode::empty())
        .map_err(|errno| SessionError::Device(errno.into()))?;
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let data = CString::new(options::kernel(request, fd.as_raw_fd(), uid, gid))
        .expect("option text has no control characters");
    let mut flags = MountFlags::NOSUID | MountFlags::NODEV;
    flags.set(MountFlags::RDONLY, request.read_only);
    flags.set(MountFlags::NOEXEC, request.no_exec);
    rustix::mount::mount(request.source.as_str(), &request.dir, FS_TYPE, flags, data.as_c_str())
        .map_err(|errno| SessionError::Mount { dir: request.dir.clone(), source: errno.into() })?;
    Ok(fd)
}

/// The helper mounts and sends the descriptor over a socket, which it gets as its standard input: so nothing
/// has to be inherited behind the standard library's back.
fn mount_by_helper(request: &MountRequest) -> Result<OwnedFd, SessionError> {
    let (ours, theirs) = UnixStream::pair().map_err(SessionError::Helper)?;
    let child = Command::new(HELPER)
        .arg("-o")
        .arg(options::helper(request))
        .arg("--")
        .arg(&request.dir)
        .env(HELPER_SOCKET, "0")
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(SessionError::Helper)?;
    let received = receive_fd(&ours);
    drop(ours);
    let output = child.wait_with_output().map_err(SessionError::Helper)?;
    match received {
        Ok(Some(fd)) if output.status.success() => Ok(fd),
        Ok(_) => Err(refusal(&output.stderr)),
        Err(error) => Err(SessionError::Helper(error)),
    }
}

fn receive_fd(socket: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut byte = [0; 1];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    rustix::io::retry_on_intr(|| {
        recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    let rights = control.drain().find_map(|message| {
        let RecvAncillaryMessage::ScmRights(mut fds) = message else { return None };
        fds.next()
    });
    Ok(rights)
}

fn refusal(stderr: &[u8]) -> SessionError {
    let text = String::from_utf8_lossy(stderr);
    let text = text.trim().trim_start_matches("fusermount3: ");
    if text.contains("user_allow_other") {
        return SessionError::Refused(
            "allow-other needs the line user_allow_other in /etc/fuse.conf".to_owned(),
        );
    }
    SessionError::Refused(if text.is_empty() { "no reason given".to_owned() } else { text.to_owned() })
}

/// Unmounts whatever is on top at `dir`; the caller has checked that it is ours.
pub(super) fn unmount(dir: &Path, mode: Mode) -> Result<(), SessionError> {
    if rustix::process::geteuid().is_root() {
        unmount_as_root(dir, mode)
    } else {
        unmount_by_helper(dir, mode)
    }
}

fn unmount_as_root(dir: &Path, mode: Mode) -> Result<(), SessionError> {
    let lazy = match mode {
        Mode::Clean => UnmountFlags::empty(),
        Mode::Lazy => UnmountFlags::DETACH,
    };
    match rustix::mount::unmount(dir, lazy | UnmountFlags::NOFOLLOW) {
        Ok(()) => Ok(()),
        Err(Errno::BUSY) => Err(SessionError::Busy(dir.to_owned())),
        Err(errno) => Err(SessionError::Unmount { dir: dir.to_owned(), source: errno.into() }),
    }
}

fn unmount_by_helper(dir: &Path, mode: Mode) -> Result<(), SessionError> {
    let mut command = Command::new(HELPER);
    command.args(match mode {
        Mode::Clean => &["-u"][..],
        Mode::Lazy => &["-u", "-z"][..],
    });
    let output = command
        .arg("--")
        .arg(dir)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .map_err(SessionError::Helper)?;
    if output.status.success() {
        return Ok(());
    }
    let error = refusal(&output.stderr);
    let busy = matches!(&error, SessionError::Refused(text) if text.contains("busy"));
    Err(if busy { SessionError::Busy(dir.to_owned()) } else { error })
}
