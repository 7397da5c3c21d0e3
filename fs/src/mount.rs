//! The parts of one mount, from its checks to its drained end.
//!
//! The keeper checks, starts a worker, mounts and reports; the worker connects (`open`), serves and drains. Whatever
//! fails before the report leaves no process, no mount and no file. What `open` builds stands in `mount/open.rs`.

pub mod background;
pub mod checks;
pub mod guard;
mod heap;
mod idle;
pub mod open;
pub mod record;
pub mod remount;
mod serve;
pub mod umount;
mod worker;

pub use serve::{Drained, End, Served, serve};
pub use worker::work;

use crate::control::Mounted;
use crate::fuse::Gate;
use crate::fuse::session::{self, DeviceSlot};
use crate::process::ProcessId;
use crate::session_log::{SessionLog, State};
use crate::telemetry::{self, Target};
use background::Role;
use record::Registry;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What `open` hands over: the adapter for the kernel, and the file system that is drained at the end.
pub struct Opened<A> {
    /// Answers the kernel.
    pub adapter: A,
    /// Commits what is left when the mount has gone.
    pub served: Arc<dyn Served>,
    /// Stops requests for whoever takes over.
    pub gate: Gate,
    /// What the control socket speaks of.
    pub mounted: Mounted,
}

/// Why there is no mount, or why it did not end well.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Failure(String);

impl Failure {
    /// A failure in these words.
    pub fn text(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Wraps an error with all its sources, for one line.
    pub fn new(error: &dyn std::error::Error) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            // thiserror messages often repeat their source already.
            if !text.contains(&cause_text) {
                text.push_str(": ");
                text.push_str(&cause_text);
            }
            source = cause.source();
        }
        Self(text)
    }
}

macro_rules! failure_from {
    ($($error:ty),*) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::new(&error)
            }
        }
    )*};
}
failure_from!(
    tarn_cache::Error,
    checks::CheckError,
    session::SessionError,
    std::io::Error,
    crate::error::Error,
    crate::store::Error
);

/// What a session brings along when its file system is opened.
#[derive(Debug, Default)]
pub struct OpenSession {
    /// Where the next worker finds what it must know.
    pub log: SessionLog,
    /// What the last worker left; `None` for a new mount.
    pub state: Option<State>,
    /// The kernel's device, as soon as there is one.
    pub device: DeviceSlot,
    /// The process that keeps the mount; `None` if it is this one.
    pub owner: Option<ProcessId>,
}

pub(crate) fn log_target(role: Role, dir: &Path) -> Target {
    match role {
        Role::Foreground => Target::Stderr,
        Role::Parent | Role::Child | Role::Worker => {
            let path = |name| std::env::var_os(name).map(PathBuf::from);
            let uid = rustix::process::geteuid().as_raw();
            Target::background(dir, &telemetry::state_home(uid, path("XDG_STATE_HOME"), path("HOME")))
        }
    }
}

/// The records of this user's mounts.
pub fn registry() -> std::io::Result<Registry> {
    let runtime_dir = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    Registry::of_user(rustix::process::geteuid().as_raw(), runtime_dir.as_deref())
}

/// Keeps keys and file contents out of core files and away from other processes of the user.
pub(crate) fn harden() -> std::io::Result<()> {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(())
}
