//! The file system of tarn: S3 and MinIO buckets as POSIX paths.
//!
//! Layers, top to bottom; an item may use only what stands below it:
//! `main, cli` / `mount, keeper, control, demo, doctor` / `fuse` / `vfs` / `inode, meta, quota, read, write, journal, session_log` /
//! `store, embedded` / `error, config, spec, clock, process, telemetry` / `name`. `tests/tidy.rs` checks the `use crate::` lines
//! against this list.

pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod demo;
pub mod doctor;
pub mod embedded;
pub mod error;
pub mod fuse;
pub mod inode;
pub mod journal;
pub mod keeper;
pub mod meta;
pub mod mount;
pub mod name;
pub mod process;
pub mod quota;
pub mod read;
pub mod session_log;
pub mod spec;
pub mod store;
pub mod telemetry;
pub mod vfs;
pub mod write;
