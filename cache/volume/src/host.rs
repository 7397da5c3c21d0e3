//! What is asked of the host that a volume is attached to.

mod command;
mod linux;
mod probe;

pub use linux::LinuxHost;

use crate::error::Result;
use crate::id::VolumeId;
use crate::spec::FileSystem;
use crate::state::{Health, HostVolume, Place};
use async_trait::async_trait;
use std::path::PathBuf;

/// A host with block devices. Every call checks for itself that the device is that of the volume.
#[async_trait]
pub trait Host: Send + Sync {
    /// The devices of these volumes, and every mount of a volume that was made here.
    async fn observe(&self, volumes: &[VolumeId]) -> Result<Vec<HostVolume>>;

    /// Makes a file system. Refuses a device that is not blank.
    async fn format(&self, volume: &VolumeId, file_system: FileSystem) -> Result<()>;

    /// Checks a file system that is not mounted and repairs what can be repaired without a loss.
    async fn check(&self, volume: &VolumeId) -> Result<Health>;

    /// Mounts the file system that was made for this volume.
    async fn mount(&self, volume: &VolumeId) -> Result<()>;

    /// Lets a mounted file system fill its device.
    async fn grow(&self, volume: &VolumeId) -> Result<()>;

    /// Unmounts; `lost` when the device has gone, so that nobody is waited for. Not mounted is success.
    async fn unmount(&self, volume: &VolumeId, lost: bool) -> Result<()>;

    /// The cache directory on a place. That of a volume exists only while it is mounted.
    fn cache_dir(&self, place: &Place) -> PathBuf;
}
