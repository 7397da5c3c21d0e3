//! A large object read in sequence by a new mount with an empty cache, beside the raw client. The server reads the
//! object from the same disk for both.

use super::in_turns;
use crate::bench::{Bench, LARGE};
use crate::figure::{Figure, Goal};
use crate::plan::GIB;
use crate::{files, process, raw};
use anyhow::Result;

/// See the module.
pub fn run(bench: &Bench) -> Result<Vec<Figure>> {
    let size = bench.plan.large;
    let gib = size as f64 / GIB as f64;
    let download = raw::Download::prepare(&bench.raw(), LARGE, size)?;
    let (mut ours, mut theirs, mut cpu) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..bench.plan.rounds {
        let of_mount = || {
            bench.settle()?;
            let mounted = bench.mount()?;
            let before = process::cpu(mounted.pid())?;
            let time = files::read(&mounted.path(LARGE), size)?;
            let used = process::cpu(mounted.pid())? - before;
            if round == 0 {
                files::same(&mounted.path(LARGE), &bench.local(LARGE))?;
            }
            mounted.end()?;
            Ok((time, used))
        };
        let of_server = || {
            bench.settle()?;
            download.run()
        };
        let ((time, used), raw) = in_turns(round, of_mount, of_server)?;
        ours.push(gib / time.as_secs_f64());
        theirs.push(gib / raw.as_secs_f64());
        cpu.push(used.as_secs_f64() / gib);
    }
    Ok(vec![
        Figure::new("cold sequential read, 1 MiB", "GiB/s", ours)
            .beside(raw::DOWNLOAD, theirs)
            .goal(Goal::RatioAtLeast(0.6)),
        Figure::new("cold sequential read: CPU of tarn", "s/GiB", cpu),
    ])
}
