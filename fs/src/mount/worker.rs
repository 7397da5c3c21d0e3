//! The worker of a mount: reaches the bucket, answers the kernel, drains at the end. Its keeper made the mount.

use super::{
    Failure, OpenSession, Opened, Served, harden, heap, idle, log_target, record::Outcome, registry, serve,
};
use crate::config::Config;
use crate::control::{self, Desk, Facts};
use crate::fuse::Gate;
use crate::fuse::session::{self, DeviceSlot, Mounted, SessionHandle};
use crate::keeper::channel::{Channel, Order, Report, Restarts};
use crate::mount::background::Role;
use crate::process::ProcessId;
use crate::session_log::{FORMAT, SessionLog};
use crate::telemetry::{self, traces};
use rustix::fs::FlockOperation;
use std::ffi::OsString;
use std::future::Future;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Does what the keeper orders, until the mount is gone.
pub fn work<A, O, F>(config: &Config, open: O) -> Result<(), Failure>
where
    A: fuser::Filesystem + Send + Sync + 'static,
    O: FnOnce(Config, tokio::runtime::Handle, OpenSession) -> F,
    F: Future<Output = Result<Opened<A>, Failure>>,
{
    let keeper = Channel::inherited()?;
    let result = start_and_serve(config, &keeper, open);
    if let Err(failure) = &result {
        // A keeper that is gone hears nothing; the log does.
        if let Err(error) = keeper.send(&Report::Failed(failure.to_string()), &[]) {
            tracing::error!(%error, "{failure}");
        }
    }
    result
}

/// The keeper's first order, taken apart.
struct Task {
    dir: PathBuf,
    log: OwnedFd,
    /// The mount of the worker before this one.
    mounted: Option<Mounted>,
    restarts: Restarts,
}

impl Task {
    fn receive(keeper: &Channel) -> Result<Self, Failure> {
        let (order, mut fds) = receive(keeper)?;
        let mut next = || fds.pop().ok_or_else(|| Failure::text("the keeper sent no descriptor"));
        match order {
            Order::Start { dir } => {
                let dir = PathBuf::from(OsString::from_vec(dir));
                Ok(Self { dir, log: next()?, mounted: None, restarts: Restarts::default() })
            }
            Order::Adopt { mounted: at, restarts } => {
                let (log, mounted) = (next()?, at.with(next()?));
                Ok(Self { dir: mounted.entry.dir.clone(), log, mounted: Some(mounted), restarts })
            }
            Order::Serve(_) | Order::HandOver => {
                Err(Failure::text("the keeper ordered something of a mount that was not started"))
            }
        }
    }
}

fn receive(keeper: &Channel) -> Result<(Order, Vec<OwnedFd>), Failure> {
    keeper.receive()?.ok_or_else(|| Failure::text("the keeper is gone"))
}

fn start_and_serve<A, O, F>(config: &Config, keeper: &Channel, open: O) -> Result<(), Failure>
where
    A: fuser::Filesystem + Send + Sync + 'static,
    O: FnOnce(Config, tokio::runtime::Handle, OpenSession) -> F,
    F: Future<Output = Result<Opened<A>, Failure>>,
{
    heap::bound();
    keeper.send(&Report::Hello { version: env!("CARGO_PKG_VERSION").to_owned(), format: FORMAT }, &[])?;
    let task = Task::receive(keeper)?;
    // Two workers of one mount would be its ruin. The lock goes with this process, whoever keeps the log.
    rustix::fs::fcntl_lock(&task.log, FlockOperation::NonBlockingLockExclusive)
        .map_err(|errno| Failure::text(format!("another worker has the session log: {errno}")))?;
    let role = if config.process.foreground { Role::Foreground } else { Role::Child };
    let log = log_target(role, &task.dir);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("tarn-worker").build()?;
    let traces = config.process.traces.as_ref().map(|collector| {
        let _context = runtime.enter();
        traces::start(collector, &config.source.to_string(), &task.dir)
    });
    let traces = traces.transpose()?;
    let switch = telemetry::start(&log, &config.process.log_level, config.process.log_json, traces.as_ref())?;
    let keeper_gone = Arc::new(AtomicBool::new(false));
    let facts = Facts {
        source: config.source.to_string(),
        dir: task.dir.clone(),
        log: log.to_string(),
        log_level: config.process.log_level.clone(),
        read_only: config.files.read_only,
        restarts: task.restarts.clone(),
        keeper_gone: Arc::clone(&keeper_gone),
        // Until there is a mount, nobody asks.
        resends: true,
        switch,
    };
    harden()?;
    let Started { session, served, control, exit } =
        runtime.block_on(start(config, keeper, task, facts, open))?;
    runtime.spawn(idle::watch(exit.gate.clone()));
    listen(keeper, exit, keeper_gone)?;
    let failure = session.failure();
    runtime.spawn(async move {
        let reason = failure.await;
        tracing::error!(reason, "the session failed; the next worker goes on");
        // Nothing is dropped: what is staged belongs to the next worker.
        std::process::exit(1);
    });
    let end = runtime.block_on(serve(session, served));
    runtime.block_on(control.stop());
    tracing::info!(source = %config.source, "ended: {end}");
    let outcome = Outcome { committed: end.drained.committed, failed: end.drained.failed.clone() };
    // The keeper says what went wrong, once.
    let failure = end.into_result().err();
    if let Err(error) = keeper.send(&Report::ended(outcome, failure), &[]) {
        tracing::warn!(%error, "the keeper is gone");
    }
    if let Some(traces) = &traces {
        traces::end(traces);
    }
    // A forced end leaves tasks behind; they must not hold the process.
    runtime.shutdown_background();
    Ok(())
}

/// A mount that is being served.
struct Started {
    session: SessionHandle,
    served: Arc<dyn Served>,
    control: control::Server,
    exit: Exit,
}

/// The way out for another worker.
struct Exit {
    gate: Gate,
    log: SessionLog,
    dir: PathBuf,
    resends: bool,
}

impl Exit {
    /// Waits until everything that was begun is done and the next worker can know it.
    fn take(&self) -> std::io::Result<()> {
        if self.resends {
            self.gate.close();
        } else {
            // What a thread has read is lost with this process: each of them stops behind its next request.
            self.gate.drain(session::LOOPS, || Mounted::nudge(&self.dir))?;
        }
        self.log.flush();
        Ok(())
    }
}

/// Waits for the keeper's word on a thread of its own.
fn listen(keeper: &Channel, exit: Exit, keeper_gone: Arc<AtomicBool>) -> std::io::Result<()> {
    let keeper = keeper.try_clone()?;
    let listen = move || loop {
        match keeper.receive::<Order>() {
            Ok(Some((Order::HandOver, _))) => {
                if let Err(error) = exit.take() {
                    tracing::error!(%error, "requests under way are cut off");
                }
                tracing::info!("handed over");
                // Nothing is dropped: what is staged belongs to the next worker.
                std::process::exit(0);
            }
            Ok(Some((order, _))) => tracing::warn!(?order, "an order that comes too late"),
            Ok(None) | Err(_) => {
                keeper_gone.store(true, Ordering::Relaxed);
                tracing::error!("the keeper is gone; this mount goes on, but will not survive this process");
                return;
            }
        }
    };
    std::thread::Builder::new().name("tarn-orders".to_owned()).spawn(listen)?;
    Ok(())
}

async fn start<A, O, F>(
    config: &Config,
    keeper: &Channel,
    task: Task,
    facts: Facts,
    open: O,
) -> Result<Started, Failure>
where
    A: fuser::Filesystem + Send + Sync + 'static,
    O: FnOnce(Config, tokio::runtime::Handle, OpenSession) -> F,
    F: Future<Output = Result<Opened<A>, Failure>>,
{
    let (log, state) = SessionLog::open(task.log.into()).map_err(|error| Failure::new(&error))?;
    if task.mounted.is_some() && state.is_new() {
        return Err(Failure::text("the worker before this one kept no session log: nobody can go on"));
    }
    // To measure what the log costs: such a mount ends with its worker.
    let log = if std::env::var_os("TARN_NO_SESSION_LOG").is_some() { SessionLog::none() } else { log };
    let device = DeviceSlot::default();
    if let Some(mounted) = &task.mounted {
        device.fill(&mounted.device)?;
    }
    let brought = OpenSession {
        log: log.clone(),
        state: Some(state).filter(|state| !state.is_new()),
        device: device.clone(),
        owner: ProcessId::parent(),
    };
    let opened = open(config.clone(), tokio::runtime::Handle::current(), brought).await?;
    let (adapter, adopts) = (opened.adapter, task.mounted.is_some());
    let mounted = match task.mounted {
        Some(mounted) => mounted,
        None => {
            keeper.send(&Report::Connected, &[])?;
            let (Order::Serve(at), mut fds) = receive(keeper)? else {
                return Err(Failure::text("the keeper ordered something else than to serve"));
            };
            at.with(fds.pop().ok_or_else(|| Failure::text("the keeper sent no device"))?)
        }
    };
    // Before the first answer: who sees the mount can ask it.
    let facts = Facts { resends: mounted.resends, ..facts };
    let desk = Arc::new(Desk::new(opened.mounted, facts));
    let control = control::Server::start(registry()?.socket_of(&mounted.entry.dir), Arc::clone(&desk))?;
    if let Some(address) = &config.process.metrics {
        control::serve_metrics(address, desk).await?;
    }
    let exit = Exit { gate: opened.gate, log, dir: mounted.entry.dir.clone(), resends: mounted.resends };
    let serve = move || match adopts {
        true => session::adopt(mounted, adapter, &device),
        // The kernel's INIT is answered by this very process.
        false => session::serve(mounted, adapter, &device),
    };
    let session = tokio::task::spawn_blocking(serve).await.map_err(|error| Failure::new(&error))??;
    std::env::set_current_dir("/")?;
    keeper.send(&Report::Serving, &[])?;
    Ok(Started { session, served: opened.served, control, exit })
}
