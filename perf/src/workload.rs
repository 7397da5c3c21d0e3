//! What is measured. Each workload takes the site and gives its figures.

pub mod cold;
pub mod log;
pub mod memory;
pub mod small;
pub mod upload;
pub mod warm;

use crate::bench::Bench;
use crate::figure::Figure;
use anyhow::Result;

/// A workload: what it is called while it runs, and what it does.
pub type Workload = (&'static str, fn(&Bench) -> Result<Vec<Figure>>);

/// All of them, in the order of the report.
pub const ALL: &[Workload] = &[
    ("warm reads", warm::run),
    ("new files", upload::run),
    ("cold reads", cold::run),
    ("small files", small::run),
    ("session log", log::run),
    ("memory", memory::run),
];

/// Two measurements one after the other, the first and the second in turns: none of them always follows the other.
pub(crate) fn in_turns<A, B>(
    round: usize,
    ours: impl FnOnce() -> Result<A>,
    theirs: impl FnOnce() -> Result<B>,
) -> Result<(A, B)> {
    if round.is_multiple_of(2) {
        let ours = ours()?;
        Ok((ours, theirs()?))
    } else {
        let theirs = theirs()?;
        Ok((ours()?, theirs))
    }
}
