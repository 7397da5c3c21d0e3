//! Multipart uploads of the memory store, with S3's rules: parts in ascending order, each the one that was
//! sent last, none but the last below the minimum.

use super::{Bucket, Object, hex, rejected, tag_of};
use crate::name::Key;
use crate::store::{
    CompleteRequest, ETag, Error, ErrorKind, Headers, Op, Part, PartSource, Result, Upload, Version,
};
use bytes::{Bytes, BytesMut};
use md5::{Digest, Md5};
use std::collections::BTreeMap;

/// An upload under way.
pub(super) struct Pending {
    key: Key,
    headers: Headers,
    parts: BTreeMap<u16, (ETag, Bytes)>,
}

impl Bucket {
    pub(super) fn begin(&mut self, key: &Key, headers: &Headers) -> Upload {
        self.next_upload += 1;
        let id = format!("upload-{}", self.next_upload);
        let pending = Pending { key: key.clone(), headers: headers.clone(), parts: BTreeMap::new() };
        self.uploads.insert(id.clone(), pending);
        Upload { key: key.clone(), id }
    }

    pub(super) fn add_part(&mut self, upload: &Upload, number: u16, source: PartSource) -> Result<Part> {
        if !(1..=10_000).contains(&number) {
            return Err(rejected(Op::UploadPart, &upload.key, "InvalidArgument: parts go from 1 to 10,000"));
        }
        let body = match source {
            PartSource::Bytes(body) => body,
            PartSource::Copy { key, if_match, range } => {
                let source = &self.matching(Op::UploadPart, &key, &if_match)?.body;
                if range.is_empty() || range.end > source.len() as u64 {
                    return Err(rejected(Op::UploadPart, &key, "InvalidRange: the source has no such range"));
                }
                source.slice(range.start as usize..range.end as usize)
            }
        };
        let etag = tag_of(&body);
        let part = Part {
            number,
            etag: etag.clone(),
            crc64nvme: Some(crc_fast::crc64_nvme(&body)),
            size: body.len() as u64,
        };
        let pending = self.uploads.get_mut(&upload.id).filter(|pending| pending.key == upload.key);
        pending.ok_or_else(|| no_upload(Op::UploadPart, upload))?.parts.insert(number, (etag, body));
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
        let mut body = BytesMut::new();
        let mut tags = Md5::new();
        for part in others.iter().chain([last]) {
            let Some((etag, bytes)) = self.parts.get(&part.number).filter(|(etag, _)| *etag == part.etag)
            else {
                return reject("InvalidPart: a part was not sent, or has another tag");
            };
            if part.number != last.number && (bytes.len() as u64) < min_part_size {
                return reject("EntityTooSmall: a part that is not the last is too small");
            }
            tags.update(etag.as_str().as_bytes());
            body.extend_from_slice(bytes);
        }
        let etag = ETag::new(&format!("{}-{}", hex(&tags.finalize()), parts.len()));
        Ok(Object::new(body.freeze(), etag, self.headers.clone()))
    }
}

fn no_upload(op: Op, upload: &Upload) -> Error {
    Error::new(ErrorKind::NotFound, op, Some(&upload.key), "NoSuchUpload: no such upload")
}
