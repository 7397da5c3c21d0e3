//! Inodes: what the kernel holds numbers of, and what each one stands for.
//!
//! Lock order, outermost first: `Vfs::hold` (async) -> `File::op` (async) -> `File::commit` (async) ->
//! `Table` (short) -> `File::state` / `Directory` locks (short). Short locks are never held across an await.
//!
//! Invariant: a number is never used again while the mount lives, so the generation is always 0.

mod file;
mod listing;
mod record;
mod table;

pub use file::{
    Committed, Content, File, FileState, Handles, Origin, Overlay, RemoteFile, Serving, Stage, Stamp,
};
pub use listing::{Child, LISTING_MAX_ENTRIES, Listing};
pub use table::{Place, Table};

use crate::clock;
use crate::meta::{Kind, Posix};
use crate::name::Name;
use crate::session_log::{NodeRecord, time::Time};
use crate::store::{Headers, Version};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// An inode number, never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ino(pub u64);

impl Ino {
    /// The mount's own directory (`FUSE_ROOT_ID`).
    pub const ROOT: Self = Self(1);
}

/// One inode.
#[derive(Debug)]
pub struct Inode {
    /// Its number.
    pub ino: Ino,
    /// What it is.
    pub node: Node,
}

/// What an inode stands for.
#[derive(Debug)]
pub enum Node {
    /// A directory.
    Directory(Box<Directory>),
    /// A regular file or a symbolic link.
    File(Box<File>),
}

impl Inode {
    /// The directory, if it is one.
    pub fn directory(&self) -> Option<&Directory> {
        match &self.node {
            Node::Directory(directory) => Some(directory),
            Node::File(_) => None,
        }
    }

    /// The file, if it is one.
    pub fn file(&self) -> Option<&File> {
        match &self.node {
            Node::File(file) => Some(file),
            Node::Directory(_) => None,
        }
    }

    /// What `stat` says, without asking the store.
    pub fn attr(&self) -> Attr {
        match &self.node {
            Node::Directory(directory) => {
                Attr { ino: self.ino, size: 0, allocated: 0, links: 1, posix: directory.state.lock().posix }
            }
            Node::File(file) => file.state.lock().attr(self.ino),
        }
    }
}

impl Inode {
    /// What the next worker needs of it.
    pub fn record(&self) -> NodeRecord {
        match &self.node {
            Node::Directory(directory) => {
                NodeRecord::Directory { touched: directory.state.lock().touched.map(Time) }
            }
            Node::File(file) => NodeRecord::File(Box::new(file.state.lock().record())),
        }
    }
}

/// A directory's own state; its entries stand in the [`Table`] and in its [`Listing`].
#[derive(Debug)]
pub struct Directory {
    /// Guarded state.
    pub state: Mutex<DirectoryState>,
    /// The cached listing, if any.
    pub listing: Mutex<Option<Arc<Listing>>>,
    /// Held while a page is listed for look-ups, so that many at once cost one LIST. Outside of the short locks.
    pub listing_turn: tokio::sync::Mutex<()>,
}

/// Guarded by [`Directory::state`].
#[derive(Debug)]
pub struct DirectoryState {
    /// Its attributes.
    pub posix: Posix,
    /// Headers of its marker, as far as they are known.
    pub headers: Headers,
    /// When its entries changed here, later than the marker says.
    pub touched: Option<SystemTime>,
    /// Whether the marker was asked for its attributes.
    pub described: bool,
    /// Whether a marker object exists.
    pub marker: Marker,
    /// When the store last said that it exists.
    pub checked: Instant,
    /// Counts the changes made here to its entries; a listing that began before one is not kept.
    pub changes: u64,
    /// Its listing does not fit on one page: single names are asked for instead.
    pub large: bool,
    /// Names that the store was asked for and does not have, and when.
    pub absent: HashMap<Name, Instant>,
    /// What the bucket said of its objects that no note has: one for each object.
    pub learned: u32,
    /// Look-ups in a row of files that only a listing has described: how many to describe at once.
    pub undescribed: u32,
    /// Keys that cannot be shown have been logged.
    pub unusable_logged: bool,
}

impl DirectoryState {
    /// Takes what the marker says. What was changed in the directory since it was written counts more.
    pub fn refresh(&mut self, posix: Posix, headers: Headers, marker: &Version) {
        let touched = self.touched.filter(|touched| *touched > marker.last_modified);
        self.posix = touched.map_or(posix, |at| Posix { mtime: at, ctime: at.max(posix.ctime), ..posix });
        self.touched = touched;
        self.headers = headers;
        self.described = true;
        self.marker = Marker::Present;
    }

    /// Notes that its entries changed here.
    pub fn touch(&mut self, now: SystemTime) {
        self.posix.mtime = now;
        self.posix.ctime = now;
        self.touched = Some(now);
    }

    /// Remembers that the store has nothing under `name`. Bounded: the memory is a saving, not a promise.
    pub fn note_absent(&mut self, name: &Name, asked: Instant, lifetime: Duration) {
        if self.absent.len() >= ABSENT_MAX {
            self.absent.retain(|_, asked| clock::since(*asked) < lifetime);
            if self.absent.len() >= ABSENT_MAX {
                self.absent.clear();
            }
        }
        self.absent.insert(name.clone(), asked);
    }
}

/// Absent names remembered for one directory.
const ABSENT_MAX: usize = 4096;

/// What is known of a directory's marker object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marker {
    /// It exists.
    Present,
    /// It does not; the directory shows only through the keys below it.
    Absent,
    /// Nobody asked.
    Unknown,
}

impl Directory {
    /// A directory as the store described it.
    pub fn new(posix: Posix, headers: Headers, marker: Marker, checked: Instant) -> Self {
        debug_assert_eq!(posix.kind, Kind::Directory);
        let state = DirectoryState {
            posix,
            headers,
            touched: None,
            described: marker != Marker::Unknown,
            marker,
            checked,
            changes: 0,
            large: false,
            absent: HashMap::new(),
            undescribed: 0,
            learned: 0,
            unusable_logged: false,
        };
        Self {
            state: Mutex::new(state),
            listing: Mutex::new(None),
            listing_turn: tokio::sync::Mutex::default(),
        }
    }
}

/// What `stat` shows.
#[derive(Debug, Clone, Copy)]
pub struct Attr {
    /// The number.
    pub ino: Ino,
    /// Length in bytes.
    pub size: u64,
    /// Bytes on the local disk for a file with local data, else the length.
    pub allocated: u64,
    /// Names: of a file 1, or 0 once it has none; of a directory 2 and one per directory in it, or 1 if nobody has
    /// counted.
    pub links: u32,
    /// Kind, mode, owner, times.
    pub posix: Posix,
}
