//! Multipart uploads of the memory store, with S3's rules: parts in ascending order, each the one that was
//! sent last, none but the last below the minimum.

use super::body::Body;
use super::{Bucket, Object, hex, rejected};
use crate::clock;
use crate::name::Key;
use crate::store::{
    Abandoned, CompleteRequest, ETag, Error, ErrorKind, Headers, Op, Part, Result, Upload, Version,
};
use crc_fast::{CrcAlgorithm, checksum_combine};
use md5::{Digest, Md5};
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::SystemTime;

/// An upload under way.
pub(super) struct Pending {
    key: Key,
    headers: Headers,
    begun: SystemTime,
    parts: BTreeMap<u16, Stored>,
}

/// A part that has arrived.
pub(super) struct Stored {
    pub(super) etag: ETag,
    pub(super) crc: u64,
    pub(super) body: Body,
}

impl Bucket {
    pub(super) fn begin(&mut self, key: &Key, headers: &Headers) -> Upload {
        self.next_upload += 1;
        let id = format!("upload-{}", self.next_upload);
        let pending = Pending {
            key: key.clone(),
            headers: headers.clone(),
            begun: clock::now(),
            parts: BTreeMap::new(),
        };
        self.uploads.insert(id.clone(), pending);
        Upload { key: key.clone(), id }
    }

    pub(super) fn abandon(&mut self, abandoned: &Abandoned) {
        match abandoned {
            Abandoned::Upload(upload) => drop(self.uploads.remove(&upload.id)),
            Abandoned::Asked { key, at } => self.uploads.retain(|_, pending| {
                let asked = pending.key == *key && Abandoned::is_about(*at, pending.begun);
                !asked || !pending.parts.is_empty()
            }),
        }
    }

    /// The range of an object that a part is copied from.
    pub(super) fn part_of(&self, key: &Key, if_match: &ETag, range: &Range<u64>) -> Result<Body> {
        let body = &self.matching(Op::UploadPart, key, if_match)?.body;
        if range.is_empty() || range.end > body.len() {
            return Err(rejected(Op::UploadPart, key, "InvalidRange: the source has no such range"));
        }
        Ok(body.slice(range))
    }

    pub(super) fn add_part(&mut self, upload: &Upload, number: u16, stored: Stored) -> Result<Part> {
        if !(1..=10_000).contains(&number) {
            return Err(rejected(Op::UploadPart, &upload.key, "InvalidArgument: parts go from 1 to 10,000"));
        }
        let pending = self.uploads.get_mut(&upload.id).filter(|pending| pending.key == upload.key);
        let pending = pending.ok_or_else(|| no_upload(Op::UploadPart, upload))?;
        let (etag, size) = (stored.etag.clone(), stored.body.len());
        let part = Part { number, etag, crc64nvme: Some(stored.crc), size };
        pending.parts.insert(number, stored);
        Ok(part)
    }

    pub(super) fn complete(&mut self, request: &CompleteRequest, min_part_size: u64) -> Result<Version> {
        let upload = &request.upload;
        let pending = self.uploads.get(&upload.id).filter(|pending| pending.key == upload.key);
        let pending = pending.ok_or_else(|| no_upload(Op::CompleteUpload, upload))?;
        let object = pending.assemble(&request.parts, min_part_size)?;
        let version = self.commit(Op::CompleteUpload, &upload.key, object, &request.condition)?;
        self.uploads.remove(&upload.id);
        Ok(version)
    }
}

impl Pending {
    fn assemble(&self, parts: &[Part], min_part_size: u64) -> Result<Object> {
        let reject = |message| Err(rejected(Op::CompleteUpload, &self.key, message));
        let Some((last, others)) = parts.split_last() else {
            return reject("MalformedXML: an upload needs at least one part");
        };
        if parts.windows(2).any(|pair| pair[0].number >= pair[1].number) {
            return reject("InvalidPartOrder: parts must be in ascending order");
        }
        let mut bodies = Vec::with_capacity(parts.len());
        let mut tags = Md5::new();
        let mut crc = None;
        for part in others.iter().chain([last]) {
            let Some(stored) = self.parts.get(&part.number).filter(|stored| stored.etag == part.etag) else {
                return reject("InvalidPart: a part was not sent, or has another tag");
            };
            if part.number != last.number && stored.body.len() < min_part_size {
                return reject("EntityTooSmall: a part that is not the last is too small");
            }
            tags.update(stored.etag.as_str().as_bytes());
            crc = Some(crc.map_or(stored.crc, |crc| {
                checksum_combine(CrcAlgorithm::Crc64Nvme, crc, stored.crc, stored.body.len())
            }));
            bodies.push(stored.body.clone());
        }
        let etag = ETag::new(&format!("{}-{}", hex(&tags.finalize()), parts.len()));
        let crc = crc.expect("there is at least one part");
        Ok(Object::new(Body::join(bodies), etag, crc, self.headers.clone()))
    }
}

fn no_upload(op: Op, upload: &Upload) -> Error {
    Error::new(ErrorKind::NotFound, op, Some(&upload.key), "NoSuchUpload: no such upload")
}
