//! The serving process of one mount, from its checks to its drained end.
//!
//! [`run`] is the order of things: check, log, connect (`open`), mount, report, serve, drain. Whatever fails
//! before the report leaves no process, no mount and no file. What `open` builds stands in `mount/open.rs`.

pub mod background;
pub mod checks;
pub mod guard;
mod heap;
pub mod open;
pub mod record;
mod serve;
pub mod umount;

pub use serve::{Drained, End, Served, serve};

use crate::config::Config;
use crate::control::{self, Desk, Facts, Mounted};
use crate::fuse::session::{self, MountRequest, OptionText, SessionHandle};
use crate::telemetry::{self, Target};
use background::{Ready, Role};
use record::{Outcome, Record, RecordFile, Registry};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What `open` hands over: the adapter for the kernel, and the file system that is drained at the end.
pub struct Opened<A> {
    /// Answers the kernel.
    pub adapter: A,
    /// Commits what is left when the mount has gone.
    pub served: Arc<dyn Served>,
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

/// Serves a mount in this process until it is unmounted; reports through `role`.
pub fn run<A, O, F>(config: &Config, dir: &Path, role: Role, open: O) -> Result<(), Failure>
where
    A: fuser::Filesystem + Send + Sync + 'static,
    O: FnOnce(Config, tokio::runtime::Handle) -> F,
    F: Future<Output = Result<Opened<A>, Failure>>,
{
    let ready = Ready::new(role)?;
    match start_and_serve(config, dir, role, &ready, open) {
        Ok(()) => Ok(()),
        Err((Stage::Starting, failure)) => {
            ready.failed(&failure.to_string());
            Err(failure)
        }
        Err((Stage::Serving, failure)) => {
            tracing::error!("{failure}");
            Err(failure)
        }
    }
}

/// Who hears of a failure.
enum Stage {
    /// The shell that waits.
    Starting,
    /// The log.
    Serving,
}

fn start_and_serve<A, O, F>(
    config: &Config,
    dir: &Path,
    role: Role,
    ready: &Ready,
    open: O,
) -> Result<(), (Stage, Failure)>
where
    A: fuser::Filesystem + Send + Sync + 'static,
    O: FnOnce(Config, tokio::runtime::Handle) -> F,
    F: Future<Output = Result<Opened<A>, Failure>>,
{
    let early = |failure: Failure| (Stage::Starting, failure);
    heap::bound();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("tarn-worker")
        .build()
        .map_err(|error| early(error.into()))?;
    let started = runtime.block_on(start(config, dir, role, ready, open)).map_err(early)?;
    let Started { session, served, record, control } = started;
    if let Err(error) = ready.mounted() {
        tracing::warn!(%error, "the command that started this mount is gone; unmounting");
        session.unmount(session::Mode::Lazy).map_err(|error| (Stage::Serving, error.into()))?;
    }
    let end = runtime.block_on(serve(session, served));
    runtime.block_on(control.stop());
    tracing::info!(source = %config.source, "ended: {end}");
    let result = end.clone().into_result();
    let outcome = Outcome { committed: end.drained.committed, failed: end.drained.failed };
    record.finish(outcome).map_err(|error| (Stage::Serving, error.into()))?;
    // A forced end leaves tasks behind; they must not hold the process.
    runtime.shutdown_background();
    result.map_err(|text| (Stage::Serving, Failure(text)))
}

/// A mount that stands.
struct Started {
    session: SessionHandle,
    served: Arc<dyn Served>,
    record: RecordFile,
    control: control::Server,
}

async fn start<A, O, F>(
    config: &Config,
    dir: &Path,
    role: Role,
    ready: &Ready,
    open: O,
) -> Result<Started, Failure>
where
    A: fuser::Filesystem + Send + Sync + 'static,
    O: FnOnce(Config, tokio::runtime::Handle) -> F,
    F: Future<Output = Result<Opened<A>, Failure>>,
{
    let point = checks::check(dir, config)?;
    let target = log_target(role, &point.dir);
    let switch = telemetry::start(&target, &config.process.log_level, config.process.log_json)?;
    if let Some(warning) = &point.warning {
        ready.warn(warning);
    }
    harden()?;
    let registry = registry()?;
    let opened = open(config.clone(), tokio::runtime::Handle::current()).await?;
    let request = MountRequest {
        dir: point.dir.clone(),
        source: OptionText::escape(&config.source.to_string()),
        allow_other: config.files.allow_other,
        read_only: config.files.read_only,
        no_exec: config.files.no_exec,
    };
    // Mounting waits for the kernel's INIT to be answered by this very process.
    let adapter = opened.adapter;
    let session = tokio::task::spawn_blocking(move || session::start(&request, adapter))
        .await
        .map_err(|error| Failure::new(&error))??;
    let facts = Facts {
        source: config.source.to_string(),
        dir: session.dir().to_owned(),
        log: target.to_string(),
        log_level: config.process.log_level.clone(),
        read_only: config.files.read_only,
        switch,
    };
    let known = async {
        let record = registry.create(&record(config, point.dir, &target))?;
        let desk = Arc::new(Desk::new(opened.mounted, facts));
        let control = control::Server::start(registry.socket_of(session.dir()), Arc::clone(&desk))?;
        if let Some(address) = &config.process.metrics {
            control::serve_metrics(address, desk).await?;
        }
        std::env::set_current_dir("/")?;
        Ok::<_, std::io::Error>((record, control))
    };
    match known.await {
        Ok((record, control)) => {
            tracing::info!(source = %config.source, dir = %session.dir().display(), "mounted");
            Ok(Started { session, served: opened.served, record, control })
        }
        Err(error) => {
            session.unmount(session::Mode::Lazy)?;
            Err(error.into())
        }
    }
}

fn record(config: &Config, dir: PathBuf, log: &Target) -> Record {
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    Record {
        pid,
        start_time: record::start_time(pid).unwrap_or_default(),
        dir,
        source: config.source.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        log: log.to_string(),
        outcome: None,
    }
}

fn log_target(role: Role, dir: &Path) -> Target {
    match role {
        Role::Foreground => Target::Stderr,
        Role::Parent | Role::Child => {
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
fn harden() -> std::io::Result<()> {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(())
}
