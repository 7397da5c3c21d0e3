//! Runs programs with a time limit. A program that hangs is killed with all its children, and its output is shown.

use crate::wait;
use anyhow::{Context, Result, bail};
use rustix::process::{Signal, kill_process_group};
use std::io::{Read, Seek};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

/// How a program ended.
#[derive(Debug)]
pub struct Outcome {
    /// Its status.
    pub status: ExitStatus,
    /// What it wrote to its standard output.
    pub stdout: String,
    /// What it wrote to its standard error.
    pub stderr: String,
}

/// A command without what the environment says of proxies, certificates and other credentials.
pub fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy().to_ascii_uppercase();
        if text.ends_with("_PROXY") || text.starts_with("AWS_") || text.starts_with("TARN_") {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a program to its end, or kills it after `limit`, which is an error.
pub fn run(command: &mut Command, limit: Duration) -> Result<Outcome> {
    let mut stdout = tempfile::tempfile().context("file for the output")?;
    let mut stderr = tempfile::tempfile().context("file for the errors")?;
    command.stdin(Stdio::null()).stdout(stdout.try_clone()?).stderr(stderr.try_clone()?);
    // A group of its own, so that a kill reaches its children too.
    let mut child = command.process_group(0).spawn().with_context(|| format!("start {}", shown(command)))?;
    let ended = wait::exit(&mut child, limit)?;
    if ended.is_none() {
        kill_process_group(wait::pid(&child), Signal::KILL).context("kill a program that hangs")?;
        // A process that waits for a mount which does not answer may not even die: do not wait for ever.
        wait::exit(&mut child, Duration::from_secs(5))?;
    }
    let (stdout, stderr) = (text(&mut stdout)?, text(&mut stderr)?);
    match ended {
        Some(status) => Ok(Outcome { status, stdout, stderr }),
        None => bail!("hangs for {limit:?}: {}\n{}\n{}", shown(command), tail(&stdout), tail(&stderr)),
    }
}

/// Runs a program that must succeed, and hands on what it printed.
pub fn must(command: &mut Command, limit: Duration) -> Result<String> {
    let outcome = run(command, limit)?;
    if !outcome.status.success() {
        let (stdout, stderr) = (tail(&outcome.stdout), tail(&outcome.stderr));
        bail!("{}: {}\n{stdout}\n{stderr}", outcome.status, shown(command));
    }
    Ok(outcome.stdout)
}

/// Program and arguments; not the environment, which holds keys.
fn shown(command: &Command) -> String {
    let arguments = command.get_args().map(|argument| format!(" {}", argument.to_string_lossy()));
    format!("{}{}", command.get_program().to_string_lossy(), arguments.collect::<String>())
}

/// The last 60 lines.
pub fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}

fn text(file: &mut std::fs::File) -> Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_hangs_is_killed_and_shown() {
        let mut hanging = Command::new("sh");
        hanging.args(["-c", "echo before; sleep 100"]);
        let error = run(&mut hanging, Duration::from_millis(200)).expect_err("it hangs");
        assert!(error.to_string().contains("before"), "{error}");
    }

    #[test]
    fn a_program_that_fails_is_an_error_with_its_output() {
        let mut failing = Command::new("sh");
        failing.args(["-c", "echo why >&2; exit 3"]);
        let error = must(&mut failing, Duration::from_secs(10)).expect_err("it fails");
        assert!(error.to_string().contains("why"), "{error}");
    }
}
