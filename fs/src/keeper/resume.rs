//! A mount that outlives its keeper: the next keeper of the service goes on with what the last one has stored.

use super::channel::Restarts;
use super::manager::{self, Stored};
use super::policy::Policy;
use super::signals::{self, Signals};
use super::upgrade::Door;
use super::worker::Plan;
use super::{Keeper, outside, record};
use crate::config::Config;
use crate::fuse::session::{self, Mode, Mounted};
use crate::mount::background::Role;
use crate::mount::{Failure, harden, log_target, registry};
use crate::session_log::{self, SessionLog};
use crate::telemetry;
use std::fs::File;
use std::io::Write;
use std::path::Path;

impl Keeper {
    /// Goes on with the mount that `stored` belongs to; `None` if it is gone or cannot be served any more, and a new
    /// one is to be made.
    pub(super) fn resume(
        stored: Stored,
        config: &Config,
        dir: &Path,
        role: Role,
    ) -> Result<Option<Self>, Failure> {
        let Some(entry) = stored.mount(dir)? else {
            manager::forget();
            return Ok(None);
        };
        stored.end_worker()?;
        let Stored { device, log } = stored;
        let (mounted, log) = (Mounted::new(entry, device), File::from(log));
        let format = SessionLog::format_of(&log).map_err(|error| Failure::new(&error))?;
        if format != Some(session_log::FORMAT) {
            // The log's place is known to the next mount, not here.
            let text = "tarn: another version made this mount, and it cannot be gone on with: it ends, a new one is made";
            writeln!(std::io::stderr(), "{text}").unwrap_or_default();
            session::abort(&mounted.entry)?;
            session::unmount_entry(&mounted.entry, Mode::Lazy)?;
            manager::forget();
            return Ok(None);
        }
        let target = log_target(role, &mounted.entry.dir);
        telemetry::start(&target, &config.process.log_level, config.process.log_json, None)?;
        harden()?;
        let (registry, signals) = (registry()?, Signals::listen()?);
        let record = registry.create(&record(config, mounted.entry.dir.clone(), &target))?;
        let door = Door::open(registry.door_of(&mounted.entry.dir))?;
        let plan = Plan::new(outside(&mounted.entry.dir)?);
        std::env::set_current_dir("/")?;
        let worker = plan.start()?;
        let keeper = Self {
            plan,
            worker,
            signals,
            mounted,
            log: log.into(),
            record,
            door,
            format: session_log::FORMAT,
            policy: Policy::default(),
            restarts: Restarts { count: 1, last: "its keeper ended".to_owned() },
            pending: Vec::new(),
        };
        keeper.order_adoption()?;
        tracing::info!(source = %config.source, dir = %keeper.mounted.entry.dir.display(), "the next keeper goes on");
        Ok(Some(keeper))
    }

    /// Lets the worker finish what it has begun, and leaves the mount to the next keeper.
    pub(super) fn leave(mut self) -> Result<(), Failure> {
        self.hand_over()?;
        tracing::info!("the mount waits for the next keeper");
        Ok(())
    }

    /// Whether the next keeper can go on with the mount; if not, the signal that says so is of no use.
    pub(super) fn may_leave(&mut self) -> bool {
        let asked = self.pending.contains(&signals::LEAVE);
        self.pending.retain(|signal| *signal != signals::LEAVE);
        if asked && !manager::is_there() {
            tracing::warn!("no service manager keeps the mount: it is not left");
        }
        asked && manager::is_there()
    }
}
