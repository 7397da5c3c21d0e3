//! Writes a run down: `results.json` with every sample, `RESULTS.md` for people, down to
//! its first section. Pure but for [`Report::save`].

use crate::figure::{Figure, Goal, Spread};
use crate::machine::Machine;
use crate::page;
use crate::plan::Plan;
use anyhow::{Context, Result};
use serde::Serialize;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

/// A run.
#[derive(Debug, Serialize)]
pub struct Report<'a> {
    /// What was measured on.
    pub machine: &'a Machine,
    /// How much was measured.
    pub plan: &'a Plan,
    /// How long it took, in seconds.
    pub seconds: u64,
    /// What was measured.
    pub figures: Vec<Figure>,
}

impl<'a> Report<'a> {
    /// A run that took `elapsed`.
    pub fn new(machine: &'a Machine, plan: &'a Plan, elapsed: Duration, figures: Vec<Figure>) -> Self {
        Self { machine, plan, seconds: elapsed.as_secs(), figures }
    }

    /// Writes both files into `dir`.
    pub fn save(&self, dir: &Path) -> Result<()> {
        let json = serde_json::to_string_pretty(self)? + "\n";
        std::fs::write(dir.join("results.json"), json).context("write results.json")?;
        page::change(&dir.join("RESULTS.md"), |old| Ok(page::with_lead(old, &self.markdown()?)))
    }

    /// The page for people, without the sections of others.
    pub fn markdown(&self) -> Result<String> {
        let (machine, plan) = (self.machine, self.plan);
        let mut page =
            String::from("# Results\n\nWritten by `make bench-quick` (or `make bench`); do not edit.\n\n");
        writeln!(
            page,
            "- Date: {}; commit {}; {} run of {} s",
            machine.date, machine.commit, plan.name, self.seconds
        )?;
        writeln!(
            page,
            "- Machine: {}, {} cores, {} GiB, Linux {}; load before the run {}",
            machine.cpu, machine.cores, machine.memory_gib, machine.kernel, machine.load_before
        )?;
        writeln!(
            page,
            "- Server: MinIO on the loopback interface of the same machine; its data, the cache and the local files \
             lie on one {} disk, and client, tarn and server share the cores",
            machine.file_system
        )?;
        writeln!(
            page,
            "- A figure is median (least .. greatest) of its rounds. Limit and figure are measured in turns; a ratio is \
             made within each round. Large files have {} MiB.",
            plan.large >> 20
        )?;
        if let Some(note) = &plan.note {
            writeln!(page, "- {note}")?;
        }
        page.push_str("\n| Workload | tarn | Limit | Ratio | Goal | |\n|---|---|---|---|---|---|\n");
        for figure in &self.figures {
            writeln!(page, "{}", row(figure).context("a figure without samples")?)?;
        }
        Ok(page)
    }
}

/// One row of the table.
fn row(figure: &Figure) -> Option<String> {
    let ours = format!("{} {}", spread(Spread::of(&figure.samples)?), figure.unit);
    let (limit, ratio) = match &figure.limit {
        Some(limit) => {
            let theirs = spread(Spread::of(&limit.samples)?);
            (format!("{theirs} {}: {}", figure.unit, limit.what), spread(figure.ratios()?))
        }
        None => (String::new(), String::new()),
    };
    let goal = match figure.goal {
        Some(Goal::RatioAtLeast(least)) => format!(">= {least}"),
        Some(Goal::Below(bound)) => format!("< {bound} {}", figure.unit),
        None => String::new(),
    };
    let verdict = match figure.met() {
        Some(true) => "met",
        Some(false) => "**not met**",
        None => "",
    };
    Some(format!("| {} | {ours} | {limit} | {ratio} | {goal} | {verdict} |", figure.name))
}

/// Median and bounds of some samples, as the pages show them.
pub(crate) fn spread(spread: Spread) -> String {
    let Spread { median, min, max } = spread;
    if min == max {
        number(median)
    } else {
        format!("{} ({} .. {})", number(median), number(min), number(max))
    }
}

/// Three figures that mean something.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.1 || size == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_shows_figure_limit_ratio_and_verdict() {
        let figure = Figure::new("cold read", "GiB/s", vec![1.0, 1.2, 1.1])
            .beside("curl", vec![2.0, 2.0, 2.0])
            .goal(Goal::RatioAtLeast(0.6));
        assert_eq!(
            row(&figure).unwrap(),
            "| cold read | 1.10 (1.00 .. 1.20) GiB/s | 2.00 GiB/s: curl | 0.55 (0.50 .. 0.60) | >= 0.6 | **not met** |"
        );
    }

    #[test]
    fn a_single_sample_has_no_spread() {
        let figure = Figure::new("memory", "MiB", vec![123.4]).goal(Goal::Below(200.0));
        assert_eq!(row(&figure).unwrap(), "| memory | 123 MiB |  |  | < 200 MiB | met |");
    }
}
