//! Does what the planner decides: looks, asks it, does one thing, looks again.
//!
//! What must be kept is in the tags; [`Memory`] only spares calls. So a reconciler may be dropped at any await and
//! another one goes on. What it does take from its memory is what it wrote itself: a listing that lags behind must not
//! make it forget that a volume is in use.

mod backoff;
mod observe;
mod status;

pub use status::{Condition, Status, VolumeStatus};

use crate::clock;
use crate::cloud::Cloud;
use crate::error::{CloudErrorKind, Error, Result};
use crate::host::Host;
use crate::id::VolumeId;
use crate::plan::{Action, ActionKey, Desired, Memory, Plan, Seen, plan};
use crate::state::{Place, Tags, Timestamp};
use crate::tenants::Tenants;
use backoff::Backoff;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tracing::{info, warn};

/// So long a change may not show in a listing.
const SETTLE: Duration = Duration::from_secs(5);
/// A volume that was made is not made again for so long, lest a service that only makes broken ones is kept busy.
const CREATE_PAUSE: Duration = Duration::from_secs(60);
/// What was written is believed rather than a listing for so long.
const BELIEVE_WRITTEN: Duration = Duration::from_secs(60);
/// Everything is looked at again after so long, whatever was planned.
const POLL: Duration = Duration::from_secs(30);
const CLOUD_LIMIT: Duration = Duration::from_secs(30);
/// A check of a large file system takes long, and an upload of all that is staged longer. One that was cut short goes
/// on where it was.
const HOST_LIMIT: Duration = Duration::from_secs(15 * 60);

/// Looks after the cache volume of one node.
pub struct Reconciler {
    cloud: Arc<dyn Cloud>,
    host: Arc<dyn Host>,
    tenants: Arc<dyn Tenants>,
    memory: Memory,
    written: BTreeMap<VolumeId, (Tags, Timestamp)>,
    backoff: Backoff,
    status: watch::Sender<Status>,
}

/// What a step came to.
#[derive(Debug)]
pub enum Turn {
    /// Something was done; there may be more.
    Acted(ActionKey),
    /// Something failed; other things may go on.
    Failed(ActionKey, Error),
    /// There is nothing to do before this time, at the latest.
    Idle(Timestamp),
}

impl Reconciler {
    /// One that knows nothing yet.
    pub fn new(cloud: Arc<dyn Cloud>, host: Arc<dyn Host>, tenants: Arc<dyn Tenants>) -> Self {
        Self {
            cloud,
            host,
            tenants,
            memory: Memory::default(),
            written: BTreeMap::new(),
            backoff: Backoff::default(),
            status: watch::Sender::new(Status::default()),
        }
    }

    /// What can be said about the volume, kept up to date.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// Looks after the volume until `stop` is ready. Nothing is undone at the end: the volume stays in use.
    pub async fn run(mut self, mut desired: watch::Receiver<Desired>, stop: impl Future<Output = ()> + Send) {
        let mut stop = std::pin::pin!(stop);
        loop {
            let wanted = desired.borrow_and_update().clone();
            let turn = tokio::select! {
                () = &mut stop => return,
                turn = self.step(&wanted, clock::now()) => turn,
            };
            let pause = match turn {
                Turn::Acted(_) | Turn::Failed(..) => continue,
                Turn::Idle(until) => until.since(clock::now()).clamp(Duration::from_secs(1), POLL),
            };
            tokio::select! {
                () = &mut stop => return,
                () = tokio::time::sleep(pause) => {}
                changed = desired.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Looks, decides and does one thing.
    pub async fn step(&mut self, desired: &Desired, now: Timestamp) -> Turn {
        let seen = match self.observe(desired, now).await {
            Ok(seen) => seen,
            // Without a look at the host nothing may be decided: what is mounted must not be taken off.
            Err(error) => {
                warn!(%error, "cannot see the state of the cache volume");
                self.status.send_modify(|status| status.last_error = Some(error.to_string()));
                return Turn::Idle(now.after(SETTLE));
            }
        };
        let Plan { action, waits } = plan(desired, &seen);
        self.report(&seen, action.as_ref(), &waits);
        let Some(action) = action else {
            let soonest = waits.iter().map(|wait| wait.until).min();
            return Turn::Idle(soonest.unwrap_or(now.after(POLL)));
        };
        let key = action.key();
        match self.act(desired, &seen, &action).await {
            Ok(()) => {
                info!(
                    action = key.action,
                    volume = key.volume.as_ref().map(VolumeId::as_str),
                    "cache volume"
                );
                self.note_success(&seen, &action, now);
                Turn::Acted(key)
            }
            Err(error) => {
                warn!(action = key.action, volume = key.volume.as_ref().map(VolumeId::as_str), %error, "cache volume");
                self.note_failure(&action, &error, now);
                Turn::Failed(key, error)
            }
        }
    }

    async fn act(&mut self, desired: &Desired, seen: &Seen, action: &Action) -> Result<()> {
        let (cloud, host, tenants) =
            (Arc::clone(&self.cloud), Arc::clone(&self.host), Arc::clone(&self.tenants));
        let owner = &desired.owner;
        match action {
            Action::Serve(place) => {
                let dir = host.cache_dir(place);
                within(action, HOST_LIMIT, tenants.serve(place, &dir)).await
            }
            Action::Create(new) => {
                let volume = within(action, CLOUD_LIMIT, cloud.create(owner, new)).await?;
                self.memory.generation = new.tags.generation.saturating_sub(1);
                self.memory.created = Some((volume, seen.now));
                Ok(())
            }
            Action::Tag { volume, tags } => {
                within(action, CLOUD_LIMIT, cloud.tag(owner, volume, tags)).await?;
                self.written.insert(volume.clone(), (Tags::clone(tags), seen.now));
                Ok(())
            }
            Action::Attach { volume, device } => {
                within(action, CLOUD_LIMIT, cloud.attach(volume, &desired.instance, device)).await
            }
            Action::Detach { volume, instance } => {
                within(action, CLOUD_LIMIT, cloud.detach(volume, instance)).await
            }
            Action::Delete { volume } => within(action, CLOUD_LIMIT, cloud.delete(volume)).await,
            Action::Modify { volume, change } => {
                within(action, CLOUD_LIMIT, cloud.modify(volume, change)).await
            }
            Action::Format { volume, file_system } => {
                within(action, HOST_LIMIT, host.format(volume, *file_system)).await
            }
            Action::Check { volume } => {
                let health = within(action, HOST_LIMIT, host.check(volume)).await?;
                self.memory.checked.insert(volume.clone(), health);
                Ok(())
            }
            Action::Mount { volume } => within(action, HOST_LIMIT, host.mount(volume)).await,
            Action::GrowFileSystem { volume, size } => {
                within(action, HOST_LIMIT, host.grow(volume)).await?;
                self.memory.grown.insert(volume.clone(), *size);
                Ok(())
            }
            Action::Recover { volume } => {
                let dir = host.cache_dir(&Place::Volume(volume.clone()));
                within(action, HOST_LIMIT, tenants.recover(&dir)).await?;
                // What is left, perhaps because a mount still uses it, must not be tried again at once.
                let left = tenants.staged(&dir).await?;
                if left.is_empty() {
                    return Ok(());
                }
                let message = format!("{} files ({} bytes) are still staged", left.files, left.bytes);
                Err(Error::Tenant { what: "upload what is staged", dir, message })
            }
            Action::Unmount { volume, lost } => within(action, HOST_LIMIT, host.unmount(volume, *lost)).await,
        }
    }

    fn note_success(&mut self, seen: &Seen, action: &Action, now: Timestamp) {
        let key = action.key();
        self.backoff.succeeded(&key);
        self.memory.held.remove(&key);
        match action {
            Action::Create(_) => {
                self.memory.settling.insert(key, now.after(CREATE_PAUSE));
            }
            Action::Attach { volume, .. } => {
                self.forget(volume);
                self.memory.settling.insert(key, now.after(SETTLE));
            }
            Action::Detach { volume, .. } => {
                self.forget(volume);
                self.memory.settling.insert(key, now.after(SETTLE));
                self.memory.bad_devices.extend(observe::stuck_device(seen, volume));
            }
            Action::Delete { volume } => {
                self.forget(volume);
                self.memory.settling.insert(key, now.after(SETTLE));
            }
            Action::Modify { .. } => {
                self.memory.settling.insert(key, now.after(SETTLE));
            }
            Action::Unmount { volume, .. } => self.forget(volume),
            Action::Serve(_)
            | Action::Tag { .. }
            | Action::Format { .. }
            | Action::Check { .. }
            | Action::Mount { .. }
            | Action::GrowFileSystem { .. }
            | Action::Recover { .. } => {}
        }
    }

    fn note_failure(&mut self, action: &Action, error: &Error, now: Timestamp) {
        let key = action.key();
        self.status.send_modify(|status| status.last_error = Some(error.to_string()));
        match (error.cloud_kind(), action) {
            (Some(CloudErrorKind::TokenUsed), Action::Create(new)) => {
                self.memory.generation = new.tags.generation;
                self.memory.created = None;
                return;
            }
            (Some(CloudErrorKind::Throttled), _) => {
                self.memory.cloud_held = Some(now.after(self.backoff.throttled()));
            }
            (Some(CloudErrorKind::Invalid), Action::Attach { device, .. }) => {
                self.memory.bad_devices.insert(device.clone());
            }
            // What could not be mounted is looked at again first.
            (_, Action::Mount { volume }) => {
                self.memory.checked.remove(volume);
            }
            _ => {}
        }
        let until = now.after(self.backoff.failed(&key, error.cloud_kind()));
        self.memory.held.insert(key, until);
    }

    /// What was known of a volume holds only as long as it stays where it is.
    fn forget(&mut self, volume: &VolumeId) {
        self.memory.checked.remove(volume);
        self.memory.grown.remove(volume);
        self.memory.missing.remove(volume);
    }
}

/// Gives a call its time limit.
async fn within<T>(action: &Action, limit: Duration, call: impl Future<Output = Result<T>>) -> Result<T> {
    match tokio::time::timeout(limit, call).await {
        Ok(done) => done,
        Err(_) => Err(Error::TimedOut { what: action.name().into(), limit_s: limit.as_secs() }),
    }
}
