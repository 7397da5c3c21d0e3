//! An S3 server that lists what no honest one would: keys of any bytes, in any order, more than once, broken escapes,
//! and lines that nobody asked for. It is read-only and checks no signature.
//!
//! The body of an object is its key as it stands in the listing.

use crate::faulty::Kind;
use crate::http::HttpServer;
use anyhow::Result;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, LAST_MODIFIED, RANGE};
use hyper::{Request, Response, StatusCode};
use std::collections::BTreeSet;
use std::fmt::Write;

/// What the server has, and what it says besides. Keys and prefixes are written as they go into the XML: percent-encoded,
/// well or badly.
#[derive(Debug, Clone, Default)]
pub struct Bucket {
    /// The objects, in the order of the listing.
    pub keys: Vec<&'static str>,
    /// Keys in every listing, whatever was asked for; there are no such objects.
    pub stray_keys: Vec<&'static str>,
    /// Common prefixes in every listing, whatever was asked for.
    pub stray_prefixes: Vec<&'static str>,
    /// Entries of a page at the most; 0 is no limit.
    pub page: usize,
}

/// Starts a server; whatever a bucket is called, it is `bucket`.
pub async fn start(bucket: Bucket) -> Result<HttpServer> {
    HttpServer::start(move |request| answer(&bucket, request)).await
}

fn answer(bucket: &Bucket, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let path = request.uri().path().trim_start_matches('/');
    let key = decode(path.split_once('/').map_or("", |(_, key)| key));
    match Kind::of(request) {
        Kind::List => list(bucket, request.uri().query().unwrap_or_default()),
        Kind::Head if key.is_empty() => Response::default(),
        Kind::Head | Kind::Get | Kind::GetPart => {
            match bucket.keys.iter().find(|listed| decode(listed) == key) {
                Some(listed) => object(listed, request),
                None => error(StatusCode::NOT_FOUND, "NoSuchKey"),
            }
        }
        Kind::Put
        | Kind::Copy
        | Kind::Delete
        | Kind::DeleteObjects
        | Kind::CreateUpload
        | Kind::UploadPart
        | Kind::UploadPartCopy
        | Kind::CompleteUpload
        | Kind::AbortUpload
        | Kind::Other => error(StatusCode::FORBIDDEN, "AccessDenied"),
    }
}

fn error(status: StatusCode, code: &str) -> Response<Full<Bytes>> {
    let text = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code></Error>");
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response
}

fn object(listed: &'static str, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let all = listed.as_bytes();
    let range = request.headers().get(RANGE).and_then(|range| range.to_str().ok()).map(|range| {
        let bounds = range.trim_start_matches("bytes=").split_once('-').expect("FIRST-LAST");
        let last: usize = bounds.1.parse().expect("a number");
        bounds.0.parse().expect("a number")..all.len().min(last + 1)
    });
    let response = Response::builder()
        .header(ETAG, tag(listed))
        .header(LAST_MODIFIED, "Thu, 01 Jan 2026 00:00:00 GMT")
        .header(CONTENT_LENGTH, range.as_ref().map_or(all.len(), ExactSizeIterator::len));
    let response = match range {
        None => response.body(Full::from(all)),
        Some(range) => response
            .status(StatusCode::PARTIAL_CONTENT)
            .header(CONTENT_RANGE, format!("bytes {}-{}/{}", range.start, range.end - 1, all.len()))
            .body(Full::from(&all[range])),
    };
    response.expect("plain headers")
}

fn tag(listed: &str) -> String {
    format!("\"{:0>32}\"", crate::tree::sha256(listed.as_bytes())[..32].to_owned())
}

/// The page of objects and common prefixes that the query asks for, in the order of the table.
fn list(bucket: &Bucket, query: &str) -> Response<Full<Bytes>> {
    let field = |name: &str| {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs
            .filter(|(field, _)| *field == name)
            .map(|(_, value)| value.to_owned())
            .next()
            .unwrap_or_default()
    };
    let prefix = decode(&field("prefix"));
    let folds = !field("delimiter").is_empty();
    let first: usize = field("continuation-token").parse().unwrap_or_default();
    let mut prefixes = BTreeSet::new();
    let mut entries = Vec::new();
    for listed in &bucket.keys {
        let key = decode(listed);
        let Some(rest) = key.strip_prefix(&prefix[..]) else { continue };
        match rest.iter().position(|&byte| byte == b'/').filter(|_| folds) {
            Some(at) if prefixes.insert(rest[..=at].to_owned()) => {
                let common = percent_encoding::percent_encode(&key[..=prefix.len() + at], KEPT);
                entries.push(format!("<CommonPrefixes><Prefix>{common}</Prefix></CommonPrefixes>"));
            }
            Some(_) => {}
            None => entries.push(contents(listed)),
        }
    }
    let most = if bucket.page == 0 { usize::MAX } else { bucket.page };
    let limit = field("max-keys").parse().unwrap_or(1000).min(most);
    let more = entries.len() > first + limit;
    let mut text = String::from("<?xml version=\"1.0\"?><ListBucketResult><EncodingType>url</EncodingType>");
    entries.iter().skip(first).take(limit).for_each(|entry| text.push_str(entry));
    bucket.stray_keys.iter().for_each(|stray| text.push_str(&contents(stray)));
    for stray in &bucket.stray_prefixes {
        write!(text, "<CommonPrefixes><Prefix>{stray}</Prefix></CommonPrefixes>").expect("a string");
    }
    write!(text, "<IsTruncated>{more}</IsTruncated>").expect("a string");
    if more {
        write!(text, "<NextContinuationToken>{}</NextContinuationToken>", first + limit).expect("a string");
    }
    Response::new(Full::from(text + "</ListBucketResult>"))
}

fn contents(listed: &str) -> String {
    let (tag, size) = (tag(listed), listed.len());
    format!(
        "<Contents><Key>{listed}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>\
         <ETag>{tag}</ETag><Size>{size}</Size></Contents>"
    )
}

const KEPT: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC.remove(b'/');

fn decode(text: &str) -> Vec<u8> {
    percent_encoding::percent_decode_str(text).collect()
}
