//! The local store: versions of objects as sparse files on a local disk, shared by every mount of a node.
//!
//! What is kept: *clean objects* (bytes that the bucket has too, in blocks of [`BLOCK_SIZE`]) and *staged files*
//! (bytes that the bucket does not have yet). A clean object may vanish at any time and is fetched again; a
//! staged file is removed only by its owner.
//!
//! Invariants:
//! - A block is served only if it was written in this boot, or verified in this boot against its CRC64NVME.
//!   Whatever is wrong on the disk is a miss and a counter, never an error to a reader and never wrong bytes.
//! - A block's bytes are written before the map says that they are there.
//! - An open [`Object`] is pinned for every process: nobody removes it or punches holes into it.
//! - A full disk turns fills into nothing; it never fails a read.
//!
//! What it does not do: it knows neither S3 nor FUSE, fetches nothing, uploads nothing and interprets no key.
//! `FORMAT.md` has the bytes on disk.

mod error;
mod evict;
mod files;
mod flight;
mod key;
mod mapping;
mod notes;
mod object;
mod staging;
mod stats;
mod store;

pub use error::{Error, Result};
pub use flight::{Flights, Landed, Lead, Role, Waiter};
pub use key::{BLOCK_SIZE, BlockIndex, BucketId, ByteRange, ObjectId};
pub use object::{Access, Lookup, Object};
pub use staging::{OrphanStaged, PromoteWith, Staged, StagedLabel};
pub use stats::Stats;
pub use store::{Hold, Store, StoreOptions, Taken};
