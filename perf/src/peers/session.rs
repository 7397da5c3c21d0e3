//! A mount by a peer, and its end.
//!
//! Invariants: a mount that is dropped leaves no process and no mount; one that takes longer than its limit is killed,
//! so that whoever waits in the kernel for it gets an error instead of hanging.

use super::peer::{Peer, Place};
use crate::process;
use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tarn_tests::alarm::Alarm;
use tarn_tests::mount::is_mounted;
use tarn_tests::{run, wait};

/// How long a mount may take to appear, and to end after its unmount.
const CHANGE_LIMIT: Duration = Duration::from_secs(60);

/// A mounted bucket, or a folder in place of one.
#[derive(Debug)]
pub struct Session {
    root: PathBuf,
    served: Option<Served>,
    /// From the start of the program to the first answer.
    pub mount_time: Duration,
}

/// The program that serves a mount.
#[derive(Debug)]
struct Served {
    child: Child,
    alarm: Alarm,
}

impl Session {
    /// A folder of the local disk, which nobody serves.
    pub fn folder(root: &Path) -> Self {
        Self { root: root.to_owned(), served: None, mount_time: Duration::ZERO }
    }

    /// Mounts, and waits for the first answer.
    pub fn mount(peer: &Peer, place: Place<'_>, log: &Path, limit: Duration) -> Result<Self> {
        let command = peer.command(place).context("it mounts nothing")?;
        let log_file = File::create(log)?;
        let start = Instant::now();
        let mut child = with_parent(&command)
            .stdin(Stdio::null())
            .stdout(log_file.try_clone()?)
            .stderr(log_file)
            .spawn()
            .context("start it")?;
        // From here on nothing can hang for longer than the limit, not even the first look at the mount.
        let pid = child.id();
        let alarm = Alarm::set(limit, move || {
            eprintln!("peers: the mount is killed after {limit:?}: too slow, or it hangs");
            kill_tree(pid);
        })?;
        let appeared = wait::mount_table(&child, CHANGE_LIMIT, || is_mounted(place.root));
        let mounted = appeared.and_then(|()| is_mounted(place.root));
        let ended = child.try_wait()?;
        let mut session = Self {
            root: place.root.to_owned(),
            served: Some(Served { child, alarm }),
            mount_time: Duration::ZERO,
        };
        if !mounted? || fs::metadata(place.root).is_err() {
            let text = run::tail(&fs::read_to_string(log).unwrap_or_default());
            bail!("no mount that answers ({ended:?}): {text}");
        }
        session.mount_time = start.elapsed();
        Ok(session)
    }

    /// A path in the mount.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// User and system time of the processes that serve it, until now.
    pub fn cpu(&self) -> Result<Duration> {
        self.served.as_ref().map_or(Ok(Duration::ZERO), |served| process::tree_cpu(served.child.id()))
    }

    /// The most memory that each of these processes has had resident, added up, in MiB.
    pub fn peak_mib(&self) -> Result<f64> {
        self.served.as_ref().map_or(Ok(0.0), |served| process::tree_peak_mib(served.child.id()))
    }

    /// Brings into memory again what serves it, after the page cache was dropped.
    pub fn warm_programs(&self) -> Result<()> {
        self.served.as_ref().map_or(Ok(()), |served| process::warm_programs(served.child.id()))
    }

    /// Unmounts, and waits until what serves it has ended.
    pub fn end(mut self) -> Result<()> {
        let Some(served) = &mut self.served else { return Ok(()) };
        let mut umount = Command::new("umount");
        umount.arg(&self.root);
        wait::eventually(CHANGE_LIMIT, "no file is open in the mount", || {
            match run::must(&mut umount, CHANGE_LIMIT) {
                Ok(_) => Ok(Some(())),
                Err(error) if error.to_string().contains("busy") => Ok(None),
                Err(error) => Err(error),
            }
        })?;
        wait::exit(&mut served.child, CHANGE_LIMIT)?.context("it does not end after its unmount").map(drop)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let Some(Served { mut child, alarm }) = self.served.take() else { return };
        if child.try_wait().is_ok_and(|ended| ended.is_none()) {
            // Killing first: it aborts the connection, so nothing waits in the kernel any more.
            kill_tree(child.id());
            if let Err(error) = child.wait() {
                eprintln!("peers: a process stays: {error}");
            }
        }
        drop(alarm);
        if is_mounted(&self.root).unwrap_or(true)
            && let Err(error) = run::must(Command::new("umount").arg("-l").arg(&self.root), CHANGE_LIMIT)
        {
            eprintln!("peers: a mount stays: {error:#}");
        }
    }
}

/// The same command, killed when this program ends.
fn with_parent(command: &Command) -> Command {
    let mut parent = run::command("setpriv");
    parent.args(["--pdeathsig", "KILL", "--"]).arg(command.get_program()).args(command.get_args());
    parent.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    parent
}

/// Kills a process and all below it, parents first, so that none starts another one.
fn kill_tree(pid: u32) {
    for pid in process::tree(pid) {
        if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
            // It may have ended by itself in this moment, which is as good.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}
