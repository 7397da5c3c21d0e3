use super::*;
use proptest::prelude::*;
use std::collections::HashMap;

#[derive(Debug, Clone)]
enum Step {
    Touch(u8, u64),
    Grow(u8, u64),
    Remove(u8),
    Victim { keep: bool },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..40_u8, 1..1000_u64).prop_map(|(key, weight)| Step::Touch(key, weight)),
        2 => (0..40_u8, 1..1000_u64).prop_map(|(key, bytes)| Step::Grow(key, bytes)),
        1 => (0..40_u8).prop_map(Step::Remove),
        2 => any::<bool>().prop_map(|keep| Step::Victim { keep }),
    ]
}

proptest! {
    /// The oracle is a plain map from key to weight.
    #[test]
    fn it_orders_exactly_what_was_given_to_it(steps in prop::collection::vec(step(), 0..300)) {
        let mut policy = Policy::new(10_000);
        let mut oracle: HashMap<u8, u64> = HashMap::new();
        for step in steps {
            match step {
                Step::Touch(key, weight) => {
                    policy.touch(key, weight);
                    oracle.insert(key, weight);
                }
                Step::Grow(key, bytes) => {
                    policy.grow(key, bytes);
                    oracle.entry(key).and_modify(|weight| *weight += bytes);
                }
                Step::Remove(key) => {
                    policy.remove(key);
                    oracle.remove(&key);
                }
                Step::Victim { keep } => {
                    let victim = policy.victim();
                    prop_assert_eq!(victim.is_some(), !oracle.is_empty());
                    if let Some((key, weight)) = victim {
                        prop_assert_eq!(oracle.remove(&key), Some(weight));
                        if keep {
                            policy.keep(key, weight);
                            oracle.insert(key, weight);
                        }
                    }
                }
            }
            prop_assert_eq!(policy.len(), oracle.len());
            prop_assert_eq!(policy.small.weight + policy.main.weight, oracle.values().sum::<u64>());
            prop_assert!(oracle.keys().all(|key| policy.contains(*key)));
            prop_assert!(policy.ghost.len() <= 64);
        }
        // Whatever happened, everything can go, each once.
        while let Some((key, weight)) = policy.victim() {
            prop_assert_eq!(oracle.remove(&key), Some(weight));
        }
        prop_assert!(oracle.is_empty());
    }
}

#[test]
fn a_kept_key_goes_last() {
    let mut policy = Policy::new(100);
    for key in 0..5 {
        policy.touch(key, 50);
    }
    let (first, weight) = policy.victim().expect("five keys");
    policy.keep(first, weight);
    let order: Vec<i32> = std::iter::from_fn(|| policy.victim().map(|(key, _)| key)).collect();
    assert_eq!(order.len(), 5);
    assert_eq!(order.last(), Some(&first));
}

#[test]
fn what_was_there_before_goes_first() {
    let mut policy = Policy::new(100);
    for key in ["used", "again", "again"] {
        policy.touch(key, 50);
    }
    policy.add_older([("oldest", 50), ("again", 50), ("old", 50)]);
    let order: Vec<&str> = std::iter::from_fn(|| policy.victim().map(|(key, _)| key)).collect();
    assert_eq!(order, ["oldest", "old", "used", "again"]);
}

#[test]
fn a_key_that_comes_back_soon_is_not_new() {
    let mut policy = Policy::new(100);
    policy.touch("again", 50);
    policy.touch("other", 50);
    assert_eq!(policy.victim(), Some(("again", 50)));
    policy.touch("again", 50);
    policy.touch("newer", 50);
    assert_eq!(policy.victim(), Some(("other", 50)));
    assert_eq!(policy.victim(), Some(("newer", 50)));
}

/// A cache of the keys in a trace, under either policy.
trait Cache {
    /// Whether `key` was there; it is afterwards.
    fn access(&mut self, key: u64, weight: u64) -> bool;
}

struct S3Fifo(Policy<u64>, u64);

impl Cache for S3Fifo {
    fn access(&mut self, key: u64, weight: u64) -> bool {
        let hit = self.0.contains(key);
        while !hit && self.0.small.weight + self.0.main.weight + weight > self.1 {
            self.0.victim().expect("over the limit means not empty");
        }
        self.0.touch(key, weight);
        hit
    }
}

struct Lru(LruCache<u64, u64>, u64, u64);

impl Cache for Lru {
    fn access(&mut self, key: u64, weight: u64) -> bool {
        if self.0.get(&key).is_some() {
            return true;
        }
        while self.2 + weight > self.1 {
            self.2 -= self.0.pop_lru().expect("over the limit means not empty").1;
        }
        self.0.put(key, weight);
        self.2 += weight;
        false
    }
}

/// Nine of ten reads go to a popular few (the more popular the smaller the number); now and then somebody
/// reads a long row of objects once, as a backup does.
fn trace() -> Vec<(u64, u64)> {
    let mut state = 42_u64;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as f64 / f64::from(1_u32 << 31)
    };
    let mut trace = Vec::new();
    let mut fresh = 1_000_000;
    for round in 0..60_000 {
        if round % 5000 == 4999 {
            for _ in 0..3000 {
                fresh += 1;
                trace.push((fresh, 4));
            }
        }
        let key = (random().powi(3) * 5000.0) as u64;
        trace.push((key, 1 + key % 8));
    }
    trace
}

#[test]
fn scans_cost_less_than_with_lru() {
    let limit = 4000;
    let hits =
        |cache: &mut dyn Cache| trace().iter().filter(|(key, weight)| cache.access(*key, *weight)).count();
    let s3fifo = hits(&mut S3Fifo(Policy::new(limit), limit));
    let lru = hits(&mut Lru(LruCache::unbounded(), limit, 0));
    let ratio = s3fifo as f64 / lru as f64;
    println!("hits: S3-FIFO {s3fifo}, LRU {lru}, ratio {ratio:.3}");
    assert!(ratio > 1.1, "S3-FIFO {s3fifo}, LRU {lru}");
}
