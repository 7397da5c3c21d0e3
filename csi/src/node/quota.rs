//! How much a volume may hold: its size, which grows while it is mounted. The mount itself refuses what does not fit.
//!
//! The attributes of a volume are written once, with the size that it had then. What it has grown to since stands in its
//! record in the bucket, which is read when the volume is mounted; while it is mounted the kubelet says so.

use super::records::Staged;
use super::{Node, paths};
use crate::error::{Error, Kind, Result};
use crate::notes;
use crate::parameters::{Attributes, Options, QUOTA};
use crate::proto::*;
use crate::volume_id::{Thing, VolumeId};
use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

/// How long the record may take: a store that is away is told of by the mount.
const PATIENCE: Duration = Duration::from_secs(10);

impl Node {
    pub(super) async fn expand(&self, request: NodeExpandVolumeRequest) -> Result<NodeExpandVolumeResponse> {
        let volume_id = paths::volume_id(&request.volume_id)?;
        self.living(volume_id, &request.volume_path).await?;
        let capacity_bytes = request.capacity_range.map_or(0, |range| range.required_bytes);
        let bytes = u64::try_from(capacity_bytes)
            .map_err(|_| Error::new(Kind::OutOfRange, "a size below zero bytes was asked for"))?;
        let _hold = self.in_flight.enter(volume_id)?;
        for staged in self.records.all()?.into_iter().filter(|staged| staged.volume_id == volume_id) {
            self.grow(staged, bytes).await?;
        }
        Ok(NodeExpandVolumeResponse { capacity_bytes })
    }

    /// Gives a mount with a quota a larger one, and notes that.
    async fn grow(&self, mut staged: Staged, bytes: u64) -> Result<()> {
        let Some(quota) = staged.options.get_mut(QUOTA) else { return Ok(()) };
        if quota.parse().is_ok_and(|quota: u64| quota >= bytes) {
            return Ok(());
        }
        *quota = bytes.to_string();
        self.mounter.set_quota(&staged.dir, bytes).await?;
        self.records.write(&staged)
    }

    /// Takes the size that a volume of ours has by now: of one that is mounted at `dir` what it was told last, else what its
    /// record says. Who may not read that gets the size that it had when it was made, and a warning in the log.
    pub(super) async fn renew_quota(
        &self,
        (volume_id, dir): (&str, &Path),
        attributes: &mut Attributes,
        secrets: &HashMap<String, String>,
    ) -> Result<()> {
        let id = VolumeId::parse(volume_id).filter(|id| id.thing == Thing::Volume);
        let (Some(id), Some(quota)) = (id, attributes.options.get_mut(QUOTA)) else { return Ok(()) };
        let noted = self.records.find(dir)?.filter(|staged| staged.volume_id == volume_id);
        if let Some(noted) = noted.and_then(|staged| staged.options.get(QUOTA).cloned()) {
            *quota = noted;
            return Ok(());
        }
        match tokio::time::timeout(PATIENCE, self.size_of(&id, secrets)).await {
            Ok(Ok(bytes)) => *quota = bytes.to_string(),
            Ok(Err(error)) => tracing::warn!(volume_id, %error, quota, "the volume may have grown since"),
            Err(_) => tracing::warn!(volume_id, quota, "the volume may have grown since; the store is slow"),
        }
        Ok(())
    }

    async fn size_of(&self, id: &VolumeId, secrets: &HashMap<String, String>) -> Result<u64> {
        let service = self.driver.service(id.endpoint.as_deref(), &Options::new(), secrets).await?;
        Ok(notes::need(&*service, id).await?.bytes)
    }
}
