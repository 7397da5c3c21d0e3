//! Keeps the driver of a node running. Mounts are processes beside it in one container, and a container ends, with all that
//! is in it, when its first process does: a crash of the driver must not be that. This process starts the driver, hands
//! signals on, and starts it again when it was killed or has panicked. An end that the driver has chosen is the end.
//!
//! It serves nothing and opens nothing.

use crate::error::{Error, Kind, Result};
use rustix::process::{Pid, Signal, kill_process};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

/// Set for the process that serves.
const SUPERVISED: &str = "TARN_CSI_SUPERVISED";
/// What Rust ends a program with that has panicked.
const PANICKED: i32 = 101;
/// Crashes, each soon after a start, with which it is left to Kubernetes to wait and to say so.
const CRASHES_MAX: u32 = 5;
/// A driver that has run for this long was a good one.
const GOOD_LIFE: Duration = Duration::from_secs(60);

/// Whether this process has to keep another one instead of serving.
pub fn is_wanted() -> bool {
    std::env::var_os(SUPERVISED).is_none()
}

/// Runs this program again, until it ends as it should or nothing helps.
pub async fn run() -> Result<()> {
    let failed = |error| Error::local("keep the driver running", &error);
    let program = std::env::current_exe().map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut crashes = 0;
    loop {
        let begun = Instant::now();
        let mut command = Command::new(&program);
        command.args(std::env::args_os().skip(1)).env(SUPERVISED, "1").kill_on_drop(true);
        let mut child = command.spawn().map_err(failed)?;
        let status = tokio::select! {
            status = child.wait() => status.map_err(failed)?,
            _ = terminate.recv() => return stop(child, Signal::TERM).await,
            _ = interrupt.recv() => return stop(child, Signal::INT).await,
        };
        match next(status, begun.elapsed(), crashes) {
            Next::Start { crashes: counted } => crashes = counted,
            Next::End => return ended(status),
        }
        let line = format!("tarn-csi: the driver has crashed ({status}); starting it again\n");
        // Nobody who reads the log is no reason to stop.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
}

async fn stop(mut child: Child, signal: Signal) -> Result<()> {
    let failed = |error| Error::local("end the driver", &error);
    if let Some(pid) = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)) {
        kill_process(pid, signal).map_err(|errno| failed(errno.into()))?;
    }
    ended(child.wait().await.map_err(failed)?)
}

fn ended(status: ExitStatus) -> Result<()> {
    if status.success() {
        return Ok(());
    }
    Err(Error::new(Kind::Internal, format!("the driver has ended with {status}")))
}

/// What follows an end.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// Start it again, after so many crashes in a row.
    Start { crashes: u32 },
    /// It is over.
    End,
}

fn next(status: ExitStatus, lived: Duration, crashes: u32) -> Next {
    let crashed = status.signal().is_some() || status.code() == Some(PANICKED);
    let crashes = if lived >= GOOD_LIFE { 1 } else { crashes + 1 };
    if crashed && crashes <= CRASHES_MAX { Next::Start { crashes } } else { Next::End }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(1);

    #[test]
    fn a_killed_driver_is_started_again_until_it_only_crashes() {
        let killed = ExitStatus::from_raw(9);
        let mut crashes = 0;
        for round in 1..=CRASHES_MAX {
            assert_eq!(next(killed, SOON, crashes), Next::Start { crashes: round });
            crashes = round;
        }
        assert_eq!(next(killed, SOON, crashes), Next::End);
        assert_eq!(next(killed, GOOD_LIFE, crashes), Next::Start { crashes: 1 });
    }

    #[test]
    fn an_end_of_its_own_choice_is_the_end() {
        let exit = |code: i32| ExitStatus::from_raw(code << 8);
        assert_eq!(next(exit(PANICKED), SOON, 0), Next::Start { crashes: 1 });
        for code in [0, 1, 2] {
            assert_eq!(next(exit(code), GOOD_LIFE, 0), Next::End);
        }
    }
}
