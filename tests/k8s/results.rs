//! What ran and how it ended, for RESULTS.md.

use anyhow::{Context, Result};
use std::fmt::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tarn_tests::{paths, run};

struct Row {
    test: &'static str,
    passed: bool,
    took: Duration,
}

static ROWS: Mutex<Vec<Row>> = Mutex::new(Vec::new());

/// Notes the end of a test.
pub(crate) fn record(test: &'static str, passed: bool, took: Duration) {
    ROWS.lock().unwrap_or_else(PoisonError::into_inner).push(Row { test, passed, took });
}

/// Writes the table of this run, if it was a run of all tests.
pub(crate) fn write(all: usize) -> Result<()> {
    let rows = ROWS.lock().unwrap_or_else(PoisonError::into_inner);
    if rows.len() != all {
        return Ok(());
    }
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").context("kernel's release")?;
    let mut text = format!(
        "# Results of the tests in a Kubernetes\n\nWritten by `make test-k8s`: one node, debug builds of tarn and tarn-csi, MinIO on the same machine, {} cores.\n\n\
         | | version |\n|---|---|\n| kernel | {} |\n",
        std::thread::available_parallelism()?,
        kernel.trim(),
    );
    for (name, program, arguments) in [
        ("Kubernetes", paths::tool("bin/kubelet")?, &["--version"][..]),
        ("containerd", "containerd".into(), &["--version"]),
        ("runc", "runc".into(), &["--version"]),
        ("csi-provisioner", paths::tool("bin/csi-provisioner")?, &["--version"]),
        ("csi-resizer", paths::tool("bin/csi-resizer")?, &["--version"]),
        ("csi-snapshotter", paths::tool("bin/csi-snapshotter")?, &["--version"]),
    ] {
        writeln!(text, "| {name} | {} |", version(&program, arguments)?)?;
    }
    text.push_str("\n| test | outcome | seconds |\n|---|---|---|\n");
    for Row { test, passed, took } in &*rows {
        let outcome = if *passed { "passed" } else { "**failed**" };
        writeln!(text, "| {} | {outcome} | {} |", test.replace('_', " "), took.as_secs())?;
    }
    std::fs::write(paths::root().join("tests/k8s/RESULTS.md"), text).context("write RESULTS.md")
}

/// The first word with a digit of what a program says.
fn version(program: &Path, arguments: &[&str]) -> Result<String> {
    let said = run::must(run::command(program).args(arguments), Duration::from_secs(30))?;
    let word = said
        .split_whitespace()
        .find(|word| word.trim_start_matches('v').starts_with(|c: char| c.is_ascii_digit()));
    Ok(word.unwrap_or("unknown").to_owned())
}
