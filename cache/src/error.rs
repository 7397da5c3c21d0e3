//! What can go wrong in the local store, each with the path that is to blame. Nothing here is an answer to a
//! reader of a clean object: damaged or missing blocks are misses, a full disk keeps nothing.

use crate::key::{BlockIndex, ByteRange};
use std::io;
use std::path::{Path, PathBuf};

/// What every operation of the local store returns.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an operation of the local store failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A call to the local file system failed.
    #[error("{op} {}", path.display())]
    Io {
        /// What was tried.
        op: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The directory could be read or changed by somebody else, or is not what it seems.
    #[error("refuse {}: {why}", path.display())]
    Unsafe {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The whole file was asked for and blocks are missing.
    #[error("{} is not whole", path.display())]
    NotWhole {
        /// The data file.
        path: PathBuf,
    },
    /// A block was filled with too few or too many bytes.
    #[error("block {block} of {} has {expected} bytes, got {actual}", path.display())]
    BlockLength {
        /// The data file.
        path: PathBuf,
        /// The block.
        block: BlockIndex,
        /// What it must have.
        expected: u64,
        /// What was given.
        actual: u64,
    },
    /// A range that reaches over the end of the object.
    #[error("bytes {range} are outside of {}, which has {size}", path.display())]
    OutOfRange {
        /// The data file.
        path: PathBuf,
        /// What was asked for.
        range: ByteRange,
        /// The object's size.
        size: u64,
    },
    /// A staged file is not as long as the object it was to become; it stays on disk as an orphan.
    #[error("{} has {actual} bytes, its object {expected}", path.display())]
    StagedLength {
        /// The staged file.
        path: PathBuf,
        /// The object's size.
        expected: u64,
        /// The file's length.
        actual: u64,
    },
}

impl Error {
    /// An error of the system about `path`.
    pub(crate) fn io(op: &'static str, path: impl AsRef<Path>, source: impl Into<io::Error>) -> Self {
        Self::Io { op, path: path.as_ref().to_owned(), source: source.into() }
    }

    /// The errno behind it, if the system gave one.
    pub fn raw_os_error(&self) -> Option<i32> {
        match self {
            Self::Io { source, .. } => source.raw_os_error(),
            Self::Unsafe { .. } => Some(rustix::io::Errno::PERM.raw_os_error()),
            Self::BlockLength { .. } | Self::OutOfRange { .. } => {
                Some(rustix::io::Errno::INVAL.raw_os_error())
            }
            Self::NotWhole { .. } | Self::StagedLength { .. } => None,
        }
    }

    /// Whether the disk or a quota has no room.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if is_full(source))
    }
}

/// Whether `error` says that the disk, a quota or the file size limit has no room.
pub(crate) fn is_full(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let code = error.raw_os_error().map(Errno::from_raw_os_error);
    code.is_some_and(|errno| [Errno::NOSPC, Errno::DQUOT, Errno::FBIG].contains(&errno))
}
