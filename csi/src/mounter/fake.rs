//! A mounter without a kernel, for tests: it remembers what is mounted where.

use super::{Access, Keys, MountPlan, Mounter, Seen, Space};
use crate::error::{Error, Kind, Result};
use crate::parameters::{CacheTier, QUOTA};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The fake mounter.
#[derive(Debug, Default)]
pub struct FakeMounter {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    mounts: BTreeMap<PathBuf, Mount>,
    made: u32,
    refuse: Option<String>,
    renewed: u32,
}

#[derive(Debug, Clone)]
struct Mount {
    device: String,
    source: String,
    access: Access,
    quota: Option<u64>,
    tier: CacheTier,
    dead: bool,
}

impl FakeMounter {
    /// Has mounts fail in these words from now on; `None` lets them succeed.
    pub fn refuse(&self, text: Option<&str>) {
        self.state.lock().refuse = text.map(str::to_owned);
    }

    /// Kills what serves the mount at `dir`, as a crash would: it and its binds are dead.
    pub fn kill(&self, dir: &Path) {
        let mut state = self.state.lock();
        let Some(device) = state.mounts.get(dir).map(|mount| mount.device.clone()) else { return };
        state.mounts.values_mut().filter(|mount| mount.device == device).for_each(|mount| mount.dead = true);
    }

    /// How often something was mounted.
    pub fn made(&self) -> u32 {
        self.state.lock().made
    }

    /// How often keys were renewed.
    pub fn renewed(&self) -> u32 {
        self.state.lock().renewed
    }

    /// How much a mount may hold; `None` if nothing is mounted there, or without a quota.
    pub fn quota(&self, dir: &Path) -> Option<u64> {
        self.state.lock().mounts.get(dir)?.quota
    }

    /// Which of the node's caches a mount uses; `None` if nothing is mounted there.
    pub fn tier(&self, dir: &Path) -> Option<CacheTier> {
        self.state.lock().mounts.get(dir).map(|mount| mount.tier)
    }

    /// How a directory may be used; `None` if nothing is mounted there.
    pub fn access(&self, dir: &Path) -> Option<Access> {
        self.state.lock().mounts.get(dir).map(|mount| mount.access)
    }
}

#[async_trait::async_trait]
impl Mounter for FakeMounter {
    async fn mount(&self, plan: &MountPlan) -> Result<()> {
        let mut state = self.state.lock();
        if let Some(text) = &state.refuse {
            return Err(Error::new(Kind::Internal, text.clone()));
        }
        state.made += 1;
        let mount = Mount {
            device: format!("0:{}", state.made),
            source: plan.source.trim_end_matches('/').to_owned(),
            access: Access::ReadWrite,
            quota: plan.options.get(QUOTA).and_then(|bytes| bytes.parse().ok()),
            tier: plan.tier,
            dead: false,
        };
        state.mounts.insert(plan.dir.clone(), mount);
        Ok(())
    }

    async fn renew(&self, _home: &Path, keys: &Keys) -> Result<()> {
        let new = matches!(keys, Keys::Own(_) | Keys::Pod(..));
        self.state.lock().renewed += u32::from(new);
        Ok(())
    }

    async fn set_quota(&self, dir: &Path, bytes: u64) -> Result<()> {
        let mut state = self.state.lock();
        let mount = state.mounts.get_mut(dir).filter(|mount| !mount.dead);
        let mount = mount.ok_or_else(|| Error::new(Kind::Internal, "not mounted"))?;
        mount.quota = Some(bytes);
        Ok(())
    }

    async fn unmount(&self, dir: &Path) -> Result<()> {
        let dead = self.look(dir).await? == Seen::Dead;
        self.unbind(dir).await?;
        // As `tarn umount` does when the process has only just died.
        if dead { Err(Error::new(Kind::Internal, "the serving process died")) } else { Ok(()) }
    }

    async fn bind(&self, from: &Path, to: &Path, access: Access) -> Result<()> {
        let mut state = self.state.lock();
        let mount = state.mounts.get(from).cloned();
        let mount = mount.ok_or_else(|| Error::new(Kind::Internal, "nothing to bind"))?;
        state.mounts.insert(to.to_owned(), Mount { access, ..mount });
        Ok(())
    }

    async fn unbind(&self, dir: &Path) -> Result<()> {
        let removed = self.state.lock().mounts.remove(dir);
        removed.map(drop).ok_or_else(|| Error::new(Kind::Internal, "not mounted"))
    }

    async fn look(&self, path: &Path) -> Result<Seen> {
        match self.state.lock().mounts.get(path) {
            Some(mount) if mount.dead => Ok(Seen::Dead),
            Some(mount) => Ok(Seen::Live { device: mount.device.clone(), source: mount.source.clone() }),
            None => Ok(match std::fs::symlink_metadata(path) {
                Ok(metadata) if metadata.is_dir() => Seen::Bare,
                Ok(_) => Seen::Other,
                Err(_) => Seen::Nothing,
            }),
        }
    }

    async fn shown_at(&self, device: &str) -> Result<Vec<PathBuf>> {
        let state = self.state.lock();
        Ok(state
            .mounts
            .iter()
            .filter(|(_, mount)| mount.device == device)
            .map(|(dir, _)| dir.clone())
            .collect())
    }

    async fn space(&self, dir: &Path) -> Result<Space> {
        let total_bytes = self.quota(dir).unwrap_or(1 << 50);
        Ok(Space { total_bytes, available_bytes: total_bytes, ..Space::default() })
    }
}
