//! Runs the benchmark and writes `perf/RESULTS.md` and `perf/results.json`. With names of workloads as arguments it
//! runs only those, prints their rows and writes nothing.

use anyhow::{Result, bail};
use std::time::Instant;
use tarn_perf::bench::Bench;
use tarn_perf::report::Report;
use tarn_perf::workload;
use tarn_tests::{paths, suite};

fn main() -> Result<()> {
    suite::enter_own_namespace();
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let known = || workload::ALL.iter().map(|(name, _)| *name);
    if let Some(unknown) = wanted.iter().find(|wanted| known().all(|name| name != wanted.as_str())) {
        let names: Vec<_> = known().collect();
        bail!(
            "there is no workload {unknown:?}; give none to run all of them, or some of: {}",
            names.join(", ")
        );
    }
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
