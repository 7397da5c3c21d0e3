//! What the cloud says.

use crate::id::{DeviceName, InstanceId, VolumeId, Zone};
use crate::spec::VolumeType;
use crate::state::{Gib, Tags, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// One of our volumes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its id.
    pub id: VolumeId,
    /// Where it is; it can be attached there only.
    pub zone: Zone,
    /// Its type; `None` for one that is none of ours.
    pub volume_type: Option<VolumeType>,
    /// Its size.
    pub size: Gib,
    /// Its operations per second.
    pub iops: Option<u32>,
    /// Its MiB/s.
    pub throughput: Option<u32>,
    /// Whether EBS encrypts it.
    pub encrypted: bool,
    /// The ARN of its key.
    pub kms_key: Option<String>,
    /// Its state.
    pub state: VolumeState,
    /// The instance it is attached to, or is becoming so.
    pub attachment: Option<Attachment>,
    /// Its last modification, as far as the service remembers.
    pub modification: Option<Modification>,
    /// When it was made.
    pub created: Timestamp,
    /// What we wrote about it.
    pub tags: Tags,
}

/// The state of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VolumeState {
    /// Being made.
    Creating,
    /// Attached to nothing.
    Available,
    /// Attached, or becoming so.
    InUse,
    /// On its way out, or gone.
    Deleting,
    /// The service could not make it, or lost it.
    Error,
}

/// A volume's bond to an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// The instance.
    pub instance: InstanceId,
    /// What it was called when it was asked for.
    pub device: DeviceName,
    /// How far it is.
    pub state: AttachmentState,
    /// When it was asked for.
    pub since: Timestamp,
}

/// How far an attachment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttachmentState {
    /// Asked for.
    Attaching,
    /// Done.
    Attached,
    /// Being taken off, which the instance has not let go yet.
    Detaching,
}

/// A change of size, type or speed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Modification {
    /// How far it is.
    pub state: ModificationState,
    /// When it was asked for.
    pub started: Timestamp,
}

/// How far a modification is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModificationState {
    /// The new size is not there yet.
    Modifying,
    /// The new size is there, the new speed not yet everywhere.
    Optimizing,
    /// Done.
    Completed,
    /// It came to nothing.
    Failed,
}

/// An instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Its id.
    pub id: InstanceId,
    /// Where it is.
    pub zone: Zone,
    /// Its state.
    pub state: InstanceState,
    /// Names of devices that are taken, the root volume's included.
    pub devices: BTreeSet<DeviceName>,
    /// How many volumes can be attached to it, the root volume included; `None` if only the service knows.
    pub slots: Option<u32>,
    /// What takes up slots: volumes and, where they share them, network interfaces and local disks.
    pub slots_taken: u32,
}

/// Whether an instance may still use its volumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstanceState {
    /// It runs, starts, stops or is stopped: what is attached to it is its own.
    Alive,
    /// It will never run again.
    Terminated,
}
