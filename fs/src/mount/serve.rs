//! Serves until the end, whoever brings it about: `umount`, `fusermount3 -u`, SIGTERM, SIGINT, SIGHUP.
//!
//! The first signal unmounts. If the mount is busy, everything is committed first and the mount is then taken out
//! of the tree, with a warning; open files live until they are closed, at most [`GRACE`]. A second signal ends at
//! once. Every end but the forced one drains.

use crate::fuse::session::{Ended, Mode, SessionError, SessionHandle};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long the files that are open after a lazy unmount may stay so.
const GRACE: Duration = Duration::from_secs(30);
/// How long the message about a mount in use waits for the names of its users.
const LOOK: Duration = Duration::from_secs(2);

/// What is left to do when the kernel has gone.
#[async_trait::async_trait]
pub trait Served: Send + Sync {
    /// Commits everything that is not in the bucket.
    async fn drain(&self) -> Drained;
}

/// What a drain did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Drained {
    /// Files that were committed.
    pub committed: usize,
    /// Path and reason of those that could not be.
    pub failed: Vec<(String, String)>,
}

/// How a mount ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// What the session said; `None` if it was left running.
    pub session: Option<Ended>,
    /// A second signal cut the end short.
    pub forced: bool,
    /// The last drain.
    pub drained: Drained,
}

impl End {
    /// A sentence for whoever must look; the first ten files by name.
    pub fn into_result(self) -> Result<(), String> {
        const NAMED: usize = 10;
        if self.forced {
            return Err(
                "ended by a second signal; what was not committed stays in the cache directory".to_owned()
            );
        }
        if !self.drained.failed.is_empty() {
            let names = self.drained.failed.iter().take(NAMED);
            let names: Vec<String> = names.map(|(path, reason)| format!("{path} ({reason})")).collect();
            let count = self.drained.failed.len();
            return Err(format!("{count} files are not in the bucket: {}", names.join(", ")));
        }
        match self.session {
            Some(Ended::Failed(reason)) => Err(format!("the session failed: {reason}")),
            Some(Ended::Unmounted) | None => Ok(()),
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match &self.session {
            _ if self.forced => "forced",
            Some(Ended::Unmounted) => "unmounted",
            Some(Ended::Failed(_)) => "session failed",
            None => "detached with files still open",
        };
        let (committed, failed) = (self.drained.committed, self.drained.failed.len());
        write!(f, "{how}, {committed} files committed at the end, {failed} failed")
    }
}

/// The signals that end a mount.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            // A terminal that goes away must not leave a dead mount.
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.hang_up.recv() => "SIGHUP",
        }
    }
}

/// Serves until the mount is gone and everything is committed.
pub async fn serve(session: SessionHandle, served: Arc<dyn Served>) -> End {
    let session = Arc::new(session);
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => {
            tracing::error!(%error, "cannot listen to signals; the mount ends by umount only");
            let end = session.wait().await;
            return End { session: Some(end), forced: false, drained: served.drain().await };
        }
    };
    let end = tokio::select! {
        end = session.wait() => Some(end),
        name = signals.next() => {
            tracing::info!("{name}: unmounting");
            tokio::select! {
                end = take_down(&session, &*served) => end,
                name = signals.next() => return forced(name, &session).await,
            }
        }
    };
    tokio::select! {
        drained = served.drain() => End { session: end, forced: false, drained },
        name = signals.next() => forced(name, &session).await,
    }
}

/// Unmounts; `None` means that open files outlived the time they were given.
async fn take_down(session: &Arc<SessionHandle>, served: &dyn Served) -> Option<Ended> {
    match unmount(session, Mode::Clean).await {
        Ok(()) => return Some(session.wait().await),
        Err(SessionError::Busy(dir)) => {
            let drained = served.drain().await;
            let holders = seen_holders(&dir).await.join(", ");
            tracing::warn!(
                dir = %dir.display(),
                holders,
                committed = drained.committed,
                failed = drained.failed.len(),
                "the mount is in use; it is detached, its open files end in {} s",
                GRACE.as_secs()
            );
            if let Err(error) = unmount(session, Mode::Lazy).await {
                tracing::error!(%error, "the mount cannot be detached");
            }
        }
        Err(error) => tracing::error!(%error, "the mount cannot be taken down"),
    }
    tokio::time::timeout(GRACE, session.wait()).await.ok()
}

/// On a thread of its own: the kernel writes cached pages back through this process before it answers.
async fn unmount(session: &Arc<SessionHandle>, mode: Mode) -> Result<(), SessionError> {
    let session = Arc::clone(session);
    let joined = tokio::task::spawn_blocking(move || session.unmount(mode)).await;
    joined.unwrap_or_else(|error| Err(SessionError::Refused(error.to_string())))
}

async fn forced(name: &str, session: &Arc<SessionHandle>) -> End {
    tracing::warn!("{name} again: ending at once");
    match unmount(session, Mode::Lazy).await {
        Ok(()) | Err(SessionError::NotOurs(_)) => {}
        Err(error) => tracing::error!(%error, "the mount stays behind"),
    }
    End { session: None, forced: true, drained: Drained::default() }
}

/// [`holders`] on a thread of its own and not for long: the kernel holds back whoever looks at a process in execve(2)
/// until that has closed its files, perhaps those of this mount.
async fn seen_holders(dir: &std::path::Path) -> Vec<String> {
    let dir = dir.to_owned();
    let looked = tokio::time::timeout(LOOK, tokio::task::spawn_blocking(move || holders(&dir))).await;
    looked.ok().and_then(Result::ok).unwrap_or_default()
}

/// The processes that have a file open or their working directory below `dir`, as far as this user may see.
pub(super) fn holders(dir: &std::path::Path) -> Vec<String> {
    const MOST: usize = 8;
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let holds = |pid: &u32| {
        let base = std::path::PathBuf::from(format!("/proc/{pid}"));
        let files =
            std::fs::read_dir(base.join("fd")).into_iter().flatten().flatten().map(|entry| entry.path());
        [base.join("cwd"), base.join("exe")]
            .into_iter()
            .chain(files)
            .any(|link| std::fs::read_link(link).is_ok_and(|target| target.starts_with(dir)))
    };
    let name = |pid: u32| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        format!("{} ({pid})", name.trim())
    };
    pids.filter(holds).take(MOST).map(name).collect()
}

#[cfg(test)]
mod tests;
