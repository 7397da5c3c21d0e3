//! The process that does the work, seen from the keeper.

use super::channel::{Channel, Order};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::ffi::OsString;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Carries the keeper's process id: only its direct child takes it as its own.
pub const MARK: &str = "TARN_WORKER";

/// How workers of one mount are started: this program with this command line, as it was started itself.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) program: PathBuf,
    pub(super) name: OsString,
    pub(super) arguments: Vec<OsString>,
    pub(super) cwd: PathBuf,
}

impl Plan {
    /// The plan of this process. `cwd` is where relative paths among the arguments begin.
    pub(super) fn new(cwd: PathBuf) -> Self {
        let mut arguments = std::env::args_os();
        let name = arguments.next().unwrap_or_else(|| "tarn".into());
        // A program that was replaced on disk is still there under this name.
        let program = std::env::current_exe().ok().filter(|path| path.exists());
        let program = program.unwrap_or_else(|| "/proc/self/exe".into());
        Self { program, name, arguments: arguments.collect(), cwd }
    }

    /// Starts a worker, which waits for its first order.
    pub(super) fn start(&self) -> io::Result<Worker> {
        let (channel, theirs) = Channel::pair()?;
        let child = Command::new(&self.program)
            .arg0(&self.name)
            .args(&self.arguments)
            .env(MARK, std::process::id().to_string())
            .current_dir(&self.cwd)
            // A Ctrl-C at the terminal is the keeper's to hand on.
            .process_group(0)
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .spawn()?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("a child without a number"))?;
        let handle = pidfd_open(pid, PidfdFlags::empty())?;
        Ok(Worker { child, handle, channel, serving: None })
    }
}

/// A worker that was started.
#[derive(Debug)]
pub(super) struct Worker {
    child: Child,
    handle: OwnedFd,
    pub(super) channel: Channel,
    /// Since when it answers the kernel.
    pub(super) serving: Option<Instant>,
}

impl Worker {
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Becomes readable when the process has ended.
    pub(super) fn handle(&self) -> &OwnedFd {
        &self.handle
    }

    pub(super) fn order(&self, order: &Order, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.channel.send(order, fds)
    }

    /// Hands a signal on; one that comes too late is of no use to anybody.
    pub(super) fn signal(&self, signal: Signal) {
        if let Err(errno) = pidfd_send_signal(&self.handle, signal) {
            tracing::debug!(%errno, ?signal, "the worker has ended already");
        }
    }

    /// Ends it at once.
    pub(super) fn end(&mut self) {
        self.signal(Signal::KILL);
        if let Err(error) = self.child.wait() {
            tracing::debug!(%error, "a worker cannot be waited for");
        }
    }

    /// Waits for its end, which the caller knows to be near.
    pub(super) fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait()
    }

    /// For how long it has served.
    pub(super) fn served(&self) -> Option<Duration> {
        self.serving.map(|since| crate::clock::instant().saturating_duration_since(since))
    }
}
