//! The file system of tarn: S3 and MinIO buckets as POSIX paths.
//!
//! Layers, top to bottom; an item may use only what stands below it:
//! `main, cli` / `mount, demo, doctor` / `fuse` / `vfs` / `inode, meta, read, write` / `store, name` /
//! `error, config, clock, telemetry`. `tests/tidy.rs` checks the `use crate::` lines against this list.

pub mod clock;
pub mod error;
pub mod fuse;
pub mod inode;
pub mod meta;
pub mod name;
pub mod read;
pub mod store;
pub mod vfs;
pub mod write;
