//! tarn beside its peers: other file systems on the same bucket of the same server, in turns, behind a relay that makes
//! the server as far away as a real one.
//!
//! - [`options`] says how much is measured; [`enclosure`] keeps the run from leaving anything behind.
//! - [`peer`] knows the peers; [`session`] is a mount by one; [`site`] the server, the relay and the bucket.
//! - [`trial`] measures; [`large`], [`small`], [`trees`] and [`mounts`] are what is done meanwhile.
//! - [`results`] keeps what came of it; [`table`] and [`plot`] show it.
//!
//! A peer that cannot do something is shown with its error. Nothing that a peer does ends the run.

pub mod enclosure;
pub mod large;
pub mod mounts;
pub mod options;
pub mod peer;
pub mod plot;
pub mod results;
pub mod session;
pub mod site;
pub mod small;
pub mod table;
pub mod trees;
pub mod trial;

use crate::page;
use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use options::Options;
use peer::{Kind, Peer};
use results::{Missing, Results};
use site::Site;
use std::time::Instant;
use tarn_tests::paths;
use trial::{Quantity, Trial};

/// Something that every peer does in every round.
#[derive(Debug)]
pub struct Workload {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it measures, in this order.
    pub quantities: &'static [Quantity],
    /// The limits that are measured beside.
    limits: &'static [Kind],
    run: fn(&mut Trial<'_>) -> Result<()>,
}

/// All of them, in the order of the tables.
pub const WORKLOADS: &[Workload] = &[
    Workload { name: "read", quantities: large::READ, limits: &[Kind::Disk, Kind::Raw], run: large::read },
    Workload { name: "random", quantities: large::RANDOM, limits: &[Kind::Disk], run: large::random },
    Workload {
        name: "write",
        quantities: large::WRITES,
        limits: &[Kind::Disk, Kind::Raw],
        run: large::write,
    },
    Workload { name: "update", quantities: large::UPDATES, limits: &[Kind::Disk], run: large::update },
    Workload { name: "small", quantities: small::ALL, limits: &[Kind::Disk], run: small::run },
    Workload { name: "untar", quantities: trees::UNTARS, limits: &[Kind::Disk], run: trees::untar },
    Workload { name: "copy", quantities: trees::COPIES, limits: &[Kind::Disk], run: trees::copy },
    Workload { name: "rename", quantities: trees::RENAMES, limits: &[Kind::Disk], run: trees::rename },
    Workload { name: "mount", quantities: mounts::ALL, limits: &[], run: mounts::run },
];

/// The names of the workloads.
pub fn workload_names() -> Vec<&'static str> {
    WORKLOADS.iter().map(|workload| workload.name).collect()
}

/// Measures, and writes down what came of it, after each delay, so that a run that is cut short leaves something.
pub fn run(options: &Options) -> Result<()> {
    let (peers, missing) = find(options);
    missing.iter().for_each(|missing| eprintln!("peers: without {}: {}", missing.name, missing.why));
    ensure!(peers.iter().any(|peer| !peer.kind.is_limit()), "there is nobody to measure");
    let start = Instant::now();
    let site = Site::start(options.plan(paths::full())?)?;
    let mut results = Results::new(&site, &peers, missing);
    for &delay_ms in &site.plan.delays_ms {
        site.set_delay(delay_ms);
        for workload in wanted(options) {
            eprintln!("peers: {delay_ms} ms, {} ({} s so far)", workload.name, start.elapsed().as_secs());
            in_turns(&site, &peers, workload, delay_ms, &mut results)?;
        }
        results.seconds = start.elapsed().as_secs();
        if !options.print {
            save(&results)?;
        }
    }
    println!("{}", table::section(&results)?);
    Ok(())
}

/// Those that can be measured, and who is missing and why.
fn find(options: &Options) -> (Vec<Peer>, Vec<Missing>) {
    let (mut peers, mut missing) = (Vec::new(), Vec::new());
    for &kind in Kind::value_variants() {
        if kind.is_limit() || options.peers.is_empty() || options.peers.contains(&kind) {
            match Peer::find(kind) {
                Ok(peer) => peers.push(peer),
                Err(error) => missing.push(Missing { name: kind.name(), why: format!("{error:#}") }),
            }
        }
    }
    let why = "it keeps a layout of its own in the bucket, so that its files are no objects".to_owned();
    missing.push(Missing { name: "juicefs", why });
    (peers, missing)
}

fn wanted(options: &Options) -> impl Iterator<Item = &'static Workload> {
    let all = options.workloads.is_empty();
    WORKLOADS.iter().filter(move |workload| all || options.workloads.iter().any(|name| name == workload.name))
}

/// All rounds of a workload: in each one all peers, each time beginning with another one. Who has failed is not tried
/// again at this delay.
fn in_turns(
    site: &Site,
    peers: &[Peer],
    workload: &Workload,
    delay_ms: u64,
    results: &mut Results,
) -> Result<()> {
    for round in 0..site.plan.rounds {
        for turn in 0..peers.len() {
            let peer = &peers[(round + turn) % peers.len()];
            let takes_part = !peer.kind.is_limit() || workload.limits.contains(&peer.kind);
            if !takes_part || results.has_failed(delay_ms, workload, peer.kind) {
                continue;
            }
            site.clear(peer.kind)?;
            let mut trial = Trial::new(site, peer, round);
            let outcome = (workload.run)(&mut trial);
            if let Err(error) = &outcome {
                eprintln!("peers: {}, {}: {error:#}", workload.name, peer.kind.name());
            }
            results.add(delay_ms, workload, peer.kind, trial.samples(), outcome.err());
            site.forget(peer.kind)?;
        }
    }
    Ok(())
}

/// Writes the section of the page, the samples and the plot.
fn save(results: &Results) -> Result<()> {
    let dir = paths::root().join("perf");
    let section = table::section(results)?;
    page::change(&dir.join("RESULTS.md"), |old| Ok(page::with_section(old, &section)))?;
    let json = serde_json::to_string_pretty(results)? + "\n";
    std::fs::write(dir.join("peers.json"), json).context("write peers.json")?;
    std::fs::write(dir.join("peers.svg"), plot::svg(results)).context("write peers.svg")
}
