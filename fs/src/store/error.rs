//! What can go wrong between tarn and the store, by what the caller may do about it.

use crate::name::Key;
use std::fmt;

/// The operation that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the variants are the trait's methods")]
pub enum Op {
    Head,
    Get,
    Put,
    Copy,
    Delete,
    List,
    CreateUpload,
    UploadPart,
    CompleteUpload,
    AbortUpload,
}

impl Op {
    /// Every operation, in the order of the trait.
    pub const ALL: [Self; 10] = [
        Self::Head,
        Self::Get,
        Self::Put,
        Self::Copy,
        Self::Delete,
        Self::List,
        Self::CreateUpload,
        Self::UploadPart,
        Self::CompleteUpload,
        Self::AbortUpload,
    ];

    /// What providers charge its requests as.
    pub fn price(self) -> Price {
        match self {
            Self::Put | Self::Copy | Self::List => Price::Put,
            Self::CreateUpload | Self::UploadPart | Self::CompleteUpload => Price::Put,
            Self::Head | Self::Get => Price::Get,
            Self::Delete | Self::AbortUpload => Price::Free,
        }
    }
}

/// The price classes of requests, as AWS has them; others follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Price {
    /// PUT, COPY, POST and LIST: about ten times a GET.
    Put,
    /// GET and HEAD.
    Get,
    /// DELETE, and the end of an upload that is given up.
    Free,
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Head => "head",
            Self::Get => "get",
            Self::Put => "put",
            Self::Copy => "copy",
            Self::Delete => "delete",
            Self::List => "list",
            Self::CreateUpload => "create upload",
            Self::UploadPart => "upload part",
            Self::CompleteUpload => "complete upload",
            Self::AbortUpload => "abort upload",
        })
    }
}

/// The meaning of a failure. All retrying that makes sense has been done below.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The server says there is no such object, upload or bucket.
    NotFound,
    /// The object is not the version asked for, or exists against the condition (412, 409 of a conditional write).
    Precondition,
    /// The credentials do not allow it (403).
    Denied,
    /// There are no usable credentials, or they have expired.
    Credentials,
    /// The server asks to slow down, also after the retries.
    Throttled,
    /// Not reached, reset, 5xx: may work later.
    Unavailable,
    /// The deadline passed.
    Timeout,
    /// The answer contradicts itself or the request: length, range, tag, checksum.
    Corrupt,
    /// The server cannot take this name.
    InvalidName,
    /// The name is longer than the server takes.
    NameTooLong,
    /// The object is larger than the server takes.
    TooLarge,
    /// The bucket's quota or the server's disk is full.
    Full,
    /// The object is in an archive class and must be restored first.
    Archived,
    /// The server does not implement the request.
    Unsupported,
    /// The server refused the request for another reason (4xx).
    Rejected,
}

impl ErrorKind {
    /// Whether the same request may fare otherwise later.
    pub fn may_pass(self) -> bool {
        match self {
            Self::Unavailable | Self::Throttled | Self::Timeout | Self::Credentials => true,
            Self::NotFound
            | Self::Precondition
            | Self::Denied
            | Self::Corrupt
            | Self::Rejected
            | Self::InvalidName
            | Self::NameTooLong
            | Self::TooLarge
            | Self::Full
            | Self::Archived
            | Self::Unsupported => false,
        }
    }
}

/// A failed operation of a store.
#[derive(Debug, thiserror::Error)]
#[error("{op} {}: {message}", key.as_ref().map_or_else(|| "bucket".to_owned(), ToString::to_string))]
pub struct Error {
    /// Its meaning.
    pub kind: ErrorKind,
    /// What was tried.
    pub op: Op,
    /// On which object; `None` for the bucket.
    pub key: Option<Key>,
    /// The server's code and message, or what was wrong with its answer. Holds no secret.
    pub message: String,
    /// The cause below.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error without a deeper cause.
    pub fn new(kind: ErrorKind, op: Op, key: Option<&Key>, message: impl Into<String>) -> Self {
        Self { kind, op, key: key.cloned(), message: message.into(), source: None }
    }

    /// The same verdict for another waiter, without the cause below.
    pub fn duplicate(&self) -> Self {
        Self::new(self.kind, self.op, self.key.as_ref(), self.message.clone())
    }
}
