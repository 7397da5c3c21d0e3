//! From the text of a parameter to its value.

use super::{Encryption, FileSystem, Iops, Spec, VolumeType};
use crate::id::Zone;
use crate::state::Gib;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Duration;

/// Parameters as they are written: names and texts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Parameters(pub BTreeMap<String, String>);

impl TryFrom<Parameters> for Spec {
    type Error = SpecError;

    fn try_from(parameters: Parameters) -> Result<Self, SpecError> {
        Self::parse(&parameters.0)
    }
}

/// Why parameters are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// There is no such parameter.
    #[error("unknown parameter {name}{}", hint(.nearest))]
    Unknown {
        /// As it was written.
        name: String,
        /// A known one that is spelt much like it.
        nearest: Option<&'static str>,
    },
    /// The value is out of bounds or no value at all.
    #[error("{name} is {value}, allowed is {bound}{}", hint(.nearest))]
    Value {
        /// The parameter.
        name: String,
        /// As it was written.
        value: String,
        /// What is allowed.
        bound: String,
        /// A known word that is spelt much like it.
        nearest: Option<&'static str>,
    },
    /// Two parameters say the same thing.
    #[error("{0} and {1} exclude each other")]
    Both(&'static str, &'static str),
}

impl SpecError {
    pub(super) fn bound(name: &str, value: impl Display, bound: impl Into<String>) -> Self {
        Self::Value { name: name.into(), value: value.to_string(), bound: bound.into(), nearest: None }
    }
}

fn hint(nearest: &Option<&'static str>) -> String {
    nearest.map(|word| format!("; did you mean {word}?")).unwrap_or_default()
}

/// Every parameter. `tagSpecification` is followed by whatever keeps its copies apart.
const NAMES: [&str; 15] = [
    "csi.storage.k8s.io/fsType",
    "encrypted",
    "highWater",
    "iops",
    "iopsPerGB",
    "kmsKeyId",
    "maxSize",
    "minSize",
    "modifyCoolDown",
    "orphanGrace",
    "reservedSlots",
    "tagSpecification",
    "throughput",
    "type",
    "zone",
];
const TAG: &str = "tagSpecification";

/// Reads every parameter; what they mean together is checked by the caller.
pub(super) fn read(parameters: &BTreeMap<String, String>) -> Result<Spec, SpecError> {
    for name in parameters.keys() {
        if !NAMES.contains(&&**name) && !name.starts_with(TAG) {
            return Err(SpecError::Unknown { name: name.clone(), nearest: nearest(name, NAMES) });
        }
    }
    let text = |name: &'static str| parameters.get(name).map(|text| (name, text.trim()));
    let defaults = Spec::default();
    let volume_type = word(text("type"), VolumeType::ALL.map(VolumeType::name), VolumeType::parse)?
        .unwrap_or(defaults.volume_type);
    let file_system =
        word(text("csi.storage.k8s.io/fsType"), FileSystem::ALL.map(FileSystem::name), FileSystem::parse)?
            .unwrap_or(defaults.file_system);
    let least = *volume_type.bounds().size.start();
    let size_min = size(text("minSize"))?.unwrap_or(defaults.size_min.max(Gib(least)));
    Ok(Spec {
        volume_type,
        file_system,
        size_min,
        size_max: size(text("maxSize"))?.unwrap_or(defaults.size_max.max(size_min)),
        iops: iops(text("iops"), text("iopsPerGB"))?,
        throughput: number(text("throughput"))?,
        encryption: encryption(text("encrypted"), text("kmsKeyId"))?,
        high_water: number(text("highWater"))?.unwrap_or(defaults.high_water),
        tags: tags(parameters)?,
        zone: text("zone").map(|(_, zone)| Zone::new(zone)),
        reserved_slots: number(text("reservedSlots"))?.unwrap_or(defaults.reserved_slots),
        orphan_grace: duration(text("orphanGrace"))?.unwrap_or(defaults.orphan_grace),
        modify_cool_down: duration(text("modifyCoolDown"))?.unwrap_or(defaults.modify_cool_down),
    })
}

type Text<'a> = Option<(&'static str, &'a str)>;

fn nearest<const N: usize>(name: &str, known: [&'static str; N]) -> Option<&'static str> {
    let lower = name.to_lowercase();
    let scored = known.map(|word| (strsim::jaro_winkler(&lower, &word.to_lowercase()), word));
    let close = scored.into_iter().filter(|(score, _)| *score > 0.8);
    close.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, word)| word)
}

fn word<T, const N: usize>(
    text: Text<'_>,
    known: [&'static str; N],
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, SpecError> {
    let Some((name, value)) = text else { return Ok(None) };
    parse(value).map(Some).ok_or_else(|| SpecError::Value {
        name: name.into(),
        value: value.into(),
        bound: known.join(", "),
        nearest: nearest(value, known),
    })
}

fn number<T: std::str::FromStr>(text: Text<'_>) -> Result<Option<T>, SpecError> {
    let Some((name, value)) = text else { return Ok(None) };
    value.parse().map(Some).map_err(|_| SpecError::bound(name, value, "a whole number"))
}

fn size(text: Text<'_>) -> Result<Option<Gib>, SpecError> {
    let Some((name, value)) = text else { return Ok(None) };
    let refuse = || SpecError::bound(name, value, "whole GiB or TiB, as 100Gi or 2Ti");
    let digits = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    let (count, unit) = value.split_at(digits);
    let count: u32 = count.parse().map_err(|_| refuse())?;
    let gib = match unit {
        "Gi" | "GiB" => Some(count),
        "Ti" | "TiB" => count.checked_mul(1_024),
        _ => None,
    };
    gib.map(|gib| Some(Gib(gib))).ok_or_else(refuse)
}

fn duration(text: Text<'_>) -> Result<Option<Duration>, SpecError> {
    let Some((name, value)) = text else { return Ok(None) };
    let refuse = |_| SpecError::bound(name, value, "a time with its unit, as 30m or 6h");
    humantime::parse_duration(value).map(Some).map_err(refuse)
}

fn iops(fixed: Text<'_>, per_gib: Text<'_>) -> Result<Option<Iops>, SpecError> {
    match (number(fixed)?, number(per_gib)?) {
        (None, None) => Ok(None),
        (Some(iops), None) => Ok(Some(Iops::Fixed(iops))),
        (None, Some(per_gib)) => Ok(Some(Iops::PerGib(per_gib))),
        (Some(_), Some(_)) => Err(SpecError::Both("iops", "iopsPerGB")),
    }
}

fn encryption(encrypted: Text<'_>, key: Text<'_>) -> Result<Encryption, SpecError> {
    let wanted = word(encrypted, ["true", "false"], |word| word.parse::<bool>().ok())?;
    let key = key.map(|(_, key)| key.to_owned()).filter(|key| !key.is_empty());
    match (wanted, key) {
        (Some(false), Some(key)) => {
            Err(SpecError::bound("kmsKeyId", key, "nothing while encrypted is false"))
        }
        // A key asks for encryption by itself. `false` cannot switch off the account's default.
        (_, Some(key)) => Ok(Encryption::Encrypted(Some(key))),
        (Some(true), None) => Ok(Encryption::Encrypted(None)),
        (Some(false) | None, None) => Ok(Encryption::AccountDefault),
    }
}

fn tags(parameters: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, SpecError> {
    let written = parameters.iter().filter(|(name, _)| name.starts_with(TAG));
    let pairs = written.map(|(name, text)| match text.split_once('=') {
        Some((key, value)) if key.chars().count() <= 128 && value.chars().count() <= 256 => {
            Ok((key.trim().to_owned(), value.trim().to_owned()))
        }
        Some(_) | None => Err(SpecError::bound(name, text, "KEY=VALUE, of at most 128 and 256 characters")),
    });
    pairs.collect()
}
