//! One question to the cloud for all who ask the same within a short time: the nodes of a cluster that are looked
//! after by one controller. EC2 counts requests, not answers.

use super::Cloud;
use crate::error::Result;
use crate::id::{DeviceName, InstanceId, Owner, VolumeId};
use crate::plan::{Change, NewVolume};
use crate::state::{Instance, Tags, Volume};
use async_trait::async_trait;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// A cloud whose listings are shared. Who asks while another's answer is on its way waits for that answer.
#[derive(Debug)]
pub struct Shared<C> {
    cloud: C,
    window: Duration,
    volumes: Mutex<Option<(Instant, Owner, Vec<Volume>)>>,
    instances: Mutex<Listed>,
}

/// The instances that anybody asked for lately, asked for together.
#[derive(Debug, Default)]
struct Listed {
    at: Option<Instant>,
    asked: BTreeSet<InstanceId>,
    known: BTreeMap<InstanceId, Instance>,
}

impl<C> Shared<C> {
    /// Shares listings that are no older than `window`.
    pub fn new(cloud: C, window: Duration) -> Self {
        Self { cloud, window, volumes: Mutex::default(), instances: Mutex::default() }
    }

    /// After a change the next listing must show it, as far as the cloud shows it.
    async fn forget(&self) {
        *self.volumes.lock().await = None;
        self.instances.lock().await.at = None;
    }

    fn is_fresh(&self, at: Instant) -> bool {
        at.elapsed() <= self.window
    }
}

#[async_trait]
impl<C: Cloud> Cloud for Shared<C> {
    async fn volumes(&self, owner: &Owner) -> Result<Vec<Volume>> {
        let mut listed = self.volumes.lock().await;
        if let Some((at, whose, volumes)) = &*listed
            && whose == owner
            && self.is_fresh(*at)
        {
            return Ok(volumes.clone());
        }
        let volumes = self.cloud.volumes(owner).await?;
        *listed = Some((Instant::now(), owner.clone(), volumes.clone()));
        Ok(volumes)
    }

    async fn instances(&self, ids: &[InstanceId]) -> Result<Vec<Instance>> {
        let mut listed = self.instances.lock().await;
        let fresh = listed.at.is_some_and(|at| self.is_fresh(at));
        if !fresh || !ids.iter().all(|id| listed.asked.contains(id)) {
            if !fresh {
                listed.asked.clear();
            }
            listed.asked.extend(ids.iter().cloned());
            let asked: Vec<InstanceId> = listed.asked.iter().cloned().collect();
            let answer = self.cloud.instances(&asked).await?;
            listed.known = answer.into_iter().map(|instance| (instance.id.clone(), instance)).collect();
            listed.at = Some(Instant::now());
        }
        Ok(ids.iter().filter_map(|id| listed.known.get(id).cloned()).collect())
    }

    async fn create(&self, owner: &Owner, volume: &NewVolume) -> Result<VolumeId> {
        let done = self.cloud.create(owner, volume).await;
        self.forget().await;
        done
    }

    async fn attach(&self, volume: &VolumeId, instance: &InstanceId, device: &DeviceName) -> Result<()> {
        let done = self.cloud.attach(volume, instance, device).await;
        self.forget().await;
        done
    }

    async fn detach(&self, volume: &VolumeId, instance: &InstanceId) -> Result<()> {
        let done = self.cloud.detach(volume, instance).await;
        self.forget().await;
        done
    }

    async fn delete(&self, volume: &VolumeId) -> Result<()> {
        let done = self.cloud.delete(volume).await;
        self.forget().await;
        done
    }

    async fn modify(&self, volume: &VolumeId, change: &Change) -> Result<()> {
        let done = self.cloud.modify(volume, change).await;
        self.forget().await;
        done
    }

    async fn tag(&self, owner: &Owner, volume: &VolumeId, tags: &Tags) -> Result<()> {
        let done = self.cloud.tag(owner, volume, tags).await;
        self.forget().await;
        done
    }

    async fn denied(&self, owner: &Owner, volume: &NewVolume) -> Result<Vec<&'static str>> {
        self.cloud.denied(owner, volume).await
    }
}
