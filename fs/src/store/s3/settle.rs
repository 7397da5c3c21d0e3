//! Settles writes whose answer was lost. The SDK sends such a request again, and if the first one had arrived, the
//! second finds its own work: a condition that no longer holds, an upload that is gone. A look at the object tells.
//!
//! Invariant: a refusal is taken for success only after a second attempt, and only if the object there now has our
//! size and our CRC64NVME or MD5.

use crate::name::Key;
use crate::store::{Error, ErrorKind, ObjectStore, Part, Result, Version};
use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use bytes::Bytes;
use md5::{Digest, Md5};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Counts the attempts of one request.
#[derive(Debug, Clone, Default)]
pub(super) struct Attempts(Arc<AtomicU32>);

impl Attempts {
    pub(super) fn retried(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 1
    }
}

impl Intercept for Attempts {
    fn name(&self) -> &'static str {
        "Attempts"
    }

    fn read_before_attempt(
        &self,
        _context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> std::result::Result<(), BoxError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// What the object must be, to be our work.
pub(super) struct Ours {
    size: u64,
    crc64nvme: Option<u64>,
    tag: Option<String>,
}

impl Ours {
    pub(super) fn of_body(body: &Bytes, crc: u64) -> Self {
        Self { size: body.len() as u64, crc64nvme: Some(crc), tag: Some(hex(&Md5::digest(body))) }
    }

    /// An upload's tag is the MD5 of its parts' MD5s and their number.
    pub(super) fn of_parts(parts: &[Part], crc64nvme: Option<u64>) -> Self {
        let tags: Option<Vec<[u8; 16]>> = parts.iter().map(|part| unhex(part.etag.as_str())).collect();
        let tag = tags.map(|tags| format!("{}-{}", hex(&Md5::digest(tags.concat())), parts.len()));
        Self { size: parts.iter().map(|part| part.size).sum(), crc64nvme, tag }
    }
}

/// The version that is there, if the refused request had been done before; the refusal otherwise.
pub(super) async fn settle(
    store: &dyn ObjectStore,
    key: &Key,
    attempts: &Attempts,
    ours: impl FnOnce() -> Ours,
    refusal: Error,
) -> Result<Version> {
    let doubtful = matches!(refusal.kind, ErrorKind::Precondition | ErrorKind::NotFound);
    if !doubtful || !attempts.retried() {
        return Err(refusal);
    }
    let Ok(found) = store.head(key).await else { return Err(refusal) };
    let ours = ours();
    let tag = Some(found.version.etag.as_str().to_owned());
    let same = match (found.crc64nvme, ours.crc64nvme) {
        (Some(found), Some(ours)) => found == ours,
        (_, _) => tag == ours.tag,
    };
    if same && found.version.size == ours.size {
        tracing::debug!(%key, %refusal, "the first attempt had arrived");
        return Ok(found.version);
    }
    Err(refusal)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; 16]> {
    if text.len() != 32 || !text.is_ascii() {
        return None;
    }
    let mut bytes = [0; 16];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(bytes)
}
