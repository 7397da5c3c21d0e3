//! A simulation of the core of the file system: one or two mounts with caches of their own and another client on one
//! bucket in memory. Requests overtake each other, fail, or lose their answer, and nodes or only their workers are
//! killed, all by chance; a [`reference`] judges each step, in one function that says what is right. A seed gives its
//! history again, to the last request.
//!
//! `TARN_SEEDS=7` runs one seed and shows its history, `TARN_SEEDS=0..10000` runs many. By default it is 10,000,
//! `TARN_FULL=1` runs 100,000.
//!
//! Time, chance and the store are simulated; the local disk is a real one, of which only the times are. What the kernel
//! does by itself is not here: passthrough and its caches. What it takes care of is: no two operations change a name at
//! once, nobody writes during a truncation, and what is stale is looked up once more.
//!
//! Not judged, for no reference can tell what is right: bytes that nobody was told are kept, when their node dies; when
//! the old name of a file goes that waits for its upload; two mounts that stamp the same nanosecond; what becomes of
//! changes to a large object once another client has removed it, so that nobody has the rest of the bytes.

mod bucket;
mod client;
mod history;
mod node;
mod reference;

use crate::clock::simulated;
use crate::config::Commit;
use crate::store::{MemoryOptions, MemoryStore};
use bucket::{Bucket, Lie, Weather};
use history::History;
use node::World;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use reference::Reference;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Failures of which more would tell nothing new.
const MANY: usize = 20;

/// What kind of history a seed has: a few dangers at a time find more than all at once.
#[derive(Debug, Clone, Copy)]
struct Plan {
    nodes: usize,
    steps: usize,
    /// Operations of a node at once.
    parallel: usize,
    /// How likely a step is another client's.
    foreign: f64,
    crashes: usize,
    /// Workers that are killed, and followed by another.
    takeovers: usize,
    ttl: Duration,
    commit: Commit,
    weather: Weather,
    /// Files of many blocks.
    large: bool,
    /// How finely the local disk stamps what is written.
    tick: Duration,
    /// Listings tell headers.
    lists_headers: bool,
}

impl Plan {
    fn random(rng: &mut StdRng) -> Self {
        let one_of = |rng: &mut StdRng, times: [u64; 4]| Duration::from_millis(times[rng.random_range(0..4)]);
        let later = Commit::Async { max_bytes: 1 << 20, max_age: Duration::from_secs(60) };
        let nodes = rng.random_range(1..=2);
        // A file's times tell whose commit an object is: two machines never stamp the same nanosecond.
        let ticks = if nodes == 1 { [0, 0, 4, 10] } else { [0; 4] };
        Self {
            nodes,
            steps: rng.random_range(20..=40),
            parallel: rng.random_range(1..=4),
            foreign: if rng.random() { 0.0 } else { rng.random_range(0.0..0.3) },
            crashes: [0, 0, 1, 2][rng.random_range(0..4)],
            takeovers: [0, 0, 1, 4][rng.random_range(0..4)],
            ttl: one_of(rng, [0, 0, 200, 10_000]),
            commit: if rng.random_bool(0.6) { Commit::Close } else { later },
            weather: Weather {
                faults: if rng.random() { 0.0 } else { rng.random_range(0.0..0.2) },
                delay: one_of(rng, [0, 10, 100, 2000]),
            },
            large: rng.random_bool(0.06),
            tick: one_of(rng, ticks),
            lists_headers: rng.random(),
        }
    }
}

/// The history of a seed, and what was wrong in it.
struct Lived {
    trace: Vec<String>,
    wrong: Option<String>,
}

fn live(seed: u64, lie: Option<Lie>) -> Lived {
    let mut rng = StdRng::seed_from_u64(seed);
    let plan = Plan::random(&mut rng);
    simulated::run(seed, async move {
        simulated::set_tick(plan.tick);
        let min_part_size = tarn_cache::BLOCK_SIZE;
        let options =
            MemoryOptions { min_part_size, lists_headers: plan.lists_headers, ..MemoryOptions::default() };
        let memory = MemoryStore::with_options(options);
        let calm = plan.weather.faults == 0.0 && plan.crashes == 0;
        let mut reference = Reference::default();
        (reference.calm, reference.later) = (calm, plan.commit != Commit::Close);
        let reference = Mutex::new(reference);
        let world = World::new(plan, Bucket { memory, reference, lie });
        world.bucket.reference.lock().trace(|| format!("{plan:?}"));
        History::new(&world, rng).live().await;
        let mut reference = world.bucket.reference.lock();
        Lived { trace: std::mem::take(&mut reference.trace), wrong: reference.wrong.take() }
    })
}

/// Shows the history of a seed that went wrong.
fn tell(seed: u64, lived: &Lived) -> Option<String> {
    let wrong = lived.wrong.as_ref()?;
    let history = lived.trace.join("\n");
    Some(format!(
        "{history}\n\nseed {seed}: {wrong}\nagain: TARN_SEEDS={seed} cargo test -p tarn-fs --lib simulat"
    ))
}

/// `TARN_SEEDS`: a number, or two with `..` between them.
fn seeds() -> Range<u64> {
    let full = std::env::var_os("TARN_FULL").is_some_and(|value| value == "1");
    let all = if full { "0..100000" } else { "0..10000" };
    let text = std::env::var("TARN_SEEDS").unwrap_or_else(|_| all.to_owned());
    let number =
        |text: &str| text.parse::<u64>().expect("TARN_SEEDS is a number, or two with .. between them");
    match text.split_once("..") {
        Some((from, to)) => number(from)..number(to),
        None => number(&text)..number(&text) + 1,
    }
}

#[test]
fn simulated_histories_are_right() {
    let (seeds, next) = (seeds(), AtomicU64::new(0));
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = seeds.start + next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || failed.lock().len() >= MANY {
                        return;
                    }
                    let lived = live(seed, None);
                    if seeds.end - seeds.start == 1 {
                        println!("{}", lived.trace.join("\n"));
                    }
                    failed.lock().extend(tell(seed, &lived));
                }
            });
        }
    });
    let failed = failed.into_inner();
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

#[test]
fn a_simulated_history_repeats_itself() {
    for seed in 0..60 {
        let (first, again) = (live(seed, None), live(seed, None));
        let differs = first.trace.iter().zip(&again.trace).find(|(one, other)| one != other);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!(first.trace.len(), again.trace.len(), "seed {seed}");
    }
}

/// A simulation that finds nothing proves something only if it would have found it.
#[test]
fn a_simulated_server_that_lies_is_found_out() {
    for (lie, words) in [
        (Lie::ForgetsPuts, "the bucket never had it"),
        (Lie::IgnoresConditions, "it was not known"),
        (Lie::MixesVersions, "it was"),
        (Lie::KeepsUploads, "uploads are left"),
    ] {
        let found =
            (0..2000).find_map(|seed| live(seed, Some(lie)).wrong.filter(|wrong| wrong.contains(words)));
        assert!(found.is_some(), "{lie:?}");
    }
}
