//! What the suites said, kept in RESULTS.md. A row is replaced when its suite has run again in its mode, so a run of one
//! suite, and one that is cut short, keep what others have shown.

use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};
use tarn_tests::subject::{Mode, Subject};
use tarn_tests::suite::{Behaviour, On};
use tarn_tests::{behaviours, paths};

pub(crate) const ALL: &[Behaviour] =
    behaviours!(On::EveryFileSystem, a_row_takes_the_place_of_the_one_before_it);

/// How many cases ended how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
}

const HEAD: &str = "# Results of the POSIX suites

Written by `make test-posix`, row by row; MinIO on the same machine. `local` is the plain local directory, the control. What fails
is listed with its reason in the `.expected` files here.

| suite | mode | passed | failed | skipped | seconds | day | kernel, cores |
|---|---|---|---|---|---|---|---|
";

/// One at a time reads and writes the file.
static FILE: Mutex<()> = Mutex::new(());

/// Keeps the outcome of a suite, in a full run.
pub(crate) fn record(suite: &str, mode: Mode, counts: Counts, took: Duration) {
    if paths::full() {
        keep(suite, mode, counts, took).expect("RESULTS.md is written");
    }
}

fn keep(suite: &str, mode: Mode, counts: Counts, took: Duration) -> Result<()> {
    let _turn = FILE.lock();
    let path = paths::root().join("tests/posix/RESULTS.md");
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").context("kernel's release")?;
    let day = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let Counts { passed, failed, skipped } = counts;
    let row = format!(
        "{passed} | {failed} | {skipped} | {} | {} | {}, {} |",
        took.as_secs(),
        day.split('T').next().unwrap_or_default(),
        kernel.trim(),
        std::thread::available_parallelism()?,
    );
    std::fs::write(path, merged(&known, &format!("| {suite} | {} | ", mode.name()), &row))
        .context("write RESULTS.md")
}

/// The file with the row of this name and mode.
fn merged(known: &str, name: &str, row: &str) -> String {
    let table = known.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
    let split = |line: &str| {
        let (at, _) = line.match_indices("| ").nth(2)?;
        Some((line[..at + 2].to_owned(), line[at + 2..].to_owned()))
    };
    let mut rows: BTreeMap<String, String> = table.filter_map(split).collect();
    rows.insert(name.to_owned(), row.to_owned());
    rows.iter().fold(HEAD.to_owned(), |mut text, (name, row)| {
        // Writing to a string cannot fail.
        writeln!(text, "{name}{row}").unwrap_or_default();
        text
    })
}

fn a_row_takes_the_place_of_the_one_before_it(_subject: &Subject<'_>) {
    let once = merged("", "| a | local | ", "1 |");
    let twice = merged(&once, "| b | local | ", "2 |");
    let again = merged(&twice, "| a | local | ", "3 |");
    assert_eq!(again, format!("{HEAD}| a | local | 3 |\n| b | local | 2 |\n"));
}
