//! Third-party suites that ask whether a file system is one: on a mount in both modes, and on a plain local
//! directory as the control. After each suite the mount is compared with the bucket and with a second mount that has
//! an empty cache, so that nothing passes that was never stored.
//!
//! `TARN_FULL=1` (`make test-posix`) runs the long versions and writes what it saw to RESULTS.md. Suites that no
//! registry has run from the directories that variables name: pjdfstest in C (`PJDFSTEST_DIR`), xfstests
//! (`XFSTESTS_DIR`), LTP (`LTP_DIR`), git's own tests (`GIT_SUITE_DIR`) and s3fs's integration test (`S3FS_DIR`).

#![allow(clippy::unwrap_used, reason = "in a test, whatever fails fails the test")]

mod fsx;
mod git;
mod list;
mod ltp;
mod pjdfstest;
mod results;
mod s3fs;
mod sources;
mod stage;
mod stress;
mod tally;
mod toolchains;
mod trees;
mod xfstests;

use std::process::ExitCode;
use std::time::Duration;
use tarn_tests::{paths, suite};

/// How long one suite may run before it counts as hanging.
fn limit() -> Duration {
    Duration::from_secs(if paths::full() { 6 * 3600 } else { 240 })
}

fn main() -> ExitCode {
    let suites = [
        fsx::ALL,
        git::TARN,
        ltp::TARN,
        pjdfstest::ALL,
        results::ALL,
        s3fs::TARN,
        sources::TARN,
        stress::TARN,
        toolchains::ALL,
        trees::ALL,
        xfstests::ALL,
        xfstests::TARN,
    ];
    suite::run(limit() * 2, &suites)
}
