//! The controller service: volumes and snapshots as buckets, and folders of buckets. It talks to the object store
//! only, and keeps no state of its own: what it must remember stands in the buckets ([`crate::record`]).

mod copies;
mod list;
mod snapshots;
#[cfg(test)]
mod tests;
mod volumes;

use crate::capability::Use;
use crate::driver::Driver;
use crate::error::{Error, Kind, Result};
use crate::inflight::InFlight;
use crate::notes;
use crate::parameters::{Attributes, Changes, Options};
use crate::proto::*;
use crate::record::{Record, State};
use crate::rpc;
use crate::volume_id::{Thing, VolumeId};
use copies::Copies;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use volumes::{Made, Wish};

/// How long a call waits for a copy before it has the caller ask again: shorter than the sidecars wait for an answer.
const PATIENCE: Duration = Duration::from_secs(8);

type Secrets = HashMap<String, String>;

/// The controller service.
#[derive(Debug)]
pub struct Controller {
    driver: Arc<Driver>,
    copies: Copies,
    in_flight: InFlight,
}

impl Controller {
    /// The service of a driver.
    pub fn new(driver: Arc<Driver>) -> Self {
        Self { driver, copies: Copies::new(PATIENCE), in_flight: InFlight::default() }
    }

    async fn service(&self, id: &VolumeId, secrets: &Secrets) -> Result<Arc<dyn crate::service::Service>> {
        self.driver.service(id.endpoint.as_deref(), &Options::new(), secrets).await
    }

    async fn create(&self, request: CreateVolumeRequest) -> Result<CreateVolumeResponse> {
        if request.name.is_empty() {
            return Err(Error::invalid("the name is missing"));
        }
        Use::parse_all(&request.volume_capabilities)?;
        let source = request.volume_content_source.as_ref().map(content_source).transpose()?;
        let wish = Wish {
            name: &request.name,
            parameters: &request.parameters,
            changes: Changes::parse(&request.mutable_parameters)?,
            capacity: request.capacity_range.as_ref(),
            source,
        };
        let plan = volumes::plan(&self.driver, &wish)?;
        let _hold = self.in_flight.enter(&plan.id.to_string())?;
        let options = &plan.class.options;
        let service = self.driver.service(plan.id.endpoint.as_deref(), options, &request.secrets).await?;
        let made = volumes::create(service, &self.copies, plan, &wish).await?;
        let mut volume = volume(made)?;
        volume.content_source = request.volume_content_source;
        Ok(CreateVolumeResponse { volume: Some(volume) })
    }

    async fn delete(&self, request: DeleteVolumeRequest) -> Result<DeleteVolumeResponse> {
        let id = match VolumeId::find(&request.volume_id, Thing::Volume) {
            // What we never made needs no deleting: a static volume's bucket is not ours.
            Err(error) if error.kind == Kind::NotFound => return Ok(DeleteVolumeResponse {}),
            found => found?,
        };
        let _hold = self.in_flight.enter(&request.volume_id)?;
        let service = self.service(&id, &request.secrets).await?;
        volumes::delete(&*service, &self.copies, &id).await?;
        Ok(DeleteVolumeResponse {})
    }

    async fn validate(
        &self,
        request: ValidateVolumeCapabilitiesRequest,
    ) -> Result<ValidateVolumeCapabilitiesResponse> {
        if request.volume_id.is_empty() {
            return Err(Error::invalid("the volume id is missing"));
        }
        let uses = Use::parse_all(&request.volume_capabilities);
        if request.volume_capabilities.is_empty() {
            uses?;
            return Err(Error::invalid("the volume capabilities are missing"));
        }
        self.must_exist(&request).await?;
        Ok(match uses {
            Ok(_) => ValidateVolumeCapabilitiesResponse {
                confirmed: Some(validate_volume_capabilities_response::Confirmed {
                    volume_context: request.volume_context,
                    volume_capabilities: request.volume_capabilities,
                    parameters: request.parameters,
                    mutable_parameters: request.mutable_parameters,
                }),
                message: String::new(),
            },
            Err(why) => ValidateVolumeCapabilitiesResponse { confirmed: None, message: why.message },
        })
    }

    /// A volume of ours, or a static one whose attributes name a bucket that is there.
    async fn must_exist(&self, request: &ValidateVolumeCapabilitiesRequest) -> Result<()> {
        if let Some(id) = VolumeId::parse(&request.volume_id).filter(|id| id.thing == Thing::Volume) {
            let service = self.service(&id, &request.secrets).await?;
            return notes::need(&*service, &id).await.map(drop);
        }
        let absent = || Error::new(Kind::NotFound, format!("there is no volume {:?}", request.volume_id));
        if request.volume_context.is_empty() {
            return Err(absent());
        }
        let attributes = Attributes::parse(&request.volume_context)?;
        let endpoint = self.driver.own_endpoint(&attributes.options);
        let service = self.driver.service(endpoint.as_deref(), &attributes.options, &request.secrets).await?;
        service.tags(&attributes.bucket).await?.map(drop).ok_or_else(absent)
    }

    async fn list(&self, request: ListVolumesRequest) -> Result<ListVolumesResponse> {
        let service = self.driver.service(None, &Options::new(), &Secrets::new()).await?;
        let (token, most) = (&request.starting_token, request.max_entries);
        let page = list::list(&self.driver, &*service, Thing::Volume, token, most, |_| true).await?;
        let entry = |(id, record): (VolumeId, Record)| {
            let attributes = volumes::attributes(&id, &record, Options::new());
            Ok(list_volumes_response::Entry {
                volume: Some(volume(Made { id, record, attributes })?),
                status: Some(list_volumes_response::VolumeStatus::default()),
            })
        };
        let entries: Result<Vec<_>> = page.entries.into_iter().map(entry).collect();
        Ok(ListVolumesResponse { entries: entries?, next_token: page.next })
    }

    /// A bucket has no size of its own: every size that can be asked for can be had.
    async fn capacity(&self, request: GetCapacityRequest) -> Result<GetCapacityResponse> {
        if !request.volume_capabilities.is_empty() && Use::parse_all(&request.volume_capabilities).is_err() {
            return Ok(GetCapacityResponse::default());
        }
        Ok(GetCapacityResponse { available_capacity: i64::MAX, ..GetCapacityResponse::default() })
    }

    async fn get(&self, request: ControllerGetVolumeRequest) -> Result<ControllerGetVolumeResponse> {
        let id = VolumeId::find(&request.volume_id, Thing::Volume)?;
        let service = self.service(&id, &Secrets::new()).await?;
        let record = notes::need(&*service, &id).await?;
        let attributes = volumes::attributes(&id, &record, Options::new());
        Ok(ControllerGetVolumeResponse {
            volume: Some(volume(Made { id, record, attributes })?),
            status: Some(controller_get_volume_response::VolumeStatus::default()),
        })
    }

    async fn health(
        &self,
        request: ControllerGetVolumeHealthRequest,
    ) -> Result<ControllerGetVolumeHealthResponse> {
        let id = VolumeId::find(&request.volume_id, Thing::Volume)?;
        let service = self.service(&id, &request.secrets).await?;
        let trouble = |status: VolumeHealthErrorType, reason: &str, message: String| {
            vec![volume_health::VolumeHealthEntry {
                status: status.into(),
                reason: reason.to_owned(),
                message,
            }]
        };
        let health_statuses = match notes::find(&*service, &id).await? {
            notes::Found::Ours(_) => Vec::new(),
            notes::Found::NoBucket => {
                let text = format!("the bucket {} does not exist any more", id.place.bucket());
                trouble(VolumeHealthErrorType::DataLoss, "BucketGone", text)
            }
            notes::Found::Unclaimed => {
                let text =
                    format!("{id} has lost the driver's mark: it can be used, and will not be deleted");
                trouble(VolumeHealthErrorType::Degraded, "MarkGone", text)
            }
        };
        let volume_health = Some(VolumeHealth { volume_id: request.volume_id, health_statuses });
        Ok(ControllerGetVolumeHealthResponse { volume_health })
    }

    async fn expand(&self, request: ControllerExpandVolumeRequest) -> Result<ControllerExpandVolumeResponse> {
        let id = VolumeId::find(&request.volume_id, Thing::Volume)?;
        let range = request.capacity_range.ok_or_else(|| Error::invalid("the capacity range is missing"))?;
        let _hold = self.in_flight.enter(&request.volume_id)?;
        let service = self.service(&id, &request.secrets).await?;
        let bytes = volumes::expand(&*service, &id, &range).await?;
        Ok(ControllerExpandVolumeResponse { capacity_bytes: signed(bytes)?, node_expansion_required: true })
    }

    async fn modify(&self, request: ControllerModifyVolumeRequest) -> Result<ControllerModifyVolumeResponse> {
        let id = VolumeId::find(&request.volume_id, Thing::Volume)?;
        let changes = Changes::parse(&request.mutable_parameters)?;
        let _hold = self.in_flight.enter(&request.volume_id)?;
        let service = self.service(&id, &request.secrets).await?;
        volumes::modify(&*service, &id, changes).await?;
        Ok(ControllerModifyVolumeResponse {})
    }

    async fn snapshot(&self, request: CreateSnapshotRequest) -> Result<CreateSnapshotResponse> {
        if request.name.is_empty() {
            return Err(Error::invalid("the snapshot's name is missing"));
        }
        let volume = VolumeId::find(&request.source_volume_id, Thing::Volume)?;
        if let Some(name) = request.parameters.keys().find(|name| !name.starts_with("csi.storage.k8s.io/")) {
            return Err(Error::invalid(format!("unknown parameter {name:?}: a snapshot class has none")));
        }
        let (id, _) = snapshots::place(&self.driver, &request.name, &volume)?;
        let _hold = self.in_flight.enter(&id.to_string())?;
        let service = self.service(&volume, &request.secrets).await?;
        let (id, record) =
            snapshots::create(service, &self.copies, &self.driver, &request.name, &volume).await?;
        Ok(CreateSnapshotResponse { snapshot: Some(snapshot(&id, &record)?) })
    }

    async fn delete_snapshot(&self, request: DeleteSnapshotRequest) -> Result<DeleteSnapshotResponse> {
        let id = match VolumeId::find(&request.snapshot_id, Thing::Snapshot) {
            Err(error) if error.kind == Kind::NotFound => return Ok(DeleteSnapshotResponse {}),
            found => found?,
        };
        let _hold = self.in_flight.enter(&request.snapshot_id)?;
        let service = self.service(&id, &request.secrets).await?;
        snapshots::delete(&*service, &self.copies, &id).await?;
        Ok(DeleteSnapshotResponse {})
    }

    async fn one_snapshot(&self, text: &str, secrets: &Secrets) -> Result<Snapshot> {
        let id = VolumeId::find(text, Thing::Snapshot)?;
        let service = self.service(&id, secrets).await?;
        let record = notes::need(&*service, &id).await?;
        // The sidecar asks here until the snapshot is complete, so this is where an interrupted copy goes on.
        let record = snapshots::advance(service, &self.copies, &id, record).await?;
        snapshot(&id, &record)
    }

    async fn get_snapshot(&self, request: GetSnapshotRequest) -> Result<GetSnapshotResponse> {
        let snapshot = self.one_snapshot(&request.snapshot_id, &request.secrets).await?;
        Ok(GetSnapshotResponse { snapshot: Some(snapshot) })
    }

    async fn capabilities(
        &self,
        _request: ControllerGetCapabilitiesRequest,
    ) -> Result<ControllerGetCapabilitiesResponse> {
        use controller_service_capability::rpc::Type as Can;
        use controller_service_capability::{Rpc, Type};
        let all = [
            Can::CreateDeleteVolume,
            Can::ListVolumes,
            Can::GetCapacity,
            Can::CreateDeleteSnapshot,
            Can::ListSnapshots,
            Can::CloneVolume,
            Can::ExpandVolume,
            Can::GetVolume,
            Can::SingleNodeMultiWriter,
            Can::ModifyVolume,
            Can::GetSnapshot,
            Can::GetVolumeHealth,
        ];
        let one =
            |can: Can| ControllerServiceCapability { r#type: Some(Type::Rpc(Rpc { r#type: can.into() })) };
        Ok(ControllerGetCapabilitiesResponse { capabilities: all.into_iter().map(one).collect() })
    }

    async fn snapshots(&self, request: ListSnapshotsRequest) -> Result<ListSnapshotsResponse> {
        let entry = |snapshot| list_snapshots_response::Entry { snapshot: Some(snapshot) };
        let (mut entries, mut next_token) = (Vec::new(), String::new());
        if request.snapshot_id.is_empty() {
            let service = self.driver.service(None, &Options::new(), &request.secrets).await?;
            let source = &request.source_volume_id;
            let wanted = |record: &Record| source.is_empty() || record.source.as_ref() == Some(source);
            let (token, most) = (&request.starting_token, request.max_entries);
            let page = list::list(&self.driver, &*service, Thing::Snapshot, token, most, wanted).await?;
            for (id, record) in page.entries {
                entries.push(entry(snapshot(&id, &record)?));
            }
            next_token = page.next;
        } else {
            match self.one_snapshot(&request.snapshot_id, &request.secrets).await {
                Ok(snapshot) => entries.push(entry(snapshot)),
                Err(error) if error.kind == Kind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(ListSnapshotsResponse { entries, next_token })
    }
}

fn content_source(source: &VolumeContentSource) -> Result<VolumeId> {
    match &source.r#type {
        Some(volume_content_source::Type::Snapshot(source)) => {
            VolumeId::find(&source.snapshot_id, Thing::Snapshot)
        }
        Some(volume_content_source::Type::Volume(source)) => VolumeId::find(&source.volume_id, Thing::Volume),
        None => Err(Error::invalid("the content source is neither a snapshot nor a volume")),
    }
}

fn signed(bytes: u64) -> Result<i64> {
    i64::try_from(bytes).map_err(|_| Error::new(Kind::OutOfRange, format!("{bytes} bytes are too many")))
}

fn volume(made: Made) -> Result<Volume> {
    Ok(Volume {
        capacity_bytes: signed(made.record.bytes)?,
        volume_id: made.id.to_string(),
        volume_context: made.attributes.to_context(),
        content_source: None,
        accessible_topology: Vec::new(),
    })
}

fn snapshot(id: &VolumeId, record: &Record) -> Result<Snapshot> {
    Ok(Snapshot {
        size_bytes: signed(record.bytes)?,
        snapshot_id: id.to_string(),
        source_volume_id: record.source.clone().unwrap_or_default(),
        creation_time: Some(prost_types::Timestamp { seconds: signed(record.created_at)?, nanos: 0 }),
        ready_to_use: record.state == State::Ready,
        group_snapshot_id: String::new(),
        accessible_topology: Vec::new(),
    })
}

rpc::service!(controller_server::Controller, Controller {
    create_volume: CreateVolumeRequest => CreateVolumeResponse, |r| &r.name, create;
    delete_volume: DeleteVolumeRequest => DeleteVolumeResponse, |r| &r.volume_id, delete;
    validate_volume_capabilities: ValidateVolumeCapabilitiesRequest => ValidateVolumeCapabilitiesResponse,
        |r| &r.volume_id, validate;
    list_volumes: ListVolumesRequest => ListVolumesResponse, |r| &r.starting_token, list;
    get_capacity: GetCapacityRequest => GetCapacityResponse, |_| "", capacity;
    controller_get_capabilities: ControllerGetCapabilitiesRequest => ControllerGetCapabilitiesResponse,
        |_| "", capabilities;
    create_snapshot: CreateSnapshotRequest => CreateSnapshotResponse, |r| &r.name, snapshot;
    delete_snapshot: DeleteSnapshotRequest => DeleteSnapshotResponse, |r| &r.snapshot_id, delete_snapshot;
    list_snapshots: ListSnapshotsRequest => ListSnapshotsResponse, |r| &r.snapshot_id, snapshots;
    get_snapshot: GetSnapshotRequest => GetSnapshotResponse, |r| &r.snapshot_id, get_snapshot;
    controller_expand_volume: ControllerExpandVolumeRequest => ControllerExpandVolumeResponse,
        |r| &r.volume_id, expand;
    controller_modify_volume: ControllerModifyVolumeRequest => ControllerModifyVolumeResponse,
        |r| &r.volume_id, modify;
    controller_get_volume: ControllerGetVolumeRequest => ControllerGetVolumeResponse, |r| &r.volume_id, get;
    controller_get_volume_health: ControllerGetVolumeHealthRequest => ControllerGetVolumeHealthResponse,
        |r| &r.volume_id, health;
});
