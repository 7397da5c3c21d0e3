//! Lists of cases that fail for a reason. A failure off its list fails the run, and so does a listed case that
//! passes: a list only shrinks.

use std::collections::{BTreeMap, BTreeSet};

/// The cases that fail, each with its reason.
pub(crate) struct Expected(BTreeMap<String, Reason>);

struct Reason {
    /// It may pass too: the kernel decides by chance.
    by_chance: bool,
}

impl Expected {
    /// Reads lines of a case's name and the reason; lines that begin with `#` are comments. A case with `?` before its
    /// name may pass too.
    pub(crate) fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self(
            lines
                .map(|line| {
                    let (name, _reason) = line.split_once(' ').expect("a name and a reason");
                    let sure = name.trim_start_matches('?');
                    (sure.to_owned(), Reason { by_chance: sure != name })
                })
                .collect(),
        )
    }

    /// No case may fail.
    pub(crate) fn none() -> Self {
        Self(BTreeMap::new())
    }

    /// The cases.
    pub(crate) fn names(&self) -> impl Iterator<Item = String> + '_ {
        self.0.keys().cloned()
    }

    /// Forgets the cases that this run does not have.
    pub(crate) fn limit_to(&mut self, cases: &BTreeSet<String>) {
        self.0.retain(|name, _| cases.contains(name));
    }

    /// What of an outcome is not as listed, a line each. `seen` are the cases that ran.
    pub(crate) fn differences(
        &self,
        seen: &BTreeSet<String>,
        failed: &BTreeMap<String, String>,
    ) -> Vec<String> {
        let unlisted = failed
            .iter()
            .filter(|(name, _)| !self.0.contains_key(*name))
            .map(|(name, why)| format!("{name} fails: {why}"));
        let passing = self
            .0
            .iter()
            .filter(|(name, reason)| seen.contains(*name) && !failed.contains_key(*name) && !reason.by_chance)
            .map(|(name, _)| format!("{name} passes: take it off the list"));
        let unknown = self
            .0
            .keys()
            .filter(|name| !seen.contains(*name))
            .map(|name| format!("{name} is listed and is no case of the suite"));
        unlisted.chain(passing).chain(unknown).collect()
    }
}
