//! The records of the log and their bytes: length, CRC-32C, then the record in the format of postcard.

use super::time::Time;
use crate::inode::Stamp;
use crate::meta::Posix;
use crate::quota::Usage;
use crate::store::{ETag, Headers, Version};
use crate::write::Extents;
use serde::{Deserialize, Serialize};
use std::time::SystemTime;

/// One change of what the kernel may rely on. Inodes and handles are their bare numbers here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Record {
    /// What the kernel was offered at its INIT and took.
    Started {
        /// Files may be passed through.
        passthrough: bool,
    },
    /// Numbers up to these have been given out.
    Given {
        /// Inode number.
        ino: u64,
        /// Handle number.
        fh: u64,
    },
    /// An inode.
    Inode {
        /// Its number.
        ino: u64,
        /// Where it is; `None` once its name is gone.
        place: Option<PlaceRecord>,
        /// How often the kernel has looked it up.
        lookups: u64,
        /// What it is.
        node: NodeRecord,
    },
    /// An inode has another place, or none any more.
    Moved {
        /// The inode.
        ino: u64,
        /// Its place now.
        place: Option<PlaceRecord>,
    },
    /// The kernel was told of an inode once more.
    LookedUp {
        /// The inode.
        ino: u64,
    },
    /// The kernel took look-ups back.
    Forgotten {
        /// The inode.
        ino: u64,
        /// How many.
        count: u64,
    },
    /// Nothing refers to the inode any more.
    Gone {
        /// The inode.
        ino: u64,
    },
    /// What a file is now.
    File {
        /// The inode.
        ino: u64,
        /// Its state.
        file: Box<FileRecord>,
    },
    /// Entries of a directory changed here.
    Touched {
        /// The inode.
        ino: u64,
        /// When.
        at: Time,
    },
    /// Bytes of a staged layer that were written through tarn.
    Dirty {
        /// The inode.
        ino: u64,
        /// First byte.
        start: u64,
        /// Behind the last.
        end: u64,
    },
    /// A handle, as the request `unique` was or is to be answered.
    Opened {
        /// Its number.
        fh: u64,
        /// The request.
        unique: u64,
        /// The inode.
        ino: u64,
        /// How it is served.
        how: How,
    },
    /// A handle is gone.
    Closed {
        /// Its number.
        fh: u64,
    },
    /// The backing id of an inode that is passed through; `None` once it is closed.
    Backing {
        /// The inode.
        ino: u64,
        /// The kernel's number.
        id: Option<u32>,
    },
    /// Entries that a directory handle has shown, by position; a name without bytes was passed over.
    Shown {
        /// The handle.
        fh: u64,
        /// Position of the first.
        at: u64,
        /// Nothing that was shown before counts any more.
        anew: bool,
        /// The names.
        names: Vec<Vec<u8>>,
    },
    /// The request passed its checks and is about to change the bucket: if it comes again, it may have been done.
    Intent {
        /// The request.
        unique: u64,
        /// The time that what it makes has for its birth: by that it is known.
        at: Time,
    },
    /// Another client changed an object that was written here.
    Conflict(ConflictRecord),
    /// The quota was changed while the mount was in use.
    Quota {
        /// The most bytes; 0 is no quota.
        bytes: u64,
    },
    /// What the bucket holds, as far as the books of the quota know.
    Stored {
        /// Bytes and files.
        usage: Usage,
    },
    /// A key was removed while a request for it might be under way.
    Removed {
        /// The key.
        key: String,
        /// What would come back.
        removed: RemovedRecord,
    },
}

/// What may come back under a key that was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedRecord {
    /// When the file was made that had the key, and those that had it shortly before.
    pub born: Vec<Time>,
    /// What comes back was changed before.
    pub before: Time,
    /// When it was removed.
    pub at: Time,
    /// Something was put there since.
    pub is_there: bool,
}

/// A conflict that people are to see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConflictRecord {
    /// The key that holds the other side.
    pub key: String,
    /// The key that holds ours.
    pub kept_as: String,
    /// When it was found.
    pub at: Time,
}

/// Where an inode hangs in the tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceRecord {
    /// Its directory.
    pub parent: u64,
    /// Its name there.
    pub name: Vec<u8>,
}

/// What an inode is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum NodeRecord {
    /// A directory; `touched` says when its entries changed here.
    Directory {
        /// Later than its marker says.
        touched: Option<Time>,
    },
    /// A file, a symbolic link or a special file.
    File(Box<FileRecord>),
}

/// The state of a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FileRecord {
    /// Its attributes.
    pub posix: Posix,
    /// Where its bytes are.
    pub content: ContentRecord,
    /// A commit lost against another writer.
    pub superseded: bool,
}

/// Where a file's bytes are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ContentRecord {
    /// In the bucket.
    Remote {
        /// In this version.
        version: VersionRecord,
        /// The key of its local copy, if that is open.
        object: Option<String>,
    },
    /// In a staged file.
    Staged(Box<StagedRecord>),
}

/// A staged file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StagedRecord {
    /// Its name in the local store.
    pub name: String,
    /// The version that the next commit replaces.
    pub base: Option<VersionRecord>,
    /// What the bucket has of it.
    pub committed: Option<CommittedRecord>,
    /// Changed ranges over an object.
    pub overlay: Option<OverlayRecord>,
    /// Headers of the object that a rewrite keeps.
    pub headers: Headers,
    /// The attributes differ from what the object's metadata says.
    pub posix_changed: bool,
}

/// What a commit put into the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommittedRecord {
    /// The staged file's stamp before it was read.
    pub stamp: Stamp,
    /// CRC64NVME of all bytes, where it is known.
    pub crc64nvme: Option<u64>,
}

/// Changed ranges over an object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OverlayRecord {
    /// The object.
    pub base: VersionRecord,
    /// The key of its local copy, if that is open.
    pub object: Option<String>,
    /// Bytes of it that still count.
    pub base_len: u64,
    /// Ranges whose bytes are in the staged file.
    pub dirty: Extents,
}

/// A version of an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRecord {
    etag: String,
    size: u64,
    #[serde(with = "super::time")]
    last_modified: SystemTime,
    version_id: Option<String>,
}

impl From<&Version> for VersionRecord {
    fn from(version: &Version) -> Self {
        Self {
            etag: version.etag.as_str().to_owned(),
            size: version.size,
            last_modified: version.last_modified,
            version_id: version.version_id.clone(),
        }
    }
}

impl From<VersionRecord> for Version {
    fn from(record: VersionRecord) -> Self {
        let VersionRecord { etag, size, last_modified, version_id } = record;
        Self { etag: ETag::new(&etag), size, last_modified, version_id }
    }
}

/// How a handle is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum How {
    /// A directory.
    Directory,
    /// A file.
    File {
        /// It may write.
        writes: bool,
        /// The kernel reads and writes by itself.
        passthrough: bool,
        /// It keeps no pages.
        direct: bool,
        /// Every write must come to tarn.
        sync: bool,
    },
}

const HEAD: usize = 8;

/// Appends the bytes of a record.
pub(super) fn encode(record: &Record, into: &mut Vec<u8>) {
    let head = into.len();
    into.extend_from_slice(&[0; HEAD]);
    // A vector takes any amount, and no record has a type that postcard refuses.
    let mut bytes = postcard::to_extend(record, std::mem::take(into)).expect("records can be encoded");
    let body = &bytes[head + HEAD..];
    let length = u32::try_from(body.len()).expect("a record is short");
    let crc = checksum(body);
    bytes[head..head + 4].copy_from_slice(&length.to_le_bytes());
    bytes[head + 4..head + HEAD].copy_from_slice(&crc.to_le_bytes());
    *into = bytes;
}

/// The record at the start of `bytes`, and the bytes it takes; `None` if there is no whole one.
pub(super) fn decode(bytes: &[u8]) -> Option<(Record, usize)> {
    let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let (length, crc) = (usize::try_from(word(0)?).ok()?, word(4)?);
    let body = bytes.get(HEAD..HEAD.checked_add(length)?)?;
    if checksum(body) != crc {
        return None;
    }
    Some((postcard::from_bytes(body).ok()?, HEAD + length))
}

fn checksum(bytes: &[u8]) -> u32 {
    // 32 bits of it: the algorithm has no more.
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}
