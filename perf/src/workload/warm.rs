//! Reads of a file that is whole in the cache and opened again, so that the kernel reads it by itself, beside the
//! same reads of the same bytes on the local disk. Both are in the page cache.

use super::in_turns;
use crate::bench::{Bench, LARGE, Mounted};
use crate::figure::{Figure, Goal};
use crate::fio::{self, Pattern, Reads};
use crate::plan::GIB;
use crate::{files, process};
use anyhow::Result;

/// See the module.
pub fn run(bench: &Bench) -> Result<Vec<Figure>> {
    let mounted = bench.mount()?;
    // The first reader fills the cache and the page cache; the local file is read for the latter.
    files::same(&mounted.path(LARGE), &bench.local(LARGE))?;
    let mut figures = Vec::new();
    for pattern in [Pattern::Sequential, Pattern::Random] {
        figures.extend(pattern_figures(bench, &mounted, pattern)?);
    }
    mounted.end()?;
    Ok(figures)
}

fn pattern_figures(bench: &Bench, mounted: &Mounted, pattern: Pattern) -> Result<[Figure; 2]> {
    let seconds = bench.plan.warm_seconds;
    let (mut ours, mut theirs, mut cpu) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..bench.plan.rounds {
        let of_mount = || {
            let before = process::cpu(mounted.pid())?;
            let reads = fio::read(&mounted.path(LARGE), pattern, seconds)?;
            let used = process::cpu(mounted.pid())? - before;
            Ok((reads, used.as_secs_f64() / (reads.bytes / GIB as f64)))
        };
        let of_disk = || fio::read(&bench.local(LARGE), pattern, seconds);
        let ((reads, used), local) = in_turns(round, of_mount, of_disk)?;
        ours.push(amount(pattern, reads));
        theirs.push(amount(pattern, local));
        cpu.push(used);
    }
    let (name, unit) = match pattern {
        Pattern::Sequential => ("warm sequential read, 1 MiB", "GiB/s"),
        Pattern::Random => ("warm random read, 4 KiB", "1000/s"),
    };
    Ok([
        Figure::new(name, unit, ours)
            .beside(format!("the same file on {}", bench.machine.file_system), theirs)
            .goal(Goal::RatioAtLeast(0.9)),
        Figure::new(format!("{name}: CPU of tarn"), "s/GiB", cpu),
    ])
}

fn amount(pattern: Pattern, reads: Reads) -> f64 {
    match pattern {
        Pattern::Sequential => reads.bytes_per_second / GIB as f64,
        Pattern::Random => reads.per_second / 1000.0,
    }
}
