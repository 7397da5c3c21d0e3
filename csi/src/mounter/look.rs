//! Looks at what is mounted, without ever waiting for a mount that does not answer.

use crate::error::{Error, Kind, Result};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tarn_fs::fuse::session::mountinfo;

/// How long a mount may take to answer a question that needs no bucket.
const PATIENCE: Duration = Duration::from_secs(5);
/// What the kernel says of a mount whose process is gone.
const DEAD: [rustix::io::Errno; 2] = [rustix::io::Errno::NOTCONN, rustix::io::Errno::CONNABORTED];

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Nothing.
    Nothing,
    /// A directory without a mount.
    Bare,
    /// Something else than a directory.
    Other,
    /// A mount of tarn that answers.
    Live {
        /// The device number, `MAJOR:MINOR`; a bind has its mount's.
        device: String,
        /// What is mounted.
        source: String,
    },
    /// A mount of tarn whose process is gone.
    Dead,
    /// A mount of another file system, by its type.
    Foreign(String),
}

/// The path in the form in which the kernel lists it. The last component is never followed: it may be a dead mount.
pub(super) fn in_table(path: &Path) -> io::Result<PathBuf> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok(parent.canonicalize()?.join(name)),
        (Some(_) | None, _) => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// Says what is at `path`.
pub(super) async fn look(path: &Path) -> Result<Seen> {
    let failed = |error: io::Error| Error::local(format_args!("look at {}", path.display()), &error);
    let listed = match in_table(path) {
        Ok(listed) => listed,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Seen::Nothing),
        Err(error) => return Err(failed(error)),
    };
    let Some(entry) = mountinfo::find_last(&listed).map_err(failed)? else {
        return match std::fs::symlink_metadata(&listed) {
            Ok(metadata) if metadata.is_dir() => Ok(Seen::Bare),
            Ok(_) => Ok(Seen::Other),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Seen::Nothing),
            Err(error) => Err(failed(error)),
        };
    };
    if !entry.is_tarn() {
        return Ok(Seen::Foreign(entry.fs_type));
    }
    match ask(&listed, |dir| rustix::fs::statvfs(dir)).await? {
        Ok(_) => Ok(Seen::Live { device: entry.device, source: entry.source }),
        Err(errno) if DEAD.contains(&errno) => Ok(Seen::Dead),
        Err(errno) => Err(failed(errno.into())),
    }
}

/// Asks a mount on a thread of its own, for a bounded time. The thread of one that never answers stays until its
/// process ends, which frees it.
pub(super) async fn ask<T: Send + 'static>(
    dir: &Path,
    question: impl FnOnce(&Path) -> T + Send + 'static,
) -> Result<T> {
    let asked = dir.to_owned();
    let answer = tokio::task::spawn_blocking(move || question(&asked));
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(Error::new(Kind::Internal, error.to_string())),
        Err(_) => Err(Error::new(
            Kind::Unavailable,
            format!("the mount at {} has not answered for {} s", dir.display(), PATIENCE.as_secs()),
        )),
    }
}
