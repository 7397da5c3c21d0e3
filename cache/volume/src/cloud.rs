//! What is asked of a cloud. EC2 is one; [`fake`] is another, which is slow, forgetful and limited on purpose.

#[cfg(feature = "ec2")]
pub mod ec2;
pub mod fake;
mod shared;

pub use shared::Shared;

use crate::error::Result;
use crate::id::{DeviceName, InstanceId, Owner, VolumeId};
use crate::plan::{Change, NewVolume};
use crate::state::{Instance, Tags, Volume};
use async_trait::async_trait;

/// A cloud that has volumes and instances.
///
/// Whether a call that failed is made again is decided by who sees everything. It may have been done. Every change may
/// show in the answers some time later only.
#[async_trait]
pub trait Cloud: Send + Sync {
    /// All volumes of an owner, those on their way out included as long as they are listed.
    async fn volumes(&self, owner: &Owner) -> Result<Vec<Volume>>;

    /// Those of these instances that are known.
    async fn instances(&self, ids: &[InstanceId]) -> Result<Vec<Instance>>;

    /// Makes a volume, or names the one that was made with the same token.
    async fn create(&self, owner: &Owner, volume: &NewVolume) -> Result<VolumeId>;

    /// Begins to attach a volume to an instance.
    async fn attach(&self, volume: &VolumeId, instance: &InstanceId, device: &DeviceName) -> Result<()>;

    /// Begins to take a volume off an instance. One that is not attached there is success.
    async fn detach(&self, volume: &VolumeId, instance: &InstanceId) -> Result<()>;

    /// Deletes a volume that is attached to nothing. One that is not there is success.
    async fn delete(&self, volume: &VolumeId) -> Result<()>;

    /// Begins to change a volume.
    async fn modify(&self, volume: &VolumeId, change: &Change) -> Result<()>;

    /// Writes our tags; others stay.
    async fn tag(&self, owner: &Owner, volume: &VolumeId, tags: &Tags) -> Result<()>;

    /// The permissions that these credentials lack for the life of such a volume, by name. Nothing is changed.
    async fn denied(&self, owner: &Owner, volume: &NewVolume) -> Result<Vec<&'static str>>;
}
