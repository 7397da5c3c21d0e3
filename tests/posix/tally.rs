//! The outcome of a suite whose cases are run here one by one.

use crate::list::Expected;
use crate::results::{self, Counts};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;
use tarn_tests::subject::Mode;

/// How a case ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// As it should.
    Passed,
    /// It asks for what this file system or this machine does not have; with the suite's words for that.
    Skipped(String),
    /// With the reason.
    Failed(String),
}

/// How many ended how.
pub(crate) struct Tally {
    started: Instant,
    passed: usize,
    seen: BTreeSet<String>,
    failed: BTreeMap<String, String>,
}

impl Tally {
    /// No case has run yet.
    pub(crate) fn start() -> Self {
        Self { started: Instant::now(), passed: 0, seen: BTreeSet::new(), failed: BTreeMap::new() }
    }

    /// Counts a case.
    pub(crate) fn add(&mut self, case: &str, verdict: Verdict) {
        self.seen.insert(case.to_owned());
        match verdict {
            Verdict::Passed => self.passed += 1,
            Verdict::Skipped(why) => eprintln!("not run: {case}: {why}"),
            Verdict::Failed(why) => drop(self.failed.insert(case.to_owned(), why)),
        }
    }

    /// Notes the result for RESULTS.md and compares it with the list.
    ///
    /// # Panics
    /// If no case ran, or one ended in another way than listed.
    pub(crate) fn settle(self, suite: &str, mode: Mode, expected: &Expected) {
        let (passed, failed) = (self.passed, self.failed.len());
        let counts = Counts { passed, failed, skipped: self.seen.len() - passed - failed };
        results::record(suite, mode, counts, self.started.elapsed());
        assert!(!self.seen.is_empty(), "{suite}: no case was found");
        let wrong = expected.differences(&self.seen, &self.failed);
        assert!(wrong.is_empty(), "{passed} passed, {failed} failed:\n{}", wrong.join("\n"));
    }
}
