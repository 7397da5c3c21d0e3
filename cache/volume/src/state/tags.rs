//! What the tags of a volume say.
//!
//! A tag that is missing or makes no sense is read as what protects the data: somebody may have removed it by hand.

use crate::id::{InstanceId, NodeName, Owner};
use crate::spec::FileSystem;
use crate::state::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Whether the volume may hold bytes that no bucket has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Staged {
    /// It was never used, or what it held was uploaded and its users have gone.
    None,
    /// It is in use, or was when it was last seen.
    Maybe,
}

/// What we write about a volume, on the volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tags {
    /// The node that it was made for or that claimed it.
    pub node: NodeName,
    /// The instance that this node was then.
    pub instance: InstanceId,
    /// Counts the volumes made for a node; the last one is the one in use.
    pub generation: u64,
    /// Whether there may be bytes that no bucket has.
    pub staged: Staged,
    /// What it was formatted with, or is to be.
    pub file_system: Option<FileSystem>,
    /// When a node claimed it that did not make it.
    pub claimed: Option<Timestamp>,
    /// When it was first seen without a node.
    pub orphan_since: Option<Timestamp>,
    /// It cannot be used and nothing is staged on it: it is only to be deleted.
    pub discard: bool,
    /// Why nothing may be done to it until somebody has looked at it.
    pub quarantine: Option<String>,
}

/// The tag by which our volumes are found.
pub const OWNER: &str = "tarn:owner";
const NODE: &str = "tarn:node";
const INSTANCE: &str = "tarn:instance";
const GENERATION: &str = "tarn:generation";
const STAGED: &str = "tarn:staged";
const FILE_SYSTEM: &str = "tarn:fs";
const CLAIMED: &str = "tarn:claimed";
const ORPHAN_SINCE: &str = "tarn:orphan-since";
const DISCARD: &str = "tarn:discard";
const QUARANTINE: &str = "tarn:quarantine";
/// EC2 allows 256 characters.
const VALUE_MAX: usize = 256;

impl Tags {
    /// Reads them.
    pub fn parse(tags: &BTreeMap<String, String>) -> Self {
        let text = |key: &str| tags.get(key).map(String::as_str).filter(|value| !value.is_empty());
        let staged = if text(STAGED) == Some("none") { Staged::None } else { Staged::Maybe };
        Self {
            node: NodeName::new(text(NODE).unwrap_or_default()),
            instance: InstanceId::new(text(INSTANCE).unwrap_or_default()),
            generation: text(GENERATION).and_then(|number| number.parse().ok()).unwrap_or(0),
            staged,
            file_system: text(FILE_SYSTEM).and_then(FileSystem::parse),
            claimed: text(CLAIMED).and_then(Timestamp::parse),
            orphan_since: text(ORPHAN_SINCE).and_then(Timestamp::parse),
            discard: text(DISCARD) == Some("true"),
            quarantine: text(QUARANTINE).map(str::to_owned),
        }
    }

    /// All of them as they are written. An empty value is an absent one: CreateTags cannot remove a tag, and
    /// DeleteTags would be one more permission.
    pub fn write(&self, owner: &Owner) -> BTreeMap<String, String> {
        let time = |time: Option<Timestamp>| time.map(|time| time.to_string()).unwrap_or_default();
        let staged = match self.staged {
            Staged::None => "none",
            Staged::Maybe => "maybe",
        };
        let quarantine: String = self.quarantine.iter().flat_map(|why| why.chars()).take(VALUE_MAX).collect();
        BTreeMap::from([
            (OWNER.into(), owner.to_string()),
            (NODE.into(), self.node.to_string()),
            (INSTANCE.into(), self.instance.to_string()),
            (GENERATION.into(), self.generation.to_string()),
            (STAGED.into(), staged.into()),
            (FILE_SYSTEM.into(), self.file_system.map(|kind| kind.to_string()).unwrap_or_default()),
            (CLAIMED.into(), time(self.claimed)),
            (ORPHAN_SINCE.into(), time(self.orphan_since)),
            (DISCARD.into(), if self.discard { "true".into() } else { String::new() }),
            (QUARANTINE.into(), quarantine),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let tags = Tags {
            node: NodeName::new("node-1"),
            instance: InstanceId::new("i-1"),
            generation: 3,
            staged: Staged::None,
            file_system: Some(FileSystem::Xfs),
            claimed: Some(Timestamp(1_700_000_000)),
            orphan_since: None,
            discard: false,
            quarantine: None,
        };
        let written = tags.write(&Owner::new("cluster"));
        assert_eq!(written[OWNER], "cluster");
        assert_eq!(written[CLAIMED], "2023-11-14T22:13:20Z");
        assert_eq!(Tags::parse(&written), tags);
    }

    #[test]
    fn what_is_missing_or_senseless_protects_the_data() {
        assert_eq!(Tags::parse(&BTreeMap::new()).staged, Staged::Maybe);
        for value in ["", "no", "None", "maybe"] {
            let tags = BTreeMap::from([(STAGED.to_owned(), value.to_owned())]);
            assert_eq!(Tags::parse(&tags).staged, Staged::Maybe, "{value}");
        }
    }

    #[test]
    fn a_long_reason_is_cut_to_what_a_tag_holds() {
        let long = Tags { quarantine: Some("ä".repeat(300)), ..Tags::parse(&BTreeMap::new()) };
        assert_eq!(long.write(&Owner::new("c"))[QUARANTINE].chars().count(), VALUE_MAX);
    }
}
