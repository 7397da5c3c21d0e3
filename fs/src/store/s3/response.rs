//! Checks and conversions of answers: what an answer says of an object is used only if it agrees with itself and
//! with the request.

use super::decode_crc;
use super::error::Site;
use crate::store::{ETag, Headers, ObjectInfo, Result, Version};
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::ChecksumType;
use std::collections::HashMap;
use std::ops::Range;
use std::time::SystemTime;

/// The headers of an object; the two answers have the same fields and no common type.
macro_rules! headers {
    ($answer:expr) => {
        Headers {
            content_type: $answer.content_type().map(str::to_owned),
            cache_control: $answer.cache_control().map(str::to_owned),
            content_disposition: $answer.content_disposition().map(str::to_owned),
            content_encoding: $answer.content_encoding().map(str::to_owned),
            content_language: $answer.content_language().map(str::to_owned),
            expires: $answer.expires_string().map(str::to_owned),
            storage_class: $answer.storage_class().map(|class| class.as_str().to_owned()),
            user: user_metadata($answer.metadata()),
            tagged: $answer.tag_count().is_some_and(|count| count > 0),
        }
    };
}

/// What a HEAD says.
pub(super) fn head(site: &Site<'_>, answer: &HeadObjectOutput) -> Result<ObjectInfo> {
    let size = length(site, answer.content_length())?;
    let version = version(site, answer.e_tag(), size, answer.last_modified(), answer.version_id())?;
    let crc64nvme = whole_crc(answer.checksum_type(), answer.checksum_crc64_nvme());
    Ok(ObjectInfo { version, headers: headers!(answer), crc64nvme })
}

/// Whether the answer says that its body holds exactly these bytes.
pub(super) fn is_range(answer: &GetObjectOutput, range: Option<&Range<u64>>) -> bool {
    let told = answer.content_range().and_then(content_range);
    told.is_some_and(|(bytes, _)| Some(&bytes) == range)
}

/// What a GET says of the object, and the bytes its body holds.
pub(super) fn get(
    site: &Site<'_>,
    answer: &GetObjectOutput,
    range: Option<&Range<u64>>,
    if_match: Option<&ETag>,
) -> Result<(ObjectInfo, Range<u64>)> {
    let length = length(site, answer.content_length())?;
    let (bytes, size) = match range {
        None => (0..length, length),
        Some(range) => {
            let text = answer.content_range().ok_or_else(|| site.corrupt("the range was ignored"))?;
            let (bytes, size) = content_range(text)
                .ok_or_else(|| site.corrupt(format!("Content-Range {text:?} makes no sense")))?;
            if bytes != *range {
                return Err(site.corrupt(format!("asked for bytes {range:?}, answered with {text:?}")));
            }
            (bytes, size)
        }
    };
    if length != bytes.end - bytes.start {
        return Err(site.corrupt(format!("Content-Length {length} does not fit the range {bytes:?}")));
    }
    let version = version(site, answer.e_tag(), size, answer.last_modified(), answer.version_id())?;
    if let Some(wanted) = if_match.filter(|wanted| **wanted != version.etag) {
        let (wanted, got) = (wanted.as_str(), version.etag.as_str());
        return Err(site.corrupt(format!("asked for the version {wanted}, answered with {got}")));
    }
    let crc64nvme = whole_crc(answer.checksum_type(), answer.checksum_crc64_nvme());
    Ok((ObjectInfo { version, headers: headers!(answer), crc64nvme }, bytes))
}

/// The tag, which every object has.
pub(super) fn etag(site: &Site<'_>, etag: Option<&str>) -> Result<ETag> {
    match etag {
        Some(tag) if !tag.trim_matches('"').is_empty() => Ok(ETag::new(tag)),
        Some(_) | None => Err(site.corrupt("the answer has no ETag")),
    }
}

/// The version id, which is `null` for objects from before versioning.
pub(super) fn version_id(id: Option<&str>) -> Option<String> {
    id.filter(|id| !id.is_empty() && *id != "null").map(str::to_owned)
}

/// A time of the API; one that no file can have counts as the epoch.
pub(super) fn time(time: Option<&DateTime>) -> SystemTime {
    time.and_then(|time| SystemTime::try_from(*time).ok()).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// A whole-object CRC64NVME; that of a composite says nothing of the whole.
pub(super) fn whole_crc(kind: Option<&ChecksumType>, crc: Option<&str>) -> Option<u64> {
    match kind {
        Some(ChecksumType::Composite) => None,
        Some(_) | None => crc.and_then(decode_crc),
    }
}

fn version(
    site: &Site<'_>,
    tag: Option<&str>,
    size: u64,
    modified: Option<&DateTime>,
    id: Option<&str>,
) -> Result<Version> {
    Ok(Version { etag: etag(site, tag)?, size, last_modified: time(modified), version_id: version_id(id) })
}

fn length(site: &Site<'_>, length: Option<i64>) -> Result<u64> {
    let length = length.and_then(|length| u64::try_from(length).ok());
    length.ok_or_else(|| site.corrupt("the answer has no Content-Length"))
}

fn user_metadata(metadata: Option<&HashMap<String, String>>) -> std::collections::BTreeMap<String, String> {
    let metadata = metadata.into_iter().flatten();
    metadata.map(|(name, value)| (name.to_lowercase(), value.clone())).collect()
}

/// Parses `bytes FIRST-LAST/SIZE`.
fn content_range(text: &str) -> Option<(Range<u64>, u64)> {
    let (range, size) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last, size): (u64, u64, u64) = (first.parse().ok()?, last.parse().ok()?, size.parse().ok()?);
    (first <= last && last < size).then_some((first..last + 1, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_range_is_read_exactly_or_not_at_all() {
        assert_eq!(content_range("bytes 0-4/10"), Some((0..5, 10)));
        assert_eq!(content_range("bytes 9-9/10"), Some((9..10, 10)));
        for bad in ["", "bytes */10", "bytes 0-4/*", "bytes 5-4/10", "bytes 0-10/10", "0-4/10", "bytes -4/10"]
        {
            assert_eq!(content_range(bad), None, "{bad:?}");
        }
    }
}
