//! A mount by the `tarn` binary under test, and its end.
//!
//! Invariants: a mount that is dropped leaves no process and no mount, whatever state it was in; one that answers
//! nothing is killed, keeper and worker, after its limit, so that the test that waits in the kernel gets an error instead of hanging.

use crate::alarm::Alarm;
use crate::server::{ACCESS_KEY, SECRET_KEY, Server};
use crate::{paths, run, wait};
use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;
use tempfile::NamedTempFile;

/// How long a mount may take to appear, and to end cleanly.
pub const CHANGE_LIMIT: Duration = Duration::from_secs(30);

/// What is to be mounted, where and how.
#[derive(Debug, Clone)]
pub struct MountPlan {
    /// Bucket, or bucket and prefix: what follows `s3://`.
    pub source: String,
    /// The mount point, an existing directory.
    pub dir: PathBuf,
    /// The server's URL.
    pub endpoint: String,
    /// The cache directory.
    pub cache: PathBuf,
    /// Access key and secret.
    pub credentials: (String, String),
    /// Whether the server is tried out first; off, for every test has a bucket of its own.
    pub probe: &'static str,
    /// How much of the disk the cache leaves free; nothing, for how full this machine is decides no test.
    pub cache_floor: &'static str,
    /// Further options.
    pub options: Vec<String>,
    /// Kill the processes after this long.
    pub limit: Duration,
    /// Further variables. `TARN_FAILPOINT` says where workers kill themselves (`done:mkdir`, `logged:unlink`), in
    /// development builds.
    pub variables: Vec<(String, String)>,
}

impl MountPlan {
    /// A mount of a bucket of `server` with its credentials.
    pub fn new(server: &Server, source: &str, dir: &Path, cache: &Path) -> Self {
        Self {
            source: source.to_owned(),
            dir: dir.to_owned(),
            endpoint: server.endpoint(),
            cache: cache.to_owned(),
            credentials: (ACCESS_KEY.to_owned(), SECRET_KEY.to_owned()),
            probe: "off",
            cache_floor: "0",
            options: Vec::new(),
            limit: Duration::from_secs(120),
            variables: Vec::new(),
        }
    }

    /// The same with another option.
    pub fn with(mut self, options: &[&str]) -> Self {
        self.options.extend(options.iter().map(|&option| option.to_owned()));
        self
    }

    /// The same with another variable.
    pub fn with_env(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The command of `tarn mount`, in the background unless `--foreground` is among the options.
    pub fn command(&self) -> Result<Command> {
        let mut command = tarn()?;
        command
            .arg("mount")
            .arg(format!("s3://{}", self.source))
            .arg(&self.dir)
            .args(["--endpoint", &self.endpoint, "--probe", self.probe])
            .args(["--cache-min-free", self.cache_floor, "--cache-dir"])
            .arg(&self.cache)
            .args(&self.options)
            .envs(self.credentials());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        Ok(command)
    }

    /// The variables that hold the credentials, and keep others away.
    pub fn credentials(&self) -> [(&'static str, &str); 5] {
        [
            ("AWS_ACCESS_KEY_ID", &self.credentials.0),
            ("AWS_SECRET_ACCESS_KEY", &self.credentials.1),
            ("AWS_CONFIG_FILE", "/dev/null"),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ]
    }

    /// The options in the words of mount(8): what follows `-o`.
    pub fn words(&self) -> String {
        let mut words = format!(
            "endpoint={},probe={},cache-min-free={},cache-dir={}",
            self.endpoint,
            self.probe,
            self.cache_floor,
            self.cache.display()
        );
        for option in &self.options {
            // A flag begins a word, what follows it is its value.
            match option.strip_prefix("--") {
                Some(flag) => words.extend([",", flag]),
                None => words.extend(["=", option]),
            }
        }
        words
    }

    /// Mounts in the foreground and waits until the mount is in the kernel's table.
    pub fn mount(&self) -> Result<Mount> {
        let mut command = run::command("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]);
        self.mount_by(command)
    }

    /// The same by a command that takes `tarn` with its arguments as its last ones and becomes it. Waits until the
    /// mount answers, whether it is new or was there before.
    pub fn mount_by(&self, mut command: Command) -> Result<Mount> {
        let log = NamedTempFile::new().context("file for the log")?;
        let tarn = self.command()?;
        let mut child = command
            .arg(tarn.get_program())
            .args(tarn.get_args())
            .arg("--foreground")
            .envs(tarn.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .stdin(Stdio::null())
            .stdout(log.reopen()?)
            .stderr(log.reopen()?)
            .spawn()
            .context("start tarn")?;
        // From here on nothing can hang for longer than the limit, not even the first look at the mount.
        let alarm = alarm(&child, self.limit)?;
        wait::mount_table(&child, CHANGE_LIMIT, || is_mounted(&self.dir))?;
        // In the table is not yet answering: this waits for the first answer, or for the end of the process.
        let answers = is_mounted(&self.dir)? && std::fs::metadata(&self.dir).is_ok();
        if !answers {
            let ended = wait::exit(&mut child, Duration::from_secs(5))?;
            if ended.is_none() {
                kill_all(&mut child)?;
            }
            if is_mounted(&self.dir)? {
                detach(&self.dir)?;
            }
            let text = run::tail(&std::fs::read_to_string(log.path())?);
            match ended {
                Some(status) => bail!("tarn mount ended with {status}:\n{text}"),
                None => bail!("no mount that answers within {CHANGE_LIMIT:?}:\n{text}"),
            }
        }
        Ok(Mount { child, dir: self.dir.clone(), log, _alarm: alarm, left: false })
    }
}

/// The `tarn` binary with a clean environment.
pub fn tarn() -> Result<Command> {
    Ok(run::command(paths::tarn()?))
}

/// Whether something of FUSE is mounted exactly there.
pub fn is_mounted(dir: &Path) -> Result<bool> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").context("read the mount table")?;
    let dir = dir.to_str().context("a mount point that is not UTF-8")?;
    Ok(table.lines().any(|line| line.split(' ').nth(4) == Some(dir) && line.contains(" - fuse")))
}

/// A running mount.
#[derive(Debug)]
pub struct Mount {
    child: Child,
    dir: PathBuf,
    log: NamedTempFile,
    _alarm: Alarm,
    /// Somebody else has the mount now.
    left: bool,
}

impl Mount {
    /// The mount point.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The process that keeps the mount: it was started, is signalled and waited for.
    pub fn keeper(&self) -> Pid {
        wait::pid(&self.child)
    }

    /// The process that serves it; `None` between two of them.
    pub fn worker(&self) -> Result<Option<Pid>> {
        worker_of(self.keeper())
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap_or_default()
    }

    /// Sends a signal to the keeper.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(wait::pid(&self.child), signal).context("send a signal")
    }

    /// Waits for the end of the process.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        let status = wait::exit(&mut self.child, CHANGE_LIMIT)?.with_context(|| {
            format!("tarn does not end within {CHANGE_LIMIT:?}:\n{}", run::tail(&self.log()))
        })?;
        ensure!(!self.log().contains("[Not Implemented]"), "a request is not known: {}", self.log());
        Ok(status)
    }

    /// Unmounts with the system's command and waits for a clean end.
    pub fn unmount(self) -> Result<()> {
        // A program that another test starts has copies of this process's open files until it runs.
        wait::eventually(CHANGE_LIMIT, "no file is open in the mount", || match self.system_umount() {
            Ok(()) => Ok(Some(())),
            Err(error) if error.to_string().contains("busy") => Ok(None),
            Err(error) => Err(error),
        })?;
        self.must_end_cleanly()
    }

    /// Asks the kernel to unmount, as `umount` does; does not wait for tarn.
    pub fn system_umount(&self) -> Result<()> {
        let mut umount = if crate::disk::is_root() {
            Command::new("umount")
        } else {
            let mut command = Command::new("fusermount3");
            command.arg("-u");
            command
        };
        run::must(umount.arg(&self.dir), CHANGE_LIMIT).map(drop)
    }

    /// Waits for the end, which must be a success that leaves no mount.
    pub fn must_end_cleanly(mut self) -> Result<()> {
        let status = self.wait()?;
        if !status.success() {
            bail!("tarn ended with {status}:\n{}", run::tail(&self.log()));
        }
        if is_mounted(&self.dir)? {
            bail!("tarn ended and left its mount");
        }
        Ok(())
    }

    /// Kills keeper and worker and leaves the mount to whoever holds its descriptors.
    pub fn kill_and_leave(mut self) -> Result<()> {
        self.left = true;
        self.kill()
    }

    /// Leaves the mount, whose keeper has ended, to whoever holds its descriptors.
    pub fn leave(mut self) {
        self.left = true;
    }

    /// Waits for the end of the keeper, which must be a success, and leaves the mount to whoever holds its descriptors.
    pub fn wait_and_leave(mut self) -> Result<()> {
        self.left = true;
        let status = self.wait()?;
        if !status.success() {
            bail!("tarn ended with {status}:\n{}", run::tail(&self.log()));
        }
        Ok(())
    }

    /// Kills keeper and worker; the dead mount stays.
    pub fn kill(&mut self) -> Result<()> {
        kill_all(&mut self.child)
    }

    /// Kills keeper and worker, as a crash of the machine would, and removes the dead mount.
    pub fn crash(mut self) -> Result<()> {
        self.kill()?;
        detach(&self.dir)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the last lines of the log of the mount at {}", self.dir.display());
            eprintln!("{}", run::tail(&self.log()));
        }
        let still_runs = self.child.try_wait().is_ok_and(|ended| ended.is_none());
        if still_runs {
            // Killing first: it aborts the connection, so nothing waits in the kernel any more.
            kill_all(&mut self.child).expect("kill what was not waited for");
        }
        if !self.left
            && is_mounted(&self.dir).unwrap_or(true)
            && let Err(error) = detach(&self.dir)
        {
            eprintln!("a mount stays: {error:#}");
        }
    }
}

/// The worker of a keeper: its only child.
pub fn worker_of(keeper: Pid) -> Result<Option<Pid>> {
    let pid = keeper.as_raw_nonzero();
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let children = children.context("read the children of the keeper")?;
    Ok(children.split_whitespace().next().map(str::parse).transpose()?.and_then(Pid::from_raw))
}

/// Kills a keeper and then its worker, in this order: nobody starts another one.
fn kill_all(keeper: &mut Child) -> Result<()> {
    let pid = wait::pid(keeper);
    // Stopped, it starts no worker while its worker is looked up.
    kill_process(pid, Signal::STOP).context("stop the keeper")?;
    let worker = worker_of(pid)?;
    let worker = worker.map(|worker| pidfd_open(worker, PidfdFlags::empty())).transpose()?;
    keeper.kill()?;
    keeper.wait()?;
    if let Some(worker) = worker {
        // It may have ended by itself in this moment, which is as good.
        let _ = pidfd_send_signal(&worker, Signal::KILL);
        wait::end(&worker, CHANGE_LIMIT)?;
    }
    Ok(())
}

fn detach(dir: &Path) -> Result<()> {
    let mut command = Command::new(if crate::disk::is_root() { "umount" } else { "fusermount3" });
    if !crate::disk::is_root() {
        command.arg("-u");
    }
    // `-z` is `-l` of umount: away now, whoever still uses it.
    command.arg(if crate::disk::is_root() { "-l" } else { "-z" }).arg(dir);
    run::must(&mut command, CHANGE_LIMIT).map(drop)
}

/// Kills a mount that runs for too long.
fn alarm(child: &Child, limit: Duration) -> Result<Alarm> {
    let (process, pid) = (wait::watch(child)?, wait::pid(child));
    Alarm::set(limit, move || {
        eprintln!("the mount is killed after {limit:?}: something hangs");
        // They may have ended by themselves in this moment, which is as good.
        let worker = worker_of(pid);
        let _ = pidfd_send_signal(&process, Signal::KILL);
        if let Ok(Some(worker)) = worker {
            let _ = kill_process(worker, Signal::KILL);
        }
    })
}
