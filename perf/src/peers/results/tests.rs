use super::super::trial::Unit;
use super::super::{WORKLOADS, Workload};
use super::*;
use std::time::Duration;

/// A run of two rounds at one delay, without cells.
pub(crate) fn empty() -> Results {
    let peer = |kind: Kind| Measured { kind, version: "1.0".into(), command_line: Some(kind.name().into()) };
    Results {
        machine: Machine {
            date: "now".into(),
            commit: "c0ffee".into(),
            cpu: "one".into(),
            cores: 2,
            memory_gib: 24,
            kernel: "6".into(),
            file_system: "ext4".into(),
            load_before: 0.0,
        },
        plan: Plan {
            name: "quick",
            delays_ms: vec![0],
            bandwidth: None,
            rounds: 2,
            large: 64 << 20,
            small_files: 10,
            limit: Duration::from_secs(60),
        },
        seconds: 1,
        peers: [Kind::Tarn, Kind::TarnAsync, Kind::S3fs, Kind::Rclone, Kind::Disk].map(peer).into(),
        missing: vec![Missing { name: "geesefs", why: "not there".into() }],
        cells: Vec::new(),
        home: "/scratch".into(),
    }
}

pub(crate) fn sample(seconds: f64) -> Sample {
    let counts = Counts { put: 1, ..Counts::default() };
    Sample { seconds, amount: 1, counts, cpu_seconds: 0.5, peak_mib: 20.0, early: false }
}

/// The workload that measures one thing, in seconds.
pub(crate) fn mount() -> &'static Workload {
    WORKLOADS.last().unwrap()
}

pub(crate) fn add(results: &mut Results, peer: Kind, samples: &[Sample]) {
    for &sample in samples {
        results.add(0, mount(), peer, vec![(mount().quantities[0], sample)], None);
    }
}

#[test]
fn a_ratio_is_that_to_the_best_peer_that_promises_as_much() {
    let mut results = empty();
    let early = |seconds| Sample { early: true, ..sample(seconds) };
    add(&mut results, Kind::Tarn, &[sample(2.0), sample(4.0)]);
    add(&mut results, Kind::TarnAsync, &[early(0.5)]);
    add(&mut results, Kind::S3fs, &[sample(6.0)]);
    add(&mut results, Kind::Rclone, &[early(1.0)]);
    add(&mut results, Kind::Disk, &[sample(0.1)]);
    let quantity = mount().quantities[0];
    assert_eq!(results.ratio(0, quantity, Kind::Tarn), Some((2.0, Kind::S3fs)));
    assert_eq!(results.ratio(0, quantity, Kind::TarnAsync), Some((2.0, Kind::Rclone)));
    assert_eq!(results.ratio(5, quantity, Kind::Tarn), None);
}

#[test]
fn rates_and_times_both_say_how_fast() {
    let rate = Quantity::new("rate", Unit::PerSecond);
    let time = Quantity::new("time", Unit::Seconds);
    assert_eq!(times_as_fast(rate, 10.0, 5.0), 2.0);
    assert_eq!(times_as_fast(time, 10.0, 5.0), 0.5);
}

#[test]
fn an_error_stands_where_a_sample_is_missing() {
    let mut results = empty();
    let workload = &WORKLOADS[0];
    let error = anyhow::anyhow!("Operation not permitted: /scratch/mount/x |\n  more");
    results.add(0, workload, Kind::S3fs, vec![(workload.quantities[0], sample(1.0))], Some(error));
    assert!(results.has_failed(0, workload, Kind::S3fs));
    assert!(!results.has_failed(5, workload, Kind::S3fs));
    let first = results.cell(0, workload.quantities[0], Kind::S3fs).unwrap();
    assert!(first.error.is_none() && first.samples.len() == 1);
    let second = results.cell(0, workload.quantities[1], Kind::S3fs).unwrap();
    assert_eq!(second.error.as_deref(), Some("Operation not permitted: /mount/x / more"));
}
