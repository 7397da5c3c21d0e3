//! Fuzz targets: whatever a server, another client, a damaged disk or a person has written ends in a value or in an error,
//! and what was read is written back as the same.
//!
//! Each target changes the inputs of its corpus (`corpus/TARGET/`, one input each file) for a bounded time: a second, with
//! `TARN_FULL=1` five minutes. An input that breaks one is printed, and belongs into the corpus then.

#![allow(clippy::unwrap_used, reason = "in a test, whatever fails fails the test")]

mod answers;
mod mutate;
mod texts;
mod words;

use mutate::Mutator;
use std::time::{Duration, Instant};
use tarn_tests::paths;

/// How long a target runs.
fn time() -> Duration {
    Duration::from_secs(if paths::full() { 300 } else { 1 })
}

/// Feeds a target with its corpus, and then with changes of it.
pub(crate) fn fuzz(target: &str, test: impl FnMut(&[u8])) {
    fuzz_with(target, Vec::new(), test);
}

/// The same with one more input, made by the code of today.
pub(crate) fn fuzz_with(target: &str, made: Vec<u8>, mut test: impl FnMut(&[u8])) {
    let corpus = [corpus(target), vec![made]].concat();
    let mut run = |input: &[u8]| {
        let shown = Shown(target, input);
        test(input);
        drop(shown);
    };
    corpus.iter().for_each(|input| run(input));
    let mut mutator = Mutator::new(u64::from(std::process::id()), &corpus);
    let (end, mut count) = (Instant::now() + time(), corpus.len());
    while Instant::now() < end {
        run(&mutator.input());
        count += 1;
    }
    println!("{target}: {count} inputs");
}

/// The inputs that are kept for a target, in the order of their names.
pub(crate) fn corpus(target: &str) -> Vec<Vec<u8>> {
    let dir = paths::root().join("tests/fuzz/corpus").join(target);
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{target} has no corpus");
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

/// Prints an input that its target did not survive.
struct Shown<'a>(&'a str, &'a [u8]);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{} does not survive b\"{}\"", self.0, self.1.escape_ascii());
        }
    }
}
