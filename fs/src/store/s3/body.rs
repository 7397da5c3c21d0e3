//! Reads: a GET whose body is counted, checked and, when it breaks, resumed.
//!
//! Invariants: the chunks add up to exactly the bytes of the answer's headers. The last chunk is handed on only
//! when the body has ended where it should and the checksum agrees. A body that is cut or stalls is asked for
//! again from where it broke, from the same version, at most `max_attempts` times; between two chunks at most
//! `operation_timeout` pass.

use super::error::Site;
use super::{S3Store, quoted, response};
use crate::name::Key;
use crate::store::{Error, ErrorKind, GetRequest, GetResponse, ObjectInfo, Op, Result};
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest};
use futures::StreamExt;
use std::ops::Range;
use tokio::time::timeout;

/// Opens the object and returns its checked body.
pub(super) async fn get(store: &S3Store, key: &Key, request: GetRequest) -> Result<GetResponse> {
    let site = store.site(Op::Get, Some(key));
    if request.range.as_ref().is_some_and(Range::is_empty) {
        return Err(site.error(ErrorKind::Rejected, "an empty range was asked for"));
    }
    let mut answer = send(store, key, &request).await?;
    if request.part.is_some() && !response::is_range(&answer, request.range.as_ref()) {
        return Err(site.error(ErrorKind::Unsupported, "the parts of the object lie elsewhere"));
    }
    let (info, bytes) = response::get(&site, &answer, request.range.as_ref(), request.if_match.as_ref())?;
    let checksum = if is_checked(&request) { Checksum::of(&answer, request.part) } else { None };
    let checked = checksum.is_some();
    let reader = Reader {
        store: store.clone(),
        key: key.clone(),
        info: info.clone(),
        left: bytes,
        body: std::mem::take(&mut answer.body),
        resumes: store.config.max_attempts,
        checksum,
    };
    let body = futures::stream::try_unfold(reader, |mut reader| async move {
        Ok(reader.next().await?.map(|chunk| (chunk, reader)))
    });
    Ok(GetResponse { info, checked, body: body.boxed() })
}

/// Whether the answer may carry a checksum over just the bytes that were asked for.
fn is_checked(request: &GetRequest) -> bool {
    request.range.is_none() || request.part.is_some()
}

async fn send(store: &S3Store, key: &Key, request: &GetRequest) -> Result<GetObjectOutput> {
    let range = request.range.as_ref().filter(|_| request.part.is_none());
    let get = store.client.get_object().bucket(store.bucket()).key(key.as_str());
    let get = get
        .set_range(range.map(|range| format!("bytes={}-{}", range.start, range.end - 1)))
        .set_part_number(request.part.map(i32::from))
        .set_if_match(request.if_match.as_ref().map(quoted));
    let answer = if is_checked(request) {
        // The header alone: asked through the SDK, it would check the body too, and cannot resume.
        let ask = |request: &mut aws_sdk_s3::config::http::HttpRequest| {
            request.headers_mut().insert("x-amz-checksum-mode", "ENABLED");
        };
        get.customize().mutate_request(ask).send().await
    } else {
        get.send().await
    };
    answer.map_err(|error| store.site(Op::Get, Some(key)).convert(error))
}

/// A body under way.
struct Reader {
    store: S3Store,
    key: Key,
    info: ObjectInfo,
    /// The bytes of the object that are still to come.
    left: Range<u64>,
    body: ByteStream,
    resumes: u32,
    checksum: Option<Checksum>,
}

/// What came from the connection.
enum Arrival {
    Chunk(Bytes),
    End,
    Broken(Error),
}

impl Reader {
    fn site(&self) -> Site<'_> {
        self.store.site(Op::Get, Some(&self.key))
    }

    /// The next chunk, or `None` when all of them were handed on.
    async fn next(&mut self) -> Result<Option<Bytes>> {
        if self.left.is_empty() {
            return Ok(None);
        }
        let limit = self.store.config.operation_timeout;
        match timeout(limit, self.next_chunk()).await {
            Ok(chunk) => chunk.map(Some),
            Err(_) => Err(self.site().error(ErrorKind::Timeout, format!("no byte came in {limit:?}"))),
        }
    }

    async fn next_chunk(&mut self) -> Result<Bytes> {
        loop {
            match self.arrival().await {
                Arrival::Chunk(chunk) => {
                    let length = chunk.len() as u64;
                    if length > self.left.end - self.left.start {
                        return Err(self.site().corrupt("the body is longer than its headers say"));
                    }
                    self.left.start += length;
                    if let Some(checksum) = &mut self.checksum {
                        checksum.digest.update(&chunk);
                    }
                    if self.left.is_empty() {
                        self.finish().await?;
                    }
                    return Ok(chunk);
                }
                Arrival::End => {
                    let missing = self.left.end - self.left.start;
                    self.resume(self.site().corrupt(format!("the body ended {missing} bytes too early")))
                        .await?;
                }
                Arrival::Broken(error) => self.resume(error).await?,
            }
        }
    }

    /// What comes next from the connection, within the time limit; never an empty chunk.
    async fn arrival(&mut self) -> Arrival {
        let limit = self.store.config.attempt_timeout;
        loop {
            match timeout(limit, self.body.next()).await {
                Ok(Some(Ok(chunk))) if chunk.is_empty() => {}
                Ok(Some(Ok(chunk))) => return Arrival::Chunk(chunk),
                Ok(None) => return Arrival::End,
                Ok(Some(Err(error))) => {
                    let mut broken = self.site().error(ErrorKind::Unavailable, "the body broke off");
                    broken.source = Some(Box::new(error));
                    return Arrival::Broken(broken);
                }
                Err(_) => {
                    let message = format!("the body stalled for {limit:?}");
                    return Arrival::Broken(self.site().error(ErrorKind::Timeout, message));
                }
            }
        }
    }

    /// Asks for the rest from the same version, or gives up with `cause`.
    async fn resume(&mut self, cause: Error) -> Result<()> {
        if self.resumes == 0 {
            return Err(cause);
        }
        self.resumes -= 1;
        tracing::debug!(key = %self.key, at = self.left.start, %cause, "body is resumed");
        let etag = &self.info.version.etag;
        let rest = GetRequest { range: Some(self.left.clone()), if_match: Some(etag.clone()), part: None };
        let mut answer = send(&self.store, &self.key, &rest).await?;
        let (info, _) = response::get(&self.site(), &answer, Some(&self.left), Some(etag))?;
        if info.version.size != self.info.version.size {
            return Err(self.site().corrupt("the object's size changed within one version"));
        }
        self.body = std::mem::take(&mut answer.body);
        Ok(())
    }

    /// The body must end here, and be what the server's checksum says.
    async fn finish(&mut self) -> Result<()> {
        match self.arrival().await {
            Arrival::Chunk(_) => return Err(self.site().corrupt("the body is longer than its headers say")),
            // All bytes are here; how the connection ends is of no interest.
            Arrival::End | Arrival::Broken(_) => {}
        }
        match &self.checksum {
            Some(checksum) if checksum.digest.finalize() != checksum.expected => {
                Err(self.site().corrupt(format!("the body does not have its {}", checksum.name)))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// A checksum over all bytes of a body, under way.
struct Checksum {
    name: &'static str,
    digest: Digest,
    expected: u64,
}

impl Checksum {
    /// The checksum that the answer carries, if it is one over the body: of the whole object that of a composite
    /// is not, while a part has its own.
    fn of(answer: &GetObjectOutput, part: Option<u16>) -> Option<Self> {
        if part.is_none() && answer.checksum_type() == Some(&aws_sdk_s3::types::ChecksumType::Composite) {
            return None;
        }
        let new = |name, algorithm, text: &str| {
            let mut expected = 0;
            for byte in STANDARD.decode(text).ok()? {
                expected = expected << 8 | u64::from(byte);
            }
            Some(Self { name, digest: Digest::new(algorithm), expected })
        };
        if let Some(crc) = answer.checksum_crc64_nvme() {
            new("CRC64NVME", CrcAlgorithm::Crc64Nvme, crc)
        } else if let Some(crc) = answer.checksum_crc32_c() {
            new("CRC32C", CrcAlgorithm::Crc32Iscsi, crc)
        } else {
            new("CRC32", CrcAlgorithm::Crc32IsoHdlc, answer.checksum_crc32()?)
        }
    }
}
