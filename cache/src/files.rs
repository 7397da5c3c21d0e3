//! Directories by descriptor: every file of the store is reached by a plain name within an open directory and
//! never through a symbolic link, so nothing that is renamed or linked above it can lead it astray.

mod lease;

pub(crate) use lease::has_writer;

use crate::error::{Error, Result};
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

const DIR_FLAGS: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const FILE_FLAGS: OFlags = OFlags::NOFOLLOW.union(OFlags::CLOEXEC);

/// An open directory.
#[derive(Debug)]
pub(crate) struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

impl Dir {
    /// Opens `path`, which must be a real directory that only this user can use; creates it if it is absent.
    pub(crate) fn open_private(path: &Path) -> Result<Self> {
        match rustix::fs::mkdir(path, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(Error::io("create", path, error)),
        }
        let fd = rustix::fs::open(path, DIR_FLAGS, Mode::empty()).map_err(|error| refusal(path, error))?;
        let dir = Self { fd, path: path.to_owned() };
        dir.check_private()?;
        Ok(dir)
    }

    /// Opens the directory `name` in this one, creating it if it is absent.
    pub(crate) fn subdir(&self, name: &str) -> Result<Self> {
        let path = self.path.join(name);
        let open = || rustix::fs::openat(&self.fd, name, DIR_FLAGS, Mode::empty());
        let fd = match open() {
            Err(Errno::NOENT) => {
                match rustix::fs::mkdirat(&self.fd, name, Mode::RWXU) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(Error::io("create", path, error)),
                }
                open()
            }
            other => other,
        };
        Ok(Self { fd: fd.map_err(|error| refusal(&path, error))?, path })
    }

    fn check_private(&self) -> Result<()> {
        let stat = rustix::fs::fstat(&self.fd).map_err(|error| Error::io("stat", &self.path, error))?;
        let refuse = |why| Err(Error::Unsafe { path: self.path.clone(), why });
        if stat.st_uid != rustix::process::geteuid().as_raw() {
            return refuse("it belongs to another user");
        }
        if stat.st_mode & 0o077 != 0 {
            return refuse("others may use it; chmod go-rwx, or choose another directory");
        }
        Ok(())
    }

    /// Where it is, or was when it was opened.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Creates the file `name`, which must not be there.
    pub(crate) fn create(&self, name: &str) -> Result<File> {
        let flags = FILE_FLAGS | OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        self.openat("create", name, flags)
    }

    /// Opens the file `name` for reading and writing, creating it if it is absent.
    pub(crate) fn open_or_create(&self, name: &str) -> Result<File> {
        self.openat("open", name, FILE_FLAGS | OFlags::RDWR | OFlags::CREATE)
    }

    /// Opens the file `name`; `None` if it is not there.
    pub(crate) fn open(&self, name: &str, access: OFlags) -> Result<Option<File>> {
        match self.openat("open", name, FILE_FLAGS | access) {
            Ok(file) => Ok(Some(file)),
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn openat(&self, op: &'static str, name: &str, flags: OFlags) -> Result<File> {
        match rustix::fs::openat(&self.fd, name, flags, Mode::RUSR | Mode::WUSR) {
            Ok(fd) => Ok(File::from(fd)),
            Err(Errno::LOOP) => Err(refusal(&self.path.join(name), Errno::LOOP)),
            Err(error) => Err(Error::io(op, self.path.join(name), error)),
        }
    }

    /// Removes the file `name`; one that is gone is removed.
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        self.remove_if_there(name).map(drop)
    }

    /// Removes the file `name`; says whether it was there.
    pub(crate) fn remove_if_there(&self, name: &str) -> Result<bool> {
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(Error::io("remove", self.path.join(name), error)),
        }
    }

    /// Moves the file `name` to `to`, replacing what is there.
    pub(crate) fn rename(&self, name: &str, to: &Self, new_name: &str) -> Result<()> {
        rustix::fs::renameat_with(&self.fd, name, &to.fd, new_name, RenameFlags::empty())
            .map_err(|error| Error::io("rename", self.path.join(name), error))
    }

    /// Bytes on disk and the inode of `name`; `None` if it is not there.
    pub(crate) fn stat(&self, name: &str) -> Result<Option<FileStat>> {
        match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(FileStat {
                inode: stat.st_ino,
                allocated: u64::try_from(stat.st_blocks).unwrap_or(0) * 512,
                len: u64::try_from(stat.st_size).unwrap_or(0),
                modified: stat.st_mtime,
            })),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(Error::io("stat", self.path.join(name), error)),
        }
    }

    /// The names in it, without `.` and `..`; names that are not UTF-8 are none of ours.
    pub(crate) fn names(&self) -> Result<Vec<String>> {
        let failed = |error: Errno| Error::io("list", &self.path, error);
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.fd).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if let Ok(name) = entry.file_name().to_str()
                && name != "."
                && name != ".."
            {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    /// Waits for the exclusive lock of the directory, which goes with this descriptor.
    pub(crate) fn lock(&self) -> Result<()> {
        wait_for_lock(&self.fd, FlockOperation::LockExclusive)
            .map_err(|error| Error::io("lock", &self.path, error))
    }

    /// Gives the lock back.
    pub(crate) fn unlock(&self) {
        if let Err(error) = rustix::fs::flock(&self.fd, FlockOperation::Unlock) {
            tracing::warn!(%error, path = %self.path.display(), "unlocking failed; closing it will do");
        }
    }

    /// Bytes that this user may still write to the file system.
    pub(crate) fn free_bytes(&self) -> Result<u64> {
        let stat = rustix::fs::fstatvfs(&self.fd).map_err(|error| Error::io("statfs", &self.path, error))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

/// What matters of a file's status.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FileStat {
    /// The inode number.
    pub(crate) inode: u64,
    /// Bytes on disk.
    pub(crate) allocated: u64,
    /// Its length.
    pub(crate) len: u64,
    /// When it was written, in seconds.
    pub(crate) modified: i64,
}

fn refusal(path: &Path, error: Errno) -> Error {
    match error {
        Errno::LOOP => Error::Unsafe { path: path.to_owned(), why: "it is a symbolic link" },
        Errno::NOTDIR => {
            Error::Unsafe { path: path.to_owned(), why: "it is a symbolic link or no directory" }
        }
        error => Error::io("open", path, error),
    }
}

/// Takes a lock that others hold for a moment only.
pub(crate) fn wait_for_lock(file: impl AsFd, operation: FlockOperation) -> rustix::io::Result<()> {
    rustix::io::retry_on_intr(|| rustix::fs::flock(&file, operation))
}

/// Takes the exclusive lock of `file` if nobody else has any lock on it.
pub(crate) fn try_lock(file: &File) -> io::Result<bool> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Calls `work` with a zeroed or reused buffer for every chunk of `from..to`.
pub(crate) fn in_chunks(
    from: u64,
    to: u64,
    mut work: impl FnMut(&mut [u8], u64) -> io::Result<()>,
) -> io::Result<()> {
    const CHUNK: u64 = 256 * 1024;
    let mut buffer = vec![0; usize::try_from(to.saturating_sub(from).min(CHUNK)).unwrap_or(0)];
    let mut at = from;
    while at < to {
        let len = usize::try_from((to - at).min(CHUNK)).unwrap_or(buffer.len());
        work(&mut buffer[..len], at)?;
        at += len as u64;
    }
    Ok(())
}
