//! Disks, hosts and mounts in memory, and a node that is looked after. Whatever breaks a promise panics at once.

use super::faults::{Faults, Faulty};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tarn_volume::cloud::fake::{Delays, FakeCloud};
use tarn_volume::plan::Desired;
use tarn_volume::spec::{FileSystem, Spec};
use tarn_volume::state::{
    AttachmentState, Content, Device, Gib, Health, HostVolume, Mount, Place, StagedFiles, Timestamp, Volume,
};
use tarn_volume::{
    Error, Host, InstanceId, NodeName, Owner, Reconciler, Result, Status, Tenants, Turn, VolumeId, Zone,
};

/// What is on a volume.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    pub(crate) content: Content,
    pub(crate) health: Health,
    pub(crate) staged: BTreeSet<String>,
    pub(crate) file_system_size: u64,
    pub(crate) used_percent: u64,
}

impl Default for Disk {
    fn default() -> Self {
        Self {
            content: Content::Blank,
            health: Health::Sound,
            staged: BTreeSet::new(),
            file_system_size: 0,
            used_percent: 10,
        }
    }
}

/// Everything but the reconcilers.
pub(crate) struct World {
    pub(crate) cloud: Arc<FakeCloud>,
    pub(crate) disks: Mutex<BTreeMap<VolumeId, Disk>>,
    /// What is in the bucket.
    pub(crate) bucket: Mutex<BTreeSet<String>>,
    /// Volumes that somebody else destroyed.
    pub(crate) destroyed: Mutex<BTreeSet<VolumeId>>,
}

impl World {
    pub(crate) fn new(delays: Delays) -> Arc<Self> {
        Arc::new(Self {
            cloud: Arc::new(FakeCloud::new(Timestamp(1_700_000_000), delays)),
            disks: Mutex::default(),
            bucket: Mutex::default(),
            destroyed: Mutex::default(),
        })
    }

    /// Starts an instance and what looks after its volume.
    pub(crate) fn node(self: &Arc<Self>, name: &str, faults: &Arc<Faults>) -> Node {
        self.node_in(name, "a", 8, faults)
    }

    pub(crate) fn node_in(
        self: &Arc<Self>,
        name: &str,
        zone: &str,
        slots: u32,
        faults: &Arc<Faults>,
    ) -> Node {
        let (instance, zone) = (InstanceId::new(format!("i-{name}")), Zone::new(zone));
        self.cloud.launch(&instance, &zone, slots, 1);
        let tenants = Arc::new(FakeTenants { world: Arc::clone(self), state: Mutex::default() });
        let host = Arc::new(FakeHost {
            world: Arc::clone(self),
            instance: instance.clone(),
            tenants: Arc::clone(&tenants),
            mounts: Mutex::default(),
        });
        let desired =
            Desired { owner: owner(), node: NodeName::new(name), instance, zone, spec: Some(small()) };
        let mut node = Node {
            world: Arc::clone(self),
            desired,
            tenants,
            host,
            faults: Arc::clone(faults),
            reconciler: None,
        };
        node.restart();
        node
    }

    pub(crate) fn disk<T>(&self, id: &VolumeId, use_it: impl FnOnce(&mut Disk) -> T) -> T {
        use_it(self.disks.lock().entry(id.clone()).or_default())
    }

    pub(crate) fn destroy(&self, id: &VolumeId) {
        self.cloud.destroy(id);
        self.destroyed.lock().insert(id.clone());
    }

    /// No volume that had something staged on it is gone.
    pub(crate) fn check(&self) {
        let there: BTreeSet<VolumeId> = self.cloud.truth().into_iter().map(|volume| volume.id).collect();
        for (id, disk) in self.disks.lock().iter() {
            let excused = there.contains(id) || self.destroyed.lock().contains(id);
            assert!(excused || disk.staged.is_empty(), "{id} was deleted with {:?} on it", disk.staged);
        }
    }

    pub(crate) fn has_bucket(&self, name: &str) -> bool {
        self.bucket.lock().contains(name)
    }
}

pub(crate) fn owner() -> Owner {
    Owner::new("test")
}

/// A small volume.
pub(crate) fn small() -> Spec {
    Spec { size_min: Gib(10), size_max: Gib(100), ..Spec::default() }
}

/// An instance with mounts.
pub(crate) struct Node {
    pub(crate) world: Arc<World>,
    pub(crate) desired: Desired,
    pub(crate) tenants: Arc<FakeTenants>,
    pub(crate) host: Arc<FakeHost>,
    faults: Arc<Faults>,
    reconciler: Option<Reconciler>,
}

impl Node {
    /// The process that looks after the volume starts anew and knows nothing.
    pub(crate) fn restart(&mut self) {
        let faults = &self.faults;
        self.reconciler = Some(Reconciler::new(
            Arc::new(Faulty { inner: Arc::clone(&self.world.cloud), faults: Arc::clone(faults) }),
            Arc::new(Faulty { inner: Arc::clone(&self.host), faults: Arc::clone(faults) }),
            Arc::new(Faulty { inner: Arc::clone(&self.tenants), faults: Arc::clone(faults) }),
        ));
    }

    /// One step, then the time passes that it asks for.
    pub(crate) async fn step(&mut self) -> Turn {
        let now = self.world.cloud.now();
        let turn = self.reconciler.as_mut().unwrap().step(&self.desired, now).await;
        if self.faults.take_crash() {
            self.restart();
        }
        self.world.check();
        let pause = match &turn {
            Turn::Acted(_) | Turn::Failed(..) => Duration::from_secs(1),
            // Nothing is waited for longer than a poll would take.
            Turn::Idle(until) => until.since(now).clamp(Duration::from_secs(1), Duration::from_secs(30)),
        };
        self.world.cloud.advance(pause);
        turn
    }

    /// Goes on until the goal is reached and there is nothing more to do at once.
    pub(crate) async fn until(&mut self, what: &str, goal: impl Fn(&Self) -> bool) {
        let mut turns = Vec::new();
        for _ in 0..3_000 {
            let turn = self.step().await;
            if matches!(turn, Turn::Idle(_)) && goal(self) {
                return;
            }
            turns.push(format!("{turn:?}"));
        }
        let last = &turns[turns.len() - 20..];
        panic!("never: {what}\n{last:#?}\n{:#?}\n{:#?}", self.status(), self.world.cloud.truth());
    }

    /// Goes on for so long.
    pub(crate) async fn spend(&mut self, time: Duration) {
        let end = self.world.cloud.now().after(time);
        while self.world.cloud.now() < end {
            self.step().await;
        }
    }

    pub(crate) fn status(&self) -> Status {
        self.reconciler.as_ref().unwrap().status().borrow().clone()
    }

    pub(crate) fn place(&self) -> Option<Place> {
        self.tenants.state.lock().place.clone()
    }

    /// The volume that serves.
    pub(crate) fn serving(&self) -> Option<Volume> {
        let Some(Place::Volume(id)) = self.place() else { return None };
        self.world.cloud.truth().into_iter().find(|volume| volume.id == id)
    }

    /// A mount stages a file.
    pub(crate) fn stage(&self, name: &str) {
        match self.place().expect("a place") {
            Place::Host => self.tenants.state.lock().own.insert(name.into()),
            Place::Volume(id) => self.world.disk(&id, |disk| disk.staged.insert(name.into())),
        };
    }

    pub(crate) fn is_waiting_for(&self, part: &str) -> bool {
        self.status().conditions.iter().any(|condition| condition.message.contains(part))
    }
}

/// Mounts that stage files.
pub(crate) struct FakeTenants {
    world: Arc<World>,
    pub(crate) state: Mutex<TenantState>,
}

#[derive(Debug, Default)]
pub(crate) struct TenantState {
    pub(crate) place: Option<Place>,
    pub(crate) own: BTreeSet<String>,
    /// Uploads fail.
    pub(crate) bucket_away: bool,
    /// Every place that was served, in order.
    pub(crate) history: Vec<Place>,
}

fn volume_of(dir: &Path) -> Option<VolumeId> {
    VolumeId::parse(dir.file_name()?.to_str()?).ok()
}

#[async_trait]
impl Tenants for FakeTenants {
    async fn place(&self) -> Result<Option<Place>> {
        Ok(self.state.lock().place.clone())
    }

    async fn serve(&self, place: &Place, dir: &Path) -> Result<()> {
        assert_eq!(volume_of(dir), if let Place::Volume(id) = place { Some(id.clone()) } else { None });
        let mut state = self.state.lock();
        if let Place::Volume(id) = place {
            let tags = self
                .world
                .cloud
                .truth()
                .into_iter()
                .find(|volume| volume.id == *id)
                .map(|volume| volume.tags);
            let marked = tags.is_none_or(|tags| tags.staged == tarn_volume::state::Staged::Maybe);
            assert!(marked, "{id} serves and is not marked");
        }
        state.history.push(place.clone());
        state.place = Some(place.clone());
        Ok(())
    }

    async fn staged(&self, dir: &Path) -> Result<StagedFiles> {
        let id = volume_of(dir).expect("only volumes are asked for");
        let files = self.world.disk(&id, |disk| disk.staged.len() as u64);
        Ok(StagedFiles { files, bytes: files })
    }

    async fn recover(&self, dir: &Path) -> Result<()> {
        if self.state.lock().bucket_away {
            return Err(Error::Tenant { what: "upload", dir: dir.into(), message: "no bucket".into() });
        }
        let id = volume_of(dir).expect("only volumes are recovered");
        let staged = self.world.disk(&id, |disk| std::mem::take(&mut disk.staged));
        self.world.bucket.lock().extend(staged);
        Ok(())
    }
}

/// Devices of attached volumes, and their mounts.
pub(crate) struct FakeHost {
    world: Arc<World>,
    instance: InstanceId,
    tenants: Arc<FakeTenants>,
    pub(crate) mounts: Mutex<BTreeSet<VolumeId>>,
}

impl FakeHost {
    fn attached(&self) -> BTreeMap<VolumeId, Gib> {
        let here = self.world.cloud.truth().into_iter().filter(|volume| {
            volume.attachment.as_ref().is_some_and(|attachment| {
                attachment.instance == self.instance && attachment.state != AttachmentState::Attaching
            })
        });
        here.map(|volume| (volume.id, volume.size)).collect()
    }

    fn refuse(volume: &VolumeId, why: &str) -> Error {
        Error::Refused { volume: volume.clone(), why: why.into() }
    }
}

#[async_trait]
impl Host for FakeHost {
    async fn observe(&self, volumes: &[VolumeId]) -> Result<Vec<HostVolume>> {
        let (attached, mounts) = (self.attached(), self.mounts.lock().clone());
        let all: BTreeSet<VolumeId> = volumes.iter().chain(&mounts).cloned().collect();
        Ok(all
            .into_iter()
            .map(|id| {
                let size = attached.get(&id).map(|size| size.bytes());
                let (content, space) = self.world.disk(&id, |disk| {
                    let used = disk.file_system_size / 100 * disk.used_percent;
                    (disk.content.clone(), (disk.file_system_size, used))
                });
                let alive = size.is_some();
                let mount = Mount { size: space.0, used: space.1, alive };
                HostVolume {
                    device: size.map(|size| Device { size, content }),
                    mount: mounts.contains(&id).then_some(mount),
                    volume: id,
                }
            })
            .collect())
    }

    async fn format(&self, volume: &VolumeId, file_system: FileSystem) -> Result<()> {
        let Some(size) = self.attached().get(volume).copied() else {
            return Err(Self::refuse(volume, "no device"));
        };
        self.world.disk(volume, |disk| {
            assert_eq!(disk.content, Content::Blank, "{volume} is formatted over data");
            disk.content = Content::Ours(file_system);
            disk.file_system_size = size.bytes();
        });
        Ok(())
    }

    async fn check(&self, volume: &VolumeId) -> Result<Health> {
        assert!(!self.mounts.lock().contains(volume), "{volume} is checked while it is mounted");
        Ok(self.world.disk(volume, |disk| disk.health))
    }

    async fn mount(&self, volume: &VolumeId) -> Result<()> {
        if !self.attached().contains_key(volume) {
            return Err(Self::refuse(volume, "no device"));
        }
        self.mounts.lock().insert(volume.clone());
        Ok(())
    }

    async fn grow(&self, volume: &VolumeId) -> Result<()> {
        let Some(size) = self.attached().get(volume).copied() else {
            return Err(Self::refuse(volume, "no device"));
        };
        self.world.disk(volume, |disk| {
            let used = disk.file_system_size * disk.used_percent;
            disk.file_system_size = size.bytes();
            disk.used_percent = used / size.bytes();
        });
        Ok(())
    }

    async fn unmount(&self, volume: &VolumeId, lost: bool) -> Result<()> {
        let served = self.tenants.state.lock().place == Some(Place::Volume(volume.clone()));
        assert!(!served, "{volume} is unmounted under its users");
        assert_eq!(lost, !self.attached().contains_key(volume), "{volume}");
        self.mounts.lock().remove(volume);
        Ok(())
    }

    fn cache_dir(&self, place: &Place) -> PathBuf {
        match place {
            Place::Host => PathBuf::from("/own"),
            Place::Volume(volume) => Path::new("/volumes").join(volume.as_str()),
        }
    }
}
