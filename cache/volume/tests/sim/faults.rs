//! Wrappers that let one call among all fail: before it is done, after it was done, or together with the process.

use async_trait::async_trait;
use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tarn_volume::plan::{Change, NewVolume};
use tarn_volume::spec::FileSystem;
use tarn_volume::state::{Health, HostVolume, Instance, Place, StagedFiles, Tags, Volume};
use tarn_volume::{
    Cloud, CloudErrorKind, DeviceName, Error, Host, InstanceId, Owner, Result, Tenants, VolumeId,
};

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is not done.
    Before,
    /// It is done, and its answer is lost.
    After,
    /// It is done, and the process dies.
    Crash,
}

/// Counts calls and picks the one that fails.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    calls: u64,
    planned: Option<(u64, Fault)>,
    crashed: bool,
}

impl Faults {
    /// Lets call `number` fail, counted from 1.
    pub(crate) fn planned(number: u64, fault: Fault) -> Arc<Self> {
        let state = State { planned: Some((number, fault)), ..State::default() };
        Arc::new(Self { state: Mutex::new(state) })
    }

    /// How many calls there were.
    pub(crate) fn calls(&self) -> u64 {
        self.state.lock().calls
    }

    /// Whether the process has died since this was last asked.
    pub(crate) fn take_crash(&self) -> bool {
        std::mem::take(&mut self.state.lock().crashed)
    }

    async fn call<T>(&self, call: impl Future<Output = Result<T>> + Send, error: fn() -> Error) -> Result<T> {
        let fault = {
            let mut state = self.state.lock();
            state.calls += 1;
            state.planned.filter(|(number, _)| *number == state.calls).map(|(_, fault)| fault)
        };
        match fault {
            None => call.await,
            Some(Fault::Before) => Err(error()),
            Some(Fault::After) => {
                call.await?;
                Err(error())
            }
            Some(Fault::Crash) => {
                call.await?;
                self.state.lock().crashed = true;
                Err(error())
            }
        }
    }
}

fn away() -> Error {
    Error::Cloud { kind: CloudErrorKind::Unreachable, call: "any", message: "planned".into() }
}

fn broken() -> Error {
    Error::Program { program: "any", device: PathBuf::new(), message: "planned".into() }
}

/// Any of the three seams with faults.
pub(crate) struct Faulty<T> {
    pub(crate) inner: Arc<T>,
    pub(crate) faults: Arc<Faults>,
}

#[async_trait]
impl<C: Cloud> Cloud for Faulty<C> {
    async fn volumes(&self, owner: &Owner) -> Result<Vec<Volume>> {
        self.faults.call(self.inner.volumes(owner), away).await
    }

    async fn instances(&self, ids: &[InstanceId]) -> Result<Vec<Instance>> {
        self.faults.call(self.inner.instances(ids), away).await
    }

    async fn create(&self, owner: &Owner, volume: &NewVolume) -> Result<VolumeId> {
        self.faults.call(self.inner.create(owner, volume), away).await
    }

    async fn attach(&self, volume: &VolumeId, instance: &InstanceId, device: &DeviceName) -> Result<()> {
        self.faults.call(self.inner.attach(volume, instance, device), away).await
    }

    async fn detach(&self, volume: &VolumeId, instance: &InstanceId) -> Result<()> {
        self.faults.call(self.inner.detach(volume, instance), away).await
    }

    async fn delete(&self, volume: &VolumeId) -> Result<()> {
        self.faults.call(self.inner.delete(volume), away).await
    }

    async fn modify(&self, volume: &VolumeId, change: &Change) -> Result<()> {
        self.faults.call(self.inner.modify(volume, change), away).await
    }

    async fn tag(&self, owner: &Owner, volume: &VolumeId, tags: &Tags) -> Result<()> {
        self.faults.call(self.inner.tag(owner, volume, tags), away).await
    }

    async fn denied(&self, owner: &Owner, volume: &NewVolume) -> Result<Vec<&'static str>> {
        self.inner.denied(owner, volume).await
    }
}

#[async_trait]
impl<H: Host> Host for Faulty<H> {
    async fn observe(&self, volumes: &[VolumeId]) -> Result<Vec<HostVolume>> {
        self.faults.call(self.inner.observe(volumes), broken).await
    }

    async fn format(&self, volume: &VolumeId, file_system: FileSystem) -> Result<()> {
        self.faults.call(self.inner.format(volume, file_system), broken).await
    }

    async fn check(&self, volume: &VolumeId) -> Result<Health> {
        self.faults.call(self.inner.check(volume), broken).await
    }

    async fn mount(&self, volume: &VolumeId) -> Result<()> {
        self.faults.call(self.inner.mount(volume), broken).await
    }

    async fn grow(&self, volume: &VolumeId) -> Result<()> {
        self.faults.call(self.inner.grow(volume), broken).await
    }

    async fn unmount(&self, volume: &VolumeId, lost: bool) -> Result<()> {
        self.faults.call(self.inner.unmount(volume, lost), broken).await
    }

    fn cache_dir(&self, place: &Place) -> PathBuf {
        self.inner.cache_dir(place)
    }
}

#[async_trait]
impl<T: Tenants> Tenants for Faulty<T> {
    async fn place(&self) -> Result<Option<Place>> {
        self.faults.call(self.inner.place(), broken).await
    }

    async fn serve(&self, place: &Place, dir: &Path) -> Result<()> {
        self.faults.call(self.inner.serve(place, dir), broken).await
    }

    async fn staged(&self, dir: &Path) -> Result<StagedFiles> {
        self.faults.call(self.inner.staged(dir), broken).await
    }

    async fn recover(&self, dir: &Path) -> Result<()> {
        self.faults.call(self.inner.recover(dir), broken).await
    }
}
