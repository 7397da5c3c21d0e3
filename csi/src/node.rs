//! The node service: mounts volumes and binds them into pods.
//!
//! A volume is mounted once where the kubelet stages it, and bound from there to each pod. Invariants: a call succeeds
//! only if a living mount of the right bucket is where it should be; nothing is ever left as a bare directory that
//! a pod could write to; no file is ever deleted here, only empty directories.

mod paths;
mod publish;
mod quota;
mod records;
mod stage;
#[cfg(test)]
mod tests;

use crate::driver::Driver;
use crate::error::{Error, Kind, Result};
use crate::inflight::InFlight;
use crate::mounter::{Mounter, Seen};
use crate::proto::*;
use crate::rpc;
use records::Records;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The settings of a node.
#[derive(Debug, Clone)]
pub struct NodeSettings {
    /// The node's name.
    pub node_id: String,
    /// The most volumes that it mounts; 0 leaves it to Kubernetes.
    pub max_volumes: i64,
    /// The kubelet's folder: every path of a call lies below it.
    pub kubelet_dir: PathBuf,
    /// Where notes of mounts are kept, with their keys: best in memory.
    pub state_dir: PathBuf,
    /// Whether pods may name buckets by themselves.
    pub inline_volumes: bool,
    /// The audience of the tokens of pods.
    pub token_audience: String,
    /// Where the node is.
    pub topology: BTreeMap<String, String>,
}

/// The node service.
#[derive(Debug)]
pub struct Node {
    settings: NodeSettings,
    driver: Arc<Driver>,
    mounter: Arc<dyn Mounter>,
    records: Records,
    in_flight: InFlight,
}

impl Node {
    /// The service of a node.
    pub fn new(settings: NodeSettings, driver: Arc<Driver>, mounter: Arc<dyn Mounter>) -> Result<Self> {
        let records = Records::open(&settings.state_dir)?;
        Ok(Self { settings, driver, mounter, records, in_flight: InFlight::default() })
    }

    fn path(&self, what: &str, text: &str) -> Result<PathBuf> {
        paths::inside(&self.settings.kubelet_dir, what, text)
    }

    /// The living mount at the path of a volume; anything else is "not found".
    async fn living(&self, volume_id: &str, path: &str) -> Result<PathBuf> {
        let volume_id = paths::volume_id(volume_id)?;
        if path.is_empty() {
            return Err(Error::invalid("the volume path is missing"));
        }
        let gone =
            || Error::new(Kind::NotFound, format!("the volume {volume_id} is not mounted at {path:?}"));
        let path = self.path("volume path", path).map_err(|_| gone())?;
        match self.mounter.look(&path).await? {
            Seen::Live { .. } => Ok(path),
            Seen::Dead => Err(Error::new(
                Kind::Internal,
                format!(
                    "the process that serves the volume {volume_id} is gone; restart the pods that use it"
                ),
            )),
            Seen::Nothing | Seen::Bare | Seen::Other | Seen::Foreign(_) => Err(gone()),
        }
    }

    async fn stats(&self, request: NodeGetVolumeStatsRequest) -> Result<NodeGetVolumeStatsResponse> {
        use volume_usage::Unit;
        let path = self.living(&request.volume_id, &request.volume_path).await?;
        let space = self.mounter.space(&path).await?;
        let usage = |unit: Unit, total: u64, available: u64| {
            let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
            let used = signed(total.saturating_sub(available));
            VolumeUsage { unit: unit.into(), total: signed(total), available: signed(available), used }
        };
        let usage = vec![
            usage(Unit::Bytes, space.total_bytes, space.available_bytes),
            usage(Unit::Inodes, space.total_files, space.available_files),
        ];
        Ok(NodeGetVolumeStatsResponse { usage })
    }

    async fn health(&self, request: NodeGetVolumeHealthRequest) -> Result<NodeGetVolumeHealthResponse> {
        let volume_id = paths::volume_id(&request.volume_id)?;
        let mut health_statuses = Vec::new();
        for staged in self.records.all()?.into_iter().filter(|staged| staged.volume_id == volume_id) {
            health_statuses.extend(self.trouble(&staged.dir).await);
        }
        health_statuses.dedup();
        let volume_health = Some(VolumeHealth { volume_id: volume_id.to_owned(), health_statuses });
        Ok(NodeGetVolumeHealthResponse { volume_health })
    }

    /// What is wrong with the mount at `dir`, if anything is.
    async fn trouble(&self, dir: &Path) -> Option<volume_health::VolumeHealthEntry> {
        let (reason, message) = match self.mounter.look(dir).await {
            Ok(Seen::Live { .. }) => return None,
            Ok(Seen::Dead) => ("MountDead", "the process that serves the volume is gone".to_owned()),
            Ok(Seen::Nothing | Seen::Bare | Seen::Other | Seen::Foreign(_)) => {
                ("NotMounted", format!("nothing is mounted at {} any more", dir.display()))
            }
            Err(error) => ("NotAnswering", error.message),
        };
        let status = VolumeHealthErrorType::Inaccessible.into();
        Some(volume_health::VolumeHealthEntry { status, reason: reason.to_owned(), message })
    }

    async fn storage_health(
        &self,
        _request: NodeGetStorageHealthRequest,
    ) -> Result<NodeGetStorageHealthResponse> {
        let mut wrong = 0;
        let all = self.records.all()?;
        for staged in &all {
            wrong += usize::from(self.trouble(&staged.dir).await.is_some());
        }
        let mut backend_health = Vec::new();
        if wrong > 0 {
            backend_health.push(node_get_storage_health_response::StorageBackendHealth {
                status: StorageHealthErrorType::StorageDegraded.into(),
                reason: "MountsInTrouble".to_owned(),
                message: format!("{wrong} of {} mounts of this node do not work", all.len()),
                volume_capability: None,
            });
        }
        Ok(NodeGetStorageHealthResponse { backend_health })
    }

    async fn info(&self, _request: NodeGetInfoRequest) -> Result<NodeGetInfoResponse> {
        let segments: HashMap<_, _> = self.settings.topology.clone().into_iter().collect();
        Ok(NodeGetInfoResponse {
            node_id: self.settings.node_id.clone(),
            max_volumes_per_node: self.settings.max_volumes,
            accessible_topology: (!segments.is_empty()).then_some(Topology { segments }),
        })
    }

    async fn capabilities(
        &self,
        _request: NodeGetCapabilitiesRequest,
    ) -> Result<NodeGetCapabilitiesResponse> {
        use node_service_capability::rpc::Type as Can;
        use node_service_capability::{Rpc, Type};
        let all = [
            Can::StageUnstageVolume,
            Can::GetVolumeStats,
            Can::ExpandVolume,
            Can::SingleNodeMultiWriter,
            Can::VolumeMountGroup,
            Can::GetVolumeHealth,
            Can::GetStorageHealth,
        ];
        let one = |can: Can| NodeServiceCapability { r#type: Some(Type::Rpc(Rpc { r#type: can.into() })) };
        Ok(NodeGetCapabilitiesResponse { capabilities: all.into_iter().map(one).collect() })
    }
}

rpc::service!(node_server::Node, Node {
    node_stage_volume: NodeStageVolumeRequest => NodeStageVolumeResponse, |r| &r.volume_id, stage;
    node_unstage_volume: NodeUnstageVolumeRequest => NodeUnstageVolumeResponse, |r| &r.volume_id, unstage;
    node_publish_volume: NodePublishVolumeRequest => NodePublishVolumeResponse, |r| &r.volume_id, publish;
    node_unpublish_volume: NodeUnpublishVolumeRequest => NodeUnpublishVolumeResponse, |r| &r.volume_id, unpublish;
    node_get_volume_stats: NodeGetVolumeStatsRequest => NodeGetVolumeStatsResponse, |r| &r.volume_id, stats;
    node_expand_volume: NodeExpandVolumeRequest => NodeExpandVolumeResponse, |r| &r.volume_id, expand;
    node_get_volume_health: NodeGetVolumeHealthRequest => NodeGetVolumeHealthResponse, |r| &r.volume_id, health;
    node_get_storage_health: NodeGetStorageHealthRequest => NodeGetStorageHealthResponse, |_| "", storage_health;
    node_get_info: NodeGetInfoRequest => NodeGetInfoResponse, |_| "", info;
    node_get_capabilities: NodeGetCapabilitiesRequest => NodeGetCapabilitiesResponse, |_| "", capabilities;
});
