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
/// The cache of the memory workload: less than it reads, so that it evicts meanwhile.
pub const MEMORY_CACHE: u64 = 4 * GIB;

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
    /// Files that the memory workload has open at once: half of them are read, half are written.
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
            if full { ("full", 7, 64, GIB) } else { ("quick", 3, 16, 256 * MIB) };
        // What is written lies on the disk until it is in the bucket; the server compresses it (see `Bench`).
        let room = free.saturating_sub(RESERVE + MEMORY_CACHE) / (memory_files as u64 / 2);
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
        let plan = Plan::within(28 * GIB, true).unwrap();
        assert_eq!(plan.memory_files, 64);
        assert_eq!(plan.memory_file, 512 * MIB);
        assert!(plan.note.unwrap().contains("512 MiB instead of 1024 MiB"));
        assert!(Plan::within(44 * GIB, true).unwrap().note.is_none());
    }

    #[test]
    fn a_full_disk_is_an_error() {
        assert!(Plan::within(13 * GIB, false).unwrap().memory_file < 256 * MIB);
        assert!(Plan::within(12 * GIB, false).is_err());
    }
}
