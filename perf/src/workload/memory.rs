//! The most memory that tarn has resident while many large files are written, and while these are read for the
//! first time and as many others written, all at once. The cache is smaller than what is read, so it evicts.

use crate::bench::{Bench, COMPRESSED, Mounted};
use crate::figure::{Figure, Goal};
use crate::plan::{GIB, MEMORY_CACHE, MIB};
use crate::{files, process};
use anyhow::{Context, Result};
use std::time::Instant;

/// The goal, in MiB.
const BOUND: f64 = 200.0;

/// See the module.
pub fn run(bench: &Bench) -> Result<Vec<Figure>> {
    let (count, size) = (bench.plan.memory_files / 2, bench.plan.memory_file);
    let mounted = bench.mount_with_cache(MEMORY_CACHE)?;
    let (write_rate, write_peak) = at_once(bench, &mounted, "first", None)?;
    mounted.end()?;
    let mounted = bench.mount_with_cache(MEMORY_CACHE)?;
    let (both_rate, both_peak) = at_once(bench, &mounted, "second", Some("first"))?;
    for prefix in ["first", "second"] {
        (0..count).try_for_each(|index| std::fs::remove_file(mounted.path(&name(prefix, index))))?;
    }
    mounted.end()?;
    let what = format!("{count} files of {} MiB", size / MIB);
    let peak = |name: String, mib| Figure::new(name, "MiB", vec![mib]).goal(Goal::Below(BOUND));
    Ok(vec![
        peak(format!("peak memory, {what} written at once"), write_peak),
        peak(format!("peak memory, {what} read cold and {what} written at once"), both_peak),
        Figure::new(format!("{what} written at once"), "GiB/s", vec![write_rate]),
        Figure::new(format!("{what} read cold and {what} written at once"), "GiB/s", vec![both_rate]),
    ])
}

/// Writes the files named `write`, and reads those named `read`, all at once; bytes moved each second, and the peak.
fn at_once(bench: &Bench, mounted: &Mounted, write: &str, read: Option<&str>) -> Result<(f64, f64)> {
    let (count, size) = (bench.plan.memory_files / 2, bench.plan.memory_file);
    bench.settle()?;
    let start = Instant::now();
    std::thread::scope(|scope| {
        let mut workers = Vec::new();
        for index in 0..count {
            let path = mounted.path(&name(write, index));
            workers.push(scope.spawn(move || files::write_repeats(&path, size, index as u64).map(drop)));
            if let Some(read) = read {
                let path = mounted.path(&name(read, index));
                workers.push(scope.spawn(move || files::read(&path, size).map(drop)));
            }
        }
        workers.into_iter().try_for_each(|worker| worker.join().expect("a worker returns its errors"))
    })?;
    let bytes = size * count as u64 * if read.is_some() { 2 } else { 1 };
    let rate = bytes as f64 / GIB as f64 / start.elapsed().as_secs_f64();
    let peak = process::peak_mib(mounted.pid())?;
    (0..count)
        .try_for_each(|index| bench.must_have(&name(write, index), size))
        .context("what was written")?;
    Ok((rate, peak))
}

fn name(prefix: &str, index: usize) -> String {
    format!("{prefix}-{index}{COMPRESSED}")
}
