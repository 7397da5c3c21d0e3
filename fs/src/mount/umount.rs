//! `tarn umount DIR`: takes the mount away and waits until the process behind it has committed everything.

use super::checks;
use super::record::{Outcome, Registry, Watched};
use super::serve::holders;
use crate::fuse::session::{self, Mode, SessionError, mountinfo};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How `tarn umount` ended well.
#[derive(Debug, PartialEq, Eq)]
pub enum Done {
    /// The process said what it committed, and ended.
    Drained(Outcome),
    /// A mount without a living process was cleaned up.
    Cleaned,
    /// The mount is gone; who served it is not known to this user.
    Unmounted,
    /// The worker of a keeper that was killed has ended.
    Orphaned {
        /// Where it logged.
        log: String,
    },
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drained(outcome) if outcome.committed == 0 => {
                f.write_str("unmounted; everything was in the bucket")
            }
            Self::Drained(outcome) => {
                write!(
                    f,
                    "unmounted; {} files were committed, everything is in the bucket",
                    outcome.committed
                )
            }
            Self::Cleaned => f.write_str(
                "removed a dead mount; what its process had not committed stays in the cache directory",
            ),
            Self::Unmounted => f.write_str(
                "unmounted; the process that serves it belongs to somebody else and commits by itself",
            ),
            Self::Orphaned { log } => write!(
                f,
                "unmounted; its keeper had been killed: the log says what its worker committed at the end ({log}), \
                 and what it could not stays in the cache directory for the next mount"
            ),
        }
    }
}

/// Why `tarn umount` failed.
#[derive(Debug, thiserror::Error)]
pub enum UmountError {
    /// There is nothing to unmount.
    #[error("{0} is not a mount of tarn")]
    NotMounted(String),
    /// Somebody uses it.
    #[error("{dir} is in use{by}; close it, or commit and detach it with: tarn umount --force {dir}")]
    Busy {
        /// The mount point.
        dir: String,
        /// By whom, as far as it can be seen.
        by: String,
    },
    /// It took too long.
    #[error(
        "{dir}: process {pid} still commits after {seconds} s; wait for it, or end it at once with: tarn umount --force \
         --timeout 1s {dir}; its log: {log}"
    )]
    Timeout {
        /// The mount point.
        dir: String,
        /// The serving process.
        pid: i32,
        /// The time that was given.
        seconds: u64,
        /// Where it logs.
        log: String,
    },
    /// Some files are not in the bucket.
    #[error("{count} files are not in the bucket, first {first}; the log: {log}")]
    Left {
        /// How many.
        count: usize,
        /// One of them, with the reason.
        first: String,
        /// Where the process logged.
        log: String,
    },
    /// The process ended without a word.
    #[error("the serving process {pid} died before it said that everything is in the bucket; its log: {log}")]
    Died {
        /// The process.
        pid: i32,
        /// Where it logged.
        log: String,
    },
    /// The unmount itself.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// Anything else.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Unmounts `dir` and waits for its process. With `force` a mount in use is committed and detached.
pub fn umount(dir: &Path, force: bool, timeout: Duration, registry: &Registry) -> Result<Done, UmountError> {
    let end = Instant::now() + timeout;
    let dir = locate(dir)?;
    let entry = mountinfo::find_last(&dir)?
        .filter(mountinfo::Entry::is_tarn)
        .ok_or_else(|| UmountError::NotMounted(dir.display().to_string()))?;
    let dead = checks::is_dead_mount(&dir);
    let watched = registry.find(&dir)?;
    // Opened before the unmount: afterwards the process may end, and its number may be given to another.
    let server = watched.as_ref().map(|watched| Server::of(watched, registry)).transpose()?.flatten();
    let unmounted = match &server {
        // An unmount asks the serving process, which may be what hangs.
        Some(server) if force => {
            pidfd_send_signal(&server.process, Signal::TERM).map_err(io::Error::from)?;
            Ok(())
        }
        Some(_) => session::unmount_entry(&entry, Mode::Clean),
        None if force => session::unmount_entry(&entry, Mode::Lazy),
        None => session::unmount_entry(&entry, Mode::Clean),
    };
    match unmounted {
        Ok(()) => {}
        Err(SessionError::Busy(_)) => {
            let by = holders(&dir).join(", ");
            let by = if by.is_empty() { by } else { format!(" by {by}") };
            return Err(UmountError::Busy { dir: dir.display().to_string(), by });
        }
        Err(error) => return Err(error.into()),
    }
    match (watched, server) {
        (Some(watched), Some(server)) => {
            let ended = await_end(watched, &server, end, timeout);
            if force && matches!(ended, Err(UmountError::Timeout { .. })) {
                end_by_force(&entry, &server)?;
            }
            ended
        }
        (Some(_) | None, _) if dead => Ok(Done::Cleaned),
        (Some(watched), None) => outcome(watched),
        (None, _) => Ok(Done::Unmounted),
    }
}

/// The process to wait for.
struct Server {
    pid: i32,
    process: OwnedFd,
    /// It is the keeper; if that was killed, its worker.
    keeps: bool,
}

impl Server {
    /// `None` if it has ended.
    fn of(watched: &Watched, registry: &Registry) -> io::Result<Option<Self>> {
        let keeps = watched.is_kept();
        let pid = match keeps {
            true => Some(watched.record.process.pid),
            false => listener(&registry.socket_of(&watched.record.dir)),
        };
        let Some(pid) = pid else { return Ok(None) };
        Ok(open_process(pid)?.map(|process| Self { pid, process, keeps }))
    }
}

/// The process that listens at `path`.
fn listener(path: &Path) -> Option<i32> {
    let stream = UnixStream::connect(path).ok()?;
    Some(rustix::net::sockopt::socket_peercred(&stream).ok()?.pid.as_raw_nonzero().get())
}

/// Takes the connection and the processes away: whoever waits in the mount gets an error. What was not committed
/// stays in the cache directory.
fn end_by_force(entry: &mountinfo::Entry, server: &Server) -> Result<(), UmountError> {
    let Server { pid, process, .. } = server;
    // Where sysfs does not show connections, this one ends with the processes that hold it.
    if let Err(error) = session::abort(entry) {
        tracing::debug!(%error, "not aborted by itself");
    }
    let workers = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    // First the keeper, so that it starts no other worker.
    pidfd_send_signal(process, Signal::KILL).map_err(io::Error::from)?;
    for worker in workers.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)) {
        match kill_process(worker, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(errno) => return Err(io::Error::from(errno).into()),
        }
    }
    if mountinfo::find_last(&entry.dir)?.is_some_and(|last| last.id == entry.id) {
        session::unmount_entry(entry, Mode::Lazy)?;
    }
    Ok(())
}

/// The canonical path. A dead mount cannot be asked for it, so then its parent is.
fn locate(dir: &Path) -> Result<PathBuf, UmountError> {
    match std::fs::canonicalize(dir) {
        Ok(dir) => Ok(dir),
        Err(error) if checks::is_dead(&error) => {
            let dir = std::path::absolute(dir)?;
            match (dir.parent(), dir.file_name()) {
                (Some(parent), Some(name)) => Ok(std::fs::canonicalize(parent)?.join(name)),
                (Some(_) | None, _) => Ok(dir),
            }
        }
        Err(error) => Err(io::Error::new(error.kind(), format!("{}: {error}", dir.display())).into()),
    }
}

fn open_process(pid: i32) -> io::Result<Option<OwnedFd>> {
    let Some(pid) = Pid::from_raw(pid) else { return Ok(None) };
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(process) => Ok(Some(process)),
        Err(rustix::io::Errno::SRCH) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

fn await_end(
    watched: Watched,
    server: &Server,
    end: Instant,
    timeout: Duration,
) -> Result<Done, UmountError> {
    let left = end.saturating_duration_since(Instant::now());
    let left = Timespec::try_from(left).map_err(|_| io::Error::other("the timeout is too long"))?;
    let mut fds = [PollFd::new(&server.process, PollFlags::IN)];
    if rustix::io::retry_on_intr(|| poll(&mut fds, Some(&left))).map_err(io::Error::from)? == 0 {
        let record = watched.record;
        let dir = record.dir.display().to_string();
        return Err(UmountError::Timeout {
            dir,
            pid: server.pid,
            seconds: timeout.as_secs(),
            log: record.log,
        });
    }
    if server.keeps { outcome(watched) } else { Ok(Done::Orphaned { log: watched.record.log }) }
}

fn outcome(mut watched: Watched) -> Result<Done, UmountError> {
    let log = watched.record.log.clone();
    match watched.outcome()? {
        Some(outcome) => match outcome.failed.first() {
            None => Ok(Done::Drained(outcome)),
            Some((path, reason)) => Err(UmountError::Left {
                count: outcome.failed.len(),
                first: format!("{path} ({reason})"),
                log,
            }),
        },
        None => Err(UmountError::Died { pid: watched.record.process.pid, log }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry() -> (tempfile::TempDir, Registry) {
        let temp = tempfile::tempdir().expect("temp dir");
        let uid = rustix::process::geteuid().as_raw();
        let registry = Registry::open(temp.path().join("run"), uid).expect("own directory");
        (temp, registry)
    }

    #[test]
    fn a_plain_directory_is_no_mount() {
        let (temp, registry) = registry();
        let result = umount(temp.path(), false, Duration::ZERO, &registry);
        assert!(matches!(result, Err(UmountError::NotMounted(_))), "{result:?}");
    }

    #[test]
    fn other_file_systems_are_left_alone() {
        let (_temp, registry) = registry();
        assert!(matches!(
            umount(Path::new("/proc"), true, Duration::ZERO, &registry),
            Err(UmountError::NotMounted(_))
        ));
    }
}
