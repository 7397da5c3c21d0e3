//! What can go wrong with a cache volume, and what may be done about it. Nothing here ever reaches a reader: a node
//! without a volume caches in a host directory.

use crate::id::VolumeId;
use std::path::PathBuf;

/// What the operations of this crate return.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The cloud refused or did not answer.
    #[error("{call}: {message}")]
    Cloud {
        /// What the caller can do.
        kind: CloudErrorKind,
        /// The call, as its documentation names it.
        call: &'static str,
        /// The service's code and message, or what happened to the request.
        message: String,
    },
    /// A program of the host failed.
    #[error("{program} {}: {message}", device.display())]
    Program {
        /// The program.
        program: &'static str,
        /// The device or mount point it was given.
        device: PathBuf,
        /// How it ended and what it said.
        message: String,
    },
    /// A call to the system failed.
    #[error("{op} {}", path.display())]
    Io {
        /// What was tried.
        op: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A device is not what it must be, so nothing was done to it.
    #[error("refuse the device of {volume}: {why}")]
    Refused {
        /// The volume.
        volume: VolumeId,
        /// What is wrong.
        why: String,
    },
    /// A call took longer than it may.
    #[error("{what} took longer than {limit_s} s")]
    TimedOut {
        /// What was tried.
        what: String,
        /// The limit in seconds.
        limit_s: u64,
    },
    /// Those who use the cache directory could not do what they were asked.
    #[error("{what} in {}: {message}", dir.display())]
    Tenant {
        /// What was tried.
        what: &'static str,
        /// The cache directory.
        dir: PathBuf,
        /// Why it failed.
        message: String,
    },
}

/// What a caller can do about a cloud's refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloudErrorKind {
    /// Too many requests: wait, then ask again.
    Throttled,
    /// No answer, or an internal error: ask again; the call may have been done.
    Unreachable,
    /// Credentials are missing or lack a permission: somebody must change that.
    Denied,
    /// A quota of the account or the instance's number of volumes is used up.
    Limit,
    /// The zone has no room for such a volume now.
    Capacity,
    /// The volume or instance is not in a state that allows it: look again.
    State,
    /// The volume was modified too recently.
    CoolDown,
    /// There is no such volume or instance.
    NotFound,
    /// The token was used for something else: take the next one.
    TokenUsed,
    /// The request makes no sense to the service: somebody must change the parameters.
    Invalid,
}

impl Error {
    /// An error of the system about `path`.
    pub(crate) fn io(op: &'static str, path: impl Into<PathBuf>, source: impl Into<std::io::Error>) -> Self {
        Self::Io { op, path: path.into(), source: source.into() }
    }

    /// What the cloud refused, if it was the cloud.
    pub fn cloud_kind(&self) -> Option<CloudErrorKind> {
        match self {
            Self::Cloud { kind, .. } => Some(*kind),
            Self::Program { .. }
            | Self::Io { .. }
            | Self::Refused { .. }
            | Self::TimedOut { .. }
            | Self::Tenant { .. } => None,
        }
    }
}
