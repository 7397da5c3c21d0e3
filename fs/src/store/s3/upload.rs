//! Multipart uploads. Each part carries its CRC64NVME, which the server checks; that of the whole object, combined
//! from the parts, is compared with what the server says at the end. It is not sent with the completion: MinIO
//! refuses it there for uploads that were begun without one, and for empty ones.

use super::settle::{Attempts, Ours, settle};
use super::{S3Store, SMALL_BODY, client, conditions, decode_crc, encode_crc, response, tags, with_headers};
use crate::name::Key;
use crate::store::{
    Abandoned, CompleteRequest, Condition, Error, ErrorKind, Headers, Op, Part, PartKinds, Result, Upload,
    Version,
};
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;
use crc_fast::{CrcAlgorithm, checksum_combine};
use std::time::{Duration, SystemTime};

/// What a server puts together or copies at the least, in bytes per second.
const SLOWEST_SERVER: u64 = 16 << 20;

/// Begins an upload, with the tags of `tags_of` if there are any.
pub(super) async fn create(
    store: &S3Store,
    key: &Key,
    (headers, tags_of): (&Headers, &Key),
    parts: PartKinds,
) -> Result<Upload> {
    let site = store.site(Op::CreateUpload, Some(key));
    let request = store.client.create_multipart_upload().bucket(store.bucket()).key(key.as_str());
    let tags = tags::of(store, tags_of, headers, &site).await?;
    let mut request = with_headers!(request, headers, store.config.storage_class).set_tagging(tags);
    // MinIO refuses to copy a part into an upload with a checksum ("checksum missing").
    if parts == PartKinds::Sent {
        request =
            request.checksum_algorithm(ChecksumAlgorithm::Crc64Nvme).checksum_type(ChecksumType::FullObject);
    }
    let (attempts, asked_at) = (Attempts::default(), SystemTime::now());
    let answer = request.customize().interceptor(attempts.clone()).send().await;
    let answer = answer.map_err(|error| site.convert(error))?;
    let Some(id) = answer.upload_id().filter(|id| !id.is_empty()) else {
        return Err(site.corrupt("the answer has no upload id"));
    };
    let upload = Upload { key: key.clone(), id: id.to_owned() };
    if attempts.retried() {
        drop_others(store, &upload, asked_at).await;
    }
    Ok(upload)
}

/// An attempt whose answer was lost may have begun an upload too.
async fn drop_others(store: &S3Store, upload: &Upload, asked_at: SystemTime) {
    match asked(store, &upload.key, asked_at).await {
        Ok(found) => {
            for other in found.iter().filter(|other| other.id != upload.id) {
                abandon(store, other).await;
            }
        }
        Err(error) => {
            tracing::warn!(key = %upload.key, %error, "an unfinished upload may stay in the bucket")
        }
    }
}

pub(super) async fn send_part(store: &S3Store, upload: &Upload, number: u16, body: Bytes) -> Result<Part> {
    let site = store.site(Op::UploadPart, Some(&upload.key));
    let (size, crc) = (body.len(), crc_fast::crc64_nvme(&body));
    let request = store
        .client
        .upload_part()
        .bucket(store.bucket())
        .key(upload.key.as_str())
        .upload_id(&upload.id)
        .part_number(i32::from(number))
        .checksum_crc64_nvme(encode_crc(crc))
        .body(body.into());
    let mut request = request.customize().disable_payload_signing();
    if size > SMALL_BODY {
        request = request.config_override(store.patience(client::time_to_send(size)));
    }
    let answer = request.send().await.map_err(|error| site.convert(error))?;
    let confirmed = answer.checksum_crc64_nvme().and_then(decode_crc);
    if confirmed.is_some_and(|confirmed| confirmed != crc) {
        return Err(site.corrupt("the server has other bytes than were sent"));
    }
    let etag = response::etag(&site, answer.e_tag())?;
    Ok(Part { number, etag, crc64nvme: Some(crc), size: size as u64 })
}

pub(super) async fn complete(store: &S3Store, request: &CompleteRequest) -> Result<Version> {
    let upload = &request.upload;
    let site = store.site(Op::CompleteUpload, Some(&upload.key));
    let (if_match, if_none_match) = conditions(&request.condition);
    let parts = request.parts.iter().map(completed).collect();
    let size: u64 = request.parts.iter().map(|part| part.size).sum();
    let crc = combined_crc(&request.parts);
    let call = store
        .client
        .complete_multipart_upload()
        .bucket(store.bucket())
        .key(upload.key.as_str())
        .upload_id(&upload.id)
        .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(parts)).build())
        .set_if_match(if_match)
        .set_if_none_match(if_none_match);
    let attempts = Attempts::default();
    let call = call.customize().interceptor(attempts.clone());
    let answer = match call.config_override(store.patience(time_to_join(size))).send().await {
        Ok(answer) => answer,
        Err(error) => {
            let refusal = conditional(&request.condition, site.convert(error));
            return settle(store, &upload.key, &attempts, || Ours::of_parts(&request.parts, crc), refusal)
                .await;
        }
    };
    let confirmed = response::whole_crc(answer.checksum_type(), answer.checksum_crc64_nvme());
    // MinIO's checksum of an empty upload is not that of no bytes.
    if size > 0 && crc.zip(confirmed).is_some_and(|(crc, confirmed)| crc != confirmed) {
        return Err(site.corrupt("the server has put together other bytes than were sent"));
    }
    let etag = response::etag(&site, answer.e_tag())?;
    let version_id = response::version_id(answer.version_id());
    Ok(Version { etag, size, last_modified: SystemTime::now(), version_id })
}

/// Drops uploads; one that is gone is dropped.
pub(super) async fn abort(store: &S3Store, abandoned: &Abandoned) -> Result<()> {
    match abandoned {
        Abandoned::Upload(upload) => abort_one(store, upload).await,
        Abandoned::Asked { key, at } => {
            for upload in asked(store, key, *at).await? {
                abort_one(store, &upload).await?;
            }
            Ok(())
        }
    }
}

/// Uploads of a key that were begun about `at` and have no part.
async fn asked(store: &S3Store, key: &Key, at: SystemTime) -> Result<Vec<Upload>> {
    let site = store.site(Op::AbortUpload, Some(key));
    let request = store.client.list_multipart_uploads().bucket(store.bucket()).prefix(key.as_str());
    let listed = request.send().await.map_err(|error| site.convert(error))?;
    let mut found = Vec::new();
    for upload in listed.uploads() {
        let begun = upload.initiated().and_then(|time| SystemTime::try_from(*time).ok());
        let Some(id) = upload.upload_id().filter(|_| upload.key() == Some(key.as_str())) else { continue };
        if !begun.is_some_and(|begun| Abandoned::is_about(at, begun)) {
            continue;
        }
        let parts = store.client.list_parts().bucket(store.bucket()).key(key.as_str()).upload_id(id);
        let parts = parts.max_parts(1).send().await.map_err(|error| site.convert(error))?;
        if parts.parts().is_empty() {
            found.push(Upload { key: key.clone(), id: id.to_owned() });
        }
    }
    Ok(found)
}

async fn abort_one(store: &S3Store, upload: &Upload) -> Result<()> {
    let site = store.site(Op::AbortUpload, Some(&upload.key));
    let request = store.client.abort_multipart_upload().bucket(store.bucket());
    let answer = request.key(upload.key.as_str()).upload_id(&upload.id).send().await;
    match answer.map_err(|error| site.convert(error)) {
        Ok(_) => Ok(()),
        Err(error) if error.kind == ErrorKind::NotFound && !is_bucket(&error) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Drops an upload that failed. Its own failure is only logged: the first error is the one that matters, and the
/// bucket's life-cycle rule takes what stays.
pub(super) async fn abandon(store: &S3Store, upload: &Upload) {
    if let Err(error) = abort_one(store, upload).await {
        tracing::warn!(key = %upload.key, %error, "a failed upload could not be aborted");
    }
}

/// How long the server may take to put so many bytes together.
pub(super) fn time_to_join(bytes: u64) -> Duration {
    Duration::from_secs(bytes / SLOWEST_SERVER)
}

/// `If-Match` on a key without an object is answered with 404: the condition does not hold.
pub(super) fn conditional(condition: &Condition, mut error: Error) -> Error {
    let matching = matches!(condition, Condition::Matches(_));
    if matching && error.kind == ErrorKind::NotFound && error.message.starts_with("NoSuchKey") {
        error.kind = ErrorKind::Precondition;
    }
    error
}

fn is_bucket(error: &Error) -> bool {
    error.message.starts_with("NoSuchBucket")
}

fn completed(part: &Part) -> CompletedPart {
    CompletedPart::builder()
        .part_number(i32::from(part.number))
        .e_tag(super::quoted(&part.etag))
        .set_checksum_crc64_nvme(part.crc64nvme.map(encode_crc))
        .build()
}

/// The CRC of the parts one after the other, if that of each is known.
fn combined_crc(parts: &[Part]) -> Option<u64> {
    let (first, others) = parts.split_first()?;
    others.iter().try_fold(first.crc64nvme?, |crc, part| {
        Some(checksum_combine(CrcAlgorithm::Crc64Nvme, crc, part.crc64nvme?, part.size))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::ETag;

    #[test]
    fn the_combined_crc_is_that_of_the_whole() {
        let (a, b, c) = (&b"first part"[..], &b""[..], &b"and the last"[..]);
        let part = |number, bytes: &[u8]| Part {
            number,
            etag: ETag::new("e"),
            crc64nvme: Some(crc_fast::crc64_nvme(bytes)),
            size: bytes.len() as u64,
        };
        let mut parts = vec![part(1, a), part(2, b), part(3, c)];
        let whole = crc_fast::crc64_nvme(&[a, b, c].concat());
        assert_eq!(combined_crc(&parts), Some(whole));
        parts[1].crc64nvme = None;
        assert_eq!(combined_crc(&parts), None);
    }
}
