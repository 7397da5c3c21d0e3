//! Keeps a run from leaving anything behind. The program runs itself again in namespaces of its own, for processes and
//! mounts: both are gone with it, however it ends. What it wrote lies in one folder, which the outer program removes,
//! also when it is interrupted.

use anyhow::{Context, Result, ensure};
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::process::{Command, ExitCode};
use std::time::Duration;
use tarn_tests::{disk, wait};

const INSIDE: &str = "TARN_PEERS_ENCLOSURE";
/// What a program that was interrupted says.
const INTERRUPTED: u8 = 130;
const REMOVE_LIMIT: Duration = Duration::from_secs(30);

/// Whether this is the inner program, which measures.
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Runs the inner program with the same arguments, and removes what it left.
pub fn enter() -> Result<ExitCode> {
    ensure!(disk::is_root(), "it needs root: it drops the page cache and mounts");
    let scratch = tempfile::Builder::new().prefix("tarn-peers-").tempdir().context("folder of the run")?;
    let mut child = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--", "unshare", "--mount", "--propagation", "private", "--pid"])
        .args(["--fork", "--kill-child", "--mount-proc", "--"])
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1")
        .env("TMPDIR", scratch.path())
        .spawn()
        .context("start setpriv and unshare")?;
    let process = pidfd_open(wait::pid(&child), PidfdFlags::empty()).context("pidfd_open")?;
    let (mut signals, interrupted) = UnixStream::pair()?;
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::low_level::pipe::register(signal, interrupted.try_clone()?)?;
    }
    std::thread::spawn(move || {
        if signals.read_exact(&mut [0]).is_ok() {
            // With unshare ends what it started, and with that all the rest. It may have ended by itself just now.
            let _ = pidfd_send_signal(&process, Signal::KILL);
        }
    });
    let status = child.wait().context("wait for the run")?;
    // Processes that are being killed may still write into the folder.
    wait::eventually(REMOVE_LIMIT, "the scratch folder is removed", || {
        Ok(std::fs::remove_dir_all(scratch.path()).is_ok().then_some(()))
    })?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(INTERRUPTED)))
}
