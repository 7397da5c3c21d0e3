//! Measures tarn beside its peers and writes its section of `perf/RESULTS.md`, `perf/peers.json` and `perf/peers.svg`.

use anyhow::Result;
use clap::Parser;
use std::process::ExitCode;
use tarn_perf::peers::enclosure;
use tarn_perf::peers::options::Options;
use tarn_perf::peers::run;

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    if !enclosure::is_inside() {
        return enclosure::enter();
    }
    run(&options)?;
    Ok(ExitCode::SUCCESS)
}
