//! The state of one regular file: where its bytes are and how the kernel is served.

use super::{Attr, Ino};
use crate::journal::StagedFile;
use crate::meta::{self, Posix};
use crate::name::Key;
use crate::quota::Claim;
use crate::read::{PartLayout, Windows};
use crate::store::{Headers, Version};
use crate::write::Extents;
use parking_lot::Mutex;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tarn_cache::{BlockIndex, Flights, Object};

/// A regular file or symbolic link.
#[derive(Debug)]
pub struct File {
    /// Held while what the file is made of changes hands: open, truncate, release.
    pub op: tokio::sync::Mutex<()>,
    /// Held while the file's bytes go to the store.
    pub commit: tokio::sync::Mutex<()>,
    /// Everything else.
    pub state: Mutex<FileState>,
}

impl File {
    /// A file with this state.
    pub fn new(state: FileState) -> Self {
        Self {
            op: tokio::sync::Mutex::new(()),
            commit: tokio::sync::Mutex::new(()),
            state: Mutex::new(state),
        }
    }
}

/// Guarded by [`File::state`].
#[derive(Debug)]
pub struct FileState {
    /// Its attributes. Those of a staged file lag behind what the kernel writes unseen: see [`FileState::written`].
    pub posix: Posix,
    /// Whether `posix` and `headers` are the object's own, not guessed from a listing.
    pub described: bool,
    /// Headers of the object that a rewrite keeps.
    pub headers: Headers,
    /// A listing told the headers, which leaves out `Expires` and may leave out tags: a change asks first.
    pub listed: bool,
    /// Where the bytes are.
    pub content: Content,
    /// `posix` differs from what the object's metadata says.
    pub posix_changed: bool,
    /// Open handles.
    pub handles: Handles,
    /// How the kernel is served.
    pub serving: Serving,
    /// When the store last confirmed the version.
    pub checked: Instant,
    /// When this mount last made the version itself.
    pub made: Option<Instant>,
    /// Nothing that the store had said by then is believed any more.
    pub doubted: Option<Instant>,
    /// The version whose pages the kernel may still hold.
    pub kernel_pages: Option<Version>,
    /// A commit lost against another writer: the bytes are kept elsewhere and no more go to this key.
    pub superseded: bool,
}

/// Open handles by access.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Handles {
    /// Read-only ones.
    pub readers: u32,
    /// Those that may write.
    pub writers: u32,
}

impl Handles {
    /// Whether none is open.
    pub fn none(self) -> bool {
        self == Self::default()
    }
}

/// Where a file's bytes are.
#[derive(Debug, Clone)]
pub enum Content {
    /// In the bucket, perhaps cached: nothing to lose here.
    Remote(Arc<RemoteFile>),
    /// In a staged file: more than the bucket has, or about to be.
    Staged(Box<Stage>),
}

/// One version of an object, open here.
#[derive(Debug)]
pub struct RemoteFile {
    /// The version that every read must come from.
    pub version: Version,
    /// Its local copy; pinned while the file is open.
    pub object: Mutex<Option<Arc<Object>>>,
    /// What its readers seem to be up to.
    pub windows: Mutex<Windows>,
    /// Blocks being fetched.
    pub flights: Flights<BlockIndex, Arc<crate::store::Error>>,
    /// Where its parts seem to lie.
    pub parts: PartLayout,
    /// Some blocks came without a checksum and were not compared with the bucket's since.
    pub unchecked: AtomicBool,
    /// The kernel may have pages of a copy that was found wrong.
    pub spoiled: AtomicBool,
}

impl RemoteFile {
    /// A version that is not open yet.
    pub fn new(version: Version) -> Self {
        Self::with_object(version, None)
    }

    /// The same bytes under another version, for a copy made by the server.
    pub fn with_object(version: Version, object: Option<Arc<Object>>) -> Self {
        let (object, windows) = (Mutex::new(object), Mutex::new(Windows::default()));
        let parts = PartLayout::guess(&version);
        let flag = || AtomicBool::new(false);
        Self { version, object, windows, flights: Flights::new(), parts, unchecked: flag(), spoiled: flag() }
    }
}

/// A staged file and what it is to replace.
#[derive(Debug, Clone)]
pub struct Stage {
    /// The local file.
    pub file: Arc<StagedFile>,
    /// The version in the bucket that the next commit replaces; `None` if the key must be free.
    pub base: Option<Version>,
    /// What the bucket has of it.
    pub committed: Option<Committed>,
    /// For a large object of which only the changed ranges are staged.
    pub overlay: Option<Overlay>,
    /// Counts writes that tarn itself made to the staged file.
    pub writes: u64,
    /// The object that the file was copied from whole: while the bytes are the same, the server can copy it.
    pub copied: Option<Origin>,
    /// An upload failed, here or in an earlier process: the bucket may have it all the same, with the answer lost.
    /// Guarded by [`File::commit`].
    pub unsure: bool,
    /// What it takes of the mount's quota.
    pub claim: Arc<Claim>,
}

impl Stage {
    /// Notes that tarn wrote `range` to the staged file.
    pub fn wrote(&mut self, range: Range<u64>) {
        self.writes += 1;
        if let Some(overlay) = &mut self.overlay {
            overlay.dirty.insert(range);
        }
    }

    /// Bytes that the bucket will hold more once it has `size` bytes of this.
    pub fn excess(&self, size: u64) -> u64 {
        size.saturating_sub(self.base.as_ref().map_or(0, |base| base.size))
    }

    /// Rests on another version in the bucket from now on, whose bytes the local copy has if they are the same.
    pub fn rest_on(&mut self, version: Version, same_bytes: bool) {
        if let Some(overlay) = &mut self.overlay {
            let object = overlay.base.object.lock().clone().filter(|_| same_bytes);
            overlay.base = Arc::new(RemoteFile::with_object(version.clone(), object));
        }
        self.base = Some(version);
    }
}

/// An object that a staged file was copied from.
#[derive(Debug, Clone)]
pub struct Origin {
    /// Its key.
    pub key: Key,
    /// Its version.
    pub version: Version,
    /// CRC64NVME of its bytes.
    pub crc64nvme: u64,
}

/// What a commit put into the bucket.
#[derive(Debug, Clone)]
pub struct Committed {
    /// The staged file's stamp, taken before it was read.
    pub stamp: Stamp,
    /// [`Stage::writes`] at that time.
    pub writes: u64,
    /// CRC64NVME of all bytes, where it is known.
    pub crc64nvme: Option<u64>,
    /// CRC64NVME of each block, if the file was read whole.
    pub crcs: Option<Arc<Vec<u64>>>,
}

/// Changed ranges over a base version.
#[derive(Debug, Clone)]
pub struct Overlay {
    /// Ranges whose bytes are in the staged file.
    pub dirty: Extents,
    /// The object below.
    pub base: Arc<RemoteFile>,
    /// Bytes of the base that still count: less than its size after a truncation.
    pub base_len: u64,
}

/// How the kernel reads and writes the file. FUSE takes one way per inode: while one handle passes through all
/// must, with the same backing file; while one is cached none may (`fs/fuse/iomode.c`).
#[derive(Debug)]
pub enum Serving {
    /// No handle decides it.
    Idle,
    /// Through tarn and the kernel's page cache.
    Cached {
        /// Open handles of this kind.
        handles: u32,
    },
    /// By the kernel itself.
    Passthrough {
        /// Open handles of this kind.
        handles: u32,
        /// The backing file.
        file: Arc<std::fs::File>,
    },
}

/// Size and times of a staged file: equal stamps mean unchanged bytes, unless [`Stamp::is_recent`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Stamp {
    /// Length in bytes.
    pub size: u64,
    mtime: (i64, i64),
    ctime: (i64, i64),
    /// Taken so shortly after the last change that another one could carry the same times.
    pub is_recent: bool,
}

/// Longer than the coarsest clock tick a file system stamps with (`CONFIG_HZ=100`: 10 ms).
const CLOCK_TICK: Duration = Duration::from_millis(20);

impl Stamp {
    /// The stamp of an open file.
    pub fn of(file: &std::fs::File) -> std::io::Result<Self> {
        let now = crate::clock::now();
        let meta = file.metadata()?;
        let is_recent = now.duration_since(meta.modified()?).map_or(true, |age| age < CLOCK_TICK);
        let (mtime, ctime) = ((meta.mtime(), meta.mtime_nsec()), (meta.ctime(), meta.ctime_nsec()));
        Ok(Self { size: meta.len(), mtime, ctime, is_recent })
    }

    /// Whether a file with stamp `now` certainly has the bytes it had at `self`.
    pub fn proves_unchanged(&self, now: &Self) -> bool {
        !self.is_recent && (self.size, self.mtime, self.ctime) == (now.size, now.mtime, now.ctime)
    }

    /// The modification time.
    pub fn modified(&self) -> SystemTime {
        time(self.mtime)
    }
}

fn time((seconds, nanos): (i64, i64)) -> SystemTime {
    let nanos = Duration::from_nanos(nanos.unsigned_abs());
    match u64::try_from(seconds) {
        Ok(seconds) => UNIX_EPOCH + Duration::from_secs(seconds) + nanos,
        Err(_) => UNIX_EPOCH - Duration::from_secs(seconds.unsigned_abs()) + nanos,
    }
}

impl FileState {
    /// Whether what the store said at `time` still counts.
    pub fn believes(&self, time: Instant) -> bool {
        self.doubted.is_none_or(|doubted| time > doubted)
    }

    /// Whether this mount has made the version since the store was asked, so that the answer may be about another.
    pub fn is_made_since(&self, asked: Instant) -> bool {
        self.made.is_some_and(|made| made >= asked)
    }

    /// The store has a version from now on that this mount has made.
    pub fn made(&mut self) {
        let now = crate::clock::instant();
        (self.checked, self.made) = (now, Some(now));
    }

    /// A file that nobody has open, as the store has just described it, or as it was just made.
    pub fn new(posix: Posix, headers: Headers, content: Content, described: bool) -> Self {
        Self {
            posix,
            described,
            headers,
            listed: false,
            content,
            posix_changed: false,
            handles: Handles::default(),
            serving: Serving::Idle,
            checked: crate::clock::instant(),
            made: None,
            doubted: None,
            kernel_pages: None,
            superseded: false,
        }
    }

    /// What `stat` shows. A staged file is asked itself, for the kernel may write to it unseen.
    pub fn attr(&self, ino: Ino) -> Attr {
        let (links, posix) = (1, self.posix);
        match &self.content {
            Content::Remote(remote) => {
                let size = remote.version.size;
                Attr { ino, size, allocated: size, links, posix }
            }
            Content::Staged(stage) => match stage.file.staged.file().metadata() {
                Ok(meta) => {
                    let posix = self.written(time((meta.mtime(), meta.mtime_nsec())));
                    let allocated = if stage.overlay.is_some() { meta.len() } else { meta.blocks() * 512 };
                    Attr { ino, size: meta.len(), allocated, links, posix }
                }
                // fstat of an open local file fails only if the disk is gone; the next read or write says so.
                Err(_) => Attr { ino, size: 0, allocated: 0, links, posix },
            },
        }
    }

    /// The attributes of a staged file that was last written at `modified`: a write moves both times.
    pub fn written(&self, modified: SystemTime) -> Posix {
        if modified == self.posix.mtime {
            return self.posix;
        }
        Posix { mtime: modified, ctime: self.posix.ctime.max(modified), ..self.posix }
    }

    /// Takes the set-id bits away.
    pub fn drop_set_id(&mut self) {
        let mode = self.posix.mode_without_set_id();
        self.posix_changed |= mode != self.posix.mode;
        self.posix.mode = mode;
    }

    /// Takes a program's capabilities away, as each change of its content does, whoever makes it.
    pub fn drop_capabilities(&mut self) {
        self.posix_changed |= meta::drop_capabilities(&mut self.headers);
    }

    /// The staged file, if its bytes belong into the bucket under this file's key. Those that lost to another client
    /// are kept beside the winner, and who wrote them knows.
    pub fn pending(&self) -> Option<&Stage> {
        match &self.content {
            Content::Staged(stage) if !self.superseded => Some(stage),
            Content::Staged(_) | Content::Remote(_) => None,
        }
    }

    /// The version in the bucket that this state rests on.
    pub fn version(&self) -> Option<&Version> {
        match &self.content {
            Content::Remote(remote) => Some(&remote.version),
            Content::Staged(stage) => stage.base.as_ref(),
        }
    }
}
