//! An object store in memory: the reference of what the trait promises, and the store under unit tests.
//!
//! Invariants: every operation is atomic; conditions, listings and multipart uploads behave as S3 documents them,
//! where servers differ the stricter way. A request that S3 would refuse is refused here too.
//!
//! A copied part reads its range once, for its CRC; joining and copying move no bytes.
//!
//! What it does not do: no persistence, no failures of its own (tests wrap it for that), no versioned buckets.

mod body;
mod list;
#[cfg(test)]
mod tests;
mod uploads;

use super::{
    Abandoned, Condition, CopyRequest, Deleted, ETag, Error, ErrorKind, GetRequest, GetResponse, Headers,
    ListPage, ListRequest, ObjectInfo, ObjectStore, Op, Part, PartKinds, PartSource, Result, Upload, Version,
};
use crate::clock;
use crate::name::Key;
use crate::store::CompleteRequest;
use body::{Body, Scratch};
use bytes::Bytes;
use futures::StreamExt;
use md5::{Digest, Md5};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::Path;

/// User metadata that S3 takes, names and values together, in bytes.
const USER_METADATA_MAX: usize = 2048;
/// Objects up to this size have their MD5 as tag.
const MD5_MAX: usize = 1 << 20;

/// How a [`MemoryStore`] differs from S3's numbers, so that tests reach the edges with little data.
#[derive(Debug, Clone)]
pub struct MemoryOptions {
    /// The most entries in one page of a listing.
    pub page_size: u16,
    /// The least size of a part that is not the last, in bytes.
    pub min_part_size: u64,
    /// The size of the chunks in which a body arrives, in bytes.
    pub chunk_size: usize,
    /// Whether listings tell headers.
    pub lists_headers: bool,
}

impl Default for MemoryOptions {
    fn default() -> Self {
        Self { page_size: 1000, min_part_size: 5 << 20, chunk_size: 256 << 10, lists_headers: false }
    }
}

/// A bucket in memory, or with its larger bodies in a scratch file.
#[derive(Default)]
pub struct MemoryStore {
    options: MemoryOptions,
    scratch: Option<Scratch>,
    bucket: Mutex<Bucket>,
}

#[derive(Default)]
struct Bucket {
    objects: BTreeMap<String, Object>,
    uploads: HashMap<String, uploads::Pending>,
    next_upload: u64,
}

#[derive(Clone)]
struct Object {
    body: Body,
    info: ObjectInfo,
}

impl Object {
    fn new(body: Body, etag: ETag, crc64nvme: u64, headers: Headers) -> Self {
        let version = Version { etag, size: body.len(), last_modified: clock::now(), version_id: None };
        Self { info: ObjectInfo { version, headers, crc64nvme: Some(crc64nvme) }, body }
    }
}

impl MemoryStore {
    /// An empty bucket with S3's limits.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty bucket with other limits.
    pub fn with_options(options: MemoryOptions) -> Self {
        Self { options, ..Self::default() }
    }

    /// An empty bucket that keeps bodies over 64 KiB in a nameless file in `dir`. It ends with the store.
    pub fn with_scratch(dir: &Path) -> io::Result<Self> {
        Ok(Self { scratch: Some(Scratch::new(dir)?), ..Self::default() })
    }

    fn keep(&self, op: Op, key: &Key, bytes: Bytes) -> Result<Body> {
        Body::new(bytes, self.scratch.as_ref()).map_err(|error| disk(op, key, error))
    }

    /// How many multipart uploads are neither completed nor aborted.
    pub fn pending_uploads(&self) -> usize {
        self.bucket.lock().uploads.len()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Bucket {
    fn object(&self, op: Op, key: &Key) -> Result<&Object> {
        self.objects
            .get(key.as_str())
            .ok_or_else(|| Error::new(ErrorKind::NotFound, op, Some(key), "NoSuchKey: no such object"))
    }

    fn matching(&self, op: Op, key: &Key, etag: &ETag) -> Result<&Object> {
        let object = self.object(op, key)?;
        if object.info.version.etag == *etag { Ok(object) } else { Err(precondition(op, key)) }
    }

    /// Puts the object in place if the condition holds.
    fn commit(&mut self, op: Op, key: &Key, object: Object, condition: &Condition) -> Result<Version> {
        let holds = match (condition, self.objects.get(key.as_str())) {
            (Condition::Always, _) | (Condition::Absent, None) => true,
            (Condition::Absent, Some(_)) | (Condition::Matches(_), None) => false,
            (Condition::Matches(etag), Some(present)) => present.info.version.etag == *etag,
        };
        if !holds {
            return Err(precondition(op, key));
        }
        let version = object.info.version.clone();
        self.objects.insert(key.as_str().to_owned(), object);
        Ok(version)
    }
}

/// A range of the body, chunk by chunk, read as it is asked for.
fn chunks(
    key: Key,
    body: Body,
    range: Range<u64>,
    chunk_size: usize,
) -> impl Iterator<Item = Result<Bytes>> + Send + 'static {
    let chunk_size = chunk_size.max(1) as u64;
    range.clone().step_by(chunk_size as usize).map(move |at| {
        let chunk = body.slice(&(at..range.end.min(at + chunk_size)));
        chunk.read().map_err(|error| disk(Op::Get, &key, error))
    })
}

fn precondition(op: Op, key: &Key) -> Error {
    Error::new(ErrorKind::Precondition, op, Some(key), "PreconditionFailed: the condition does not hold")
}

fn disk(op: Op, key: &Key, error: io::Error) -> Error {
    let full = error.kind() == io::ErrorKind::StorageFull;
    let kind = if full { ErrorKind::Full } else { ErrorKind::Unavailable };
    Error { source: Some(Box::new(error)), ..Error::new(kind, op, Some(key), "the scratch file failed") }
}

fn rejected(op: Op, key: &Key, message: &str) -> Error {
    Error::new(ErrorKind::Rejected, op, Some(key), message)
}

fn check_headers(op: Op, key: &Key, headers: &Headers) -> Result<()> {
    let size: usize = headers.user.iter().map(|(name, value)| name.len() + value.len()).sum();
    if size > USER_METADATA_MAX {
        return Err(rejected(op, key, "MetadataTooLarge: user metadata is over 2 KiB"));
    }
    Ok(())
}

/// The tag of bytes that come in one request: their MD5, as S3 has it, or for large ones a tag from their CRC, which
/// costs a tenth and with its dash does not pass for an MD5.
fn tag_of(bytes: &[u8], crc: u64) -> ETag {
    if bytes.len() <= MD5_MAX {
        ETag::new(&hex(&Md5::digest(bytes)))
    } else {
        ETag::new(&format!("{crc:016x}{:016x}-1", bytes.len()))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[async_trait::async_trait]
impl ObjectStore for MemoryStore {
    async fn head(&self, key: &Key) -> Result<ObjectInfo> {
        Ok(self.bucket.lock().object(Op::Head, key)?.info.clone())
    }

    async fn get(&self, key: &Key, request: GetRequest) -> Result<GetResponse> {
        let object = {
            let bucket = self.bucket.lock();
            match &request.if_match {
                Some(etag) => bucket.matching(Op::Get, key, etag)?.clone(),
                None => bucket.object(Op::Get, key)?.clone(),
            }
        };
        let size = object.body.len();
        let range = request.range.unwrap_or(0..size);
        if size > 0 && (range.start >= size || range.is_empty()) {
            return Err(rejected(Op::Get, key, "InvalidRange: the range holds no byte of the object"));
        }
        if range.end > size {
            // The same answer as the S3 store's: a body shorter than the range is no answer to it.
            return Err(Error::new(
                ErrorKind::Corrupt,
                Op::Get,
                Some(key),
                "the range ends after the object",
            ));
        }
        let chunks = chunks(key.clone(), object.body, range, self.options.chunk_size);
        Ok(GetResponse { info: object.info, checked: true, body: futures::stream::iter(chunks).boxed() })
    }

    async fn put(&self, key: &Key, body: Bytes, headers: &Headers, condition: Condition) -> Result<Version> {
        check_headers(Op::Put, key, headers)?;
        let crc = crc_fast::crc64_nvme(&body);
        let etag = tag_of(&body, crc);
        let object = Object::new(self.keep(Op::Put, key, body)?, etag, crc, headers.clone());
        self.bucket.lock().commit(Op::Put, key, object, &condition)
    }

    async fn copy(&self, request: CopyRequest) -> Result<Version> {
        let mut bucket = self.bucket.lock();
        let mut object = bucket.matching(Op::Copy, &request.from, &request.if_match)?.clone();
        if let Some(headers) = request.headers {
            check_headers(Op::Copy, &request.to, &headers)?;
            object.info.headers = headers;
        } else if request.from == request.to {
            return Err(rejected(
                Op::Copy,
                &request.to,
                "InvalidRequest: a copy onto itself changes nothing",
            ));
        }
        object.info.version.last_modified = clock::now();
        bucket.commit(Op::Copy, &request.to, object, &request.condition)
    }

    async fn delete(&self, keys: &[Key]) -> Result<Vec<Deleted>> {
        let mut bucket = self.bucket.lock();
        for key in keys {
            bucket.objects.remove(key.as_str());
        }
        Ok(keys.iter().map(|key| (key.clone(), Ok(()))).collect())
    }

    async fn delete_version(&self, key: &Key, version: &ETag) -> Result<()> {
        let mut bucket = self.bucket.lock();
        match bucket.matching(Op::Delete, key, version) {
            Ok(_) => bucket.objects.remove(key.as_str()),
            Err(error) if error.kind == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(())
    }

    async fn list(&self, mut request: ListRequest) -> Result<ListPage> {
        let limit = request.limit.min(self.options.page_size);
        request.headers &= self.options.lists_headers;
        list::page(&self.bucket.lock().objects, &request, usize::from(limit))
    }

    async fn create_upload(&self, key: &Key, headers: &Headers, _parts: PartKinds) -> Result<Upload> {
        check_headers(Op::CreateUpload, key, headers)?;
        Ok(self.bucket.lock().begin(key, headers))
    }

    async fn upload_part(&self, upload: &Upload, number: u16, source: PartSource) -> Result<Part> {
        let part = match source {
            PartSource::Bytes(bytes) => {
                let crc = crc_fast::crc64_nvme(&bytes);
                let etag = tag_of(&bytes, crc);
                uploads::Stored { etag, crc, body: self.keep(Op::UploadPart, &upload.key, bytes)? }
            }
            PartSource::Copy { key, if_match, range } => {
                let body = self.bucket.lock().part_of(&key, &if_match, &range)?;
                let bytes = body.read().map_err(|error| disk(Op::UploadPart, &key, error))?;
                let crc = crc_fast::crc64_nvme(&bytes);
                uploads::Stored { etag: tag_of(&bytes, crc), crc, body }
            }
        };
        self.bucket.lock().add_part(upload, number, part)
    }

    async fn complete_upload(&self, request: CompleteRequest) -> Result<Version> {
        self.bucket.lock().complete(&request, self.options.min_part_size)
    }

    async fn abort_upload(&self, abandoned: &Abandoned) -> Result<()> {
        self.bucket.lock().abandon(abandoned);
        Ok(())
    }
}
