//! The driver's one error, by what the caller may do about it, and the one table from it to gRPC's codes.
//!
//! A message says what is wrong and what to do, because it becomes an Event on the pod or the claim. It never holds
//! a secret.

use std::io;
use tarn_fs::store::ErrorKind;
use tonic::{Code, Status};

/// What every part of the driver returns.
pub type Result<T> = std::result::Result<T, Error>;

/// What a failure means for the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The request is wrong and stays so.
    Invalid,
    /// A volume, snapshot, bucket or mount is not there.
    NotFound,
    /// Something of that name is there and differs.
    Exists,
    /// A size that cannot be had.
    OutOfRange,
    /// The request does not fit the state of the volume.
    Precondition,
    /// Another call for the same volume is under way, or a long copy is not done: ask again.
    Busy,
    /// The store or the mount does not answer.
    Unavailable,
    /// The store refuses these credentials.
    Denied,
    /// What this driver does not do.
    Unsupported,
    /// A place in a list that is none.
    BadToken,
    /// Anything else.
    Internal,
}

/// A failed call.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What it means.
    pub kind: Kind,
    /// What went wrong and what to do.
    pub message: String,
}

impl Error {
    /// An error in these words.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// A wrong request.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, message)
    }

    /// The same failure, with what was being done before it.
    pub fn during(self, what: impl std::fmt::Display) -> Self {
        Self { message: format!("{what}: {}", self.message), ..self }
    }

    /// A failure of the local machine while `what` was done.
    pub fn local(what: impl std::fmt::Display, error: &io::Error) -> Self {
        Self::new(Kind::Internal, format!("{what}: {error}"))
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let code = match error.kind {
            Kind::Invalid => Code::InvalidArgument,
            Kind::NotFound => Code::NotFound,
            Kind::Exists => Code::AlreadyExists,
            Kind::OutOfRange => Code::OutOfRange,
            Kind::Precondition => Code::FailedPrecondition,
            // The specification names this code for both.
            Kind::Busy | Kind::BadToken => Code::Aborted,
            Kind::Unavailable => Code::Unavailable,
            Kind::Denied => Code::PermissionDenied,
            Kind::Unsupported => Code::Unimplemented,
            Kind::Internal => Code::Internal,
        };
        Self::new(code, error.message)
    }
}

impl From<tarn_fs::store::Error> for Error {
    fn from(error: tarn_fs::store::Error) -> Self {
        let kind = match error.kind {
            ErrorKind::NotFound => Kind::NotFound,
            ErrorKind::Precondition => Kind::Busy,
            ErrorKind::Denied | ErrorKind::Credentials => Kind::Denied,
            ErrorKind::Throttled | ErrorKind::Unavailable | ErrorKind::Timeout => Kind::Unavailable,
            ErrorKind::InvalidName | ErrorKind::NameTooLong | ErrorKind::TooLarge => Kind::Invalid,
            ErrorKind::Archived => Kind::Precondition,
            ErrorKind::Corrupt | ErrorKind::Full | ErrorKind::Unsupported | ErrorKind::Rejected => {
                Kind::Internal
            }
        };
        Self::new(kind, error.to_string())
    }
}
