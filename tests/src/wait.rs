//! Waiting for events, always with a deadline.

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

/// Asks `probe` until it answers `Some`, in growing intervals of 5 to 100 ms. For what has no event to wait for.
pub fn eventually<T>(
    deadline: Duration,
    what: &str,
    mut probe: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let end = Instant::now() + deadline;
    let mut pause = Duration::from_millis(5);
    loop {
        if let Some(answer) = probe().with_context(|| what.to_owned())? {
            return Ok(answer);
        }
        if Instant::now() >= end {
            bail!("not within {deadline:?}: {what}");
        }
        poll_until(&mut [], Instant::now() + pause)?;
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

/// A handle on a child that becomes readable when it ends, and that never means another process.
pub fn watch(child: &Child) -> Result<OwnedFd> {
    pidfd_open(pid(child), PidfdFlags::empty()).context("pidfd_open")
}

/// The child's process id.
pub fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

/// Waits for the child's end; `None` if it still runs at the deadline.
pub fn exit(child: &mut Child, deadline: Duration) -> Result<Option<ExitStatus>> {
    let end = Instant::now() + deadline;
    let watched = watch(child)?;
    poll_until(&mut [PollFd::new(&watched, PollFlags::IN)], end)?;
    child.try_wait().context("wait for a child")
}

/// Waits for the end of a process that is no child.
pub fn end(process: &OwnedFd, deadline: Duration) -> Result<()> {
    if poll_until(&mut [PollFd::new(process, PollFlags::IN)], Instant::now() + deadline)? == 0 {
        bail!("a process does not end within {deadline:?}");
    }
    Ok(())
}

/// Waits until `ready` holds of the mount table or the child has ended; whichever it was is for the caller to see.
pub fn mount_table(child: &Child, deadline: Duration, mut ready: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + deadline;
    let watched = watch(child)?;
    // The kernel wakes those who poll this file whenever the table of this namespace changes.
    let table = File::open("/proc/self/mountinfo").context("open mountinfo")?;
    while !ready()? {
        let mut fds = [PollFd::new(&watched, PollFlags::IN), PollFd::new(&table, PollFlags::PRI)];
        let events = poll_until(&mut fds, end)?;
        if events == 0 || fds[0].revents().contains(PollFlags::IN) {
            return Ok(());
        }
    }
    Ok(())
}

fn poll_until(fds: &mut [PollFd<'_>], end: Instant) -> Result<usize> {
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).context("timeout")?;
        match poll(fds, Some(&timeout)) {
            Ok(events) => return Ok(events),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("poll"),
        }
    }
}
