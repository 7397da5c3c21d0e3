//! Volume and snapshot ids, and the names that are made from the names Kubernetes gives.
//!
//! An id says where the thing is, because deletion gets nothing else: `b:BUCKET` (a bucket of its own) or
//! `p:BUCKET:SLOT` (a folder of a shared bucket), with `s` before it for a snapshot and `@ENDPOINT` behind it
//! where the StorageClass names another endpoint than the driver's.
//!
//! Invariants: an id is at most 128 bytes (CSI specification, "Size Limits"); a bucket is what S3 calls a bucket; a
//! slot is 1 to 63 of `a-z`, `0-9` and dash. Ids of static volumes are free text and never parsed.

use crate::error::{Error, Kind, Result};
use sha2::{Digest, Sha256};
use std::fmt;

/// The longest id.
const ID_MAX: usize = 128;
/// The longest name of a bucket, and of a slot.
const NAME_MAX: usize = 63;
/// The longest name that Kubernetes may give (CSI specification, "Size Limits").
const REQUEST_NAME_MAX: usize = 128;

/// Volume or snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Thing {
    /// A volume.
    Volume,
    /// A snapshot.
    Snapshot,
}

/// Where it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A bucket of its own.
    Bucket {
        /// The bucket.
        bucket: String,
    },
    /// A folder of a bucket that others use too.
    Folder {
        /// The bucket.
        bucket: String,
        /// The name of its record in that bucket.
        slot: String,
    },
}

impl Place {
    /// The bucket.
    pub fn bucket(&self) -> &str {
        match self {
            Self::Bucket { bucket } | Self::Folder { bucket, slot: _ } => bucket,
        }
    }
}

/// The id of a volume or snapshot that this driver made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeId {
    /// What it is.
    pub thing: Thing,
    /// Where it is.
    pub place: Place,
    /// The endpoint, where it is not the driver's.
    pub endpoint: Option<String>,
}

impl VolumeId {
    /// Makes an id; one that would be too long is refused.
    pub fn new(thing: Thing, place: Place, endpoint: Option<String>) -> Result<Self> {
        let id = Self { thing, place, endpoint };
        if id.to_string().len() > ID_MAX {
            return Err(Error::invalid(format!(
                "the endpoint is too long: with it the id {id} has over {ID_MAX} bytes; make it the driver's own (--endpoint)"
            )));
        }
        Ok(id)
    }

    /// Reads an id of ours; `None` is what we never made.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > ID_MAX {
            return None;
        }
        let (rest, endpoint) = match text.split_once('@') {
            Some((rest, endpoint)) => (rest, Some(endpoint.to_owned())),
            None => (text, None),
        };
        let (thing, rest) = match rest.strip_prefix('s') {
            Some(rest) => (Thing::Snapshot, rest),
            None => (Thing::Volume, rest),
        };
        let place = match rest.split_once(':')? {
            ("b", bucket) if is_bucket(bucket) => Place::Bucket { bucket: bucket.to_owned() },
            ("p", rest) => {
                let (bucket, slot) = rest.split_once(':')?;
                let valid = is_bucket(bucket) && is_slot(slot);
                valid.then(|| Place::Folder { bucket: bucket.to_owned(), slot: slot.to_owned() })?
            }
            _other => return None,
        };
        let plain = |url: &str| {
            (url.starts_with("http://") || url.starts_with("https://"))
                && url.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'@')
        };
        endpoint.as_deref().is_none_or(plain).then_some(Self { thing, place, endpoint })
    }

    /// Reads the id of a thing of ours that a request is about.
    pub fn find(text: &str, thing: Thing) -> Result<Self> {
        let what = match thing {
            Thing::Volume => "volume",
            Thing::Snapshot => "snapshot",
        };
        if text.is_empty() {
            return Err(Error::invalid(format!("the {what} id is missing")));
        }
        Self::parse(text)
            .filter(|id| id.thing == thing)
            .ok_or_else(|| Error::new(Kind::NotFound, format!("there is no {what} {text:?} of this driver")))
    }
}

impl fmt::Display for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.thing == Thing::Snapshot {
            f.write_str("s")?;
        }
        match &self.place {
            Place::Bucket { bucket } => write!(f, "b:{bucket}")?,
            Place::Folder { bucket, slot } => write!(f, "p:{bucket}:{slot}")?,
        }
        match &self.endpoint {
            Some(endpoint) => write!(f, "@{endpoint}"),
            None => Ok(()),
        }
    }
}

/// Whether a new bucket may have this name (S3 user guide, "General purpose bucket naming rules").
pub fn is_bucket(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-');
    (3..=NAME_MAX).contains(&name.len())
        && name.bytes().all(plain)
        && !name.starts_with(['.', '-'])
        && !name.ends_with(['.', '-'])
        && !name.contains("..")
}

fn is_slot(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(plain)
}

/// The name of the bucket for the volume or snapshot `name`.
pub fn bucket_for(prefix: &str, thing: Thing, name: &str) -> Result<String> {
    let prefix = match thing {
        Thing::Volume => prefix.to_owned(),
        Thing::Snapshot => format!("{prefix}snap-"),
    };
    Ok(format!("{prefix}{}", slug(name, NAME_MAX.saturating_sub(prefix.len()))?))
}

/// The name of the record of the volume or snapshot `name` in a shared bucket.
pub fn slot_for(name: &str) -> Result<String> {
    slug(name, NAME_MAX)
}

/// `name` in at most `most` of `a-z`, `0-9` and dash: as it is if it fits, else shortened, with its checksum.
fn slug(name: &str, most: usize) -> Result<String> {
    const SUM: usize = 10;
    if name.is_empty() {
        return Err(Error::invalid("the name is missing"));
    }
    if name.len() > REQUEST_NAME_MAX || name.contains(char::is_control) {
        return Err(Error::invalid(format!(
            "the name has over {REQUEST_NAME_MAX} bytes or a control character"
        )));
    }
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let text: String = name.chars().map(plain).collect();
    let text = text.trim_matches('-');
    if text == name && text.len() <= most {
        return Ok(text.to_owned());
    }
    let sum: String = Sha256::digest(name).iter().take(SUM / 2).map(|byte| format!("{byte:02x}")).collect();
    let head: String = text.chars().take(most.saturating_sub(SUM + 1)).collect();
    let head = head.trim_end_matches('-');
    Ok(if head.is_empty() { format!("v-{sum}") } else { format!("{head}-{sum}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_back() {
        for text in [
            "b:tarn-pvc-1",
            "p:shared:pvc-1",
            "sb:tarn-snap-1",
            "sp:shared:snap-1",
            "b:tarn-pvc-1@https://minio.example:9000",
        ] {
            assert_eq!(VolumeId::parse(text).map(|id| id.to_string()).as_deref(), Some(text));
        }
    }

    #[test]
    fn hostile_ids_are_nothing_of_ours() {
        let long = format!("p:shared:{}", "a".repeat(200));
        for text in [
            "",
            "b:",
            "b:../../etc",
            "b:UPPER",
            "p:shared",
            "p:shared:",
            "p:shared:../x",
            "p:shared:a/b",
            "p:shared:a,b",
            "b:bucket\n",
            "b:bucket@file:///etc/passwd",
            "b:bucket@http://user@host",
            "none-exist-id",
            &long,
        ] {
            assert_eq!(VolumeId::parse(text), None, "{text:?}");
        }
        assert!(VolumeId::find("b:bucket", Thing::Snapshot).is_err());
    }

    #[test]
    fn any_name_makes_a_bucket_and_different_names_make_different_ones() {
        let long = "x".repeat(128);
        let names = ["pvc-1", "PVC-1", "pvc_1", "-", "ä", &long, &long[1..]];
        let mut seen = std::collections::BTreeSet::new();
        for name in names {
            for thing in [Thing::Volume, Thing::Snapshot] {
                let bucket = bucket_for("tarn-", thing, name).expect(name);
                assert!(is_bucket(&bucket), "{bucket}");
                assert!(seen.insert(bucket), "{name}");
            }
            assert!(is_slot(&slot_for(name).expect(name)), "{name}");
        }
        assert_eq!(bucket_for("tarn-", Thing::Volume, "pvc-1").expect("good"), "tarn-pvc-1");
    }

    #[test]
    fn names_that_nobody_may_give_are_refused() {
        for name in ["", "a\nb", &"x".repeat(129)] {
            assert_eq!(slot_for(name).expect_err(name).kind, Kind::Invalid);
        }
    }

    #[test]
    fn an_id_that_would_be_too_long_says_what_to_do() {
        let place = Place::Folder { bucket: "b".repeat(63), slot: "s".repeat(40) };
        let error = VolumeId::new(Thing::Volume, place, Some("https://minio.storage.svc:9000".into()));
        assert!(error.expect_err("too long").message.contains("--endpoint"));
    }
}
