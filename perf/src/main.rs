//! Runs the benchmark and writes `perf/RESULTS.md` and `perf/results.json`. With names of workloads as arguments it
//! runs only those, prints their rows and writes nothing.

use anyhow::Result;
use std::time::Instant;
use tarn_perf::bench::Bench;
use tarn_perf::report::Report;
use tarn_perf::workload;
use tarn_tests::{paths, suite};

fn main() -> Result<()> {
    suite::enter_own_namespace();
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let start = Instant::now();
    let bench = Bench::start()?;
    let mut figures = Vec::new();
    for (name, run) in workload::ALL {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            eprintln!("bench: {name} ({} s so far)", start.elapsed().as_secs());
            figures.extend(run(&bench)?);
        }
    }
    let report = Report::new(&bench.machine, &bench.plan, start.elapsed(), figures);
    if wanted.is_empty() {
        report.save(&paths::root().join("perf"))?;
    }
    println!("{}", report.markdown()?);
    Ok(())
}
