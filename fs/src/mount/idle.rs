//! What a mount has for its work only it gives back when nobody uses it: a node has hundreds of mounts, and most of
//! them wait.

use super::heap;
use crate::clock;
use crate::fuse::Gate;
use crate::process::code;
use std::time::Duration;

/// Who has not asked for anything for so long is gone for a while.
const PAUSE: Duration = Duration::from_secs(30);

/// Watches a mount that has just started, until the process ends.
pub(super) async fn watch(gate: Gate) {
    let answered = || gate.answered().kinds.values().map(|kind| kind.count).sum();
    rest(answered, || {
        heap::trim();
        code::release();
    })
    .await
}

/// Gives back what the start has used, and later what the work has used, each time once.
async fn rest(answered: impl Fn() -> u64, give_back: impl Fn()) {
    give_back();
    let (mut before, mut worked) = (answered(), false);
    loop {
        clock::sleep(PAUSE).await;
        let now = answered();
        if now != before {
            (before, worked) = (now, true);
        } else if worked {
            give_back();
            worked = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::simulated;
    use futures::future::{Either, select};
    use std::cell::Cell;
    use std::pin::pin;

    #[test]
    fn a_mount_gives_back_once_after_each_work() {
        let (answered, given) = (Cell::new(7), Cell::new(0));
        let rest = rest(|| answered.get(), || given.set(given.get() + 1));
        let work = async {
            clock::sleep(PAUSE / 2).await;
            for (requests, expected) in [(0, 1), (0, 1), (5, 1), (5, 1), (0, 2), (0, 2), (1, 2), (0, 3)] {
                answered.set(answered.get() + requests);
                clock::sleep(PAUSE).await;
                assert_eq!(given.get(), expected, "after {} requests", answered.get());
            }
        };
        simulated::run(1, async {
            let goes_on = matches!(select(pin!(rest), pin!(work)).await, Either::Right(_));
            assert!(goes_on, "there is always a next time");
        });
    }
}
