//! Real processes: one is killed while it fills, another reads on.

use crate::support::{id, misses_now, open_at};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use tarn_cache::BLOCK_SIZE;

const DIR: &str = "TARN_CACHE_TEST_DIR";
const SIZE: u64 = 24 * BLOCK_SIZE + 5;

/// The other process: fills an object again and again, from several threads, until it is killed.
#[test]
fn filler() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let store = open_at(dir.as_ref(), 1 << 30, "one boot");
    for round in 0.. {
        let object = store.object(&id(&format!("object {round}"), SIZE)).unwrap();
        std::thread::scope(|scope| {
            for half in 0..2 {
                let object = &object;
                scope.spawn(move || crate::support::fill(object, (0..25).filter(|block| block % 2 == half)));
            }
        });
        println!("\nfilled {round}");
    }
}

fn start(dir: &std::path::Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill::filler", "--nocapture"])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn a_process_killed_while_filling_leaves_only_right_blocks() {
    let dir = tempfile::TempDir::new().unwrap();
    let cache = dir.path().join("cache");
    for round in 0..4 {
        let mut child = start(&cache);
        let last = format!("filled {}", round + 1);
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.map_while(Result::ok).any(|line| line == last), "the filler ended early");
        // Somewhere in the middle of the next object, beside a reader of all of them.
        let store = open_at(&cache, 1 << 30, "one boot");
        let objects: Vec<_> =
            (0..round + 4).map(|n| store.object(&id(&format!("object {n}"), SIZE)).unwrap()).collect();
        for object in &objects {
            misses_now(object);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        for object in &objects {
            let missed = misses_now(object);
            assert_eq!(object.is_whole(), missed.is_empty());
        }
        assert_eq!(misses_now(&objects[0]), [0_u64; 0]);
        assert_eq!(store.stats().bad_blocks, 0, "no block was marked before it was written");
    }
}
