//! One FUSE session: opens the device, mounts, runs the event loops, unmounts.
//!
//! Invariants: tarn mounts and unmounts by itself, never through the library; it unmounts only the mount it made
//! (compared by the kernel's mount id). Nothing here touches the mount point's files: before the loops run such a
//! call would wait for ever.
//!
//! It does not know what the file system does; any [`fuser::Filesystem`] can be served.

mod adopt;
mod device;
pub mod mountinfo;
mod notice;
mod options;

pub use adopt::DeviceSlot;
pub use options::OptionText;

use mountinfo::Entry;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use tokio::sync::watch;

/// Event loops; all read one descriptor, because a cloned one loses its requests when it closes.
pub const LOOPS: usize = 4;
/// Read-ahead of the mount: INIT cannot raise it above 128 KiB, sysfs can.
const READ_AHEAD_KB: &str = "4096";
/// The type that `mount` and `findmnt` show.
pub const FS_TYPE: &str = "fuse.tarn";

/// What is to be mounted.
#[derive(Debug, Clone)]
pub struct MountRequest {
    /// The mount point, canonical.
    pub dir: PathBuf,
    /// What the list of mounts shows as its source.
    pub source: OptionText,
    /// Other users may enter.
    pub allow_other: bool,
    /// The kernel refuses every change.
    pub read_only: bool,
    /// The kernel refuses to run programs.
    pub no_exec: bool,
}

/// Why a mount or an unmount failed.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The device cannot be opened.
    #[error("open /dev/fuse: {0}; is the fuse module loaded, and the device let into this container?")]
    Device(#[source] io::Error),
    /// mount(2) refused.
    #[error("mount at {}: {source}", dir.display())]
    Mount {
        /// The mount point.
        dir: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// fusermount3 cannot be run.
    #[error("run fusermount3: {0}; install the package fuse3, or mount as root")]
    Helper(#[source] io::Error),
    /// fusermount3 refused.
    #[error("fusermount3: {0}")]
    Refused(String),
    /// The kernel and tarn did not come to terms.
    #[error("start the session: {0}")]
    Handshake(#[source] io::Error),
    /// The mount is used by a process.
    #[error("{} is busy", .0.display())]
    Busy(PathBuf),
    /// There is another mount, or none, where ours was.
    #[error("{} is not this mount any more", .0.display())]
    NotOurs(PathBuf),
    /// The mount cannot be taken away.
    #[error("unmount {}: {source}", dir.display())]
    Unmount {
        /// The mount point.
        dir: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The list of mounts cannot be read.
    #[error("read /proc/self/mountinfo: {0}")]
    MountInfo(#[source] io::Error),
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// It was unmounted, by whomever, or its connection was aborted (`/sys/fs/fuse/connections/N/abort`, `umount -f`).
    Unmounted,
    /// An event loop failed.
    Failed(String),
}

/// How to unmount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Fail with [`SessionError::Busy`] while a process uses the mount.
    Clean,
    /// Take it out of the tree at once; open files live on until they are closed.
    Lazy,
}

/// A running session. Dropping it leaves the mount: call [`SessionHandle::unmount`].
#[derive(Debug)]
pub struct SessionHandle {
    entry: Entry,
    ended: watch::Receiver<Option<Ended>>,
}

/// A mount and its device, without anybody who serves it yet.
#[derive(Debug)]
pub struct Mounted {
    /// Where it stands.
    pub entry: Entry,
    /// The kernel's end: requests come here. While a copy of it is open, the mount lives.
    pub device: OwnedFd,
    /// Whether the kernel sends requests again that a dead worker has read and not answered (Linux 6.9).
    pub resends: bool,
}

impl Mounted {
    /// The mount with its device.
    pub fn new(entry: Entry, device: OwnedFd) -> Self {
        let resends = adopt::resends(device.as_fd());
        Self { entry, device, resends }
    }

    /// The device for one worker. Where requests are not sent again, those that it has read fail with its end, and
    /// nobody waits for them for ever.
    pub fn device_for_worker(&self) -> io::Result<OwnedFd> {
        if self.resends { self.device.try_clone() } else { adopt::clone_device(self.device.as_fd()) }
    }

    /// Lets every thread that waits for a request have one, which is answered at once.
    pub fn nudge(dir: &Path) -> io::Result<()> {
        for _ in 0..LOOPS {
            let dir = dir.to_owned();
            // What it says is of no interest.
            let ask = move || rustix::fs::statfs(&dir).is_ok();
            std::thread::Builder::new().name("tarn-nudge".to_owned()).spawn(ask)?;
        }
        Ok(())
    }
}

/// Mounts; nobody serves yet. On an error nothing stays mounted.
pub fn mount(request: &MountRequest) -> Result<Mounted, SessionError> {
    let device = device::mount(request)?;
    let entry = match mountinfo::find_last(&request.dir) {
        Ok(Some(entry)) if entry.is_tarn() => entry,
        Ok(Some(_) | None) => return Err(undo(&request.dir, SessionError::NotOurs(request.dir.clone()))),
        Err(error) => return Err(undo(&request.dir, SessionError::MountInfo(error))),
    };
    Ok(Mounted::new(entry, device))
}

/// A mount failed before it served: a lazy unmount cannot wait for it.
fn undo(dir: &Path, error: SessionError) -> SessionError {
    if let Err(second) = device::unmount(dir, Mode::Lazy) {
        tracing::warn!(error = %second, "a mount that failed to start is left behind");
    }
    error
}

/// Mounts and starts to serve in this process. On an error nothing stays mounted.
pub fn start<A>(request: &MountRequest, adapter: A, slot: &DeviceSlot) -> Result<SessionHandle, SessionError>
where
    A: fuser::Filesystem + Send + Sync + 'static,
{
    let mounted = mount(request)?;
    let dir = mounted.entry.dir.clone();
    let handle = serve(mounted, adapter, slot).map_err(|error| undo(&dir, error))?;
    raise_read_ahead(&handle.entry);
    Ok(handle)
}

/// Starts to serve a new mount: answers the kernel's INIT first.
pub fn serve<A>(mounted: Mounted, adapter: A, slot: &DeviceSlot) -> Result<SessionHandle, SessionError>
where
    A: fuser::Filesystem + Send + Sync + 'static,
{
    let Mounted { entry, device, .. } = mounted;
    slot.fill(&device).map_err(SessionError::Handshake)?;
    let session = fuser::Session::from_fd(adapter, device, fuser::SessionACL::All, config());
    run(entry, session.map_err(SessionError::Handshake)?)
}

/// Goes on serving a mount whose worker is surely dead.
pub fn adopt<A>(mounted: Mounted, adapter: A, slot: &DeviceSlot) -> Result<SessionHandle, SessionError>
where
    A: fuser::Filesystem + Send + Sync + 'static,
{
    let Mounted { entry, device, resends } = mounted;
    slot.fill(&device).map_err(SessionError::Handshake)?;
    let session = adopt::session(device.as_fd(), adapter, config(), resends)?;
    run(entry, session)
}

fn config() -> fuser::Config {
    let mut config = fuser::Config::default();
    config.n_threads = Some(LOOPS);
    config
}

fn run<A>(entry: Entry, session: fuser::Session<A>) -> Result<SessionHandle, SessionError>
where
    A: fuser::Filesystem + Send + Sync + 'static,
{
    let (sender, ended) = watch::channel(None);
    let serve = move || {
        let end = judge_end(session.run());
        // Nobody may be waiting any more; then the end is of no interest.
        sender.send(Some(end)).ok();
    };
    std::thread::Builder::new()
        .name("tarn-session".to_owned())
        .spawn(serve)
        .map_err(SessionError::Handshake)?;
    Ok(SessionHandle { entry, ended })
}

impl SessionHandle {
    /// Waits until the session has ended and every request was answered.
    pub async fn wait(&self) -> Ended {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(end) => end.clone().unwrap_or(Ended::Unmounted),
            Err(_) => Ended::Failed("the session's thread died".to_owned()),
        }
    }

    /// Waits for a failure of the event loops, with its reason; for ever if they end in another way.
    pub fn failure(&self) -> impl Future<Output = String> + Send + use<> {
        let mut ended = self.ended.clone();
        async move {
            let end = ended.wait_for(Option::is_some).await.map(|end| end.clone());
            match end {
                Ok(Some(Ended::Failed(reason))) => reason,
                Ok(Some(Ended::Unmounted) | None) => std::future::pending().await,
                Err(_) => "the session's thread died".to_owned(),
            }
        }
    }

    /// Whether the mount still stands where it was made, and not another one.
    pub fn is_mounted(&self) -> Result<bool, SessionError> {
        let last = mountinfo::find_last(self.dir()).map_err(SessionError::MountInfo)?;
        Ok(last.is_some_and(|last| last.id == self.entry.id))
    }

    /// Unmounts, if the mount is still this one.
    pub fn unmount(&self, mode: Mode) -> Result<(), SessionError> {
        if !self.is_mounted()? {
            return Err(SessionError::NotOurs(self.dir().to_owned()));
        }
        device::unmount(self.dir(), mode)
    }

    /// The mount point.
    pub fn dir(&self) -> &Path {
        &self.entry.dir
    }
}

/// Aborts the connection: every request, now and later, gets an error.
pub fn abort(entry: &Entry) -> io::Result<()> {
    let number = entry.device.rsplit(':').next().unwrap_or_default();
    std::fs::write(format!("/sys/fs/fuse/connections/{number}/abort"), "1")
}

/// Unmounts a mount of tarn that another process serves.
pub fn unmount_entry(entry: &Entry, mode: Mode) -> Result<(), SessionError> {
    device::unmount(&entry.dir, mode)
}

/// Takes away the mount at `dir`, which nobody serves.
pub fn unmount_dead(dir: &Path) -> Result<(), SessionError> {
    device::unmount(dir, Mode::Lazy)
}

/// The kernel ends a loop with ENODEV (which fuser takes as the end) or ECONNABORTED: for an aborted connection, and for
/// an unmount during a read (Linux 6.18).
fn judge_end(result: io::Result<()>) -> Ended {
    match result {
        Ok(()) => Ended::Unmounted,
        Err(error) => match error.raw_os_error() {
            Some(libc::ENODEV | libc::ECONNABORTED) => Ended::Unmounted,
            Some(_) | None => Ended::Failed(error.to_string()),
        },
    }
}

/// Raises the mount's read-ahead, where this user may.
pub fn raise_read_ahead(entry: &Entry) {
    let path = format!("/sys/class/bdi/{}/read_ahead_kb", entry.device);
    if let Err(error) = std::fs::write(&path, READ_AHEAD_KB) {
        tracing::debug!(%error, path, "read-ahead stays at the kernel's default");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_ends_are_not_failures() {
        assert_eq!(judge_end(Ok(())), Ended::Unmounted);
        assert_eq!(judge_end(Err(io::Error::from_raw_os_error(libc::ENODEV))), Ended::Unmounted);
        assert_eq!(judge_end(Err(io::Error::from_raw_os_error(libc::ECONNABORTED))), Ended::Unmounted);
        assert!(matches!(judge_end(Err(io::Error::from_raw_os_error(libc::EIO))), Ended::Failed(_)));
    }
}
