//! Lists of cases that fail for a reason. A failure off its list fails the run, and so does a listed case that
//! passes: a list only shrinks.

use std::collections::{BTreeMap, BTreeSet};

/// The cases that may fail, each with its reason.
pub(crate) struct Expected(BTreeMap<String, String>);

impl Expected {
    /// Reads lines of a case's name and the reason; lines that begin with `#` are comments.
    pub(crate) fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self(
            lines
                .map(|line| {
                    let (name, reason) = line.split_once(' ').expect("a name and a reason");
                    (name.to_owned(), reason.trim().to_owned())
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
            .keys()
            .filter(|name| seen.contains(*name) && !failed.contains_key(*name))
            .map(|name| format!("{name} passes: take it off the list"));
        let unknown = self
            .0
            .keys()
            .filter(|name| !seen.contains(*name))
            .map(|name| format!("{name} is listed and is no case of the suite"));
        unlisted.chain(passing).chain(unknown).collect()
    }
}
