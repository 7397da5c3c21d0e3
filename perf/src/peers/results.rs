//! What came of a run: samples by delay, quantity and peer. Pure.

use super::Workload;
use super::options::Plan;
use super::peer::{Kind, Peer};
use super::site::Site;
use super::trial::{Quantity, Sample};
use crate::figure::Spread;
use crate::machine::Machine;
use crate::proxy::count::Counts;
use anyhow::Error;
use serde::Serialize;
use std::path::PathBuf;

/// A run.
#[derive(Debug, Serialize)]
pub struct Results {
    /// What was measured on.
    pub machine: Machine,
    /// How much was measured.
    pub plan: Plan,
    /// How long it took, in seconds.
    pub seconds: u64,
    /// Who was measured.
    pub peers: Vec<Measured>,
    /// Who was not.
    pub missing: Vec<Missing>,
    /// What was measured, in the order of the tables.
    pub cells: Vec<Cell>,
    /// The folder of the run, which errors name and pages do not.
    #[serde(skip)]
    home: PathBuf,
}

/// Who was measured.
#[derive(Debug, Serialize)]
pub struct Measured {
    /// Who.
    pub kind: Kind,
    /// Of which version.
    pub version: String,
    /// How it was mounted.
    pub command_line: Option<String>,
}

/// Who was not measured.
#[derive(Debug, Serialize)]
pub struct Missing {
    /// Who.
    pub name: &'static str,
    /// The reason.
    pub why: String,
}

/// The samples of one quantity, of one peer, at one delay.
#[derive(Debug, Serialize)]
pub struct Cell {
    /// First-byte latency.
    pub delay_ms: u64,
    /// What was measured.
    pub quantity: Quantity,
    /// Of whom.
    pub peer: Kind,
    /// One sample for each round that came to its end.
    pub samples: Vec<Sample>,
    /// Why there are no more.
    pub error: Option<String>,
}

impl Results {
    /// A run without samples.
    pub fn new(site: &Site, peers: &[Peer], missing: Vec<Missing>) -> Self {
        let measured = |peer: &Peer| Measured {
            kind: peer.kind,
            version: peer.version.clone(),
            command_line: peer.command_line(),
        };
        Self {
            machine: site.machine.clone(),
            plan: site.plan.clone(),
            seconds: 0,
            peers: peers.iter().map(measured).collect(),
            missing,
            cells: Vec::new(),
            home: site.home().to_owned(),
        }
    }

    /// Adds what a trial has measured. An error stands in the place of what it did not come to.
    pub fn add(
        &mut self,
        delay_ms: u64,
        workload: &Workload,
        peer: Kind,
        samples: Vec<(Quantity, Sample)>,
        error: Option<Error>,
    ) {
        let error = error.map(|error| short(&format!("{error:#}"), &self.home.to_string_lossy()));
        for &quantity in workload.quantities {
            let sample = samples.iter().find(|(of, _)| *of == quantity).map(|(_, sample)| *sample);
            let cell = self.cell_mut(delay_ms, quantity, peer);
            match sample {
                Some(sample) => cell.samples.push(sample),
                None => cell.error.clone_from(&error),
            }
        }
        // An error after the last sample is one all the same: what was measured may be wrong.
        if let (Some(error), Some(&last)) = (error, workload.quantities.last()) {
            self.cell_mut(delay_ms, last, peer).error = Some(error);
        }
    }

    /// Whether the peer has failed in this workload.
    pub fn has_failed(&self, delay_ms: u64, workload: &Workload, peer: Kind) -> bool {
        let failed = |&quantity| self.cell(delay_ms, quantity, peer).is_some_and(|cell| cell.error.is_some());
        workload.quantities.iter().any(failed)
    }

    /// A cell, if the peer was measured there.
    pub fn cell(&self, delay_ms: u64, quantity: Quantity, peer: Kind) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.is(delay_ms, quantity, peer))
    }

    /// The quantities that were measured, in the order of the tables.
    pub fn quantities(&self) -> Vec<Quantity> {
        let all = super::WORKLOADS.iter().flat_map(|workload| workload.quantities);
        all.copied().filter(|&quantity| self.cells.iter().any(|cell| cell.quantity == quantity)).collect()
    }

    /// The delays that were measured.
    pub fn delays_ms(&self) -> Vec<u64> {
        let measured = |delay: &u64| self.cells.iter().any(|cell| cell.delay_ms == *delay);
        self.plan.delays_ms.iter().copied().filter(measured).collect()
    }

    /// How many times as fast `ours` is as the best peer, and which that is. Who answers before the file is in the
    /// bucket is a peer of those only that do the same.
    pub fn ratio(&self, delay_ms: u64, quantity: Quantity, ours: Kind) -> Option<(f64, Kind)> {
        let own = self.cell(delay_ms, quantity, ours)?;
        let value = own.spread()?.median;
        let peers =
            self.peers.iter().map(|peer| peer.kind).filter(|kind| !kind.is_ours() && !kind.is_limit());
        let peers = peers.filter_map(|kind| {
            let cell = self.cell(delay_ms, quantity, kind)?;
            let comparable = own.is_early() || !cell.is_early();
            comparable.then_some((times_as_fast(quantity, value, cell.spread()?.median), kind))
        });
        // The best peer is the one beside which we look worst.
        peers.min_by(|one, other| one.0.total_cmp(&other.0))
    }

    fn cell_mut(&mut self, delay_ms: u64, quantity: Quantity, peer: Kind) -> &mut Cell {
        let found = self.cells.iter().position(|cell| cell.is(delay_ms, quantity, peer));
        let index = found.unwrap_or_else(|| {
            self.cells.push(Cell { delay_ms, quantity, peer, samples: Vec::new(), error: None });
            self.cells.len() - 1
        });
        &mut self.cells[index]
    }
}

impl Cell {
    fn is(&self, delay_ms: u64, quantity: Quantity, peer: Kind) -> bool {
        self.delay_ms == delay_ms && self.quantity == quantity && self.peer == peer
    }

    /// Median and bounds of the samples in the quantity's unit.
    pub fn spread(&self) -> Option<Spread> {
        self.spread_of(|sample| self.quantity.unit.value(sample))
    }

    /// Whether the program went on before its file was in the bucket.
    pub fn is_early(&self) -> bool {
        self.samples.iter().any(|sample| sample.early)
    }

    /// The requests of all rounds together.
    pub fn counts(&self) -> Counts {
        self.samples.iter().fold(Counts::default(), |sum, sample| sum + sample.counts)
    }

    /// Median of something of the samples.
    pub fn median(&self, of: impl Fn(&Sample) -> f64) -> Option<f64> {
        self.spread_of(of).map(|spread| spread.median)
    }

    fn spread_of(&self, of: impl Fn(&Sample) -> f64) -> Option<Spread> {
        Spread::of(&self.samples.iter().map(of).collect::<Vec<_>>())
    }
}

/// How many times as fast one value is as another.
fn times_as_fast(quantity: Quantity, ours: f64, theirs: f64) -> f64 {
    if quantity.unit.is_rate() { ours / theirs } else { theirs / ours }
}

/// An error in one line, without the names of folders that exist only during the run.
fn short(error: &str, home: &str) -> String {
    const LONGEST: usize = 240;
    let line = error.split_whitespace().collect::<Vec<_>>().join(" ").replace(home, "").replace('|', "/");
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{} ...", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
pub(super) mod tests;
