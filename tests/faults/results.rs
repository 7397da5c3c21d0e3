//! What the tests saw, for RESULTS.md.

use anyhow::{Context, Result};
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tarn_tests::paths;
use tarn_tests::subject::Mode;

struct Row {
    what: &'static str,
    mode: Mode,
    commit: String,
    rounds: usize,
    files: usize,
    took: Duration,
}

static ROWS: Mutex<Vec<Row>> = Mutex::new(Vec::new());

/// Notes a test that passed: so many rounds, so many files compared byte for byte.
pub(crate) fn record(
    what: &'static str,
    mode: Mode,
    commit: &str,
    (rounds, files): (usize, usize),
    took: Duration,
) {
    let mut rows = ROWS.lock().unwrap_or_else(PoisonError::into_inner);
    rows.push(Row { what, mode, commit: commit.to_owned(), rounds, files, took });
}

/// Writes the table of this run.
pub(crate) fn write() -> Result<()> {
    let mut rows = ROWS.lock().unwrap_or_else(PoisonError::into_inner);
    rows.sort_by_key(|row| (row.what, row.mode.name(), row.commit.clone()));
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").context("kernel's release")?;
    let mut text = format!(
        "# Results of the fault tests\n\nWritten by `make test-faults`; MinIO on the same machine, kernel {}, {} cores. \
         Only what passed is\nlisted: every file as it was acknowledged, or as it was to become when the fault came.\n\n\
         | fault | mode | commit | rounds | files at the end | seconds |\n|---|---|---|---|---|---|\n",
        kernel.trim(),
        std::thread::available_parallelism()?,
    );
    for Row { what, mode, commit, rounds, files, took } in &*rows {
        writeln!(text, "| {what} | {} | {commit} | {rounds} | {files} | {} |", mode.name(), took.as_secs())?;
    }
    std::fs::write(paths::root().join("tests/faults/RESULTS.md"), text).context("write RESULTS.md")
}
