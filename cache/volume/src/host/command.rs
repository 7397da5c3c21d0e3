//! Runs the system's programs for file systems.

use crate::error::{Error, Result};
use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;
use tokio::process::Command;

/// Where they are, whatever the environment says.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
/// So much of what a program says is passed on.
const SAID_MAX: usize = 400;

/// How a program ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// Its exit code; `None` if a signal ended it.
    pub(super) code: Option<i32>,
    /// What it printed.
    pub(super) stdout: String,
    said: String,
}

/// Runs a program to its end. Dropped before, it is killed.
pub(super) async fn run<S: AsRef<OsStr>>(program: &'static str, arguments: &[S], on: &Path) -> Result<Ended> {
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("PATH", PATH).env("LC_ALL", "C");
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.map_err(|error| Error::Program {
        program,
        device: on.to_owned(),
        message: format!("it does not start: {error}"),
    })?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let said: String = stderr.trim().chars().take(SAID_MAX).collect();
    Ok(Ended { code: output.status.code(), stdout, said })
}

impl Ended {
    /// An error that names program and device and tells what it said.
    pub(super) fn error(&self, program: &'static str, on: &Path) -> Error {
        self.error_with(program, on, "")
    }

    /// The same with a hint.
    pub(super) fn error_with(&self, program: &'static str, on: &Path, hint: &str) -> Error {
        let code = self.code.map_or_else(|| "killed".to_owned(), |code| format!("exit code {code}"));
        Error::Program { program, device: on.to_owned(), message: format!("{code}: {}{hint}", self.said) }
    }
}

/// Runs a program that must succeed.
pub(super) async fn must<S: AsRef<OsStr>>(program: &'static str, arguments: &[S], on: &Path) -> Result<()> {
    let ended = run(program, arguments, on).await?;
    if ended.code == Some(0) { Ok(()) } else { Err(ended.error(program, on)) }
}
