//! Listings. Keys come percent-encoded, because one control character in a key is invalid XML otherwise; the
//! SDK does not decode them.

use super::error::Site;
use super::listed::Extras;
use super::{S3Store, response};
use crate::name::{Key, Prefix};
use crate::store::{
    Depth, ErrorKind, Headers, ListCursor, ListPage, ListRequest, Listed, Op, Result, Version,
};
use aws_sdk_s3::config::http::HttpRequest;
use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_sdk_s3::types::{EncodingType, Object};
use percent_encoding::percent_decode_str;
use std::collections::HashMap;
use std::sync::atomic::Ordering;

/// Lists one page, with headers if they are wanted and the server has them.
pub(super) async fn list(store: &S3Store, request: ListRequest) -> Result<ListPage> {
    let told = request.headers && store.lists_headers.load(Ordering::Relaxed);
    match list_with(store, &request, told).await {
        // What MinIO makes of metadata need not be XML, and may need more rights.
        Err(error) if told && is_about_the_document(error.kind) => {
            tracing::debug!(%error, "a listing with metadata failed: once more without");
            list_with(store, &request, false).await
        }
        listed => listed,
    }
}

fn is_about_the_document(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Corrupt | ErrorKind::Denied | ErrorKind::Rejected | ErrorKind::Unsupported)
}

async fn list_with(store: &S3Store, request: &ListRequest, told: bool) -> Result<ListPage> {
    let site = store.site(Op::List, None);
    let (token, start_after) = match &request.after {
        None => (None, None),
        Some(ListCursor::Token(token)) => (Some(token.clone()), None),
        Some(ListCursor::Key(key)) => (None, Some(key.as_str().to_owned())),
    };
    let delimiter = match request.depth {
        Depth::Directory => Some("/".to_owned()),
        Depth::Subtree => None,
    };
    let prefix = Some(request.prefix.as_str().to_owned()).filter(|prefix| !prefix.is_empty());
    let extras = Extras::new(told, &store.lists_headers);
    let ask = move |request: &mut HttpRequest| {
        if told {
            let uri = format!("{}&metadata=true", request.uri());
            request.set_uri(uri).expect("a longer query is one, too");
        }
    };
    let answer = store
        .client
        .list_objects_v2()
        .bucket(store.bucket())
        .encoding_type(EncodingType::Url)
        .max_keys(i32::from(request.limit))
        .set_prefix(prefix)
        .set_delimiter(delimiter)
        .set_continuation_token(token.clone())
        .set_start_after(start_after)
        .customize()
        .mutate_request(ask)
        .interceptor(extras.clone())
        .send()
        .await
        .map_err(|error| site.convert(error))?;
    let mut page = page(&site, &answer, request, extras.take())?;
    page.next = next(&site, &answer, token.as_deref())?;
    Ok(page)
}

/// What of the answer is below the prefix. What is not was not asked for and is dropped; what is and cannot be a key
/// is counted, so that it does not hide the others.
fn page(
    site: &Site<'_>,
    answer: &ListObjectsV2Output,
    request: &ListRequest,
    mut told: HashMap<String, Headers>,
) -> Result<ListPage> {
    let prefix = request.prefix.as_str();
    let encoded = answer.encoding_type() == Some(&EncodingType::Url);
    // Text below the prefix, `None` if it cannot be used.
    let inside = |text: &str, end: &str| {
        let bytes = decode(text, encoded);
        let rest = bytes.strip_prefix(prefix.as_bytes())?;
        let plain = match request.depth {
            Depth::Directory => !rest.strip_suffix(end.as_bytes()).is_none_or(|rest| rest.contains(&b'/')),
            Depth::Subtree => true,
        };
        Some(String::from_utf8(bytes).ok().filter(|_| plain))
    };
    let mut page = ListPage::default();
    for object in answer.contents() {
        let Some(key) = inside(object.key().unwrap_or_default(), "") else { continue };
        match key.and_then(|key| Key::parse(&key).ok()) {
            Some(key) => {
                let headers = object.key().and_then(|text| told.remove(text));
                page.objects.push(Listed { version: version(site, object)?, key, headers });
            }
            None => page.unusable += 1,
        }
    }
    for common in answer.common_prefixes() {
        let Some(text) = inside(common.prefix().unwrap_or_default(), "/") else { continue };
        match text.and_then(|text| Prefix::parse(&text).ok()) {
            Some(prefix) => page.prefixes.push(prefix),
            None => page.unusable += 1,
        }
    }
    Ok(page)
}

fn version(site: &Site<'_>, object: &Object) -> Result<Version> {
    let size = object.size().and_then(|size| u64::try_from(size).ok());
    Ok(Version {
        etag: response::etag(site, object.e_tag())?,
        size: size.ok_or_else(|| site.corrupt("the listing holds an object without a size"))?,
        last_modified: response::time(object.last_modified()),
        version_id: None,
    })
}

/// Where to go on. A listing that says it goes on, but not where, would be taken for complete.
fn next(site: &Site<'_>, answer: &ListObjectsV2Output, token: Option<&str>) -> Result<Option<ListCursor>> {
    if answer.is_truncated() != Some(true) {
        return Ok(None);
    }
    match answer.next_continuation_token() {
        Some(next) if Some(next) == token => Err(site.corrupt("the listing goes round in circles")),
        Some(next) if !next.is_empty() => Ok(Some(ListCursor::Token(next.to_owned()))),
        Some(_) | None => Err(site.corrupt("the listing is cut off without a continuation token")),
    }
}

/// The bytes behind `encoding-type=url`: a query's encoding, where `+` is a space.
fn decode(text: &str, encoded: bool) -> Vec<u8> {
    if encoded { percent_decode_str(&text.replace('+', " ")).collect() } else { text.as_bytes().to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_decoded_once_and_only_if_they_are_encoded() {
        assert_eq!(decode("a+b%2Bc%2520%01", true), b"a b+c%20\x01");
        assert_eq!(decode("a+b%2B", false), b"a+b%2B");
        assert_eq!(decode("%ff%4%zz", true), b"\xff%4%zz");
    }
}
