//! The process that keeps a mount alive: it mounts, holds the kernel's descriptor, and starts the worker that
//! answers requests. A worker that dies is replaced; the kernel sends what it had not answered once more, and
//! programs wait for some milliseconds.
//!
//! Invariants: while this process or a worker lives, the mount does. There is one worker at a time, and the next
//! is told to adopt only when the last is surely dead. What cannot be served is aborted, so that nobody hangs.
//!
//! What it does not do: it speaks neither S3 nor FUSE, runs no threads and holds nothing but the descriptors of
//! device and session log. It sleeps in poll(2) until a worker ends or somebody sends a signal.

pub mod channel;
mod manager;
mod policy;
mod resume;
mod signals;
pub mod upgrade;
mod worker;

pub use worker::MARK;

use crate::config::Config;
use crate::fuse::session::{self, Mode, MountRequest, Mounted, OptionText};
use crate::mount::background::{self, Ready, Role};
use crate::mount::checks::{CheckError, MountPoint};
use crate::mount::record::{Outcome, Record, RecordFile};
use crate::mount::{Failure, checks, harden, log_target, registry};
use crate::process::{ProcessId, code};
use crate::session_log;
use crate::telemetry::{self, Target};
use channel::{Order, Report, Restarts};
use manager::Stored;
use policy::{Death, Next, Policy};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::MemfdFlags;
use rustix::process::Signal;
use signals::Signals;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;
use upgrade::Door;
use worker::{Plan, Worker};

/// Keeps a mount until it is unmounted; reports its start through `role`.
pub fn run(config: &Config, dir: &Path, role: Role) -> Result<(), Failure> {
    let ready = Ready::new(role)?;
    let begun = Keeper::begin(config, dir, role, &ready);
    let keeper = begun.inspect_err(|failure| ready.failed(&failure.to_string()))?;
    if let Err(error) = ready.mounted() {
        tracing::warn!(%error, "the command that started this mount is gone; unmounting");
        keeper.worker.signal(Signal::TERM);
    }
    keeper.keep().inspect_err(|failure| tracing::error!("{failure}"))
}

struct Keeper {
    plan: Plan,
    worker: Worker,
    signals: Signals,
    mounted: Mounted,
    log: OwnedFd,
    record: RecordFile,
    /// Where `tarn upgrade` asks.
    door: Door,
    /// Of the session log, as the worker writes it.
    format: u32,
    policy: Policy,
    restarts: Restarts,
    /// Ending signals that a worker may have died of before it could act.
    pending: Vec<Signal>,
}

/// What can happen to a keeper.
#[derive(Debug)]
enum Event {
    Report(Report),
    Signal(Signal),
    /// The worker has ended and has nothing more to say.
    Exited,
    /// Somebody stands at the door.
    Asked,
}

impl Keeper {
    /// Goes on with the mount of an earlier keeper, or makes one.
    fn begin(config: &Config, dir: &Path, role: Role, ready: &Ready) -> Result<Self, Failure> {
        let stored = Stored::take()?;
        let resumed = stored.map(|stored| Self::resume(stored, config, dir, role)).transpose()?.flatten();
        resumed.map_or_else(|| Self::start(config, dir, role, ready), Ok)
    }

    fn start(config: &Config, dir: &Path, role: Role, ready: &Ready) -> Result<Self, Failure> {
        let point = free_point(dir, config)?;
        let target = log_target(role, &point.dir);
        telemetry::start(&target, &config.process.log_level, config.process.log_json, None)?;
        if let Some(warning) = &point.warning {
            ready.warn(warning);
        }
        harden()?;
        let (registry, signals) = (registry()?, Signals::listen()?);
        let log = rustix::fs::memfd_create("tarn-session", MemfdFlags::CLOEXEC).map_err(io::Error::from)?;
        let plan = Plan::new(outside(&point.dir)?);
        let mut worker = plan.start()?;
        let start = Order::Start { dir: point.dir.as_os_str().as_encoded_bytes().to_vec() };
        worker.order(&start, &[log.as_fd()])?;
        let request = MountRequest {
            dir: point.dir.clone(),
            source: OptionText::escape(&config.source.to_string()),
            allow_other: config.files.allow_other,
            read_only: config.files.read_only,
            no_exec: config.files.no_exec,
        };
        let mut made = None;
        // The worker's control socket stands beside the record, and only while there is one.
        let make = || {
            let mounted = session::mount(&request)?;
            match registry.create(&record(config, point.dir.clone(), &target)) {
                Ok(record) => Ok((mounted, record)),
                Err(error) => {
                    session::unmount_entry(&mounted.entry, Mode::Lazy)?;
                    Err(error.into())
                }
            }
        };
        let begun = begin(&mut worker, &signals, ready, &mut made, make);
        match (begun, made) {
            (Ok(()), Some((mounted, record))) => {
                session::raise_read_ahead(&mounted.entry);
                if role == Role::Foreground {
                    manager::store(mounted.device.as_fd(), log.as_fd());
                }
                let dir = mounted.entry.dir.display();
                tracing::info!(source = %config.source, %dir, worker = worker.pid(), "mounted");
                std::env::set_current_dir("/")?;
                let door = Door::open(registry.door_of(&mounted.entry.dir))?;
                Ok(Self {
                    plan,
                    worker,
                    signals,
                    mounted,
                    log,
                    record,
                    door,
                    format: session_log::FORMAT,
                    policy: Policy::default(),
                    restarts: Restarts::default(),
                    pending: Vec::new(),
                })
            }
            (result, made) => {
                worker.end();
                if let Some((mounted, _record)) = made {
                    session::unmount_entry(&mounted.entry, Mode::Lazy)?;
                }
                Err(result.err().unwrap_or_else(|| Failure::text("served without a mount")))
            }
        }
    }

    fn keep(mut self) -> Result<(), Failure> {
        let mut end = None;
        code::release();
        loop {
            if self.may_leave() {
                return self.leave();
            }
            match next_event(&self.worker, &self.signals, Some(&self.door), None)? {
                None => {}
                Some(Event::Asked) => self.serve_door(),
                Some(Event::Signal(signals::LEAVE)) => self.pending.push(signals::LEAVE),
                Some(Event::Signal(signal)) => {
                    background::ending();
                    self.pending.push(signal);
                    self.worker.signal(signal);
                }
                Some(Event::Report(report)) => match report {
                    Report::Hello { .. } | Report::Connected => {}
                    Report::Warning(text) => tracing::warn!("{text}"),
                    Report::Failed(text) => tracing::error!(worker = self.worker.pid(), "{text}"),
                    Report::Serving => self.serving(),
                    Report::Ended { outcome, error } => end = Some((outcome, error)),
                },
                Some(Event::Exited) => {
                    let status = self.worker.wait()?;
                    if let Some((outcome, error)) = end {
                        return self.finish(outcome, error);
                    }
                    self.replace(status)?;
                }
            }
        }
    }

    fn serving(&mut self) {
        self.worker.serving = Some(crate::clock::instant());
        tracing::info!(worker = self.worker.pid(), "the next worker serves");
        code::release();
        for signal in self.pending.iter().filter(|signal| **signal != signals::LEAVE) {
            self.worker.signal(*signal);
        }
    }

    /// The worker died without a word: the next one takes over.
    fn replace(&mut self, mut status: ExitStatus) -> Result<(), Failure> {
        loop {
            let death = match self.worker.served() {
                Some(_) if status.signal() == Some(Signal::KILL.as_raw()) => Death::Killed,
                Some(served) => Death::Failed { served },
                None => Death::Unborn,
            };
            tracing::error!(worker = self.worker.pid(), %status, "the worker died");
            self.restarts.count += 1;
            self.restarts.last = status.to_string();
            match self.policy.next(death) {
                Next::GiveUp => return Err(self.give_up()),
                Next::Start(wait) => pause(wait)?,
            }
            self.worker = self.plan.start()?;
            if self.order_adoption().is_ok() {
                return Ok(());
            }
            self.worker.signal(Signal::KILL);
            status = self.worker.wait()?;
        }
    }

    fn order_adoption(&self) -> io::Result<()> {
        let order = Order::Adopt { mounted: (&self.mounted).into(), restarts: self.restarts.clone() };
        let device = self.mounted.device_for_worker()?;
        self.worker.order(&order, &[device.as_fd(), self.log.as_fd()])
    }

    /// Nobody can serve the mount: whoever waits for it gets an error.
    fn give_up(&self) -> Failure {
        let entry = &self.mounted.entry;
        if let Err(error) = session::abort(entry) {
            tracing::debug!(%error, "the connection ends with this process");
        }
        if let Err(error) = session::unmount_entry(entry, Mode::Lazy) {
            tracing::error!(%error, "a dead mount stays behind");
        }
        manager::forget();
        Failure::text(
            "the worker died again and again; the mount was given up, and what was not committed stays in the \
             cache directory",
        )
    }

    fn finish(self, outcome: Outcome, error: Option<String>) -> Result<(), Failure> {
        manager::forget();
        self.record.finish(outcome)?;
        error.map_or(Ok(()), |text| Err(Failure::text(text)))
    }
}

/// Mounts when the worker has reached the bucket, and waits until it serves.
fn begin(
    worker: &mut Worker,
    signals: &Signals,
    ready: &Ready,
    made: &mut Option<(Mounted, RecordFile)>,
    make: impl Fn() -> Result<(Mounted, RecordFile), Failure>,
) -> Result<(), Failure> {
    loop {
        let Some(event) = next_event(worker, signals, None, None)? else { continue };
        match event {
            Event::Asked | Event::Report(Report::Hello { .. }) => {}
            Event::Report(Report::Warning(text)) => ready.warn(&text),
            Event::Report(Report::Connected) => {
                let (mounted, _record) = made.insert(make()?);
                let device = mounted.device_for_worker()?;
                worker.order(&Order::Serve((&*mounted).into()), &[device.as_fd()])?;
            }
            Event::Report(Report::Serving) => {
                worker.serving = Some(crate::clock::instant());
                return Ok(());
            }
            Event::Report(Report::Failed(text)) => return Err(Failure::text(text)),
            Event::Report(Report::Ended { .. }) | Event::Exited => {
                return Err(Failure::text("the worker died before it served; see the log"));
            }
            Event::Signal(signal) => return Err(Failure::text(format!("ended by {signal:?}"))),
        }
    }
}

/// Sleeps until something happens, for at most `limit`.
fn next_event(
    worker: &Worker,
    signals: &Signals,
    door: Option<&Door>,
    limit: Option<Duration>,
) -> Result<Option<Event>, Failure> {
    let mut fds = vec![worker.channel.as_fd(), worker.handle().as_fd()];
    fds.extend(signals.fds());
    fds.extend(door.map(Door::as_fd));
    let mut fds: Vec<_> = fds.into_iter().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
    wait(&mut fds, limit)?;
    if let Some(signal) = signals.arrived() {
        return Ok(Some(Event::Signal(signal)));
    }
    let ready = |at: usize| fds.get(at).is_some_and(|fd| !fd.revents().is_empty());
    if ready(0)
        && let Some((report, _)) = worker.channel.receive::<Report>()?
    {
        return Ok(Some(Event::Report(report)));
    }
    if ready(0) || ready(1) {
        // It has ended, or closed the channel and is about to.
        wait(&mut [PollFd::new(worker.handle(), PollFlags::IN)], None)?;
        return Ok(Some(Event::Exited));
    }
    Ok(ready(2 + signals::COUNT).then_some(Event::Asked))
}

fn wait(fds: &mut [PollFd<'_>], limit: Option<Duration>) -> io::Result<()> {
    let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
    rustix::io::retry_on_intr(|| poll(fds, limit.as_ref()))?;
    Ok(())
}

fn pause(time: Duration) -> io::Result<()> {
    if time.is_zero() { Ok(()) } else { wait(&mut [], Some(time)) }
}

/// A mount point that can be used. A service takes the dead mount of its last process away by itself.
fn free_point(dir: &Path, config: &Config) -> Result<MountPoint, Failure> {
    match checks::check(dir, config) {
        Err(CheckError::Dead(_)) if manager::is_there() => {
            session::unmount_dead(&std::path::absolute(dir)?)?;
            Ok(checks::check(dir, config)?)
        }
        checked => Ok(checked?),
    }
}

/// Where relative paths begin. A worker must not look it up through the mount, which only it could answer.
fn outside(dir: &Path) -> io::Result<PathBuf> {
    let cwd = std::env::current_dir()?;
    Ok(if session::mountinfo::is_below(&cwd, dir) { "/".into() } else { cwd })
}

fn record(config: &Config, dir: PathBuf, log: &Target) -> Record {
    Record {
        process: ProcessId::own(),
        dir,
        source: config.source.to_string(),
        read_only: config.files.read_only,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        log: log.to_string(),
        outcome: None,
    }
}
