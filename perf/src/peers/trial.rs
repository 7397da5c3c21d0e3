//! One workload by one peer in one round: what is measured of it, and how.

use super::peer::{Kind, Peer};
use super::session::Session;
use super::site::{Cache, Site};
use crate::plan::MIB;
use crate::proxy::count::Counts;
use anyhow::Result;
use serde::Serialize;
use std::time::{Duration, Instant};
use tarn_tests::wait;

/// What is measured, and in which unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Quantity {
    /// What is done.
    pub name: &'static str,
    /// Its unit.
    pub unit: Unit,
    /// When it is done.
    pub until: Until,
}

/// When something is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Until {
    /// The calls have returned.
    Returned,
    /// Another client sees it in the bucket.
    Stored,
}

impl Quantity {
    /// What is done when the calls have returned.
    pub const fn new(name: &'static str, unit: Unit) -> Self {
        Self { name, unit, until: Until::Returned }
    }

    /// The same, done when it is in the bucket.
    pub const fn stored(self) -> Self {
        Self { until: Until::Stored, ..self }
    }

    /// What the tables call it.
    pub fn label(&self) -> String {
        match self.until {
            Until::Returned => self.name.to_owned(),
            Until::Stored => format!("{}, until in the bucket", self.name),
        }
    }
}

/// The unit of a quantity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Unit {
    /// Bytes moved in a time.
    #[serde(rename = "MiB/s")]
    MibPerSecond,
    /// Operations in a time.
    #[serde(rename = "1/s")]
    PerSecond,
    /// The time of one operation.
    #[serde(rename = "s")]
    Seconds,
}

/// One measurement.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Sample {
    /// How long it took.
    pub seconds: f64,
    /// Bytes or operations.
    pub amount: u64,
    /// The requests that it took.
    pub counts: Counts,
    /// User and system time of what served it.
    pub cpu_seconds: f64,
    /// The most memory that what served it had resident, from its mount on.
    pub peak_mib: f64,
    /// The program went on before what it had written was in the bucket.
    pub early: bool,
}

impl Unit {
    /// As the tables show it.
    pub fn name(self) -> &'static str {
        match self {
            Self::MibPerSecond => "MiB/s",
            Self::PerSecond => "1/s",
            Self::Seconds => "s",
        }
    }

    /// Whether more is better.
    pub fn is_rate(self) -> bool {
        self != Self::Seconds
    }

    /// A sample in this unit.
    pub fn value(self, sample: &Sample) -> f64 {
        match self {
            Self::MibPerSecond => sample.amount as f64 / MIB as f64 / sample.seconds,
            Self::PerSecond => sample.amount as f64 / sample.seconds,
            Self::Seconds => sample.seconds,
        }
    }
}

/// Where counters stood.
struct Reading {
    counts: Counts,
    cpu: Duration,
}

/// See the module.
#[derive(Debug)]
pub struct Trial<'a> {
    /// Where.
    pub site: &'a Site,
    /// By whom.
    pub peer: &'a Peer,
    /// Which round, from 0.
    pub round: usize,
    samples: Vec<(Quantity, Sample)>,
}

impl<'a> Trial<'a> {
    /// A trial without samples.
    pub fn new(site: &'a Site, peer: &'a Peer, round: usize) -> Self {
        Self { site, peer, round, samples: Vec::new() }
    }

    /// What was measured until now.
    pub fn samples(self) -> Vec<(Quantity, Sample)> {
        self.samples
    }

    /// Mounts, and makes this measurement like the others.
    pub fn mount(&self, cache: Cache) -> Result<Session> {
        let session = self.site.mount(self.peer, cache)?;
        self.settle(&session)?;
        Ok(session)
    }

    /// Drops the page cache, but for the programs that serve the mount.
    pub fn settle(&self, session: &Session) -> Result<()> {
        self.site.settle()?;
        session.warm_programs()
    }

    /// A new name for what this peer writes.
    pub fn fresh(&self, what: &str) -> String {
        self.site.fresh(self.peer.kind, what)
    }

    /// Measures `work`, which says how much it did.
    pub fn measure(
        &mut self,
        quantity: Quantity,
        session: &Session,
        work: impl FnOnce() -> Result<u64>,
    ) -> Result<()> {
        let before = self.reading(session)?;
        let start = Instant::now();
        let amount = work()?;
        self.take(quantity, session, &before, (start.elapsed(), amount))
    }

    /// Measures `work`, which changes the bucket, until it returns, and until another client sees that it is done. What
    /// it costs is counted until then for both: some peers answer first and work later.
    pub fn measure_change(
        &mut self,
        quantity: Quantity,
        session: &Session,
        work: impl FnOnce() -> Result<u64>,
        is_stored: impl Fn() -> Result<bool>,
    ) -> Result<()> {
        let before = self.reading(session)?;
        let start = Instant::now();
        let amount = work()?;
        let elapsed = start.elapsed();
        if self.peer.kind == Kind::Disk {
            return self.take(quantity, session, &before, (elapsed, amount));
        }
        let early = !is_stored()?;
        if early {
            wait::eventually(self.site.plan.limit, "what was written is in the bucket", || {
                Ok(is_stored()?.then_some(()))
            })?;
        }
        let until_stored = if early { start.elapsed() } else { elapsed };
        for (quantity, time) in [(quantity, elapsed), (quantity.stored(), until_stored)] {
            self.take(quantity, session, &before, (time, amount))?;
            self.samples.last_mut().expect("it was taken above").1.early = early;
        }
        Ok(())
    }

    /// Mounts, and measures that: until the first answer.
    pub fn measure_mount(&mut self, quantity: Quantity, cache: Cache) -> Result<()> {
        // This one brings the programs into memory.
        self.mount(cache)?.end()?;
        let before = Reading { counts: self.site.proxy.counts(), cpu: Duration::ZERO };
        let session = self.site.mount(self.peer, cache)?;
        self.take(quantity, &session, &before, (session.mount_time, 1))?;
        session.end()
    }

    fn reading(&self, session: &Session) -> Result<Reading> {
        Ok(Reading { counts: self.site.proxy.counts(), cpu: session.cpu()? })
    }

    fn take(
        &mut self,
        quantity: Quantity,
        session: &Session,
        before: &Reading,
        (elapsed, amount): (Duration, u64),
    ) -> Result<()> {
        let now = self.reading(session)?;
        let sample = Sample {
            seconds: elapsed.as_secs_f64(),
            amount,
            counts: now.counts - before.counts,
            cpu_seconds: now.cpu.saturating_sub(before.cpu).as_secs_f64(),
            peak_mib: session.peak_mib()?,
            early: false,
        };
        self.samples.push((quantity, sample));
        Ok(())
    }
}
