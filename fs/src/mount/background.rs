//! Goes to the background and tells the shell how the mount went.
//!
//! The command starts itself again, with the same arguments, in a new session. The child's standard output is a
//! pipe to the parent: `warning: ...` lines, then `ok` or `error: ...`. If the parent is gone by then, the child
//! gives up: nobody is left who could learn of the mount.
//!
//! Standard input and error of the child are `/dev/null`, so nothing that the shell waits for stays open.

use crate::keeper;
use sd_notify::NotifyState;
use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// Carries the parent's process id. Only a direct child takes it as its own, so a process that inherits it
/// further down is no serving child.
const MARK: &str = "TARN_READY";

/// What this process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Start the serving child and report.
    Parent,
    /// Keep the mount, and report to the parent.
    Child,
    /// Keep the mount in the foreground.
    Foreground,
    /// Serve it for a keeper.
    Worker,
}

/// Finds out what this process is.
pub fn role(foreground: bool) -> Role {
    let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().to_string());
    if env::var(keeper::MARK).ok().is_some_and(|mark| Some(&mark) == parent.as_ref()) {
        return Role::Worker;
    }
    match (foreground, env::var(MARK).ok()) {
        (true, _) => Role::Foreground,
        (false, Some(mark)) if Some(&mark) == parent.as_ref() => Role::Child,
        (false, Some(_) | None) => Role::Parent,
    }
}

/// Where the serving process reports.
#[derive(Debug)]
pub struct Ready {
    role: Role,
}

impl Ready {
    /// Reports as this role. The child leaves the shell's session first.
    pub fn new(role: Role) -> io::Result<Self> {
        if role == Role::Child {
            rustix::process::setsid()?;
        }
        Ok(Self { role })
    }

    /// Passes a warning to the user.
    pub fn warn(&self, text: &str) {
        match self.role {
            // A parent that is gone shows at `mounted`.
            Role::Child => say(&format!("warning: {text}\n")).unwrap_or_default(),
            Role::Parent | Role::Foreground | Role::Worker => tracing::warn!("{text}"),
        }
    }

    /// Says that the mount stands. An error means that the parent is gone: unmount and end.
    pub fn mounted(&self) -> io::Result<()> {
        match self.role {
            Role::Child => say("ok\n"),
            Role::Foreground => {
                tell(NotifyState::Ready);
                Ok(())
            }
            Role::Parent | Role::Worker => Ok(()),
        }
    }

    /// Says why there is no mount.
    pub fn failed(&self, text: &str) {
        match self.role {
            Role::Child => say(&format!("error: {}\n", text.replace('\n', "; "))).unwrap_or_default(),
            Role::Parent | Role::Foreground | Role::Worker => {
                writeln!(io::stderr(), "tarn: {text}").unwrap_or_default();
            }
        }
    }
}

/// Says that the mount is about to end, if systemd wants to know.
pub fn ending() {
    tell(NotifyState::Stopping);
}

/// Tells the service manager that started this process (sd_notify(3)).
fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}

fn say(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Starts the serving child and waits until it has mounted; the error is its own text.
pub fn start() -> Result<(), String> {
    let mut arguments = env::args_os();
    let name = arguments.next().unwrap_or_else(|| "tarn".into());
    let program = env::current_exe().map_err(|error| format!("find this program: {error}"))?;
    let mut child = Command::new(program)
        .arg0(name)
        .args(arguments)
        .env(MARK, std::process::id().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("start the serving process: {error}"))?;
    let pipe = child.stdout.take().expect("stdout was asked to be a pipe");
    let result = read_report(BufReader::new(pipe), &mut io::stderr());
    if result.is_err() {
        // A child that reported an error ends by itself; its exit leaves nothing to add.
        child.wait().map_err(|error| format!("wait for the serving process: {error}"))?;
    }
    result
}

fn read_report(pipe: impl BufRead, shell: &mut impl Write) -> Result<(), String> {
    for line in pipe.lines() {
        let line = line.map_err(|error| format!("read from the serving process: {error}"))?;
        match line.split_once(": ") {
            None if line == "ok" => return Ok(()),
            Some(("error", text)) => return Err(text.to_owned()),
            Some(_) | None => writeln!(shell, "tarn: {line}").unwrap_or_default(),
        }
    }
    Err("the serving process died before it had mounted; see its log, or use --foreground".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(text: &str) -> (Result<(), String>, String) {
        let mut shell = Vec::new();
        let result = read_report(text.as_bytes(), &mut shell);
        (result, String::from_utf8(shell).expect("text"))
    }

    #[test]
    fn the_parent_hears_warnings_and_the_end() {
        assert_eq!(report("warning: not empty\nok\n"), (Ok(()), "tarn: warning: not empty\n".into()));
        assert_eq!(report("error: no such bucket\n"), (Err("no such bucket".into()), String::new()));
    }

    #[test]
    fn a_child_that_dies_silently_is_a_failure() {
        assert!(report("").0.is_err());
        assert!(report("warning: x\n").0.is_err());
    }

    #[test]
    fn a_process_without_the_mark_is_no_child() {
        assert_eq!(role(true), Role::Foreground);
        assert_eq!(role(false), Role::Parent);
    }
}
