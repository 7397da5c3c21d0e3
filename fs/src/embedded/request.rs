//! From the requests of the S3 API to those of the store.

use crate::name::{Key, NameError};
use crate::store::{Condition, ETag, Headers};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use md5::{Digest, Md5};
use s3s::dto::{self, ETagCondition, StreamingBlob};
use s3s::{S3Result, s3_error};

/// Sent checksums of a body, as the headers have them.
#[derive(Debug, Default)]
pub(super) struct Sums {
    pub(super) md5: Option<String>,
    pub(super) crc32: Option<String>,
    pub(super) crc32c: Option<String>,
    pub(super) crc64nvme: Option<String>,
}

/// The key, with the code a client expects if it is none.
pub(super) fn key(key: &str) -> S3Result<Key> {
    Key::parse(key).map_err(|error| match error {
        NameError::TooLong => s3_error!(KeyTooLongError),
        NameError::Invalid => s3_error!(InvalidArgument, "not a key"),
    })
}

/// The condition of a write.
pub(super) fn condition(
    if_match: Option<ETagCondition>,
    if_none_match: Option<ETagCondition>,
) -> S3Result<Condition> {
    match (if_match, if_none_match) {
        (None, None) => Ok(Condition::Always),
        (None, Some(ETagCondition::Any)) => Ok(Condition::Absent),
        (Some(ETagCondition::ETag(tag)), None) => Ok(Condition::Matches(ETag::new(tag.value()))),
        (Some(_), _) | (None, Some(_)) => Err(s3_error!(NotImplemented, "this condition is not supported")),
    }
}

/// The condition of a copy on its destination, which s3s does not parse.
pub(super) fn header_condition(headers: &hyper::HeaderMap) -> S3Result<Condition> {
    let parse = |name: &str| {
        let condition = headers.get(name).map(|value| ETagCondition::parse_http_header(value.as_bytes()));
        condition.transpose().map_err(|error| s3_error!(error, InvalidArgument))
    };
    condition(parse("if-match")?, parse("if-none-match")?)
}

/// The version a read or a copy insists on.
pub(super) fn tag(condition: Option<ETagCondition>) -> Option<ETag> {
    condition.and_then(ETagCondition::into_etag).map(|tag| ETag::new(tag.value()))
}

/// The whole body, checked against what the client says it is.
pub(super) async fn body(body: Option<StreamingBlob>, length: Option<i64>, sums: &Sums) -> S3Result<Bytes> {
    let expected = length.and_then(|length| usize::try_from(length).ok());
    let mut bytes = BytesMut::with_capacity(expected.unwrap_or_default());
    if let Some(mut body) = body {
        while let Some(chunk) = body.next().await {
            bytes.extend_from_slice(&chunk.map_err(|error| s3_error!(IncompleteBody, "{error}"))?);
        }
    }
    if expected.is_some_and(|expected| expected != bytes.len()) {
        return Err(s3_error!(IncompleteBody));
    }
    let sum = |sent: &Option<String>, compute: fn(&[u8]) -> Vec<u8>| match sent {
        Some(sent) if *sent != STANDARD.encode(compute(&bytes)) => Err(s3_error!(BadDigest)),
        Some(_) | None => Ok(()),
    };
    sum(&sums.md5, |bytes| Md5::digest(bytes).to_vec())?;
    sum(&sums.crc32, |bytes| crc_fast::crc32_iso_hdlc(bytes).to_be_bytes().to_vec())?;
    sum(&sums.crc32c, |bytes| crc_fast::crc32_iscsi(bytes).to_be_bytes().to_vec())?;
    sum(&sums.crc64nvme, |bytes| crc_fast::crc64_nvme(bytes).to_be_bytes().to_vec())?;
    Ok(bytes.freeze())
}

/// The object's headers; three inputs have the same fields and no common type.
macro_rules! headers {
    ($input:expr) => {
        $crate::store::Headers {
            content_type: $input.content_type.take(),
            cache_control: $input.cache_control.take(),
            content_disposition: $input.content_disposition.take(),
            content_encoding: $input.content_encoding.take(),
            content_language: $input.content_language.take(),
            expires: $input.expires.take().and_then($crate::embedded::request::http_date),
            storage_class: $input.storage_class.take().map(|class| class.as_str().to_owned()),
            user: $crate::embedded::request::user($input.metadata.take()),
            tagged: false,
        }
    };
}
pub(super) use headers;

pub(super) fn http_date(date: dto::Timestamp) -> Option<String> {
    let mut text = Vec::new();
    date.format(dto::TimestampFormat::HttpDate, &mut text).ok()?;
    String::from_utf8(text).ok()
}

pub(super) fn user(metadata: Option<dto::Metadata>) -> std::collections::BTreeMap<String, String> {
    metadata.into_iter().flatten().map(|(name, value)| (name.to_lowercase(), value)).collect()
}

/// The key of a copy's source, which must be in the same bucket.
pub(super) fn source(source: &dto::CopySource, bucket: &str) -> S3Result<Key> {
    match source {
        dto::CopySource::Bucket { bucket: named, key: text, .. } if **named == *bucket => key(text),
        dto::CopySource::Bucket { .. } => Err(s3_error!(NoSuchBucket)),
        dto::CopySource::AccessPoint { .. } | dto::CopySource::Outpost { .. } => {
            Err(s3_error!(NotImplemented))
        }
    }
}

/// `bytes=FIRST-LAST` of a copied part.
pub(super) fn copy_range(text: &str) -> S3Result<std::ops::Range<u64>> {
    let bounds = text.strip_prefix("bytes=").and_then(|range| range.split_once('-'));
    let bounds = bounds.and_then(|(first, last)| Some((first.parse().ok()?, last.parse::<u64>().ok()?)));
    match bounds {
        Some((first, last)) if first <= last && last < u64::MAX => Ok(first..last + 1),
        Some(_) | None => Err(s3_error!(InvalidArgument, "not a range: {text}")),
    }
}

/// Headers of a copy that replaces them.
pub(super) fn replaces(directive: Option<&dto::MetadataDirective>) -> bool {
    directive.is_some_and(|directive| directive.as_str() == dto::MetadataDirective::REPLACE)
}

/// `None` where the request leaves the headers as they are.
pub(super) fn copy_headers(input: &mut dto::CopyObjectInput) -> Option<Headers> {
    replaces(input.metadata_directive.as_ref()).then(|| headers!(input))
}
