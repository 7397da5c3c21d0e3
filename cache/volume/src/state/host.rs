//! What the host says, and what its mounts use.

use crate::id::VolumeId;
use crate::spec::FileSystem;
use serde::{Deserialize, Serialize};

/// What the host knows of a volume: its device, its mount, or both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostVolume {
    /// The volume, by the serial number of its device or the name of its mount point.
    pub volume: VolumeId,
    /// Its device; `None` if it has gone.
    pub device: Option<Device>,
    /// Where it is mounted.
    pub mount: Option<Mount>,
}

/// A block device whose serial number is that of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its size in bytes.
    pub size: u64,
    /// What is on it.
    pub content: Content,
}

/// What is on a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Nothing at all: no signature, and zeros where file systems begin.
    Blank,
    /// The file system that tarn made for this very volume.
    Ours(FileSystem),
    /// Anything else, with what it looks like.
    Foreign(String),
}

/// A mounted volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Size of the file system in bytes.
    pub size: u64,
    /// Bytes in use.
    pub used: u64,
    /// Whether the device it was made from is still there and answers.
    pub alive: bool,
}

/// What a check of a file system found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It is in order, or was brought in order without a loss.
    Sound,
    /// It needs a person.
    Damaged,
}

/// Where the mounts of a node keep what they cache.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// The directory on the host's own disk.
    Host,
    /// This volume.
    Volume(VolumeId),
}

/// Bytes in a cache directory that no bucket has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StagedFiles {
    /// How many files.
    pub files: u64,
    /// How many bytes.
    pub bytes: u64,
}

impl StagedFiles {
    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.files == 0
    }
}
