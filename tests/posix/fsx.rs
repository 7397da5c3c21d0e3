//! fsx: random operations on one file, mapped, truncated, closed and opened again, each read compared.

use crate::results::{self, Counts};
use std::time::Instant;
use tarn_tests::subject::Subject;
use tarn_tests::suite::{Behaviour, On};
use tarn_tests::{behaviours, paths, run};

pub(crate) const ALL: &[Behaviour] =
    behaviours!(On::EveryFileSystem, fsx_finds_nothing_with_many_seeds, fsx_finds_nothing_in_one_long_run);

fn fsx(subject: &Subject<'_>, seeds: std::ops::RangeInclusive<u32>, operations: u32) {
    let (config, started) = (paths::root().join("tests/posix/fsx.toml"), Instant::now());
    let (mut passed, mut failures) = (0, Vec::new());
    for seed in seeds {
        let mut command = run::command(paths::tool("bin/fsx").unwrap());
        command.args(["-N", &operations.to_string(), "-S", &seed.to_string()]);
        command.arg("-f").arg(&config).arg("-P").arg(subject.scratch());
        command.arg(subject.path(&format!("fsx-{seed}")));
        match run::must(&mut command, crate::limit()) {
            Ok(_) => passed += 1,
            Err(error) => failures.push(format!("seed {seed}: {error:#}")),
        }
    }
    let counts = Counts { passed, failed: failures.len(), skipped: 0 };
    let suite = format!("fsx 0.3.2, runs of {operations} operations");
    results::record(&suite, subject.mode(), counts, started.elapsed());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// 100 seeds of 10,000 operations with `TARN_FULL=1`, else 3 of 2,000.
fn fsx_finds_nothing_with_many_seeds(subject: &Subject<'_>) {
    if paths::full() { fsx(subject, 1..=100, 10_000) } else { fsx(subject, 1..=3, 2_000) }
}

/// 1,000,000 operations with `TARN_FULL=1`, else 6,000.
fn fsx_finds_nothing_in_one_long_run(subject: &Subject<'_>) {
    fsx(subject, 1000..=1000, if paths::full() { 1_000_000 } else { 6_000 });
}
