//! The directories of a store and the lock that says whether it is in use.

use crate::error::{Error, Result};
use crate::files::{self, Dir};
use crate::key::ObjectName;
use rustix::fs::FlockOperation;
use std::fs::File;
use std::hash::{BuildHasher, Hasher};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// The sub-directory of this layout; another version has its own beside it.
const LAYOUT: &str = "v1";

/// The open directories of a store.
#[derive(Debug)]
pub(crate) struct Dirs {
    /// The directory of this layout.
    pub(crate) root: Dir,
    /// Shards of clean objects.
    pub(crate) objects: Dir,
    /// Staged files and their labels.
    pub(crate) staged: Dir,
    /// Notes.
    pub(crate) notes: Dir,
    /// Names of objects that are not evicted.
    pub(crate) holds: Dir,
    /// Files that are not yet, or no longer, part of the store.
    pub(crate) tmp: Dir,
    /// Carries a shared lock for as long as the store is open.
    in_use: File,
    nonce: u64,
    counter: AtomicU64,
}

impl Dirs {
    /// Opens or creates them below `path`.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let root = Dir::open_private(path)?.subdir(LAYOUT)?;
        let objects = root.subdir("objects")?;
        let staged = root.subdir("staged")?;
        let (notes, holds) = (root.subdir("notes")?, root.subdir("holds")?);
        let tmp = root.subdir("tmp")?;
        let in_use = root.open_or_create("lock")?;
        let nonce = std::hash::RandomState::new().build_hasher().finish();
        Ok(Self { root, objects, staged, notes, holds, tmp, in_use, nonce, counter: AtomicU64::new(0) })
    }

    /// Runs `work` alone if no other process has the store open (it gets `true`), or beside them.
    /// Afterwards the store counts as open.
    pub(crate) fn enter<T>(&self, work: impl FnOnce(bool) -> Result<T>) -> Result<T> {
        let failed = |error| Error::io("lock", self.root.path().join("lock"), error);
        let alone = files::try_lock(&self.in_use).map_err(failed)?;
        let share = || {
            files::wait_for_lock(&self.in_use, FlockOperation::LockShared)
                .map_err(|error| failed(error.into()))
        };
        if !alone {
            share()?;
        }
        let result = work(alone)?;
        if alone {
            share()?;
        }
        Ok(result)
    }

    /// The directory of the shard of `name`.
    pub(crate) fn shard(&self, name: ObjectName) -> Result<Dir> {
        self.objects.subdir(&format!("{:02x}", name.shard()))
    }

    /// A file name that nobody else uses.
    pub(crate) fn unique(&self) -> String {
        format!("{:016x}-{:x}", self.nonce, self.counter.fetch_add(1, Ordering::Relaxed))
    }

    /// Frees what killed processes left in `tmp`. Only while nobody else has the store open.
    pub(crate) fn clear_tmp(&self) -> Result<()> {
        self.tmp.names()?.iter().try_for_each(|name| self.tmp.remove(name))
    }
}
