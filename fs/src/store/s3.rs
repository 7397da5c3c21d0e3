//! The object store over the S3 API, with the AWS SDK.
//!
//! Invariants: what goes out carries a CRC64NVME that the server checks; what comes in is checked in
//! `s3/response.rs` and `s3/body.rs` before it is handed on; each call is bounded by the attempts and time limits
//! of [`S3Config`]. Payloads are not part of the signature: that costs four times the CPU and the CRC finds the
//! same faults.
//!
//! What it does not do: no limit of requests in flight ([`super::LimitStore`]), no cache.

mod body;
mod client;
mod config;
mod copy;
mod delete;
mod document;
mod error;
mod headers;
mod list;
mod listed;
mod response;
mod settle;
mod tags;
mod upload;

pub use config::{CredentialSource, CustomerKey, PathStyle, S3Config, Sse};

use super::{
    Abandoned, CompleteRequest, Condition, CopyRequest, Deleted, ETag, Error, ErrorKind, GetRequest,
    GetResponse, Headers, ListPage, ListRequest, ObjectInfo, ObjectStore, Op, Part, PartKinds, PartSource,
    Result, Upload, Version,
};
use crate::name::Key;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::Builder;
use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
use aws_sdk_s3::types::ChecksumMode;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use error::Site;
use settle::{Attempts, Ours, settle};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

/// Bodies up to this size need no longer time limits than a request without one.
const SMALL_BODY: usize = 1 << 20;

/// One bucket of an S3 server. Cheap to clone.
#[derive(Clone)]
pub struct S3Store {
    client: Client,
    config: Arc<S3Config>,
    endpoint: Arc<str>,
    /// Listings can tell headers: the server has said that it is MinIO.
    lists_headers: Arc<AtomicBool>,
}

impl S3Store {
    /// Makes a client of the settings. Nothing is sent to the bucket yet; the credential chain is asked on the
    /// first request.
    pub async fn connect(config: S3Config) -> Result<Self> {
        let (client, endpoint) = client::connect(&config).await?;
        let lists_headers = Arc::default();
        Ok(Self { client, config: config.into(), endpoint: endpoint.into(), lists_headers })
    }

    /// The endpoint as it is shown to people.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The bucket's name.
    pub fn bucket(&self) -> &str {
        &self.config.bucket
    }

    /// The SDK's client, for what concerns no object: buckets and their settings.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Another bucket of the same service, with the same client.
    pub fn for_bucket(&self, bucket: &str) -> Self {
        let config = S3Config { bucket: bucket.to_owned(), ..(*self.config).clone() };
        Self { config: config.into(), ..self.clone() }
    }

    fn site<'a>(&'a self, op: Op, key: Option<&'a Key>) -> Site<'a> {
        Site { op, key, endpoint: &self.endpoint }
    }

    /// The answer to HEAD has no body to say what was wrong with the request. That to a GET has.
    async fn reason(&self, site: &Site<'_>, key: &Key, refusal: Error) -> Error {
        if refusal.kind != ErrorKind::Rejected {
            return refusal;
        }
        let asked = self.client.get_object().bucket(self.bucket()).key(key.as_str()).range("bytes=0-0");
        match asked.send().await {
            Ok(_) => refusal,
            Err(error) => site.convert(error),
        }
    }

    /// Time limits for a request that has work to do beyond a round trip.
    fn patience(&self, work: Duration) -> Builder {
        aws_sdk_s3::config::Config::builder().timeout_config(client::timeouts(&self.config, work))
    }
}

impl fmt::Debug for S3Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Store").field("config", &self.config).finish_non_exhaustive()
    }
}

/// A tag as a conditional header wants it.
fn quoted(etag: &ETag) -> String {
    format!("\"{}\"", etag.as_str())
}

/// The values of `If-Match` and `If-None-Match`.
fn conditions(condition: &Condition) -> (Option<String>, Option<String>) {
    match condition {
        Condition::Always => (None, None),
        Condition::Absent => (None, Some("*".to_owned())),
        Condition::Matches(etag) => (Some(quoted(etag)), None),
    }
}

/// A CRC64NVME as the API writes it.
fn encode_crc(crc: u64) -> String {
    STANDARD.encode(crc.to_be_bytes())
}

fn decode_crc(text: &str) -> Option<u64> {
    let bytes = STANDARD.decode(text).ok()?;
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

/// A date for the SDK, which takes none that it cannot read.
fn http_date(text: Option<&str>) -> Option<DateTime> {
    DateTime::from_str(text?, DateTimeFormat::HttpDate).ok()
}

/// Sets the object's headers on a request that begins one.
macro_rules! with_headers {
    ($request:expr, $headers:expr, $default_class:expr) => {{
        let headers: &$crate::store::Headers = $headers;
        let class = headers.storage_class.as_ref().or($default_class.as_ref());
        let user = (!headers.user.is_empty())
            .then(|| headers.user.iter().map(|(name, value)| (name.clone(), value.clone())).collect());
        $request
            .set_content_type(headers.content_type.clone())
            .set_cache_control(headers.cache_control.clone())
            .set_content_disposition(headers.content_disposition.clone())
            .set_content_encoding(headers.content_encoding.clone())
            .set_content_language(headers.content_language.clone())
            .set_expires($crate::store::s3::http_date(headers.expires.as_deref()))
            .set_storage_class(class.map(|class| class.as_str().into()))
            .set_metadata(user)
    }};
}
use with_headers;

#[async_trait::async_trait]
impl ObjectStore for S3Store {
    async fn head(&self, key: &Key) -> Result<ObjectInfo> {
        let site = self.site(Op::Head, Some(key));
        let request = self.client.head_object().bucket(self.bucket()).key(key.as_str());
        // Checksums are asked for without the SDK's own check: there is no body to check.
        match request.checksum_mode(ChecksumMode::Enabled).send().await {
            Ok(answer) => response::head(&site, &answer),
            Err(error) => Err(self.reason(&site, key, site.convert(error)).await),
        }
    }

    async fn get(&self, key: &Key, request: GetRequest) -> Result<GetResponse> {
        body::get(self, key, request).await
    }

    async fn put(&self, key: &Key, body: Bytes, headers: &Headers, condition: Condition) -> Result<Version> {
        let site = self.site(Op::Put, Some(key));
        let tags = tags::of(self, key, headers, &site).await?;
        let (if_match, if_none_match) = conditions(&condition);
        let (size, crc, attempts) = (body.len(), crc_fast::crc64_nvme(&body), Attempts::default());
        let request = self.client.put_object().bucket(self.bucket()).key(key.as_str());
        let request = with_headers!(request, headers, self.config.storage_class)
            .set_tagging(tags)
            .checksum_crc64_nvme(encode_crc(crc))
            .set_if_match(if_match)
            .set_if_none_match(if_none_match)
            .body(body.clone().into());
        let mut request = request.customize().disable_payload_signing().interceptor(attempts.clone());
        if size > SMALL_BODY {
            request = request.config_override(self.patience(client::time_to_send(size)));
        }
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) => {
                let refusal = upload::conditional(&condition, site.convert(error));
                return settle(self, key, &attempts, || Ours::of_body(&body, crc), refusal).await;
            }
        };
        let etag = response::etag(&site, answer.e_tag())?;
        // The answer has no Last-Modified; the clock of this machine is near enough for what is no identity.
        let version_id = response::version_id(answer.version_id());
        Ok(Version { etag, size: size as u64, last_modified: SystemTime::now(), version_id })
    }

    async fn copy(&self, request: CopyRequest) -> Result<Version> {
        copy::copy(self, request).await
    }

    async fn delete(&self, keys: &[Key]) -> Result<Vec<Deleted>> {
        delete::delete(self, keys).await
    }

    async fn delete_version(&self, key: &Key, version: &ETag) -> Result<()> {
        match delete::delete_object(self, key, Some(version)).await {
            Err(error) if error.kind == ErrorKind::Unsupported => {
                delete::delete_object(self, key, None).await
            }
            answer => answer,
        }
    }

    async fn list(&self, request: ListRequest) -> Result<ListPage> {
        list::list(self, request).await
    }

    async fn create_upload(&self, key: &Key, headers: &Headers, parts: PartKinds) -> Result<Upload> {
        upload::create(self, key, (headers, key), parts).await
    }

    async fn upload_part(&self, upload: &Upload, number: u16, source: PartSource) -> Result<Part> {
        match source {
            PartSource::Bytes(body) => upload::send_part(self, upload, number, body).await,
            PartSource::Copy { key, if_match, range } => {
                copy::copy_part(self, upload, number, copy::Source { key: &key, if_match: &if_match, range })
                    .await
            }
        }
    }

    async fn complete_upload(&self, request: CompleteRequest) -> Result<Version> {
        upload::complete(self, &request).await
    }

    async fn abort_upload(&self, abandoned: &Abandoned) -> Result<()> {
        upload::abort(self, abandoned).await
    }
}
