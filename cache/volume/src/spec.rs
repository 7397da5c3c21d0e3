//! What cache volume is wanted: parameters with the names that users of the EBS driver know, checked against the
//! service's bounds before anything is asked of it. Pure.
//!
//! [`Spec::parse`] is the one door. An error names the parameter, its value and the bound.

mod kind;
mod value;

pub use kind::{Bounds, FileSystem, GP3_IOPS, GP3_THROUGHPUT, IopsBounds, VolumeType};
pub use value::{Parameters, SpecError};

use crate::id::Zone;
use crate::state::{Gib, Volume};
use kind::IOPS_PER_THROUGHPUT;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// Tags of users may not look like ours or the service's.
const RESERVED_TAGS: [&str; 2] = ["tarn:", "aws:"];
/// EC2 allows 50 tags; the rest are ours.
const TAGS_MAX: usize = 40;

/// A cache volume as it is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Parameters")]
pub struct Spec {
    /// The type of volume.
    pub volume_type: VolumeType,
    /// The size it is created with; it never gets smaller.
    pub size_min: Gib,
    /// The size that it is not grown over.
    pub size_max: Gib,
    /// Its operations per second; `None` leaves them to the service.
    pub iops: Option<Iops>,
    /// MiB/s; `None` leaves it to the service.
    pub throughput: Option<u32>,
    /// Who encrypts it.
    pub encryption: Encryption,
    /// The file system it is formatted with.
    pub file_system: FileSystem,
    /// It is grown when more than so many percent are in use.
    pub high_water: u8,
    /// The user's tags.
    pub tags: BTreeMap<String, String>,
    /// The only zone in which a volume is made; `None` is every zone.
    pub zone: Option<Zone>,
    /// So many of the instance's volume slots are left to others.
    pub reserved_slots: u32,
    /// How long a volume without a node and without staged data is kept for the node's successor.
    pub orphan_grace: Duration,
    /// The least time from one modification to the next.
    pub modify_cool_down: Duration,
}

/// Operations per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Iops {
    /// So many, whatever the size.
    Fixed(u32),
    /// So many for each GiB, within the type's bounds.
    PerGib(u32),
}

/// Who encrypts a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Encryption {
    /// Whatever the account's default says.
    AccountDefault,
    /// EBS, with this KMS key or the account's default key.
    Encrypted(Option<String>),
}

/// How an existing volume suits a spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// It can be used, if need be after a modification.
    Usable,
    /// Only another volume will do: too large, another file system or encryption.
    Replace,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            volume_type: VolumeType::default(),
            size_min: Gib(100),
            size_max: Gib(1_024),
            iops: None,
            throughput: None,
            encryption: Encryption::AccountDefault,
            file_system: FileSystem::default(),
            high_water: 85,
            tags: BTreeMap::new(),
            zone: None,
            reserved_slots: 1,
            orphan_grace: Duration::from_secs(60 * 60),
            modify_cool_down: Duration::from_secs(6 * 60 * 60),
        }
    }
}

impl Spec {
    /// Reads parameters, such as those of a StorageClass, and checks that they hold together.
    pub fn parse(parameters: &BTreeMap<String, String>) -> Result<Self, SpecError> {
        let spec = value::read(parameters)?;
        spec.check()?;
        Ok(spec)
    }

    /// The IOPS to ask for at this size; `None` leaves them to the service.
    pub fn iops_at(&self, size: Gib) -> Option<u32> {
        let bounds = self.volume_type.bounds().iops?;
        match self.iops? {
            Iops::Fixed(iops) => Some(iops),
            Iops::PerGib(per_gib) => {
                Some(per_gib.saturating_mul(size.0).clamp(*bounds.range.start(), bounds.most(size)))
            }
        }
    }

    /// The size to grow to when `used` bytes of `size` are in use: by half, and enough to get below the mark.
    pub fn grown(&self, size: Gib, used: u64) -> Gib {
        let enough = used.saturating_mul(100) / u64::from(self.high_water);
        Gib(size.0.saturating_add(size.0.div_ceil(2))).max(Gib::holding(enough)).min(self.size_max)
    }

    /// Whether `used` of `size` bytes are more than the high-water mark allows.
    pub fn is_over_mark(&self, used: u64, size: u64) -> bool {
        u128::from(used) * 100 > u128::from(size) * u128::from(self.high_water)
    }

    /// How an existing volume suits.
    pub fn fit(&self, volume: &Volume) -> Fit {
        let encryption = match &self.encryption {
            Encryption::AccountDefault => true,
            Encryption::Encrypted(None) => volume.encrypted,
            // The service answers with the key's ARN, whatever name it was given.
            Encryption::Encrypted(Some(key)) => {
                volume.encrypted && volume.kms_key.as_ref().is_some_and(|arn| same_key(arn, key))
            }
        };
        let file_system = volume.tags.file_system.is_none_or(|kind| kind == self.file_system);
        if encryption && file_system && volume.size <= self.size_max { Fit::Usable } else { Fit::Replace }
    }

    fn check(&self) -> Result<(), SpecError> {
        let bounds = self.volume_type.bounds();
        self.check_size(&bounds)?;
        self.check_iops(&bounds)?;
        self.check_throughput(&bounds)?;
        if !(10..=95).contains(&self.high_water) {
            return Err(SpecError::bound("highWater", self.high_water, "10 to 95 percent"));
        }
        if self.tags.len() > TAGS_MAX {
            return Err(SpecError::bound("tagSpecification", self.tags.len(), format!("{TAGS_MAX} tags")));
        }
        for key in self.tags.keys() {
            if RESERVED_TAGS.iter().any(|reserved| key.starts_with(reserved)) || key.is_empty() {
                return Err(SpecError::bound(
                    "tagSpecification",
                    key,
                    "a key not starting with tarn: or aws:",
                ));
            }
        }
        Ok(())
    }

    fn check_size(&self, bounds: &Bounds) -> Result<(), SpecError> {
        let (least, most) = (bounds.size.start(), bounds.size.end());
        let bound = || format!("{least} to {most} GiB for {}", self.volume_type);
        for (name, size) in [("minSize", self.size_min), ("maxSize", self.size_max)] {
            if !bounds.size.contains(&size.0) {
                return Err(SpecError::bound(name, size, bound()));
            }
        }
        if self.size_max < self.size_min {
            return Err(SpecError::bound(
                "maxSize",
                self.size_max,
                format!("at least minSize, {}", self.size_min),
            ));
        }
        Ok(())
    }

    fn check_iops(&self, bounds: &Bounds) -> Result<(), SpecError> {
        let kind = self.volume_type;
        match (&bounds.iops, self.iops) {
            (None, None) => Ok(()),
            (None, Some(iops)) => Err(SpecError::bound(
                iops.name(),
                iops.value(),
                format!("nothing: {kind} has no IOPS to buy"),
            )),
            (Some(bounds), None) if bounds.required => {
                let (least, most) = (bounds.range.start(), bounds.range.end());
                Err(SpecError::bound(
                    "iops",
                    "nothing",
                    format!("{least} to {most} for {kind}, or iopsPerGB"),
                ))
            }
            (Some(_), None) => Ok(()),
            (Some(bounds), Some(Iops::Fixed(iops))) => {
                let (least, most) = (bounds.range.start(), bounds.range.end());
                if !bounds.range.contains(&iops) {
                    return Err(SpecError::bound("iops", iops, format!("{least} to {most} for {kind}")));
                }
                let at_size = bounds.most(self.size_min);
                if iops > at_size {
                    let per_gib = bounds.per_gib;
                    let why = format!(
                        "at most {at_size}: {kind} has {per_gib} for each GiB of minSize, {}",
                        self.size_min
                    );
                    return Err(SpecError::bound("iops", iops, why));
                }
                Ok(())
            }
            (Some(bounds), Some(Iops::PerGib(per_gib))) => {
                if !(1..=bounds.per_gib).contains(&per_gib) {
                    let why = format!("1 to {} for {kind}", bounds.per_gib);
                    return Err(SpecError::bound("iopsPerGB", per_gib, why));
                }
                Ok(())
            }
        }
    }

    fn check_throughput(&self, bounds: &Bounds) -> Result<(), SpecError> {
        let kind = self.volume_type;
        let Some(throughput) = self.throughput else { return Ok(()) };
        let Some(range) = &bounds.throughput else {
            let why = format!("nothing: {kind} has no throughput to buy");
            return Err(SpecError::bound("throughput", throughput, why));
        };
        if !range.contains(&throughput) {
            let why = format!("{} to {} MiB/s for {kind}", range.start(), range.end());
            return Err(SpecError::bound("throughput", throughput, why));
        }
        let iops = self.iops_at(self.size_min).unwrap_or(GP3_IOPS);
        if throughput > iops / IOPS_PER_THROUGHPUT {
            let why = format!(
                "at most {} MiB/s: {iops} IOPS, {IOPS_PER_THROUGHPUT} for each",
                iops / IOPS_PER_THROUGHPUT
            );
            return Err(SpecError::bound("throughput", throughput, why));
        }
        Ok(())
    }
}

impl Iops {
    fn name(self) -> &'static str {
        match self {
            Self::Fixed(_) => "iops",
            Self::PerGib(_) => "iopsPerGB",
        }
    }

    fn value(self) -> u32 {
        match self {
            Self::Fixed(value) | Self::PerGib(value) => value,
        }
    }
}

/// Whether an ARN names this key, which may be given as ARN or as bare id. What an alias stands for only KMS knows:
/// it is taken to be the same, since replacing a volume over and over would be worse.
fn same_key(arn: &str, key: &str) -> bool {
    arn == key || key.contains("alias/") || arn.rsplit('/').next() == Some(key)
}

#[cfg(test)]
mod tests;
