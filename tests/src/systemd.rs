//! A booted systemd: a container of its own by systemd-nspawn(1), with `/usr` of this machine and nothing else of its file
//! system, and with its network.

use crate::{paths, run, wait};
use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

/// How long it may take to boot, and what is asked of it to end.
const LIMIT: Duration = Duration::from_secs(60);

/// A running container.
#[derive(Debug)]
pub struct Systemd {
    nspawn: Child,
    /// Its first process.
    init: Pid,
}

impl Systemd {
    /// Boots, with files and folders of this machine where `binds` wants them. Its words go to a log in `dir`.
    pub fn boot(dir: &Path, binds: &[(&Path, &str)]) -> Result<Self> {
        let mut command = run::command("setpriv");
        command.args([
            "--pdeathsig",
            "KILL",
            "--",
            "systemd-nspawn",
            "--quiet",
            "--directory=/",
            "--volatile=yes",
        ]);
        command.args([
            "--keep-unit",
            "--register=no",
            "--link-journal=no",
            "--console=pipe",
            "--bind=/dev/fuse",
        ]);
        command.args(binds.iter().map(|(from, to)| format!("--bind={}:{to}", from.display())));
        command.args(["--boot", "--", "--unit=basic.target", "--show-status=no"]);
        let log = File::create(dir.join("systemd.log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut nspawn = command.spawn().context("start systemd-nspawn")?;
        let booted = wait::eventually(LIMIT, "systemd has booted", || {
            if let Some(status) = nspawn.try_wait()? {
                bail!("systemd-nspawn ended with {status}:\n{}", read_log(dir));
            }
            let Some(init) = child_of(&nspawn)? else { return Ok(None) };
            let outcome = run::run(inside(init).args(["systemctl", "is-system-running"]), LIMIT)?;
            Ok(["running", "degraded"].contains(&outcome.stdout.trim()).then_some(init))
        });
        let init = booted.inspect_err(|_| end(&mut nspawn, None)).with_context(|| read_log(dir))?;
        Ok(Self { nspawn, init })
    }

    /// Runs a program in there, which must succeed; gives what it printed.
    pub fn must(&self, program: &[&str]) -> Result<String> {
        run::must(inside(self.init).args(program), LIMIT)
    }

    /// Where this machine sees a path of the container.
    pub fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.init))
    }

    /// What is mounted in there.
    pub fn mounts(&self) -> Result<String> {
        Ok(std::fs::read_to_string(format!("/proc/{}/mounts", self.init))?)
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        end(&mut self.nspawn, Some(self.init));
    }
}

fn end(nspawn: &mut Child, init: Option<Pid>) {
    // Whoever has ended already needs no signal; all others in there end with the first process.
    if let Some(init) = init {
        let _ = kill_process(init, Signal::KILL);
    } else {
        let _ = nspawn.kill();
    }
    let _ = wait::exit(nspawn, LIMIT);
}

fn inside(init: Pid) -> std::process::Command {
    let mut command = run::command("nsenter");
    command.args([
        "--target",
        &init.to_string(),
        "--mount",
        "--pid",
        "--uts",
        "--ipc",
        "--cgroup",
        "--root",
        "--wd",
    ]);
    command
}

/// The child of the container's manager, once it is what it is to be.
fn child_of(nspawn: &Child) -> Result<Option<Pid>> {
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", nspawn.id()))?;
    let child = children.split_whitespace().next().and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw);
    let comm = child.map(|pid| std::fs::read_to_string(format!("/proc/{pid}/comm"))).transpose()?;
    Ok(child.filter(|_| comm.is_some_and(|comm| comm.trim() == "systemd")))
}

fn read_log(dir: &Path) -> String {
    run::tail(&std::fs::read_to_string(dir.join("systemd.log")).unwrap_or_default())
}

/// The unit that is installed with tarn.
pub fn unit() -> PathBuf {
    paths::root().join("deploy/systemd/tarn@.service")
}
