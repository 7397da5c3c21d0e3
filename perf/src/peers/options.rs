//! The command line, and the plan of a run that comes of it. Pure.

use super::peer::Kind;
use crate::plan::MIB;
use anyhow::{Result, ensure};
use clap::Parser;
use clap::builder::PossibleValuesParser;
use serde::Serialize;
use std::time::Duration;

/// Measures tarn beside other file systems on one bucket of a local server, behind delays, and writes its section of
/// perf/RESULTS.md, perf/peers.json and perf/peers.svg. Needs root. TARN_FULL=1 makes the defaults those of a full run.
#[derive(Debug, Clone, Parser)]
#[command(name = "tarn-perf-peers", max_term_width = 110)]
pub struct Options {
    /// Measure only these [default: all that are found]
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_enum)]
    pub peers: Vec<Kind>,
    /// Run only these workloads [default: all]
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = PossibleValuesParser::new(super::workload_names()))]
    pub workloads: Vec<String>,
    /// Let the first byte of each answer take this long, one run after the other [default: 0,30; full: 0,5,30]
    #[arg(long, value_name = "MS", value_delimiter = ',')]
    pub delays: Vec<u64>,
    /// Let each connection carry at most this much each second [default: no bound]
    #[arg(long, value_name = "MIB")]
    pub bandwidth: Option<u64>,
    /// Repeat each workload this often [default: 3; full: 5]
    #[arg(long, value_name = "N")]
    pub rounds: Option<usize>,
    /// Make the large file this large, at least 16 [default: 256; full: 1024]
    #[arg(long, value_name = "MIB")]
    pub large: Option<u64>,
    /// Make this many small files [default: 200; full: 1000]
    #[arg(long, value_name = "N")]
    pub small: Option<usize>,
    /// Give up on a peer's workload when one mount of it takes longer [default: 10m]
    #[arg(long, value_name = "TIME", default_value = "10m", hide_default_value = true)]
    pub limit: humantime::Duration,
    /// Print the section and write nothing
    #[arg(long)]
    pub print: bool,
}

/// How much is measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// Quick or full.
    pub name: &'static str,
    /// First-byte latencies in ms.
    pub delays_ms: Vec<u64>,
    /// Bytes each second that a connection carries.
    pub bandwidth: Option<u64>,
    /// Rounds of each workload.
    pub rounds: usize,
    /// Bytes of the large file.
    pub large: u64,
    /// Number of small files.
    pub small_files: usize,
    /// How long one mount may take.
    pub limit: Duration,
}

impl Options {
    /// The plan, with the defaults of a quick or of a full run.
    pub fn plan(&self, full: bool) -> Result<Plan> {
        let (name, delays, rounds, large, small): (_, &[u64], _, _, _) =
            if full { ("full", &[0, 5, 30], 5, 1024, 1000) } else { ("quick", &[0, 30], 3, 256, 200) };
        let plan = Plan {
            name,
            delays_ms: if self.delays.is_empty() { delays.to_vec() } else { self.delays.clone() },
            bandwidth: self.bandwidth.map(|mib| mib * MIB),
            rounds: self.rounds.unwrap_or(rounds),
            large: self.large.unwrap_or(large) * MIB,
            small_files: self.small.unwrap_or(small),
            limit: self.limit.into(),
        };
        ensure!(plan.large >= 16 * MIB, "--large must be 16 at least");
        ensure!(plan.rounds > 0 && plan.small_files > 0, "--rounds and --small must be 1 at least");
        ensure!(plan.bandwidth != Some(0), "--bandwidth must be 1 at least");
        Ok(plan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, clap::Error> {
        Options::try_parse_from(format!("tarn-perf-peers {line}").split_whitespace())
    }

    #[test]
    fn what_is_not_said_comes_from_the_kind_of_run() {
        let options = parse("").unwrap();
        let quick = options.plan(false).unwrap();
        assert_eq!((quick.delays_ms.as_slice(), quick.rounds, quick.large), (&[0, 30][..], 3, 256 * MIB));
        let full = options.plan(true).unwrap();
        assert_eq!((full.delays_ms.len(), full.small_files, full.bandwidth), (3, 1000, None));
    }

    #[test]
    fn what_is_said_holds() {
        let options =
            parse("--large 64 --rounds 1 --delays 5 --peers tarn,s3fs --bandwidth 80 --limit 90s").unwrap();
        assert_eq!(options.peers, [Kind::Tarn, Kind::S3fs]);
        let plan = options.plan(true).unwrap();
        assert_eq!((plan.large, plan.rounds, plan.delays_ms.as_slice()), (64 * MIB, 1, &[5][..]));
        assert_eq!((plan.bandwidth, plan.limit), (Some(80 * MIB), Duration::from_secs(90)));
    }

    #[test]
    fn nonsense_is_refused() {
        for line in ["--peers unknown", "--workloads unknown", "--delays x", "--limit soon"] {
            parse(line).unwrap_err();
        }
        for line in ["--large 1", "--rounds 0", "--small 0", "--bandwidth 0"] {
            parse(line).unwrap().plan(false).unwrap_err();
        }
    }
}
