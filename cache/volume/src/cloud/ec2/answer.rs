//! From the SDK's answers to ours. Pure.

use super::error::Call;
use crate::error::Result;
use crate::id::{DeviceName, InstanceId, VolumeId, Zone};
use crate::spec::VolumeType;
use crate::state::{
    Attachment, AttachmentState, Gib, Instance, InstanceState, Modification, ModificationState, Tags,
    Timestamp, Volume, VolumeState,
};
use aws_sdk_ec2::primitives::DateTime;
use aws_sdk_ec2::types;
use std::collections::{BTreeMap, BTreeSet};

/// How many volumes an instance type takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TypeLimits {
    /// `None` if EC2 does not say.
    slots: Option<u32>,
    /// Network interfaces and local disks take up slots too.
    shared: bool,
    local_disks: u32,
}

pub(super) fn id(call: &'static str, text: Option<&str>) -> Result<VolumeId> {
    let text = text.ok_or_else(|| Call(call).odd("without the id of the volume"))?;
    VolumeId::parse(text).map_err(|error| Call(call).odd(&error.to_string()))
}

pub(super) fn volume(volume: &types::Volume) -> Result<Volume> {
    const CALL: &str = "DescribeVolumes";
    let state = volume.state().map(types::VolumeState::as_str).unwrap_or_default();
    let tags: BTreeMap<String, String> = volume
        .tags()
        .iter()
        .filter_map(|tag| Some((tag.key()?.to_owned(), tag.value().unwrap_or_default().to_owned())))
        .collect();
    Ok(Volume {
        id: id(CALL, volume.volume_id())?,
        zone: Zone::new(volume.availability_zone().unwrap_or_default()),
        volume_type: volume.volume_type().and_then(|kind| VolumeType::parse(kind.as_str())),
        size: Gib(count(volume.size()).ok_or_else(|| Call(CALL).odd("without the size of the volume"))?),
        iops: count(volume.iops()),
        throughput: count(volume.throughput()),
        encrypted: volume.encrypted().unwrap_or(false),
        kms_key: volume.kms_key_id().map(str::to_owned),
        state: match state {
            "creating" => VolumeState::Creating,
            "available" => VolumeState::Available,
            "in-use" => VolumeState::InUse,
            "deleting" | "deleted" => VolumeState::Deleting,
            "error" => VolumeState::Error,
            other => return Err(Call(CALL).odd(&format!("with the state {other:?}"))),
        },
        attachment: attachment(volume.attachments()),
        modification: None,
        created: time(volume.create_time()),
        tags: Tags::parse(&tags),
    })
}

/// Our volumes have one attachment at most; one that is over does not count.
fn attachment(attachments: &[types::VolumeAttachment]) -> Option<Attachment> {
    attachments.iter().find_map(|attachment| {
        let state = match attachment.state()?.as_str() {
            "attaching" => AttachmentState::Attaching,
            "attached" => AttachmentState::Attached,
            "detached" => return None,
            // `busy`: asked to be detached, and still mounted. A state that is not known is none to act in either.
            _ => AttachmentState::Detaching,
        };
        Some(Attachment {
            instance: InstanceId::new(attachment.instance_id().unwrap_or_default()),
            device: DeviceName::new(attachment.device().unwrap_or_default()),
            state,
            since: time(attachment.attach_time()),
        })
    })
}

pub(super) fn modification(modification: &types::VolumeModification) -> Option<Modification> {
    let state = match modification.modification_state()?.as_str() {
        "completed" => ModificationState::Completed,
        "failed" => ModificationState::Failed,
        "optimizing" => ModificationState::Optimizing,
        _ => ModificationState::Modifying,
    };
    Some(Modification { state, started: time(modification.start_time()) })
}

pub(super) fn instance(instance: &types::Instance, types: &BTreeMap<String, TypeLimits>) -> Result<Instance> {
    const CALL: &str = "DescribeInstances";
    let id = instance.instance_id().ok_or_else(|| Call(CALL).odd("without the id of the instance"))?;
    let state = instance.state().and_then(|state| state.name()).map(types::InstanceStateName::as_str);
    let zone = instance.placement().and_then(|placement| placement.availability_zone()).unwrap_or_default();
    let mappings = instance.block_device_mappings();
    let devices: BTreeSet<DeviceName> =
        mappings.iter().filter_map(|mapping| mapping.device_name()).map(DeviceName::new).collect();
    let limits = instance.instance_type().and_then(|name| types.get(name.as_str()));
    let shared = limits.filter(|limits| limits.shared).map_or(0, |limits| {
        limits.local_disks + u32::try_from(instance.network_interfaces().len()).unwrap_or(u32::MAX)
    });
    Ok(Instance {
        id: InstanceId::new(id),
        zone: Zone::new(zone),
        state: if state == Some("terminated") { InstanceState::Terminated } else { InstanceState::Alive },
        slots: limits.and_then(|limits| limits.slots),
        slots_taken: u32::try_from(mappings.len()).unwrap_or(u32::MAX).saturating_add(shared),
        devices,
    })
}

pub(super) fn limits(info: &types::InstanceTypeInfo) -> TypeLimits {
    let ebs = info.ebs_info();
    let disks = info.instance_storage_info().map(|storage| storage.disks()).unwrap_or_default();
    TypeLimits {
        slots: ebs.and_then(|ebs| count(ebs.maximum_ebs_attachments())),
        shared: ebs.and_then(|ebs| ebs.attachment_limit_type()).is_some_and(|kind| kind.as_str() == "shared"),
        local_disks: disks.iter().filter_map(|disk| count(disk.count())).sum(),
    }
}

fn count(number: Option<i32>) -> Option<u32> {
    number.and_then(|number| u32::try_from(number).ok())
}

fn time(time: Option<&DateTime>) -> Timestamp {
    Timestamp(time.and_then(|time| u64::try_from(time.secs()).ok()).unwrap_or(0))
}
