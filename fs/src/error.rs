//! What the file system answers, and the one table that turns it into an errno.

use crate::name::NameError;
use crate::store;
use rustix::io::Errno;

/// What every operation of the file system returns.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an operation of the file system failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such file or directory.
    #[error("no such file or directory")]
    NotFound,
    /// The name is taken.
    #[error("file exists")]
    Exists,
    /// A directory is needed here.
    #[error("not a directory")]
    NotDirectory,
    /// A directory cannot be used here.
    #[error("is a directory")]
    IsDirectory,
    /// The directory has entries.
    #[error("directory not empty")]
    NotEmpty,
    /// The mount is read-only.
    #[error("read-only file system")]
    ReadOnly,
    /// An argument makes no sense.
    #[error("invalid argument: {0}")]
    Invalid(&'static str),
    /// tarn does not do this.
    #[error("not supported: {0}")]
    Unsupported(&'static str),
    /// Not allowed, whoever asks.
    #[error("operation not permitted: {0}")]
    NotPermitted(&'static str),
    /// The object was changed by somebody else: the handle's version is gone, or the commit lost.
    #[error("stale: {0}")]
    Stale(String),
    /// A file or a handle number that is not known.
    #[error("bad file descriptor")]
    BadHandle,
    /// The size is beyond what one object holds.
    #[error("file too large")]
    TooLarge,
    /// No data or hole beyond this offset.
    #[error("no such offset")]
    NoSuchOffset,
    /// An extended attribute that is not there.
    #[error("no such attribute")]
    NoAttribute,
    /// The metadata of an object does not hold so much.
    #[error("no room in 2 KiB of user metadata")]
    NoRoom,
    /// The bytes would not fit into the quota of this mount.
    #[error("the quota of {0} bytes is used up")]
    Quota(u64),
    /// A name that cannot be a key.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The object store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A fetch that several readers waited for failed.
    #[error(transparent)]
    Fetch(#[from] std::sync::Arc<store::Error>),
    /// The local store failed.
    #[error(transparent)]
    Cache(#[from] tarn_cache::Error),
    /// A file operation on the local disk failed.
    #[error("local disk: {0}")]
    Disk(#[from] std::io::Error),
    /// A request was not answered in time.
    #[error("deadline passed")]
    Deadline,
    /// Nobody waits for the answer any more.
    #[error("whoever asked was killed")]
    Interrupted,
    /// A part of tarn itself ended or failed; the log says more.
    #[error("internal: {0}")]
    Internal(&'static str),
}

impl Error {
    /// Whether what was asked for may have been done all the same, wholly or in part.
    pub fn is_unclear(&self) -> bool {
        match self {
            Self::Store(_)
            | Self::Fetch(_)
            | Self::Cache(_)
            | Self::Disk(_)
            | Self::Deadline
            | Self::Interrupted
            | Self::Internal(_) => true,
            Self::NotFound
            | Self::Exists
            | Self::NotDirectory
            | Self::IsDirectory
            | Self::NotEmpty
            | Self::ReadOnly
            | Self::Invalid(_)
            | Self::Unsupported(_)
            | Self::NotPermitted(_)
            | Self::Stale(_)
            | Self::BadHandle
            | Self::TooLarge
            | Self::NoSuchOffset
            | Self::NoAttribute
            | Self::NoRoom
            | Self::Quota(_)
            | Self::Name(_) => false,
        }
    }

    /// Whether it says that there is no such name or object.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound) || self.store_kind() == Some(store::ErrorKind::NotFound)
    }

    /// The store's verdict, if it was the store that failed.
    pub fn store_kind(&self) -> Option<store::ErrorKind> {
        match self {
            Self::Store(error) => Some(error.kind),
            Self::Fetch(error) => Some(error.kind),
            Self::NotFound
            | Self::Exists
            | Self::NotDirectory
            | Self::IsDirectory
            | Self::NotEmpty
            | Self::ReadOnly
            | Self::Invalid(_)
            | Self::Unsupported(_)
            | Self::NotPermitted(_)
            | Self::Stale(_)
            | Self::BadHandle
            | Self::TooLarge
            | Self::NoSuchOffset
            | Self::NoAttribute
            | Self::NoRoom
            | Self::Quota(_)
            | Self::Name(_)
            | Self::Cache(_)
            | Self::Disk(_)
            | Self::Deadline
            | Self::Interrupted
            | Self::Internal(_) => None,
        }
    }

    /// The one errno table.
    pub fn errno(&self) -> Errno {
        match self {
            Self::NotFound => Errno::NOENT,
            Self::Exists => Errno::EXIST,
            Self::NotDirectory => Errno::NOTDIR,
            Self::IsDirectory => Errno::ISDIR,
            Self::NotEmpty => Errno::NOTEMPTY,
            Self::ReadOnly => Errno::ROFS,
            Self::Invalid(_) => Errno::INVAL,
            Self::Unsupported(_) => Errno::OPNOTSUPP,
            Self::NotPermitted(_) => Errno::PERM,
            Self::Stale(_) => Errno::STALE,
            Self::BadHandle => Errno::BADF,
            Self::TooLarge => Errno::FBIG,
            Self::NoSuchOffset => Errno::NXIO,
            Self::NoAttribute => Errno::NODATA,
            Self::NoRoom | Self::Quota(_) => Errno::NOSPC,
            Self::Name(NameError::Invalid) => Errno::INVAL,
            Self::Name(NameError::TooLong) => Errno::NAMETOOLONG,
            Self::Store(error) => store_errno(error.kind),
            Self::Fetch(error) => store_errno(error.kind),
            Self::Cache(error) => disk_errno(error.raw_os_error()),
            Self::Disk(error) => disk_errno(error.raw_os_error()),
            Self::Deadline => Errno::TIMEDOUT,
            Self::Interrupted => Errno::INTR,
            Self::Internal(_) => Errno::IO,
        }
    }
}

/// A failure of the store is an I/O error unless the caller can do something about it.
fn store_errno(kind: store::ErrorKind) -> Errno {
    use store::ErrorKind;
    match kind {
        ErrorKind::NotFound => Errno::NOENT,
        ErrorKind::Precondition => Errno::STALE,
        ErrorKind::Denied | ErrorKind::Credentials => Errno::ACCESS,
        // SlowDown that outlived the retries is an outage for the application: EAGAIN would make it spin.
        ErrorKind::Throttled | ErrorKind::Unavailable | ErrorKind::Corrupt | ErrorKind::Rejected => Errno::IO,
        ErrorKind::Timeout => Errno::TIMEDOUT,
        ErrorKind::InvalidName => Errno::INVAL,
        ErrorKind::NameTooLong => Errno::NAMETOOLONG,
        ErrorKind::TooLarge => Errno::FBIG,
        ErrorKind::Full => Errno::NOSPC,
        // The data exists but cannot be read now; the log names the restore that is needed.
        ErrorKind::Archived => Errno::IO,
        ErrorKind::Unsupported => Errno::OPNOTSUPP,
    }
}

fn disk_errno(code: Option<i32>) -> Errno {
    code.map_or(Errno::IO, Errno::from_raw_os_error)
}
