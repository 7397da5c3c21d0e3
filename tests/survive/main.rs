//! A mount outlives the processes that serve it. Real programs work on a mount while its worker is killed again and
//! again: no system call of theirs fails, no byte is wrong, and nobody waits for long.
//!
//! The short form kills some ten to twenty times for each program. `TARN_FULL=1` keeps on for ten minutes each and
//! writes RESULTS.md.

#![allow(clippy::unwrap_used, reason = "in a test, whatever fails fails the test")]

mod keeper;
mod killer;
mod loads;
mod old;
mod open;
mod points;
mod results;
mod storm;
mod systemd;
mod upgrade;

use std::process::ExitCode;
use std::time::Duration;
use tarn_tests::{paths, suite};

fn main() -> ExitCode {
    let limit = Duration::from_secs(if paths::full() { 1800 } else { 240 });
    let code = suite::run(
        limit,
        &[open::ALL, points::ALL, keeper::ALL, upgrade::ALL, old::ALL, storm::ALL, systemd::ALL, loads::ALL],
    );
    if code == ExitCode::SUCCESS {
        results::write();
    }
    code
}
