//! When a worker is started again, and when not any more. Pure.

use std::time::Duration;

/// Deaths in a row after which the mount is given up.
const DEATHS_MAX: u32 = 10;
/// A worker that lived this long after it began to serve was a good one.
const GOOD_LIFE: Duration = Duration::from_secs(10);
/// The first wait, and the longest.
const WAITS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// How a worker died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Death {
    /// Somebody killed it while it served. That says nothing of the next one.
    Killed,
    /// It failed by itself.
    Failed {
        /// For how long it had served.
        served: Duration,
    },
    /// It never came to serve.
    Unborn,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Start the next worker after this time.
    Start(Duration),
    /// No worker will do better.
    GiveUp,
}

/// Counts deaths that do not look like chance.
#[derive(Debug, Default)]
pub(super) struct Policy {
    deaths: u32,
}

impl Policy {
    /// A worker is dead.
    pub(super) fn next(&mut self, death: Death) -> Next {
        match death {
            Death::Killed => return Next::Start(Duration::ZERO),
            Death::Failed { served } if served >= GOOD_LIFE => self.deaths = 1,
            Death::Failed { .. } | Death::Unborn => self.deaths += 1,
        }
        match self.deaths {
            0 | 1 => Next::Start(Duration::ZERO),
            DEATHS_MAX.. => Next::GiveUp,
            deaths => Next::Start((WAITS.0 * (1 << (deaths - 2))).min(WAITS.1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT_ONCE: Next = Next::Start(Duration::ZERO);

    #[test]
    fn a_killed_worker_is_replaced_at_once_however_often() {
        let mut policy = Policy::default();
        assert!((0..1000).all(|_| policy.next(Death::Killed) == AT_ONCE));
    }

    #[test]
    fn failures_in_a_row_wait_longer_and_end() {
        let mut policy = Policy::default();
        let fate: Vec<Next> = (0..DEATHS_MAX).map(|_| policy.next(Death::Unborn)).collect();
        assert_eq!(fate[..3], [AT_ONCE, Next::Start(WAITS.0), Next::Start(WAITS.0 * 2)]);
        assert_eq!(fate.last(), Some(&Next::GiveUp));
        assert_eq!(fate.iter().filter(|next| **next == Next::GiveUp).count(), 1);
    }

    #[test]
    fn a_good_life_begins_the_count_anew() {
        let mut policy = Policy::default();
        for _ in 0..100 {
            assert_eq!(policy.next(Death::Failed { served: GOOD_LIFE }), AT_ONCE);
            assert_ne!(policy.next(Death::Failed { served: Duration::ZERO }), Next::GiveUp);
        }
    }
}
