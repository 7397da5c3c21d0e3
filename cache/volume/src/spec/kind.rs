//! The types of EBS volumes and the service's bounds on each, as the EC2 API reference states them for CreateVolume.

use crate::state::Gib;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::RangeInclusive;

/// A type of volume that is worth caching on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VolumeType {
    /// General purpose SSD; speed is bought apart from size.
    #[default]
    Gp3,
    /// Provisioned IOPS SSD of the first generation.
    Io1,
    /// Provisioned IOPS SSD.
    Io2,
    /// Throughput optimised HDD.
    St1,
    /// Cold HDD.
    Sc1,
}

/// What the service accepts for a type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    /// GiB.
    pub size: RangeInclusive<u32>,
    /// Operations per second that may be bought; `None` if they may not.
    pub iops: Option<IopsBounds>,
    /// MiB/s that may be bought; `None` if they may not.
    pub throughput: Option<RangeInclusive<u32>>,
}

/// What the service accepts as IOPS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IopsBounds {
    /// For the whole volume.
    pub range: RangeInclusive<u32>,
    /// At most so many for each GiB, above the least of the range.
    pub per_gib: u32,
    /// Whether they must be named.
    pub required: bool,
}

impl IopsBounds {
    /// The most that a volume of this size can have.
    pub fn most(&self, size: Gib) -> u32 {
        let by_size = self.per_gib.saturating_mul(size.0);
        by_size.clamp(*self.range.start(), *self.range.end())
    }
}

/// gp3: so many IOPS for each MiB/s of throughput.
pub(super) const IOPS_PER_THROUGHPUT: u32 = 4;
/// gp3: IOPS of a volume that names none.
pub const GP3_IOPS: u32 = 3_000;
/// gp3: MiB/s of a volume that names none.
pub const GP3_THROUGHPUT: u32 = 125;

impl VolumeType {
    /// All of them, best known first.
    pub const ALL: [Self; 5] = [Self::Gp3, Self::Io2, Self::Io1, Self::St1, Self::Sc1];

    /// The API's word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gp3 => "gp3",
            Self::Io1 => "io1",
            Self::Io2 => "io2",
            Self::St1 => "st1",
            Self::Sc1 => "sc1",
        }
    }

    /// The type of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// What the service accepts.
    pub fn bounds(self) -> Bounds {
        let iops = |range, per_gib, required| Some(IopsBounds { range, per_gib, required });
        match self {
            Self::Gp3 => Bounds {
                size: 1..=65_536,
                iops: iops(GP3_IOPS..=80_000, 500, false),
                throughput: Some(GP3_THROUGHPUT..=2_000),
            },
            Self::Io1 => Bounds { size: 4..=16_384, iops: iops(100..=64_000, 50, true), throughput: None },
            Self::Io2 => {
                Bounds { size: 4..=65_536, iops: iops(100..=256_000, 1_000, true), throughput: None }
            }
            Self::St1 | Self::Sc1 => Bounds { size: 125..=16_384, iops: None, throughput: None },
        }
    }
}

impl fmt::Display for VolumeType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A file system that a cache volume can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileSystem {
    /// ext4.
    #[default]
    Ext4,
    /// XFS.
    Xfs,
}

impl FileSystem {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Ext4, Self::Xfs];

    /// What mount(8) and blkid(8) call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        }
    }

    /// The file system of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl fmt::Display for FileSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
