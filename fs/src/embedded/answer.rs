//! From the answers of the store to those of the S3 API.

use crate::store::{self, GetResponse, ListCursor, ListPage, ObjectInfo, Version};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt;
use http_body::Frame;
use http_body_util::StreamBody;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::dto::{self, ChecksumType, ETag, StreamingBlob, Timestamp};
use s3s::{Body, S3Error, S3ErrorCode};
use std::ops::Range;
use std::str::FromStr;

/// What `encoding-type=url` leaves as it is.
const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The store's error under its S3 code, which its message begins with.
pub(super) fn error(error: store::Error) -> S3Error {
    let code = error.message.split_once(": ").map(|(code, _)| code.to_owned());
    let code = code.filter(|code| code.chars().all(|char| char.is_ascii_alphanumeric()));
    let code = code.map(|code| S3ErrorCode::from_str(&code));
    let message = error.message.clone();
    match code {
        Some(Ok(code)) => S3Error::with_message(code, message),
        Some(Err(_)) | None => {
            tracing::warn!(%error, "the embedded server's store failed");
            S3Error::with_message(S3ErrorCode::InternalError, message)
        }
    }
}

pub(super) fn tag(version: &Version) -> ETag {
    ETag::Strong(version.etag.as_str().to_owned())
}

pub(super) fn crc(crc: u64) -> String {
    STANDARD.encode(crc.to_be_bytes())
}

/// The fields that HEAD and GET share.
macro_rules! described {
    ($output:ident, $info:expr, $($field:ident: $value:expr),* $(,)?) => {{
        let info: &$crate::store::ObjectInfo = $info;
        let headers = info.headers.clone();
        dto::$output {
            accept_ranges: Some("bytes".to_owned()),
            content_type: headers.content_type,
            cache_control: headers.cache_control,
            content_disposition: headers.content_disposition,
            content_encoding: headers.content_encoding,
            content_language: headers.content_language,
            expires: headers
                .expires
                .and_then(|date| Timestamp::parse(dto::TimestampFormat::HttpDate, &date).ok()),
            storage_class: headers.storage_class.map(Into::into),
            metadata: Some(headers.user.into_iter().collect()),
            e_tag: Some(tag(&info.version)),
            last_modified: Some(Timestamp::from(info.version.last_modified)),
            $($field: $value,)*
            ..Default::default()
        }
    }};
}

pub(super) fn head(info: &ObjectInfo) -> dto::HeadObjectOutput {
    described!(
        HeadObjectOutput, info,
        content_length: i64::try_from(info.version.size).ok(),
        checksum_crc64nvme: info.crc64nvme.map(crc),
        checksum_type: info.crc64nvme.map(|_| ChecksumType::from_static(ChecksumType::FULL_OBJECT)),
    )
}

/// A GET; `range` is what was asked for, `None` for the whole object.
pub(super) fn get(answer: GetResponse, range: Option<&Range<u64>>) -> dto::GetObjectOutput {
    let size = answer.info.version.size;
    let length = range.map_or(size, |range| range.end - range.start);
    let whole_crc = answer.info.crc64nvme.filter(|_| range.is_none());
    let frames = answer.body.map(|chunk| chunk.map(Frame::data));
    described!(
        GetObjectOutput, &answer.info,
        content_length: i64::try_from(length).ok(),
        content_range: range.map(|range| format!("bytes {}-{}/{size}", range.start, range.end - 1)),
        checksum_crc64nvme: whole_crc.map(crc),
        checksum_type: whole_crc.map(|_| ChecksumType::from_static(ChecksumType::FULL_OBJECT)),
        body: Some(StreamingBlob::from(Body::http_body_unsync(StreamBody::new(frames)))),
    )
}

/// A page of a listing. `filter` is what keys must begin with, since clients may ask for half a name.
pub(super) fn list(page: ListPage, input: dto::ListObjectsV2Input, filter: &str) -> dto::ListObjectsV2Output {
    let url = input.encoding_type.as_ref().is_some_and(|kind| kind.as_str() == dto::EncodingType::URL);
    let encode = |text: &str| if url { utf8_percent_encode(text, KEPT).to_string() } else { text.to_owned() };
    let objects = page.objects.iter().filter(|listed| listed.key.as_str().starts_with(filter));
    let contents: Vec<dto::Object> = objects
        .map(|listed| dto::Object {
            key: Some(encode(listed.key.as_str())),
            size: i64::try_from(listed.version.size).ok(),
            e_tag: Some(tag(&listed.version)),
            last_modified: Some(Timestamp::from(listed.version.last_modified)),
            ..Default::default()
        })
        .collect();
    let prefixes = page.prefixes.iter().filter(|prefix| prefix.as_str().starts_with(filter));
    let prefixes: Vec<dto::CommonPrefix> =
        prefixes.map(|prefix| dto::CommonPrefix { prefix: Some(encode(prefix.as_str())) }).collect();
    dto::ListObjectsV2Output {
        name: Some(input.bucket),
        prefix: input.prefix.as_deref().map(encode),
        delimiter: input.delimiter,
        encoding_type: input.encoding_type,
        max_keys: input.max_keys,
        key_count: i32::try_from(contents.len() + prefixes.len()).ok(),
        continuation_token: input.continuation_token,
        is_truncated: Some(page.next.is_some()),
        next_continuation_token: page.next.map(token),
        contents: Some(contents),
        common_prefixes: Some(prefixes),
        ..Default::default()
    }
}

/// A cursor as a token. Keys may hold what XML cannot, so it is encoded.
fn token(cursor: ListCursor) -> String {
    match cursor {
        ListCursor::Token(token) => STANDARD.encode(token),
        ListCursor::Key(key) => STANDARD.encode(key.as_str()),
    }
}

/// The cursor behind a token.
pub(super) fn cursor(token: &str) -> Option<ListCursor> {
    let text = String::from_utf8(STANDARD.decode(token).ok()?).ok()?;
    Some(ListCursor::Token(text))
}
