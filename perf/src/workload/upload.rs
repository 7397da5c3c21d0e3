//! A large new file: the write calls, which go to the staged file, beside the same on the local disk; and the file
//! from its first byte to the end of its close, when it is in the bucket, beside a raw multipart upload.

use super::in_turns;
use crate::bench::{Bench, LARGE, Mounted};
use crate::figure::{Figure, Goal};
use crate::files::{self, Written};
use crate::plan::{GIB, MIB};
use crate::{process, raw};
use anyhow::Result;
use std::path::PathBuf;
use std::time::Duration;

/// Bytes of the file that is written by small calls, and of one call.
const SMALL: (u64, u64) = (256 * MIB, 4096);

/// One round.
struct Round {
    small: Duration,
    small_local: Duration,
    written: Written,
    local: Duration,
    raw: Duration,
    cpu: Duration,
}

/// See the module.
pub fn run(bench: &Bench) -> Result<Vec<Figure>> {
    let mut rounds = Vec::new();
    let mounted = bench.mount()?;
    for round in 0..bench.plan.rounds {
        rounds.push(one(bench, &mounted, round)?);
    }
    mounted.end()?;
    let gib = bench.plan.large as f64 / GIB as f64;
    let rate =
        |time: fn(&Round) -> Duration| rounds.iter().map(|round| gib / time(round).as_secs_f64()).collect();
    let calls = |time: fn(&Round) -> Duration| {
        let count = (SMALL.0 / SMALL.1) as f64 / 1000.0;
        rounds.iter().map(|round| count / time(round).as_secs_f64()).collect()
    };
    Ok(vec![
        Figure::new("new file, write calls", "GiB/s", rate(|round| round.written.writes))
            .beside(format!("the same on {}", bench.machine.file_system), rate(|round| round.local))
            .goal(Goal::RatioAtLeast(0.9)),
        Figure::new("new file, write calls of 4 KiB", "1000/s", calls(|round| round.small))
            .beside(format!("the same on {}", bench.machine.file_system), calls(|round| round.small_local))
            .goal(Goal::RatioAtLeast(0.9)),
        Figure::new(
            "new file, write and close",
            "GiB/s",
            rate(|round| round.written.writes + round.written.close),
        )
        .beside(raw::UPLOAD, rate(|round| round.raw)),
        Figure::new("new file, close", "GiB/s", rate(|round| round.written.close))
            .beside(raw::UPLOAD, rate(|round| round.raw)),
        Figure::new(
            "new file: CPU of tarn",
            "s/GiB",
            rounds.iter().map(|round| round.cpu.as_secs_f64() / gib).collect(),
        ),
    ])
}

fn one(bench: &Bench, mounted: &Mounted, round: usize) -> Result<Round> {
    let (name, size, seed) = (format!("new-{round}"), bench.plan.large, 100 + round as u64);
    let of_mount = || {
        bench.settle()?;
        let before = process::cpu(mounted.pid())?;
        let written = files::write(&mounted.path(&name), size, seed)?;
        let cpu = process::cpu(mounted.pid())? - before;
        bench.must_have(&name, size)?;
        Ok((written, cpu))
    };
    let of_disk = || {
        bench.settle()?;
        let written = files::write(&bench.local(&name), size, seed)?;
        std::fs::remove_file(bench.local(&name))?;
        Ok(written.writes)
    };
    let ((written, cpu), local) = in_turns(round, of_mount, of_disk)?;
    std::fs::remove_file(mounted.path(&name))?;
    let upload = raw::Upload::prepare(&bench.raw(), &bench.local(LARGE), LARGE)?;
    bench.settle()?;
    let raw = upload.run()?;
    let small = |path: PathBuf| {
        bench.settle()?;
        let written = files::write_by(&path, SMALL.0, seed, SMALL.1)?;
        std::fs::remove_file(&path)?;
        Ok(written.writes)
    };
    let (small, small_local) =
        in_turns(round, || small(mounted.path("small")), || small(bench.local("small")))?;
    Ok(Round { small, small_local, written, local, raw, cpu })
}
