//! How far a multipart upload is: what the journal keeps of it, and what of it can be used again. Pure.

use super::plan::{PartPlan, Piece};
use crate::name::Key;
use crate::store::{Abandoned, ETag, Headers, Part, Upload};
use serde::{Deserialize, Serialize};
use std::time::SystemTime;

/// A multipart upload that was begun and not ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The key it is for.
    pub key: Key,
    /// Its id; `None` until the server has answered.
    pub id: Option<String>,
    /// When it was asked for.
    pub begun: SystemTime,
    /// The headers it was begun with, which cannot be changed any more.
    pub headers: Headers,
    /// The object that copied parts are from.
    pub base: Option<ETag>,
    /// Parts that the server has confirmed, in no order.
    pub parts: Vec<DonePart>,
    /// It was dropped, but a request of the process that began it may arrive yet and bring it back.
    #[serde(default)]
    pub dropped: bool,
}

/// A part that the server has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DonePart {
    /// From 1 to 10,000.
    pub number: u16,
    /// Where in the object it begins.
    pub start: u64,
    /// Its length in bytes.
    pub size: u64,
    /// Its tag.
    pub etag: ETag,
    /// CRC64NVME of its bytes, where the server or tarn knows it.
    pub crc64nvme: Option<u64>,
    /// Whether the server copied it from the base.
    pub copied: bool,
}

impl Progress {
    /// An upload that is about to be asked for.
    pub fn asked(key: &Key, headers: &Headers, base: Option<&ETag>) -> Self {
        Self {
            key: key.clone(),
            id: None,
            begun: crate::clock::now(),
            headers: headers.clone(),
            base: base.cloned(),
            parts: Vec::new(),
            dropped: false,
        }
    }

    /// The upload, if it can go on as one of this object.
    pub fn resumable(&self, key: &Key, headers: &Headers, base: Option<&ETag>) -> Option<Upload> {
        let same = self.key == *key && self.headers == *headers && self.base.as_ref() == base;
        self.upload().filter(|_| same)
    }

    /// Whether it was dropped, and is to be dropped once more when nothing of it can arrive any longer.
    pub fn is_settled(&self) -> bool {
        self.dropped && Abandoned::may_begin(self.begun)
    }

    /// The upload, if the server has said its id.
    pub fn upload(&self) -> Option<Upload> {
        Some(Upload { key: self.key.clone(), id: self.id.clone()? })
    }

    /// The part that was made by the same plan, if there is one. Of a sent part the bytes may have changed since.
    pub fn done(&self, number: u16, plan: &PartPlan) -> Option<&DonePart> {
        self.parts.iter().find(|part| {
            part.number == number
                && (part.start..part.start + part.size) == plan.range
                && part.copied == (plan.piece == Piece::Copy)
        })
    }

    /// Notes a part; says whether the journal should learn of it now. It learns of an eighth of the parts at once,
    /// so that a killed process loses little and a large upload does not write its list thousands of times.
    pub fn add(&mut self, part: &Part, plan: &PartPlan, noted: usize) -> bool {
        self.parts.retain(|done| done.number != part.number);
        self.parts.push(DonePart {
            number: part.number,
            start: plan.range.start,
            size: part.size,
            etag: part.etag.clone(),
            crc64nvme: part.crc64nvme,
            copied: plan.piece == Piece::Copy,
        });
        self.parts.len() >= noted + (noted / 8).max(1)
    }
}

impl From<&DonePart> for Part {
    fn from(done: &DonePart) -> Self {
        Self { number: done.number, etag: done.etag.clone(), crc64nvme: done.crc64nvme, size: done.size }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress() -> Progress {
        Progress {
            id: Some("u".into()),
            ..Progress::asked(&Key::parse("k").unwrap(), &Headers::default(), None)
        }
    }

    fn part(number: u16) -> Part {
        Part { number, etag: ETag::new("e"), crc64nvme: Some(1), size: 8 }
    }

    #[test]
    fn only_the_same_object_goes_on_with_an_upload() {
        let (progress, headers) = (progress(), Headers::default());
        let key = |text: &str| Key::parse(text).unwrap();
        assert!(progress.resumable(&key("k"), &headers, None).is_some());
        assert!(progress.resumable(&key("other"), &headers, None).is_none());
        assert!(progress.resumable(&key("k"), &headers, Some(&ETag::new("e"))).is_none());
        let typed = Headers { content_type: Some("text/plain".into()), ..headers.clone() };
        assert!(progress.resumable(&key("k"), &typed, None).is_none());
        assert!(Progress { id: None, ..progress }.resumable(&key("k"), &headers, None).is_none());
    }

    #[test]
    fn a_part_counts_for_the_plan_it_was_made_by() {
        let mut progress = progress();
        let plan = PartPlan { range: 8..16, piece: Piece::Send };
        progress.add(&part(2), &plan, 0);
        assert!(progress.done(2, &plan).is_some());
        assert!(progress.done(1, &plan).is_none());
        assert!(progress.done(2, &PartPlan { range: 8..17, ..plan.clone() }).is_none());
        assert!(progress.done(2, &PartPlan { piece: Piece::Copy, ..plan }).is_none());
    }

    #[test]
    fn a_long_list_of_parts_is_written_few_times() {
        let mut progress = progress();
        let (mut noted, mut times) = (0, 0);
        for number in 1..=10_000 {
            let start = u64::from(number) * 8;
            if progress.add(&part(number), &PartPlan { range: start..start + 8, piece: Piece::Send }, noted) {
                (noted, times) = (progress.parts.len(), times + 1);
            }
        }
        assert!(times < 100, "{times} times");
    }
}
