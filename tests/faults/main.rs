//! What is acknowledged survives: killed processes, a server that goes away or breaks its answers, full disks. Real
//! mounts, in both modes and with both ways to commit.
//!
//! After each test the folder is compared with the bucket by another client, no upload may be left half done, and a new
//! mount with an empty cache must show the same (see [`tarn_tests::subject`]).
//!
//! `TARN_FULL=1` (`make test-faults`) runs many more rounds and writes what it saw to RESULTS.md.

#![allow(clippy::unwrap_used, reason = "in a test, whatever fails fails the test")]

mod away;
mod flips;
mod kill;
mod load;
mod matrix;
mod outage;
mod power;
mod requests;
mod results;
mod space;

use std::process::ExitCode;
use std::time::Duration;
use tarn_tests::{paths, suite};

/// How long one test may run before it counts as hanging.
fn limit() -> Duration {
    Duration::from_secs(if paths::full() { 4 * 3600 } else { 300 })
}

/// The short or the long number of rounds.
pub(crate) fn rounds(short: usize, long: usize) -> usize {
    if paths::full() { long } else { short }
}

/// Both ways to commit, as options of a mount.
pub(crate) const COMMITS: [&[&str]; 2] = [&["--commit", "close"], &["--commit", "async"]];

fn main() -> ExitCode {
    let ended = suite::run_in_turn(
        limit(),
        &[
            away::TARN,
            flips::TARN,
            kill::TARN,
            matrix::TARN,
            outage::TARN,
            power::TARN,
            requests::TARN,
            space::TARN,
        ],
    );
    if paths::full()
        && let Err(error) = results::write()
    {
        eprintln!("the results could not be written: {error:#}");
        return ExitCode::FAILURE;
    }
    ended
}
