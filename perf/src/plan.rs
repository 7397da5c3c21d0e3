//! How much is measured: a quick run of a few minutes, or a full one (`TARN_FULL=1`).

use anyhow::{Result, ensure};
use serde::Serialize;
use std::path::Path;
use tarn_tests::{disk, paths};

/// One MiB.
pub const MIB: u64 = 1 << 20;
/// One GiB.
pub const GIB: u64 = 1 << 30;

/// What the machine keeps for itself.
const RESERVE: u64 = 8 * GIB;
/// How often a byte of the memory workload lies on the disk at once: read and written objects in the server, and
/// both in the cache.
const COPIES: u64 = 4;

/// Sizes and counts of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// Quick or full.
    pub name: &'static str,
    /// Rounds of each workload.
    pub rounds: usize,
    /// Bytes of the large file.
    pub large: u64,
    /// Seconds of each warm measurement.
    pub warm_seconds: u32,
    /// Number of small files.
    pub small_files: usize,
    /// Files read, and files written, at once by the memory workload.
    pub memory_files: usize,
    /// Bytes of each of them.
    pub memory_file: u64,
    /// What had to be made smaller, and why.
    pub note: Option<String>,
}

impl Plan {
    /// The plan that the environment asks for, as far as the disk of `scratch` has room for it.
    pub fn new(scratch: &Path) -> Result<Self> {
        Self::within(disk::free(scratch)?, paths::full())
    }

    fn within(free: u64, full: bool) -> Result<Self> {
        let (name, rounds, memory_files, wanted) =
            if full { ("full", 7, 64, GIB) } else { ("quick", 3, 8, 256 * MIB) };
        let room = free.saturating_sub(RESERVE) / (memory_files as u64 * COPIES);
        let memory_file = wanted.min(room / MIB * MIB);
        ensure!(memory_file >= 16 * MIB, "only {} GiB of the disk are free", free / GIB);
        let note = (memory_file < wanted).then(|| {
            format!(
                "The disk has {} GiB free: the memory workload uses {memory_files} files of {} MiB instead of {} MiB.",
                free / GIB,
                memory_file / MIB,
                wanted / MIB
            )
        });
        Ok(Self {
            name,
            rounds,
            large: GIB,
            warm_seconds: 2,
            small_files: 1000,
            memory_files,
            memory_file,
            note,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_disk_makes_smaller_files_and_says_so() {
        let plan = Plan::within(67 * GIB, true).unwrap();
        assert_eq!(plan.memory_files, 64);
        assert_eq!(plan.memory_file, 236 * MIB);
        assert!(plan.note.unwrap().contains("236 MiB instead of 1024 MiB"));
        assert!(Plan::within(500 * GIB, true).unwrap().note.is_none());
    }

    #[test]
    fn a_full_disk_is_an_error() {
        assert!(Plan::within(9 * GIB, false).unwrap().memory_file < 256 * MIB);
        assert!(Plan::within(8 * GIB, false).is_err());
    }
}
