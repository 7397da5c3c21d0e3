//! What the loads showed, printed and, after a full run, kept in RESULTS.md.

use crate::killer::Tally;
use std::sync::Mutex;
use tarn_tests::paths;

static ROWS: Mutex<Vec<(String, Tally)>> = Mutex::new(Vec::new());

/// Prints a load's figures and remembers them.
pub(crate) fn note(name: String, tally: Tally) {
    println!("{}", row(&name, &tally));
    ROWS.lock().unwrap().push((name, tally));
}

fn row(name: &str, tally: &Tally) -> String {
    format!(
        "| {name} | {} | {} | {} ms | {} ms |",
        tally.stalls.len(),
        tally.resent,
        tally.median().as_millis(),
        tally.longest().as_millis()
    )
}

/// Writes RESULTS.md after a full run.
pub(crate) fn write() {
    let rows = ROWS.lock().unwrap();
    if !paths::full() || rows.is_empty() {
        return;
    }
    let mut rows: Vec<String> = rows.iter().map(|(name, tally)| row(name, tally)).collect();
    rows.sort();
    let text = format!(
        "# Kills survived

Written by `TARN_FULL=1 cargo test --package tarn-tests --test survive`: SIGKILL of the worker every 200 to 1,000 ms for ten
minutes under each load. Every load ended without a failed system call or a wrong byte.

| load | kills | requests sent again | median stall | longest stall |
|---|---|---|---|---|
{}
",
        rows.join("\n")
    );
    std::fs::write(paths::root().join("tests/survive/RESULTS.md"), text).unwrap();
}
