//! What the driver notes of a volume or snapshot, and the proof that it is ours to delete.
//!
//! A bucket of its own carries the note as bucket tags, which no program in a pod can see or remove. Things in a
//! shared bucket have one small object each, `.tarn-csi/volumes/SLOT` or `.tarn-csi/snapshots/SLOT`, outside
//! of every volume. Both hold the same fields as text.

use crate::error::{Error, Kind, Result};
use crate::volume_id::Thing;
use std::collections::BTreeMap;
use std::str::FromStr;

/// Where records are in a shared bucket.
pub const HOME: &str = ".tarn-csi/";
/// What tags of ours begin with.
const TAG: &str = "tarn-csi-";

/// Text fields by name: bucket tags, or the JSON of a record.
pub type Fields = BTreeMap<String, String>;

/// How far its making got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Its content is being copied.
    Filling,
    /// It can be used.
    Ready,
}

/// What deleting a volume does to its objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDelete {
    /// Removes all of them, with all versions and unfinished uploads.
    Purge,
    /// Refuses while there are any.
    RefuseUnlessEmpty,
    /// Keeps them; only the driver's note goes.
    Keep,
}

impl OnDelete {
    /// Its words, as a parameter says them.
    pub const WORDS: &[(&str, Self)] =
        &[("purge", Self::Purge), ("refuse-unless-empty", Self::RefuseUnlessEmpty), ("keep", Self::Keep)];

    fn word(self) -> &'static str {
        match self {
            Self::Purge => "purge",
            Self::RefuseUnlessEmpty => "refuse-unless-empty",
            Self::Keep => "keep",
        }
    }
}

/// The note of one volume or snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its id.
    pub id: String,
    /// How far its making got.
    pub state: State,
    /// Its size in bytes: of a volume what was asked for, of a snapshot what it holds.
    pub bytes: u64,
    /// What deleting it does.
    pub on_delete: OnDelete,
    /// Its folder in a shared bucket, ending in `/`; empty in a bucket of its own.
    pub folder: String,
    /// The id that its content is from; of a snapshot its volume.
    pub source: Option<String>,
    /// When it was made, in seconds since 1970.
    pub created_at: u64,
    /// Checksum of the parameters that may not differ when the same volume is asked for again.
    pub parameters: String,
}

impl Record {
    /// Where the record is in a shared bucket.
    pub fn key(thing: Thing, slot: &str) -> String {
        format!("{}{slot}", Self::shelf(thing))
    }

    /// What the keys of all records of a kind begin with.
    pub fn shelf(thing: Thing) -> &'static str {
        match thing {
            Thing::Volume => ".tarn-csi/volumes/",
            Thing::Snapshot => ".tarn-csi/snapshots/",
        }
    }

    /// The fields to store. Values hold nothing but what bucket tags may.
    pub fn fields(&self) -> Fields {
        let state = match self.state {
            State::Filling => "filling",
            State::Ready => "ready",
        };
        let mut fields = vec![
            ("id", self.id.clone()),
            ("state", state.to_owned()),
            ("bytes", self.bytes.to_string()),
            ("on-delete", self.on_delete.word().to_owned()),
            ("created-at", self.created_at.to_string()),
            ("parameters", self.parameters.clone()),
        ];
        if !self.folder.is_empty() {
            fields.push(("folder", self.folder.clone()));
        }
        fields.extend(self.source.iter().map(|source| ("source", source.clone())));
        fields.into_iter().map(|(name, value)| (format!("{TAG}{name}"), value)).collect()
    }

    /// Reads the fields; `None` if there are none of ours.
    pub fn from_fields(fields: &Fields) -> Result<Option<Self>> {
        let field = |name: &str| fields.get(&format!("{TAG}{name}"));
        let Some(id) = field("id") else { return Ok(None) };
        let wrong = |name: &str| {
            Error::new(Kind::Internal, format!("the driver's record of {id} has no valid {name}"))
        };
        let state = match field("state").map(String::as_str) {
            Some("filling") => State::Filling,
            Some("ready") => State::Ready,
            Some(_) | None => return Err(wrong("state")),
        };
        let on_delete = field("on-delete").and_then(|text| find_word(text, OnDelete::WORDS));
        Ok(Some(Self {
            id: id.clone(),
            state,
            bytes: number(field("bytes")).ok_or_else(|| wrong("size"))?,
            on_delete: on_delete.ok_or_else(|| wrong("on-delete"))?,
            folder: field("folder").cloned().unwrap_or_default(),
            source: field("source").cloned(),
            created_at: number(field("created-at")).ok_or_else(|| wrong("time"))?,
            parameters: field("parameters").cloned().unwrap_or_default(),
        }))
    }

    /// The tags of a bucket with this record: other people's stay.
    pub fn onto(&self, tags: &Fields) -> Fields {
        let mut merged = without(tags);
        merged.extend(self.fields());
        merged
    }
}

/// The tags without ours.
pub fn without(tags: &Fields) -> Fields {
    tags.iter().filter(|(name, _)| !name.starts_with(TAG)).map(|(n, v)| (n.clone(), v.clone())).collect()
}

/// The value of a word.
pub fn find_word<T: Copy>(text: &str, words: &[(&str, T)]) -> Option<T> {
    words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value)
}

fn number<T: FromStr>(text: Option<&String>) -> Option<T> {
    text?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            id: "p:shared:pvc-1".into(),
            state: State::Filling,
            bytes: 1 << 40,
            on_delete: OnDelete::Keep,
            folder: "team/pvc-1/".into(),
            source: Some("b:other".into()),
            created_at: 1_700_000_000,
            parameters: "00ff".into(),
        }
    }

    #[test]
    fn a_record_comes_back_and_keeps_foreign_tags() {
        let tags = Fields::from([("team".to_owned(), "x".to_owned())]);
        let merged = record().onto(&tags);
        assert_eq!(merged.get("team").map(String::as_str), Some("x"));
        assert_eq!(Record::from_fields(&merged).expect("valid"), Some(record()));
        assert_eq!(without(&merged), tags);
        assert_eq!(Record::from_fields(&tags).expect("valid"), None);
    }

    #[test]
    fn values_are_what_bucket_tags_may_hold() {
        for (name, value) in record().fields() {
            let plain = |c: char| c.is_ascii_alphanumeric() || "+-=._:/@ ".contains(c);
            assert!(value.chars().all(plain) && value.len() <= 256, "{name}={value}");
        }
    }

    #[test]
    fn a_broken_record_is_an_error_and_not_a_foreign_bucket() {
        let mut fields = record().fields();
        fields.insert(format!("{TAG}bytes"), "many".into());
        assert!(Record::from_fields(&fields).is_err());
    }
}
