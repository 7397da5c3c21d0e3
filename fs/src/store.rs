//! The object store as tarn sees it: ten operations of the S3 API, with the conditions, ranges and checksums
//! that the file system rests on. Everything above speaks [`ObjectStore`]; only `store/s3.rs` knows the SDK.
//!
//! Invariants that every implementation keeps:
//! - An answer is checked before it is handed on: length, range, ETag, and the checksum where there is one.
//!   A short, long or foreign body is [`ErrorKind::Corrupt`], never data.
//! - An error is never "not found": [`ErrorKind::NotFound`] comes only from a definite answer of the server.
//! - Every call ends: retries, attempts and the whole operation are bounded (`StoreLimits` of the S3 store).
//!
//! What it does not do: no caching, no path rules, no knowledge of files.

mod error;
mod limit;
mod memory;
mod observe;
mod probe;
mod s3;

pub use error::{Error, ErrorKind, Op, Price};
pub use limit::LimitStore;
pub use memory::{MemoryOptions, MemoryStore};
pub use observe::{Counts, ObserveStore, Tally};
pub use probe::{Capabilities, Support, probe};
pub use s3::{CredentialSource, CustomerKey, PathStyle, S3Config, S3Store, Sse};

use crate::clock;
use crate::name::{Key, Prefix};
use bytes::Bytes;
use futures::stream::BoxStream;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// What every operation returns.
pub type Result<T> = std::result::Result<T, Error>;

/// An object's entity tag as the server gave it, without the quotes. Compared, never interpreted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(from = "String", into = "String")]
pub struct ETag(Arc<str>);

impl From<String> for ETag {
    fn from(tag: String) -> Self {
        Self::new(&tag)
    }
}

impl From<ETag> for String {
    fn from(tag: ETag) -> Self {
        tag.as_str().to_owned()
    }
}

impl ETag {
    /// Takes a tag with or without its quotes.
    pub fn new(tag: &str) -> Self {
        Self(tag.trim_matches('"').into())
    }

    /// The tag without quotes.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One version of an object. Two versions with the same tag and size hold the same bytes.
#[derive(Debug, Clone)]
pub struct Version {
    /// The entity tag.
    pub etag: ETag,
    /// Length in bytes.
    pub size: u64,
    /// `Last-Modified`; whole seconds from HEAD and GET, milliseconds from LIST, so no part of the identity.
    pub last_modified: SystemTime,
    /// The version id on a versioned bucket.
    pub version_id: Option<String>,
}

impl Version {
    /// Stands for an object that is not in the bucket, or that nobody has asked for.
    pub fn unknown(last_modified: SystemTime) -> Self {
        Self { etag: ETag::new(""), size: 0, last_modified, version_id: None }
    }

    /// Whether both are the same bytes.
    pub fn same_bytes(&self, other: &Self) -> bool {
        self.etag == other.etag && self.size == other.size
    }
}

/// Headers that belong to the object and survive a rewrite.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Headers {
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `Cache-Control`.
    pub cache_control: Option<String>,
    /// `Content-Disposition`.
    pub content_disposition: Option<String>,
    /// `Content-Encoding`.
    pub content_encoding: Option<String>,
    /// `Content-Language`.
    pub content_language: Option<String>,
    /// `Expires`, as it was sent.
    pub expires: Option<String>,
    /// `x-amz-storage-class`; `None` is the store's default.
    pub storage_class: Option<String>,
    /// `x-amz-meta-*`: lower-case names without that prefix, at most 2 KiB in all.
    pub user: BTreeMap<String, String>,
    /// The object has tags (`x-amz-tagging-count`): a new version of it takes them over. They are read when it is
    /// made, for they change without a new version.
    pub tagged: bool,
}

/// What HEAD says.
#[derive(Debug, Clone)]
pub struct ObjectInfo {
    /// The version it speaks of.
    pub version: Version,
    /// Its headers.
    pub headers: Headers,
    /// CRC64NVME over the whole object, if the server keeps one of that kind (`FULL_OBJECT`).
    pub crc64nvme: Option<u64>,
}

/// What is to be read; by default the whole object in one answer.
#[derive(Debug, Clone, Default)]
pub struct GetRequest {
    /// The bytes wanted, never empty; `None` reads the whole object in one answer.
    pub range: Option<Range<u64>>,
    /// Answer only from this version ([`ErrorKind::Precondition`] otherwise).
    pub if_match: Option<ETag>,
    /// The range is this part of the upload that made the object: asked for by its number (`partNumber`), it comes
    /// with its own checksum. [`ErrorKind::Unsupported`] if the object's parts lie elsewhere.
    pub part: Option<u16>,
}

/// A body under way. Its chunks add up to exactly the length asked for, or the stream ends in an error.
pub struct GetResponse {
    /// What the answer's headers say of the object; `version.size` is the whole object's.
    pub info: ObjectInfo,
    /// The body has a checksum: the stream ends in [`ErrorKind::Corrupt`] if its bytes are not those that were
    /// stored.
    pub checked: bool,
    /// The bytes, in order.
    pub body: BoxStream<'static, Result<Bytes>>,
}

impl fmt::Debug for GetResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GetResponse").field("info", &self.info).finish_non_exhaustive()
    }
}

/// When a write may take effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// In any case: the last writer wins.
    Always,
    /// Only if the key has no object (`If-None-Match: *`).
    Absent,
    /// Only if the key has this version (`If-Match`).
    Matches(ETag),
}

/// A server-side copy.
#[derive(Debug, Clone)]
pub struct CopyRequest {
    /// The source key in the same bucket.
    pub from: Key,
    /// The version of the source; anything else is [`ErrorKind::Precondition`].
    pub if_match: ETag,
    /// Size of the source in bytes: over 5 GiB the copy goes by parts.
    pub size: u64,
    /// The destination.
    pub to: Key,
    /// Condition on the destination, kept also where `CopyObject` ignores it (then by a multipart copy).
    pub condition: Condition,
    /// New headers; `None` takes the source's.
    pub headers: Option<Headers>,
    /// Who is told of the multipart upload that the copy is made by, if it is; after an error it is theirs to drop.
    pub log: Option<Arc<dyn UploadLog>>,
}

impl CopyRequest {
    /// What `CopyObject` copies at most, in bytes.
    const AT_ONCE_MAX: u64 = 5 << 30;

    /// Whether the copy takes a multipart upload: `CopyObject` keeps no condition on its destination on some servers,
    /// MinIO among them. An empty object has no range to copy.
    pub fn takes_parts(&self) -> bool {
        self.size > Self::AT_ONCE_MAX || (self.size > 0 && self.condition != Condition::Always)
    }
}

/// Learns of an upload before its first part.
pub trait UploadLog: Send + Sync + fmt::Debug {
    /// The server has begun this one.
    fn begun(&self, upload: &Upload);
}

/// One page of a listing.
#[derive(Debug, Clone)]
pub struct ListRequest {
    /// Keys below this.
    pub prefix: Prefix,
    /// Whether keys below a further `/` are folded into [`ListPage::prefixes`].
    pub depth: Depth,
    /// Where to go on: the last page's [`ListPage::next`].
    pub after: Option<ListCursor>,
    /// At most so many keys and prefixes; servers cap it at 1,000.
    pub limit: u16,
    /// Whether the objects' headers are wanted, if the server lists them: see [`Listed::headers`].
    pub headers: bool,
}

impl ListRequest {
    /// The first `limit` keys and prefixes, without headers.
    pub fn new(prefix: Prefix, depth: Depth, limit: u16) -> Self {
        Self { prefix, depth, after: None, limit, headers: false }
    }
}

/// How deep a listing goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// One directory: `delimiter=/`.
    Directory,
    /// Everything below the prefix.
    Subtree,
}

/// A place in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListCursor {
    /// The server's continuation token.
    Token(String),
    /// After this key (`start-after`).
    Key(Key),
}

/// A listed object.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Its key, decoded.
    pub key: Key,
    /// Its version.
    pub version: Version,
    /// Its headers, if they were asked for and the server lists them (MinIO's `metadata=true`). `Expires` is not
    /// among them, and whether it is tagged is told only to who may read its tags.
    pub headers: Option<Headers>,
}

/// A page of a listing, in the order of the keys' bytes.
#[derive(Debug, Clone, Default)]
pub struct ListPage {
    /// Objects.
    pub objects: Vec<Listed>,
    /// Common prefixes, each ending in `/`, as full prefixes. One whose text is no valid [`Prefix`] is left out and counted.
    pub prefixes: Vec<Prefix>,
    /// Keys or prefixes below the prefix that no [`Key`] can hold (not UTF-8, longer than S3 allows, malformed);
    /// counted, never fatal.
    pub unusable: usize,
    /// Where the next page starts; `None` on the last.
    pub next: Option<ListCursor>,
}

/// A multipart upload under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// The key it will become.
    pub key: Key,
    /// The server's id.
    pub id: String,
}

/// Which multipart uploads are to be dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Abandoned {
    /// This one.
    Upload(Upload),
    /// The one that was asked for, and whose id never arrived: those of this key that were begun about then and have
    /// no part. One of another client in the same moment may be hit; tarn begins anew when an upload is gone.
    Asked {
        /// The key.
        key: Key,
        /// When it was asked for.
        at: SystemTime,
    },
}

impl Abandoned {
    /// How far the clocks of a node and a store may differ.
    const SKEW: Duration = Duration::from_secs(5);
    /// For how long a request may have been under way.
    const UNDER_WAY: Duration = Duration::from_secs(120);

    /// The key it is about.
    pub fn key(&self) -> &Key {
        match self {
            Self::Upload(upload) => &upload.key,
            Self::Asked { key, .. } => key,
        }
    }

    /// Whether the server may still begin what was asked for then.
    pub fn may_begin(at: SystemTime) -> bool {
        clock::now() <= at + Self::SKEW + Self::UNDER_WAY
    }

    /// Whether an upload that was begun then may be the one that was asked for at `at`.
    fn is_about(at: SystemTime, begun: SystemTime) -> bool {
        begun + Self::SKEW >= at && begun <= at + Self::SKEW + Self::UNDER_WAY
    }
}

/// How the parts of an upload will be made. Some servers take copied parts only into uploads without a checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartKinds {
    /// All are sent: the object gets a checksum over the whole.
    Sent,
    /// Some are copied: the object may have no checksum over the whole.
    Copied,
}

/// What a part is made of.
#[derive(Debug, Clone)]
pub enum PartSource {
    /// These bytes.
    Bytes(Bytes),
    /// A range of an object in the same bucket (`UploadPartCopy` with `x-amz-copy-source-if-match`).
    Copy {
        /// The source.
        key: Key,
        /// The version of the source.
        if_match: ETag,
        /// At most 5 GiB; at least 5 MiB unless it is the last part.
        range: Range<u64>,
    },
}

/// A part that the server has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// From 1 to 10,000.
    pub number: u16,
    /// Its tag.
    pub etag: ETag,
    /// Its CRC64NVME as the server confirmed it; `None` for a copied part of a store that does not say.
    pub crc64nvme: Option<u64>,
    /// Its length in bytes.
    pub size: u64,
}

/// What is to be completed.
#[derive(Debug, Clone)]
pub struct CompleteRequest {
    /// The upload.
    pub upload: Upload,
    /// All its parts, in order.
    pub parts: Vec<Part>,
    /// When it may become the object.
    pub condition: Condition,
}

/// How one key of a batch delete ended. An absent key is deleted.
pub type Deleted = (Key, Result<()>);

/// An S3-like object store: one bucket.
#[async_trait::async_trait]
pub trait ObjectStore: Send + Sync + fmt::Debug {
    /// Says what the object is (`HeadObject`).
    async fn head(&self, key: &Key) -> Result<ObjectInfo>;

    /// Reads an object or a range of it (`GetObject`).
    async fn get(&self, key: &Key, request: GetRequest) -> Result<GetResponse>;

    /// Writes an object in one request, at most 5 GiB (`PutObject`), with a checksum the server verifies.
    async fn put(&self, key: &Key, body: Bytes, headers: &Headers, condition: Condition) -> Result<Version>;

    /// Copies an object on the server (`CopyObject`, or a multipart copy).
    async fn copy(&self, request: CopyRequest) -> Result<Version>;

    /// Deletes objects, any number (`DeleteObjects` in batches, or `DeleteObject` for one). The outer error
    /// means that nothing is known of any key.
    async fn delete(&self, keys: &[Key]) -> Result<Vec<Deleted>>;

    /// Deletes an object if it has this version (`DeleteObject` with `If-Match`), else [`ErrorKind::Precondition`]. An
    /// absent key is deleted. Some servers, MinIO among them, do not look at the version.
    async fn delete_version(&self, key: &Key, version: &ETag) -> Result<()>;

    /// Lists one page (`ListObjectsV2` with `encoding-type=url`).
    async fn list(&self, request: ListRequest) -> Result<ListPage>;

    /// Starts a multipart upload (`CreateMultipartUpload`).
    async fn create_upload(&self, key: &Key, headers: &Headers, parts: PartKinds) -> Result<Upload>;

    /// Sends or copies one part (`UploadPart`, `UploadPartCopy`).
    async fn upload_part(&self, upload: &Upload, number: u16, source: PartSource) -> Result<Part>;

    /// Makes the parts an object (`CompleteMultipartUpload`). After [`ErrorKind::Precondition`] the upload is
    /// still pending: abort it.
    async fn complete_upload(&self, request: CompleteRequest) -> Result<Version>;

    /// Drops an upload and its parts (`AbortMultipartUpload`, found by `ListMultipartUploads` if need be); one that
    /// is gone is dropped.
    async fn abort_upload(&self, abandoned: &Abandoned) -> Result<()>;
}
