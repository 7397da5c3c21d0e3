//! What can be done, and what can be waited for.

use crate::id::{DeviceName, InstanceId, VolumeId, Zone};
use crate::spec::{Encryption, FileSystem, VolumeType};
use crate::state::{Gib, Place, StagedFiles, Tags, Timestamp};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Tell the mounts of this node where to keep what they cache.
    Serve(Place),
    /// Make a volume.
    Create(Box<NewVolume>),
    /// Write a volume's tags.
    Tag {
        /// The volume.
        volume: VolumeId,
        /// All of them, as they are to be.
        tags: Box<Tags>,
    },
    /// Attach a volume to this instance.
    Attach {
        /// The volume.
        volume: VolumeId,
        /// A name that is free on the instance.
        device: DeviceName,
    },
    /// Take a volume off an instance.
    Detach {
        /// The volume.
        volume: VolumeId,
        /// The instance: this one, or one that is terminated.
        instance: InstanceId,
    },
    /// Delete a volume.
    Delete {
        /// The volume.
        volume: VolumeId,
    },
    /// Change size, type or speed of a volume.
    Modify {
        /// The volume.
        volume: VolumeId,
        /// What it is to be.
        change: Change,
    },
    /// Make a file system on a blank device.
    Format {
        /// The volume.
        volume: VolumeId,
        /// The file system.
        file_system: FileSystem,
    },
    /// Check the file system, unmounted.
    Check {
        /// The volume.
        volume: VolumeId,
    },
    /// Mount the file system.
    Mount {
        /// The volume.
        volume: VolumeId,
    },
    /// Let the file system fill its device, mounted.
    GrowFileSystem {
        /// The volume.
        volume: VolumeId,
        /// The device's size in bytes.
        size: u64,
    },
    /// Upload what is staged on a volume that no mount uses.
    Recover {
        /// The volume.
        volume: VolumeId,
    },
    /// Unmount the file system.
    Unmount {
        /// The volume.
        volume: VolumeId,
        /// Its device has gone: there is nothing to be written back and nobody to wait for.
        lost: bool,
    },
}

/// A volume to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewVolume {
    /// Making it again with this token gives the same volume.
    pub token: String,
    /// Where.
    pub zone: Zone,
    /// Its type.
    pub volume_type: VolumeType,
    /// Its size.
    pub size: Gib,
    /// Operations per second; `None` leaves them to the service.
    pub iops: Option<u32>,
    /// MiB/s; `None` leaves it to the service.
    pub throughput: Option<u32>,
    /// Who encrypts it.
    pub encryption: Encryption,
    /// What we write about it.
    pub tags: Tags,
    /// What the user writes about it.
    pub user_tags: BTreeMap<String, String>,
}

/// What a volume is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Its size, never less than it is.
    pub size: Gib,
    /// Its type.
    pub volume_type: VolumeType,
    /// Operations per second; `None` leaves them to the service.
    pub iops: Option<u32>,
    /// MiB/s; `None` leaves it to the service.
    pub throughput: Option<u32>,
}

/// By what a failed action is known, so that it is not tried again at once while others go on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ActionKey {
    /// What was done, in the words of [`Action::name`].
    pub action: &'static str,
    /// To which volume.
    pub volume: Option<VolumeId>,
}

impl Action {
    /// A word for it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Serve(_) => "serve",
            Self::Create(_) => "create",
            Self::Tag { .. } => "tag",
            Self::Attach { .. } => "attach",
            Self::Detach { .. } => "detach",
            Self::Delete { .. } => "delete",
            Self::Modify { .. } => "modify",
            Self::Format { .. } => "format",
            Self::Check { .. } => "check",
            Self::Mount { .. } => "mount",
            Self::GrowFileSystem { .. } => "grow the file system",
            Self::Recover { .. } => "recover",
            Self::Unmount { .. } => "unmount",
        }
    }

    /// The volume it is about.
    pub fn volume(&self) -> Option<&VolumeId> {
        match self {
            Self::Serve(Place::Host) | Self::Create(_) => None,
            Self::Serve(Place::Volume(volume))
            | Self::Tag { volume, .. }
            | Self::Attach { volume, .. }
            | Self::Detach { volume, .. }
            | Self::Delete { volume }
            | Self::Modify { volume, .. }
            | Self::Format { volume, .. }
            | Self::Check { volume }
            | Self::Mount { volume }
            | Self::GrowFileSystem { volume, .. }
            | Self::Recover { volume }
            | Self::Unmount { volume, .. } => Some(volume),
        }
    }

    /// By what it is known if it fails.
    pub fn key(&self) -> ActionKey {
        ActionKey { action: self.name(), volume: self.volume().cloned() }
    }

    /// Whether it is a call to the cloud.
    pub fn is_of_the_cloud(&self) -> bool {
        match self {
            Self::Create(_)
            | Self::Tag { .. }
            | Self::Attach { .. }
            | Self::Detach { .. }
            | Self::Delete { .. }
            | Self::Modify { .. } => true,
            Self::Serve(_)
            | Self::Format { .. }
            | Self::Check { .. }
            | Self::Mount { .. }
            | Self::GrowFileSystem { .. }
            | Self::Recover { .. }
            | Self::Unmount { .. } => false,
        }
    }
}

/// Something that is waited for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Wait {
    /// Of which volume.
    pub volume: Option<VolumeId>,
    /// What for.
    pub why: Why,
    /// When to look again, at the latest.
    pub until: Timestamp,
}

/// What can be waited for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// The cloud does not answer, or does not let us ask.
    CloudAway,
    /// It was done a moment ago, and the cloud may not show it yet.
    Settling(ActionKey),
    /// It failed, and is tried again later.
    Held(ActionKey),
    /// A volume that was made is not listed yet.
    Appearing,
    /// The volume is being made.
    Creating,
    /// The volume is being attached.
    Attaching,
    /// The volume is being taken off.
    Detaching,
    /// It is attached, but its device is not there yet.
    DeviceMissing,
    /// The spec names another zone than this node's.
    OtherZone(Zone),
    /// The instance has no free slot for a volume, beside those that are left to others.
    NoSlot,
    /// A modification goes on.
    Modifying,
    /// The volume was modified too recently to be grown.
    CoolDown,
    /// The volume has grown, the kernel has not noticed yet.
    DeviceGrowing,
    /// It is as full as it may be and as large as it may be.
    AtCeiling,
    /// It serves until its successor does.
    Serving,
    /// What is staged on it could not be found out.
    StagedUnknown,
    /// Something is staged on it, which must be uploaded before it can go.
    Staged(StagedFiles),
    /// A node that has gone left it; something may be staged on it that only a node in its zone can upload.
    OrphanStaged(Zone),
    /// A node that has gone left it; nothing is staged on it, and it is deleted after the grace time.
    OrphanGrace,
    /// Somebody must look at it.
    Quarantined(String),
}

impl Why {
    /// Whether a person must do something about it.
    pub fn needs_a_person(&self) -> bool {
        match self {
            Self::OtherZone(_) | Self::NoSlot | Self::AtCeiling | Self::Quarantined(_) => true,
            Self::CloudAway
            | Self::Settling(_)
            | Self::Held(_)
            | Self::Appearing
            | Self::Creating
            | Self::Attaching
            | Self::Detaching
            | Self::DeviceMissing
            | Self::Modifying
            | Self::CoolDown
            | Self::DeviceGrowing
            | Self::Serving
            | Self::StagedUnknown
            | Self::Staged(_)
            | Self::OrphanStaged(_)
            | Self::OrphanGrace => false,
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CloudAway => f.write_str("EC2 does not answer or refuses; the host's directory serves"),
            Self::Settling(key) => write!(f, "{} was done, EC2 may not show it yet", key.action),
            Self::Held(key) => write!(f, "{} failed and is tried again later", key.action),
            Self::Appearing => f.write_str("a new volume is not listed yet"),
            Self::Creating => f.write_str("being made"),
            Self::Attaching => f.write_str("being attached"),
            Self::Detaching => f.write_str("being detached"),
            Self::DeviceMissing => f.write_str("attached, but its device is not there"),
            Self::OtherZone(zone) => write!(f, "the parameter zone is {zone}, this node is elsewhere"),
            Self::NoSlot => {
                f.write_str("the instance has no free volume slot; lower reservedSlots or detach one")
            }
            Self::Modifying => f.write_str("being modified"),
            Self::CoolDown => f.write_str("modified too recently to be grown"),
            Self::DeviceGrowing => f.write_str("grown, which the kernel has not noticed yet"),
            Self::AtCeiling => f.write_str("full and as large as maxSize allows"),
            Self::Serving => f.write_str("serves until its successor does"),
            Self::StagedUnknown => f.write_str("what is staged on it could not be found out"),
            Self::Staged(staged) => {
                write!(f, "{} files ({} bytes) on it are not in their bucket", staged.files, staged.bytes)
            }
            Self::OrphanStaged(zone) => {
                write!(
                    f,
                    "left by a node that has gone, perhaps with staged data; a node in {zone} will upload it"
                )
            }
            Self::OrphanGrace => f.write_str("left by a node that has gone; deleted after the grace time"),
            Self::Quarantined(why) => {
                write!(f, "left alone: {why}; look at it, then remove its tag tarn:quarantine or delete it")
            }
        }
    }
}
