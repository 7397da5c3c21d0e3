//! Copies on the server. `CopyObject` keeps no condition on its destination on some servers, MinIO among them, so
//! it serves only where none is set; everything else is a multipart upload made of copied parts, whose
//! completion does keep it. An empty object has no range to copy and is written anew.

use super::{S3Store, decode_crc, quoted, response, upload, with_headers};
use crate::name::Key;
use crate::store::{
    CompleteRequest, Condition, CopyRequest, ETag, ErrorKind, Headers, ObjectStore, Op, Part, PartKinds,
    Result, Upload, Version,
};
use aws_sdk_s3::types::MetadataDirective;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::ops::Range;

/// The size of a copied part: large enough for 5 TiB in 10,000 parts, small enough to copy several at once.
const PART_SIZE: u64 = 512 << 20;
/// Parts copied at once.
const PARTS_AT_ONCE: usize = 4;
/// What stays as it is in `x-amz-copy-source`.
const SOURCE_KEPT: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The range of an object that a part is copied from.
pub(super) struct Source<'a> {
    pub(super) key: &'a Key,
    pub(super) if_match: &'a ETag,
    pub(super) range: Range<u64>,
}

pub(super) async fn copy(store: &S3Store, request: CopyRequest) -> Result<Version> {
    if request.takes_parts() {
        copy_by_parts(store, request).await
    } else if request.condition == Condition::Always {
        copy_object(store, &request).await
    } else {
        copy_empty(store, request).await
    }
}

async fn copy_object(store: &S3Store, request: &CopyRequest) -> Result<Version> {
    let site = store.site(Op::Copy, Some(&request.to));
    let mut call = store
        .client
        .copy_object()
        .bucket(store.bucket())
        .key(request.to.as_str())
        .copy_source(source_of(store, &request.from))
        .copy_source_if_match(quoted(&request.if_match));
    call = match &request.headers {
        Some(headers) => with_headers!(call, headers, store.config.storage_class)
            .metadata_directive(MetadataDirective::Replace),
        None => call.set_storage_class(store.config.storage_class.as_deref().map(Into::into)),
    };
    let patience = store.patience(upload::time_to_join(request.size));
    let answer =
        call.customize().config_override(patience).send().await.map_err(|error| site.convert(error))?;
    let result = answer.copy_object_result();
    Ok(Version {
        etag: response::etag(&site, result.and_then(|result| result.e_tag()))?,
        size: request.size,
        last_modified: response::time(result.and_then(|result| result.last_modified())),
        version_id: response::version_id(answer.version_id()),
    })
}

/// Writes an empty object under the condition, after a look at the source.
async fn copy_empty(store: &S3Store, request: CopyRequest) -> Result<Version> {
    let headers = source_headers(store, &request).await?;
    store.put(&request.to, Bytes::new(), &headers, request.condition).await.map_err(|mut error| {
        error.op = Op::Copy;
        error
    })
}

async fn copy_by_parts(store: &S3Store, request: CopyRequest) -> Result<Version> {
    let headers = match &request.headers {
        Some(headers) => headers.clone(),
        None => source_headers(store, &request).await?,
    };
    let upload = upload::create(store, &request.to, (&headers, &request.from), PartKinds::Copied).await?;
    if let Some(log) = &request.log {
        log.begun(&upload);
    }
    let copied = copy_parts(store, &upload, &request).await;
    if copied.is_err() && request.log.is_none() {
        upload::abandon(store, &upload).await;
    }
    copied
}

async fn copy_parts(store: &S3Store, upload: &Upload, request: &CopyRequest) -> Result<Version> {
    let starts = (0..request.size).step_by(PART_SIZE as usize);
    let copies = (1..).zip(starts).map(|(number, start)| {
        let range = start..request.size.min(start + PART_SIZE);
        copy_part(store, upload, number, Source { key: &request.from, if_match: &request.if_match, range })
    });
    let parts: Vec<Part> = futures::stream::iter(copies).buffered(PARTS_AT_ONCE).try_collect().await?;
    let condition = request.condition.clone();
    upload::complete(store, &CompleteRequest { upload: upload.clone(), parts, condition }).await
}

/// Copies one part (`UploadPartCopy`).
pub(super) async fn copy_part(
    store: &S3Store,
    upload: &Upload,
    number: u16,
    source: Source<'_>,
) -> Result<Part> {
    let site = store.site(Op::UploadPart, Some(&upload.key));
    if source.range.is_empty() {
        return Err(site.error(ErrorKind::Rejected, "an empty range cannot be copied"));
    }
    let size = source.range.end - source.range.start;
    let call = store
        .client
        .upload_part_copy()
        .bucket(store.bucket())
        .key(upload.key.as_str())
        .upload_id(&upload.id)
        .part_number(i32::from(number))
        .copy_source(source_of(store, source.key))
        .copy_source_if_match(quoted(source.if_match))
        .copy_source_range(format!("bytes={}-{}", source.range.start, source.range.end - 1));
    let patience = store.patience(upload::time_to_join(size));
    let answer =
        call.customize().config_override(patience).send().await.map_err(|error| site.convert(error))?;
    let result = answer.copy_part_result();
    let etag = response::etag(&site, result.and_then(|result| result.e_tag()))?;
    let crc64nvme = result.and_then(|result| result.checksum_crc64_nvme()).and_then(decode_crc);
    Ok(Part { number, etag, crc64nvme, size })
}

/// The headers the copy gets, after a check that the source is the version that was asked for.
async fn source_headers(store: &S3Store, request: &CopyRequest) -> Result<Headers> {
    let info = store.head(&request.from).await.map_err(|mut error| {
        error.op = Op::Copy;
        error
    })?;
    if info.version.etag != request.if_match {
        let site = store.site(Op::Copy, Some(&request.from));
        return Err(site.error(ErrorKind::Precondition, "the source is another version"));
    }
    Ok(request.headers.clone().unwrap_or(info.headers))
}

fn source_of(store: &S3Store, key: &Key) -> String {
    format!("{}/{}", store.bucket(), utf8_percent_encode(key.as_str(), SOURCE_KEPT))
}
