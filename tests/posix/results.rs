//! What the suites said, for RESULTS.md.

use anyhow::{Context, Result};
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tarn_tests::paths;
use tarn_tests::subject::Mode;

/// How many cases ended how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
}

struct Row {
    suite: String,
    mode: Mode,
    counts: Counts,
    took: Duration,
}

static ROWS: Mutex<Vec<Row>> = Mutex::new(Vec::new());

/// Notes the outcome of a suite.
pub(crate) fn record(suite: &str, mode: Mode, counts: Counts, took: Duration) {
    let mut rows = ROWS.lock().unwrap_or_else(PoisonError::into_inner);
    rows.push(Row { suite: suite.to_owned(), mode, counts, took });
}

/// Writes the table of this run.
pub(crate) fn write() -> Result<()> {
    let mut rows = ROWS.lock().unwrap_or_else(PoisonError::into_inner);
    rows.sort_by_key(|row| (row.suite.clone(), row.mode.name()));
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").context("kernel's release")?;
    let mut text = format!(
        "# Results of the POSIX suites\n\nWritten by `make test-posix`; MinIO on the same machine, kernel {}, {} cores. \
         `local` is\nthe plain local directory, the control. What fails is listed with its reason in the `.expected` \
         files here.\n\n| suite | mode | passed | failed | skipped | seconds |\n|---|---|---|---|---|---|\n",
        kernel.trim(),
        std::thread::available_parallelism()?,
    );
    for Row { suite, mode, counts, took } in &*rows {
        let Counts { passed, failed, skipped } = counts;
        let (mode, seconds) = (mode.name(), took.as_secs());
        writeln!(text, "| {suite} | {mode} | {passed} | {failed} | {skipped} | {seconds} |")?;
    }
    std::fs::write(paths::root().join("tests/posix/RESULTS.md"), text).context("write RESULTS.md")
}
