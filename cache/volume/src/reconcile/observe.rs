//! Looks at everything that the planner wants to know.

use super::{BELIEVE_WRITTEN, Reconciler};
use crate::error::{Error, Result};
use crate::id::{DeviceName, InstanceId, VolumeId};
use crate::plan::{CloudSeen, Desired, Seen};
use crate::state::{AttachmentState, HostVolume, Place, StagedFiles, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tracing::warn;

impl Reconciler {
    /// An error only if the host or its mounts cannot be asked; the cloud may be away.
    pub(super) async fn observe(&mut self, desired: &Desired, now: Timestamp) -> Result<Seen> {
        let place = look("ask for the place in use", self.tenants.place()).await?;
        let cloud = self.ask_cloud(desired, now).await;
        let host = self.ask_host(desired, cloud.as_ref()).await?;
        let staged = self.ask_staged(&host).await;
        self.learn(desired, cloud.as_ref(), &host, now);
        Ok(Seen { now, place, cloud, host, staged, memory: self.memory.clone() })
    }

    async fn ask_cloud(&mut self, desired: &Desired, now: Timestamp) -> Option<CloudSeen> {
        if self.memory.cloud_held.is_some_and(|until| until > now) {
            return None;
        }
        match look("look at the volumes", self.list(desired)).await {
            Ok(mut cloud) => {
                self.backoff.answered();
                self.memory.cloud_held = None;
                self.believe_written(&mut cloud, now);
                Some(cloud)
            }
            Err(error) => {
                warn!(%error, "the cloud does not say what volumes there are");
                self.memory.cloud_held = Some(now.after(self.backoff.throttled()));
                self.status.send_modify(|status| status.last_error = Some(error.to_string()));
                None
            }
        }
    }

    async fn list(&self, desired: &Desired) -> Result<CloudSeen> {
        let volumes = self.cloud.volumes(&desired.owner).await?;
        let mut ids = BTreeSet::from([desired.instance.clone()]);
        for volume in &volumes {
            ids.extend(volume.attachment.iter().map(|attachment| attachment.instance.clone()));
            ids.insert(volume.tags.instance.clone());
        }
        ids.remove(&InstanceId::new(""));
        let ids: Vec<InstanceId> = ids.into_iter().collect();
        let instances = self.cloud.instances(&ids).await?;
        let instances = instances.into_iter().map(|instance| (instance.id.clone(), instance)).collect();
        Ok(CloudSeen { volumes, instances })
    }

    /// Listings lag behind: what was acknowledged a moment ago is true.
    fn believe_written(&mut self, cloud: &mut CloudSeen, now: Timestamp) {
        self.written.retain(|_, (_, at)| now.since(*at) <= BELIEVE_WRITTEN);
        for volume in &mut cloud.volumes {
            if let Some((tags, _)) = self.written.get(&volume.id) {
                volume.tags = tags.clone();
            }
        }
    }

    async fn ask_host(
        &self,
        desired: &Desired,
        cloud: Option<&CloudSeen>,
    ) -> Result<BTreeMap<VolumeId, HostVolume>> {
        let volumes = cloud.iter().flat_map(|cloud| &cloud.volumes);
        let attached = volumes.filter(|volume| {
            volume.attachment.as_ref().is_some_and(|attachment| attachment.instance == desired.instance)
        });
        let ids: Vec<VolumeId> = attached.map(|volume| volume.id.clone()).collect();
        let seen = look("look at the devices", self.host.observe(&ids)).await?;
        Ok(seen.into_iter().map(|volume| (volume.volume.clone(), volume)).collect())
    }

    async fn ask_staged(&self, host: &BTreeMap<VolumeId, HostVolume>) -> BTreeMap<VolumeId, StagedFiles> {
        let mut staged = BTreeMap::new();
        for volume in host.values().filter(|volume| volume.mount.as_ref().is_some_and(|mount| mount.alive)) {
            let dir = self.host.cache_dir(&Place::Volume(volume.volume.clone()));
            match look("count what is staged", self.tenants.staged(&dir)).await {
                Ok(files) => {
                    staged.insert(volume.volume.clone(), files);
                }
                Err(error) => warn!(volume = volume.volume.as_str(), %error, "what is staged is not known"),
            }
        }
        staged
    }

    /// Notes since when devices are missing, and that a new volume is listed.
    fn learn(
        &mut self,
        desired: &Desired,
        cloud: Option<&CloudSeen>,
        host: &BTreeMap<VolumeId, HostVolume>,
        now: Timestamp,
    ) {
        let Some(cloud) = cloud else { return };
        let has_device = |id: &VolumeId| host.get(id).is_some_and(|volume| volume.device.is_some());
        let missing: BTreeMap<VolumeId, Timestamp> = cloud
            .volumes
            .iter()
            .filter(|volume| {
                let attached =
                    volume.attachment.as_ref().filter(|attachment| attachment.instance == desired.instance);
                attached.is_some_and(|attachment| attachment.state == AttachmentState::Attached)
                    && !has_device(&volume.id)
            })
            .map(|volume| (volume.id.clone(), self.memory.missing.get(&volume.id).copied().unwrap_or(now)))
            .collect();
        self.memory.missing = missing;
        // A check says nothing about a device that has been away.
        self.memory.checked.retain(|id, _| has_device(id));
        if let Some((created, _)) = &self.memory.created
            && cloud.volumes.iter().any(|volume| volume.id == *created)
        {
            self.memory.created = None;
        }
    }
}

/// A look at something takes no longer than this: a device that hangs must not keep the mounts on it.
const LOOK_LIMIT: Duration = Duration::from_secs(60);

async fn look<T>(what: &'static str, asked: impl Future<Output = Result<T>>) -> Result<T> {
    let limit_s = LOOK_LIMIT.as_secs();
    let timed_out = |_| Err(Error::TimedOut { what: what.into(), limit_s });
    tokio::time::timeout(LOOK_LIMIT, asked).await.unwrap_or_else(timed_out)
}

/// The name of the device of an attachment that does not come to its end.
pub(super) fn stuck_device(seen: &Seen, id: &VolumeId) -> Option<DeviceName> {
    let volumes = seen.cloud.as_ref().map(|cloud| cloud.volumes.as_slice()).unwrap_or_default();
    let attachment = volumes.iter().find(|volume| volume.id == *id)?.attachment.as_ref()?;
    let stuck = attachment.state == AttachmentState::Attaching || seen.memory.missing.contains_key(id);
    stuck.then(|| attachment.device.clone())
}
