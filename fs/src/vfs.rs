//! The file system: operations on inodes and handles. No kernel types, no S3 types.
//!
//! Invariants:
//! - A handle reads one version of its object. A changed object gets a new inode; the old one is read from the
//!   local store, or answers [`Error::Stale`], and is never a mix of two versions.
//! - Nothing is acknowledged by flush, fsync or a change of the tree before the store has confirmed it, or, of a
//!   flush with [`Commit::Async`], before the journal has it.
//! - An error of the store is an error here; "no such file" only comes from a definite answer.

mod attr;
mod backlog;
mod beside;
mod call;
mod change;
mod commit;
mod conflict;
mod copy;
mod describe;
mod entries;
mod exchange;
mod fence;
mod handle;
mod local;
mod lookup;
mod moves;
mod namespace;
mod open;
mod overview;
mod quota;
mod read;
mod readdir;
mod recall;
mod recover;
mod remove;
mod rename;
mod rename_dir;
mod restore;
mod resume;
mod settle;
mod space;
mod stage;
mod upload;
mod write;
mod xattr;

pub use attr::SetAttr;
pub use call::Call;
pub use handle::{DirHandle, FileHandle, Handle};
pub use local::{CopyAction, CopyError, LocalCopy};
pub use lookup::Entry;
pub use open::{OpenFlags, Opened, Serve};
pub use overview::{Conflict, Overview};
pub use readdir::{DirEntry, EntryKind, Lookups};
pub use recover::Recovered;
pub use rename::RenameMode;
pub use settle::DrainReport;
pub use space::{Allocate, Seek, Space};
pub use xattr::XattrMode;

use crate::clock;
use crate::config::{Commit, Exclusive};
use crate::error::{Error, Result};
use crate::inode::{Directory, Ino, Inode, Marker, Node, Table};
use crate::journal::{self, Record};
use crate::meta::Defaults;
use crate::name::{Key, Prefix};
use crate::process::ProcessId;
use crate::quota::Quota;
use crate::read::{Fetcher, FetcherOptions};
use crate::session_log::{self, SessionLog};
use crate::store::{Headers, ObjectStore, Version};
use crate::write::Uploader;
use backlog::Backlog;
use call::Earlier;
use fence::Fence;
use handle::HandleTable;
use namespace::Namespace;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tarn_cache::{BLOCK_SIZE, BucketId, ObjectId, StagedLabel, Store as Cache};

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub struct Caller {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits that it takes from what it makes.
    pub umask: u32,
}

/// Settings of one mount.
#[derive(Debug, Clone)]
pub struct Options {
    /// The keys that are shown.
    pub prefix: Prefix,
    /// Mode and owner of what has none.
    pub defaults: Defaults,
    /// Refuse every change.
    pub read_only: bool,
    /// Objects up to this size are fetched whole at open, staged whole for a change, and passed through.
    pub whole_max: u64,
    /// How long an answer of the store is believed.
    pub attr_ttl: Duration,
    /// Bytes of a part of an upload; also the largest file sent in one PUT.
    pub part_size: u64,
    /// Fetch whole parts even for random reads, so that every byte is compared with a checksum first.
    pub always_checked: bool,
    /// Bytes of buffers for transfers.
    pub memory_limit: u64,
    /// Requests under way at once.
    pub max_requests: usize,
    /// For how long an object must not have changed before its attributes are noted. `Last-Modified` has whole
    /// seconds: within that and the clocks' difference two states of an object look alike.
    pub note_after: Duration,
    /// When a close is answered.
    pub commit: Commit,
    /// Who says which of several exclusive creates was first.
    pub exclusive: Exclusive,
    /// This machine's name, for the names of conflict copies.
    pub host: String,
    /// The process that keeps the mount: what is staged is its own while it lives, though workers come and go.
    pub owner: ProcessId,
}

/// What a [`Vfs`] is made of.
#[derive(Debug)]
pub struct VfsParts {
    /// The bucket.
    pub store: Arc<dyn ObjectStore>,
    /// The local store.
    pub cache: Arc<Cache>,
    /// The bucket's name in the local store.
    pub bucket: BucketId,
    /// Settings.
    pub options: Options,
    /// Where background work runs.
    pub runtime: tokio::runtime::Handle,
    /// Where the next worker finds what it must know.
    pub log: SessionLog,
}

/// A mounted bucket.
#[derive(Debug)]
pub struct Vfs {
    store: Arc<dyn ObjectStore>,
    fence: Arc<Fence>,
    cache: Arc<Cache>,
    bucket: BucketId,
    options: Options,
    runtime: tokio::runtime::Handle,
    table: Table,
    handles: HandleTable,
    fetcher: Fetcher,
    uploader: Uploader,
    backlog: Backlog,
    quota: Arc<Quota>,
    namespace: Arc<Namespace>,
    conflicts: AtomicU64,
    conflict_notes: parking_lot::Mutex<Vec<Conflict>>,
    log: SessionLog,
    /// Set when a mount is taken over.
    earlier: OnceLock<Earlier>,
}

/// The largest window ahead of a sequential reader.
const WINDOW_MAX: u64 = 64 << 20;

impl Vfs {
    /// Puts a mount together; asks the store nothing.
    pub fn new(parts: VfsParts) -> Arc<Self> {
        let VfsParts { store, cache, bucket, mut options, runtime, log } = parts;
        // Checksums are kept by block: a part is made of whole ones.
        options.part_size = options.part_size.next_multiple_of(BLOCK_SIZE);
        let posix = options.defaults.directory(clock::now());
        // The root of a bucket has no marker; that of a prefix is asked when the kernel first looks.
        let marker = options.prefix.marker().map_or(Marker::Present, |_| Marker::Unknown);
        let root = Directory::new(posix, Headers::default(), marker, clock::instant());
        let table = Table::new(
            options.prefix.clone(),
            Inode { ino: Ino::ROOT, node: Node::Directory(Box::new(root)) },
            log.clone(),
        );
        let window_max = WINDOW_MAX.min(options.memory_limit / 2).max(options.part_size);
        let fetch = FetcherOptions {
            unit: options.whole_max,
            window_max,
            always_checked: options.always_checked,
            // With half of it for uploads this leaves an eighth for answers that programs and sockets are at.
            held_max: options.memory_limit * 3 / 8,
        };
        let parallel = options.max_requests.clamp(1, 16);
        let fence = Fence::new(store, log.clone());
        let store = Arc::clone(&fence) as Arc<dyn ObjectStore>;
        Arc::new(Self {
            fetcher: Fetcher::new(Arc::clone(&store), runtime.clone(), fetch),
            uploader: Uploader::new(Arc::clone(&store), options.memory_limit / 2, parallel),
            backlog: Backlog::new(parallel),
            quota: Arc::default(),
            table,
            handles: HandleTable::default(),
            namespace: Arc::default(),
            conflicts: AtomicU64::new(0),
            conflict_notes: parking_lot::Mutex::default(),
            log,
            earlier: OnceLock::new(),
            fence,
            store,
            cache,
            bucket,
            options,
            runtime,
        })
    }

    /// How long the kernel may believe an answer.
    pub fn attr_ttl(&self) -> Duration {
        self.options.attr_ttl
    }

    /// Takes look-ups back.
    pub fn forget(&self, ino: Ino, count: u64) {
        self.table.forget(ino, count);
    }

    /// What the next worker must know, if this one is killed.
    pub fn log(&self) -> &SessionLog {
        &self.log
    }

    /// Notes what a file is now.
    fn note(&self, inode: &Inode) {
        if let Some(file) = inode.file() {
            let record = || Box::new(file.state.lock().record());
            self.log.note(|| session_log::Record::File { ino: inode.ino.0, file: record() });
        }
    }

    fn writable(&self) -> Result<()> {
        if self.options.read_only { Err(Error::ReadOnly) } else { Ok(()) }
    }

    fn object_id(&self, key: &crate::name::Key, version: &crate::store::Version) -> ObjectId {
        ObjectId::new(self.bucket.clone(), key.as_str(), version.etag.as_str(), version.size)
    }

    /// What the journal says of a new staged file of this mount.
    fn open_record(&self, key: Key, base: Option<&Version>) -> Record {
        Record { owner: Some(self.options.owner), ..Record::open(key, base) }
    }

    /// The label of a staged file.
    fn label(&self, record: &Record) -> StagedLabel {
        journal::Entry::File(Box::new(record.clone())).label(&self.bucket)
    }
}

#[cfg(test)]
mod tests;
