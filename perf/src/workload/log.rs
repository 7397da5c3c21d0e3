//! Operations on metadata by two mounts of the same bucket, one of which keeps no session log: what it costs that a mount
//! survives its worker.

use super::in_turns;
use crate::bench::{Bench, Mounted};
use crate::figure::{Figure, Goal};
use anyhow::Result;
use std::fs::{self, File};
use std::time::Instant;

/// Opens of a known file in a round, and directories that are made and removed.
const OPENS: usize = 20_000;
const DIRECTORIES: usize = 200;

/// What is done, and how often in a second.
type Measure = fn(&Mounted, usize) -> Result<f64>;

const MEASURES: &[(&str, Measure)] = &[("open and close", open), ("mkdir and rmdir", make)];

/// See the module.
pub fn run(bench: &Bench) -> Result<Vec<Figure>> {
    let with = bench.mount()?;
    let without = bench.mount_without_log()?;
    fs::write(with.path("log"), b"known")?;
    let mut figures = Vec::new();
    for (what, measure) in MEASURES {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        // The first round makes both know what they need.
        for round in 0..=bench.plan.rounds * 3 {
            bench.settle()?;
            let pair = in_turns(round, || measure(&with, round), || measure(&without, round))?;
            if round > 0 {
                ours.push(pair.0);
                theirs.push(pair.1);
            }
        }
        let figure = Figure::new(format!("{what}, 1 thread"), "1/s", ours);
        figures.push(figure.beside("no session log", theirs).goal(Goal::RatioAtLeast(0.95)));
    }
    with.end()?;
    without.end()?;
    Ok(figures)
}

fn open(mounted: &Mounted, _round: usize) -> Result<f64> {
    let path = mounted.path("log");
    rate(OPENS, |_| {
        File::open(&path)?;
        Ok(())
    })
}

fn make(mounted: &Mounted, round: usize) -> Result<f64> {
    rate(DIRECTORIES, |index| {
        let path = mounted.path(&format!("log-{round}-{index}"));
        fs::create_dir(&path)?;
        Ok(fs::remove_dir(&path)?)
    })
}

/// Does it so often; times each second.
fn rate(times: usize, work: impl FnMut(usize) -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    (0..times).try_for_each(work)?;
    Ok(times as f64 / start.elapsed().as_secs_f64())
}
