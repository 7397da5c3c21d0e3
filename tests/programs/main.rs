//! Real programs do their work on a mount, each with a time limit, and on a plain local directory as the control.
//! What they leave is compared with the bucket by another S3 client, and read again after a new mount.
//!
//! `TARN_FULL=1` runs the long versions: 5 GiB, 100,000 files in one directory, trees of
//! thousands of files. Without it everything takes less than eight minutes on two cores.

#![allow(clippy::unwrap_used, reason = "in a test, whatever fails fails the test")]

mod databases;
mod large;
mod postgres;
mod stress;
mod trees;

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;
use tarn_tests::{paths, run, suite};

/// How long one program may run before it counts as hanging.
pub(crate) fn limit() -> Duration {
    Duration::from_secs(if paths::full() { 1800 } else { 240 })
}

/// Runs a shell script with `$0` as its folder; it must succeed.
pub(crate) fn shell(dir: &Path, script: &str) -> String {
    let mut command = run::command("bash");
    command.args(["-euo", "pipefail", "-c", script]).arg(dir).current_dir(dir);
    must(&mut command)
}

/// Runs a program that must succeed within the limit, and hands on what it printed.
pub(crate) fn must(command: &mut Command) -> String {
    run::must(command, limit()).unwrap_or_else(|error| panic!("{error:#}"))
}

fn main() -> ExitCode {
    let of_a_test = limit() * 2;
    suite::run(of_a_test, &[databases::ALL, large::ALL, postgres::ALL, stress::ALL, trees::ALL])
}
