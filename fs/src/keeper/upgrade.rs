//! `tarn upgrade`: the worker is replaced by one of another binary, politely. The new one is started and asked for
//! its version while the old one serves; the old one finishes what it has begun and ends; if the new one cannot
//! take over, the old binary is started again.

use super::channel::{Channel, Order, Report};
use super::signals::Signals;
use super::worker::{Plan, Worker};
use super::{Event, Keeper, next_event};
use crate::mount::{Failure, record};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen, socket_with,
    sockopt,
};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// For the new worker's first word, and for its first answer to the kernel.
const START_LIMIT: Duration = Duration::from_secs(30);
/// For the old worker's last requests. Then it is killed, which loses nothing.
const HAND_OVER_LIMIT: Duration = Duration::from_secs(30);

/// What a keeper can be asked.
#[derive(Debug, Serialize, Deserialize)]
enum Ask {
    /// Go on with this program, a path as bytes.
    Upgrade(Vec<u8>),
}

/// The new worker's version, or why the old one goes on.
type Answer = Result<String, String>;

/// Where a keeper is asked. Dropping it removes the socket.
#[derive(Debug)]
pub(super) struct Door {
    socket: OwnedFd,
    path: PathBuf,
    inode: u64,
}

impl Door {
    /// Listens at `path`, in a directory of this user only.
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        let socket = seqpacket()?;
        record::remove(&path)?;
        // The file that `bind` makes gets the mode of the socket.
        rustix::fs::fchmod(&socket, rustix::fs::Mode::from_raw_mode(0o600))?;
        bind(&socket, &SocketAddrUnix::new(&path)?)?;
        listen(&socket, 4)?;
        let inode = std::fs::symlink_metadata(&path)?.ino();
        Ok(Self { socket, path, inode })
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// The next who asks, if it is this user or root.
    fn accept(&self) -> io::Result<Channel> {
        let peer = accept_with(&self.socket, SocketFlags::CLOEXEC)?;
        let uid = sockopt::socket_peercred(&peer)?.uid;
        if uid.is_root() || uid == rustix::process::geteuid() {
            return Ok(peer.into());
        }
        Err(io::ErrorKind::PermissionDenied.into())
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        if let Err(error) = record::remove_own(&self.path, self.inode) {
            tracing::debug!(%error, path = %self.path.display(), "the keeper's socket stays behind");
        }
    }
}

fn seqpacket() -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Asks the keeper behind the socket at `path` to go on with `binary`; gives the version that serves then.
pub fn ask(path: &Path, binary: &Path) -> io::Result<Answer> {
    let socket = seqpacket()?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    let keeper = Channel::from(socket);
    keeper.send(&Ask::Upgrade(binary.as_os_str().as_bytes().to_vec()), &[])?;
    let answer = keeper.receive::<Answer>()?;
    Ok(answer.map_or_else(|| Err("the keeper gave no answer; see its log".to_owned()), |(answer, _)| answer))
}

impl Keeper {
    /// Answers whoever asks.
    pub(super) fn serve_door(&mut self) {
        let asked = self.door.accept().and_then(|peer| Ok((peer.receive::<Ask>()?, peer)));
        let (Ask::Upgrade(binary), peer) = match asked {
            Ok((Some((ask, _)), peer)) => (ask, peer),
            Ok((None, _)) => return,
            Err(error) => return tracing::warn!(%error, "somebody asked the keeper in vain"),
        };
        let binary = PathBuf::from(OsString::from_vec(binary));
        let answer: Answer = self.upgrade(&binary).map_err(|failure| failure.to_string());
        match &answer {
            Ok(version) => tracing::info!(%version, binary = %binary.display(), "upgraded"),
            Err(error) => tracing::error!(%error, binary = %binary.display(), "not upgraded"),
        }
        if let Err(error) = peer.send(&answer, &[]) {
            tracing::debug!(%error, "nobody waits for the end of the upgrade");
        }
    }

    fn upgrade(&mut self, binary: &Path) -> Result<String, Failure> {
        let plan = Plan { program: binary.to_owned(), ..self.plan.clone() };
        let mut next =
            plan.start().map_err(|error| Failure::text(format!("{}: {error}", binary.display())))?;
        let version = match self.first_word(&next) {
            Ok(version) => version,
            Err(failure) => {
                next.end();
                return Err(failure);
            }
        };
        self.hand_over()?;
        self.worker = next;
        match self.adopted() {
            Ok(()) => {
                self.plan = plan;
                Ok(version)
            }
            Err(failure) => {
                self.worker.end();
                self.worker = self.plan.start()?;
                self.adopted()?;
                Err(Failure::text(format!("{failure}; the old version goes on")))
            }
        }
    }

    /// The version of a worker that was just started, if it can read the log.
    fn first_word(&mut self, worker: &Worker) -> Result<String, Failure> {
        match next_word(worker, &self.signals, &mut self.pending)? {
            Report::Hello { version, format } if format == self.format => Ok(version),
            Report::Hello { version, format } => Err(Failure::text(format!(
                "version {version} keeps session logs of format {format}, this mount one of {}; unmount and mount again",
                self.format
            ))),
            report @ (Report::Warning(_)
            | Report::Connected
            | Report::Serving
            | Report::Failed(_)
            | Report::Ended { .. }) => Err(Failure::text(format!("the new version began with {report:?}"))),
        }
    }

    /// Lets the old worker finish.
    pub(super) fn hand_over(&mut self) -> Result<(), Failure> {
        self.worker.order(&Order::HandOver, &[])?;
        loop {
            match next_event(&self.worker, &self.signals, None, Some(HAND_OVER_LIMIT))? {
                Some(Event::Exited) => break,
                Some(Event::Signal(signal)) => self.pending.push(signal),
                Some(Event::Report(_) | Event::Asked) => {}
                None => {
                    self.worker.signal(Signal::KILL);
                }
            }
        }
        self.worker.wait()?;
        Ok(())
    }

    /// Lets this worker take over and waits until it serves.
    fn adopted(&mut self) -> Result<(), Failure> {
        self.order_adoption()?;
        loop {
            match next_word(&self.worker, &self.signals, &mut self.pending)? {
                Report::Serving => {
                    self.serving();
                    return Ok(());
                }
                Report::Failed(text) => return Err(Failure::text(text)),
                Report::Hello { .. } | Report::Warning(_) | Report::Connected | Report::Ended { .. } => {}
            }
        }
    }
}

/// What a new worker says next. Signals wait until somebody serves.
fn next_word(worker: &Worker, signals: &Signals, pending: &mut Vec<Signal>) -> Result<Report, Failure> {
    loop {
        match next_event(worker, signals, None, Some(START_LIMIT))? {
            Some(Event::Report(report)) => return Ok(report),
            Some(Event::Exited) => return Err(Failure::text("the new version ended at once")),
            Some(Event::Signal(signal)) => pending.push(signal),
            Some(Event::Asked) => {}
            None => {
                let seconds = START_LIMIT.as_secs();
                return Err(Failure::text(format!("the new version says nothing for {seconds} s")));
            }
        }
    }
}
