//! Bits that are wrong in the bodies that a server sends: each is found, what was asked for is asked for again, and no program
//! sees one.

use crate::{results, rounds};
use std::fs;
use std::time::Instant;
use tarn_tests::faulty::{Fault, FaultyServer, Kind, Rule};
use tarn_tests::subject::Subject;
use tarn_tests::suite::{Behaviour, On};
use tarn_tests::{behaviours, data};

pub(crate) const TARN: &[Behaviour] = behaviours!(On::Tarn, a_bit_flipped_in_any_body_is_never_read);

/// One file in so many is of several parts.
const LARGE_EVERY: usize = 100;
const PART: usize = 5 << 20;

fn a_bit_flipped_in_any_body_is_never_read(subject: &Subject<'_>) {
    subject.take_mount().unmount().unwrap();
    let (started, rounds) = (Instant::now(), rounds(200, 10_000));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let endpoint = subject.server().endpoint();
    let server = runtime.block_on(FaultyServer::start(&endpoint, Vec::new())).unwrap();
    let mut plan = subject.plan().clone().with(&["--part-size", "5MiB", "--verify", "always"]);
    let writer = plan.clone();
    // What the other client puts is seen at once.
    plan = plan.with(&["--attr-ttl", "0s"]);
    plan.endpoint = server.endpoint();
    let mut numbers = data::numbers(1, 1 << 40);
    let mut below = move |bound: usize| numbers.next().unwrap_or(0) as usize % bound;
    // Those of several parts are uploaded so, by a mount whose cache is not that of the reader.
    let large: Vec<usize> = (0..rounds.div_ceil(LARGE_EVERY)).map(|_| 8 * (2 * PART + below(PART))).collect();
    let mount = writer.mount().unwrap();
    for (index, bits) in large.iter().enumerate() {
        fs::write(subject.path(&format!("large-{index}")), data::bytes(index as u64, bits / 8)).unwrap();
    }
    mount.unmount().unwrap();
    let mount = plan.mount().unwrap();
    for round in 0..rounds {
        let (name, bytes, on) = if round.is_multiple_of(LARGE_EVERY) {
            let index = round / LARGE_EVERY;
            (format!("large-{index}"), data::bytes(index as u64, large[index] / 8), Kind::GetPart)
        } else {
            let bytes = data::bytes(round as u64, 1 + below(60_000));
            subject.bucket().put("small", &bytes).unwrap();
            ("small".to_owned(), bytes, Kind::Get)
        };
        let (bit, path) = (below(8 * bytes.len()), subject.path(&name));
        server.play(vec![Rule::first(on, Fault::Flip(bit))]);
        let context = format!("round {round}, bit {bit} of {} bytes", bytes.len());
        assert!(fs::read(&path).unwrap() == bytes, "{context}");
        let asked = server.count(on);
        assert!(asked >= 2, "{context}: nobody noticed, {asked} requests");
        assert!(fs::read(&path).unwrap() == bytes, "{context}: once more");
        fs::remove_file(&path).unwrap();
    }
    mount.unmount().unwrap();
    drop(server);
    runtime.shutdown_background();
    results::record("a bit flipped in flight", subject.mode(), "close", (rounds, rounds), started.elapsed());
    subject.mount_again().unwrap();
}
