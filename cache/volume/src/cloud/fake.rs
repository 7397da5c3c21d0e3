//! A cloud in memory that behaves as EC2 does where it matters: everything takes time, listings lag behind, tokens
//! are remembered for volumes long gone, and limits, zones, states and cool-downs are enforced. Time is what its
//! owner says it is.

mod settings;

pub use settings::{Delays, Stuck};

use super::Cloud;
use crate::error::{CloudErrorKind, Error, Result};
use crate::id::{DeviceName, InstanceId, Owner, VolumeId, Zone};
use crate::plan::{Change, NewVolume};
use crate::spec::Encryption;
use crate::state::{
    Attachment, AttachmentState, Gib, Instance, InstanceState, Modification, ModificationState, Tags,
    Timestamp, Volume, VolumeState,
};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A cloud in memory.
#[derive(Debug)]
pub struct FakeCloud {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    now: Timestamp,
    delays: Delays,
    stuck: Stuck,
    quota: usize,
    next_id: u64,
    volumes: BTreeMap<VolumeId, Record>,
    instances: BTreeMap<InstanceId, Machine>,
    tokens: BTreeMap<String, (NewVolume, VolumeId)>,
}

/// A volume, and what it was before: listings show the past.
#[derive(Debug)]
struct Record {
    owner: Owner,
    volume: Volume,
    past: Vec<(Timestamp, Volume)>,
    /// When the present state gives way to the next.
    settles: Timestamp,
    gone: Option<Timestamp>,
}

#[derive(Debug, Clone)]
struct Machine {
    zone: Zone,
    state: InstanceState,
    slots: u32,
    /// Taken by others.
    others: u32,
}

fn refuse<T>(kind: CloudErrorKind, call: &'static str, message: impl Into<String>) -> Result<T> {
    Err(Error::Cloud { kind, call, message: message.into() })
}

impl FakeCloud {
    /// A cloud without anything in it.
    pub fn new(now: Timestamp, delays: Delays) -> Self {
        Self {
            state: Mutex::new(State {
                now,
                delays,
                stuck: Stuck::default(),
                quota: usize::MAX,
                next_id: 1,
                volumes: BTreeMap::new(),
                instances: BTreeMap::new(),
                tokens: BTreeMap::new(),
            }),
        }
    }

    /// What time it is.
    pub fn now(&self) -> Timestamp {
        self.state.lock().now
    }

    /// Lets time pass.
    pub fn advance(&self, duration: Duration) {
        let mut state = self.state.lock();
        state.now = state.now.after(duration);
        state.settle();
    }

    /// Starts an instance with so many slots, of which others have taken `others`.
    pub fn launch(&self, id: &InstanceId, zone: &Zone, slots: u32, others: u32) {
        let machine = Machine { zone: zone.clone(), state: InstanceState::Alive, slots, others };
        self.state.lock().instances.insert(id.clone(), machine);
    }

    /// Ends an instance; its volumes stay and come free.
    pub fn terminate(&self, id: &InstanceId) {
        let mut state = self.state.lock();
        if let Some(machine) = state.instances.get_mut(id) {
            machine.state = InstanceState::Terminated;
        }
        let delay = state.delays.detach;
        state.each_attached(id, |record, now| record.begin_detach(now, delay));
    }

    /// No longer lists an instance, as EC2 does some time after its end.
    pub fn forget_instance(&self, id: &InstanceId) {
        self.state.lock().instances.remove(id);
    }

    /// Somebody takes a volume off by force.
    pub fn pull(&self, id: &VolumeId) {
        let mut state = self.state.lock();
        let now = state.now;
        if let Some(record) = state.volumes.get_mut(id) {
            record.change(now, |volume| {
                volume.attachment = None;
                volume.state = VolumeState::Available;
            });
        }
    }

    /// Somebody deletes a volume, attached or not.
    pub fn destroy(&self, id: &VolumeId) {
        let mut state = self.state.lock();
        state.volumes.remove(id);
    }

    /// Somebody writes tags.
    pub fn retag(&self, id: &VolumeId, change: impl FnOnce(&mut Tags)) {
        let mut state = self.state.lock();
        let now = state.now;
        if let Some(record) = state.volumes.get_mut(id) {
            record.change(now, |volume| change(&mut volume.tags));
        }
    }

    /// Changes a volume in ways that only the service can.
    pub fn edit(&self, id: &VolumeId, change: impl FnOnce(&mut Volume)) {
        let mut state = self.state.lock();
        let now = state.now;
        if let Some(record) = state.volumes.get_mut(id) {
            record.change(now, change);
        }
    }

    /// Puts a volume there that somebody made at another time.
    pub fn insert(&self, owner: &Owner, volume: Volume) {
        let mut state = self.state.lock();
        let settles = state.now;
        let record = Record {
            owner: owner.clone(),
            past: vec![(Timestamp(0), volume.clone())],
            volume,
            settles,
            gone: None,
        };
        state.volumes.insert(record.volume.id.clone(), record);
    }

    /// What gets stuck.
    pub fn set_stuck(&self, stuck: Stuck) {
        self.state.lock().stuck = stuck;
    }

    /// How many volumes an owner may have.
    pub fn set_quota(&self, volumes: usize) {
        self.state.lock().quota = volumes;
    }

    /// Every volume as it really is now.
    pub fn truth(&self) -> Vec<Volume> {
        let state = self.state.lock();
        state
            .volumes
            .values()
            .filter(|record| record.gone.is_none())
            .map(|record| record.volume.clone())
            .collect()
    }
}

impl State {
    fn settle(&mut self) {
        let (now, stuck) = (self.now, self.stuck);
        for record in self.volumes.values_mut() {
            record.settle(now, stuck);
        }
        let lag = self.delays.lag;
        self.volumes.retain(|_, record| record.gone.is_none_or(|at| now.since(at) <= lag));
    }

    fn each_attached(&mut self, instance: &InstanceId, mut act: impl FnMut(&mut Record, Timestamp)) {
        let now = self.now;
        for record in self.volumes.values_mut() {
            if record.volume.attachment.as_ref().is_some_and(|attachment| attachment.instance == *instance) {
                act(record, now);
            }
        }
    }

    fn record(&mut self, call: &'static str, id: &VolumeId) -> Result<&mut Record> {
        let found = self.volumes.get_mut(id).filter(|record| record.gone.is_none());
        found.ok_or_else(|| Error::Cloud {
            kind: CloudErrorKind::NotFound,
            call,
            message: format!("InvalidVolume.NotFound: {id}"),
        })
    }

    fn attached(&self, instance: &InstanceId) -> impl Iterator<Item = &Attachment> {
        let attachments = self.volumes.values().filter_map(|record| record.volume.attachment.as_ref());
        attachments.filter(move |attachment| attachment.instance == *instance)
    }
}

impl Record {
    fn change(&mut self, now: Timestamp, change: impl FnOnce(&mut Volume)) {
        change(&mut self.volume);
        self.past.push((now, self.volume.clone()));
    }

    fn begin_detach(&mut self, now: Timestamp, delay: Duration) {
        if self.volume.attachment.as_ref().is_none_or(|it| it.state == AttachmentState::Detaching) {
            return;
        }
        self.settles = now.after(delay);
        self.change(now, |volume| {
            if let Some(attachment) = &mut volume.attachment {
                attachment.state = AttachmentState::Detaching;
            }
        });
    }

    /// What time alone brings about.
    fn settle(&mut self, now: Timestamp, stuck: Stuck) {
        if now >= self.settles {
            let attachment = self.volume.attachment.as_ref().map(|attachment| attachment.state);
            match (self.volume.state, attachment) {
                (VolumeState::Creating, _) => {
                    self.change(now, |volume| volume.state = VolumeState::Available)
                }
                (_, Some(AttachmentState::Attaching)) if !stuck.attaching => self.change(now, |volume| {
                    if let Some(attachment) = &mut volume.attachment {
                        attachment.state = AttachmentState::Attached;
                    }
                }),
                (_, Some(AttachmentState::Detaching)) if !stuck.detaching => self.change(now, |volume| {
                    volume.attachment = None;
                    volume.state = VolumeState::Available;
                }),
                (
                    VolumeState::Available | VolumeState::InUse | VolumeState::Deleting | VolumeState::Error,
                    _,
                ) => {}
            }
        }
        let Some(modification) = self.volume.modification else { return };
        let age = now.since(modification.started);
        let state = match modification.state {
            ModificationState::Modifying if age >= Duration::from_secs(10) => ModificationState::Optimizing,
            ModificationState::Optimizing if age >= Duration::from_secs(60) => ModificationState::Completed,
            unchanged @ (ModificationState::Modifying
            | ModificationState::Optimizing
            | ModificationState::Completed
            | ModificationState::Failed) => unchanged,
        };
        if state != modification.state {
            self.change(now, |volume| volume.modification = Some(Modification { state, ..modification }));
        }
    }

    /// As a listing shows it that is so far behind.
    fn seen(&self, at: Timestamp) -> Option<Volume> {
        self.past.iter().rev().find(|(since, _)| *since <= at).map(|(_, volume)| volume.clone())
    }
}

#[async_trait]
impl Cloud for FakeCloud {
    async fn volumes(&self, owner: &Owner) -> Result<Vec<Volume>> {
        let state = self.state.lock();
        let at = Timestamp(state.now.0.saturating_sub(state.delays.lag.as_secs()));
        let owned = state.volumes.values().filter(|record| record.owner == *owner);
        Ok(owned.filter_map(|record| record.seen(at)).collect())
    }

    async fn instances(&self, ids: &[InstanceId]) -> Result<Vec<Instance>> {
        let state = self.state.lock();
        let known = ids.iter().filter_map(|id| state.instances.get_key_value(id));
        Ok(known
            .map(|(id, machine)| {
                let devices: BTreeSet<DeviceName> =
                    state.attached(id).map(|attachment| attachment.device.clone()).collect();
                Instance {
                    id: id.clone(),
                    zone: machine.zone.clone(),
                    state: machine.state,
                    slots: Some(machine.slots),
                    slots_taken: machine.others + u32::try_from(devices.len()).unwrap_or(u32::MAX),
                    devices,
                }
            })
            .collect())
    }

    async fn create(&self, owner: &Owner, new: &NewVolume) -> Result<VolumeId> {
        const CALL: &str = "CreateVolume";
        let mut state = self.state.lock();
        if let Some((before, id)) = state.tokens.get(&new.token) {
            return if before == new {
                Ok(id.clone())
            } else {
                refuse(CloudErrorKind::TokenUsed, CALL, "IdempotentParameterMismatch")
            };
        }
        if state.volumes.values().filter(|record| record.owner == *owner && record.gone.is_none()).count()
            >= state.quota
        {
            return refuse(CloudErrorKind::Limit, CALL, "VolumeLimitExceeded");
        }
        let id = VolumeId::parse(&format!("vol-{:017x}", state.next_id)).expect("17 hexadecimal digits");
        state.next_id += 1;
        let volume = Volume {
            id: id.clone(),
            zone: new.zone.clone(),
            volume_type: Some(new.volume_type),
            size: new.size,
            iops: new.iops,
            throughput: new.throughput,
            encrypted: new.encryption != Encryption::AccountDefault,
            kms_key: match &new.encryption {
                Encryption::AccountDefault | Encryption::Encrypted(None) => None,
                Encryption::Encrypted(Some(key)) => Some(key.clone()),
            },
            state: VolumeState::Creating,
            attachment: None,
            modification: None,
            created: state.now,
            tags: new.tags.clone(),
        };
        let record = Record {
            owner: owner.clone(),
            past: vec![(state.now, volume.clone())],
            volume,
            settles: state.now.after(state.delays.create),
            gone: None,
        };
        state.volumes.insert(id.clone(), record);
        state.tokens.insert(new.token.clone(), (new.clone(), id.clone()));
        Ok(id)
    }

    async fn attach(&self, id: &VolumeId, instance: &InstanceId, device: &DeviceName) -> Result<()> {
        const CALL: &str = "AttachVolume";
        let mut state = self.state.lock();
        let Some(machine) = state.instances.get(instance).cloned() else {
            return refuse(CloudErrorKind::NotFound, CALL, format!("InvalidInstanceID.NotFound: {instance}"));
        };
        if machine.state == InstanceState::Terminated {
            return refuse(CloudErrorKind::State, CALL, "IncorrectInstanceState: terminated");
        }
        let attached = u32::try_from(state.attached(instance).count()).unwrap_or(u32::MAX);
        let device_taken = state.attached(instance).any(|attachment| attachment.device == *device);
        let (now, delay) = (state.now, state.delays.attach);
        let record = state.record(CALL, id)?;
        if record.volume.state != VolumeState::Available {
            let kind = if record.volume.attachment.is_some() { "VolumeInUse" } else { "IncorrectState" };
            return refuse(CloudErrorKind::State, CALL, format!("{kind}: {id} is {:?}", record.volume.state));
        }
        if record.volume.zone != machine.zone {
            return refuse(CloudErrorKind::Invalid, CALL, "InvalidVolume.ZoneMismatch");
        }
        if attached + machine.others >= machine.slots {
            return refuse(CloudErrorKind::Limit, CALL, "AttachmentLimitExceeded");
        }
        if device_taken {
            return refuse(
                CloudErrorKind::Invalid,
                CALL,
                format!("InvalidParameterValue: {device} is in use"),
            );
        }
        record.settles = now.after(delay);
        let state = AttachmentState::Attaching;
        let attachment = Attachment { instance: instance.clone(), device: device.clone(), state, since: now };
        record.change(now, |volume| {
            volume.state = VolumeState::InUse;
            volume.attachment = Some(attachment);
        });
        Ok(())
    }

    async fn detach(&self, id: &VolumeId, instance: &InstanceId) -> Result<()> {
        let mut state = self.state.lock();
        let (now, delay) = (state.now, state.delays.detach);
        let record = state.record("DetachVolume", id)?;
        if record.volume.attachment.as_ref().is_some_and(|attachment| attachment.instance == *instance) {
            record.begin_detach(now, delay);
        }
        Ok(())
    }

    async fn delete(&self, id: &VolumeId) -> Result<()> {
        let mut state = self.state.lock();
        let now = state.now;
        let Ok(record) = state.record("DeleteVolume", id) else { return Ok(()) };
        if !matches!(record.volume.state, VolumeState::Available | VolumeState::Error) {
            let message = format!("VolumeInUse: {id} is {:?}", record.volume.state);
            return refuse(CloudErrorKind::State, "DeleteVolume", message);
        }
        record.gone = Some(now);
        record.change(now, |volume| volume.state = VolumeState::Deleting);
        Ok(())
    }

    async fn modify(&self, id: &VolumeId, change: &Change) -> Result<()> {
        const CALL: &str = "ModifyVolume";
        let mut state = self.state.lock();
        let (now, cool_down) = (state.now, state.delays.modify_cool_down);
        let record = state.record(CALL, id)?;
        if change.size < record.volume.size {
            return refuse(CloudErrorKind::Invalid, CALL, "InvalidParameterValue: a volume cannot shrink");
        }
        if let Some(last) = record.volume.modification {
            if matches!(last.state, ModificationState::Modifying | ModificationState::Optimizing) {
                return refuse(CloudErrorKind::State, CALL, "IncorrectModificationState");
            }
            if now.since(last.started) < cool_down {
                return refuse(CloudErrorKind::CoolDown, CALL, "VolumeModificationRateExceeded");
            }
        }
        record.change(now, |volume| {
            volume.size = Gib(change.size.0);
            volume.volume_type = Some(change.volume_type);
            volume.iops = change.iops.or(volume.iops);
            volume.throughput = change.throughput.or(volume.throughput);
            volume.modification = Some(Modification { state: ModificationState::Modifying, started: now });
        });
        Ok(())
    }

    async fn tag(&self, _owner: &Owner, id: &VolumeId, tags: &Tags) -> Result<()> {
        let mut state = self.state.lock();
        let now = state.now;
        state.record("CreateTags", id)?.change(now, |volume| volume.tags = tags.clone());
        Ok(())
    }

    async fn denied(&self, _owner: &Owner, _volume: &NewVolume) -> Result<Vec<&'static str>> {
        Ok(Vec::new())
    }
}
