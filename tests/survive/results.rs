//! What the loads showed, printed and, after a full run, kept in RESULTS.md.

use crate::killer::Tally;
use std::sync::Mutex;
use std::time::Duration;
use tarn_tests::paths;

static ROWS: Mutex<Vec<String>> = Mutex::new(Vec::new());
static COUNTS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Remembers how often something was done under a load that did not notice.
pub(crate) fn count(what: &str, times: usize) {
    COUNTS.lock().unwrap().push(format!("| {what} | {times} |"));
}

/// Prints a load's figures and remembers them.
pub(crate) fn note(name: String, time: Duration, tally: Tally) {
    let row = format!(
        "| {name} | {} | {} | {} | {} ms | {} ms |",
        time.as_secs(),
        tally.stalls.len(),
        tally.resent,
        tally.median().as_millis(),
        tally.longest().as_millis()
    );
    println!("{row}");
    ROWS.lock().unwrap().push(row);
}

/// Writes RESULTS.md after a full run in which nothing failed.
pub(crate) fn write() {
    let (mut rows, mut counts) = (ROWS.lock().unwrap(), COUNTS.lock().unwrap());
    if !paths::full() || rows.is_empty() {
        return;
    }
    rows.sort();
    counts.sort();
    let text = format!(
        "# Kills survived

Written by `TARN_FULL=1 cargo test --package tarn-tests --test survive`: SIGKILL of the worker every 200 to 1,000 ms.
Every load ended without a failed system call or a wrong byte. A stall is the time from a kill to the next answer.

| load | seconds | kills | requests sent again | median stall | longest stall |
|---|---|---|---|---|---|
{}

No call of a program that makes, renames, lists, reads, writes and removes files failed under these either:

| what | times |
|---|---|
{}
",
        rows.join("\n"),
        counts.join("\n")
    );
    std::fs::write(paths::root().join("tests/survive/RESULTS.md"), text).unwrap();
}
