//! How long to leave alone what has failed. Pure.

use crate::error::CloudErrorKind;
use crate::plan::ActionKey;
use std::collections::BTreeMap;
use std::time::Duration;

const LONGEST: Duration = Duration::from_secs(5 * 60);
/// After so many failures the pause is at its longest whatever it began with.
const DOUBLINGS: u32 = 10;

/// Failures in a row.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: BTreeMap<ActionKey, u32>,
    throttled: u32,
}

impl Backoff {
    /// Counts a failure and says how long to wait.
    pub(super) fn failed(&mut self, key: &ActionKey, kind: Option<CloudErrorKind>) -> Duration {
        let failures = self.failures.entry(key.clone()).or_insert(0);
        let pause = first_pause(kind).saturating_mul(1 << (*failures).min(DOUBLINGS));
        *failures += 1;
        pause.min(LONGEST.max(first_pause(kind)))
    }

    /// Counts a refusal for too many requests and says how long to ask nothing at all.
    pub(super) fn throttled(&mut self) -> Duration {
        let pause = Duration::from_secs(2).saturating_mul(1 << self.throttled.min(DOUBLINGS));
        self.throttled += 1;
        pause.min(LONGEST)
    }

    /// It works again.
    pub(super) fn succeeded(&mut self, key: &ActionKey) {
        self.failures.remove(key);
    }

    /// The cloud answers again.
    pub(super) fn answered(&mut self) {
        self.throttled = 0;
    }
}

/// What changes by itself is tried again soon; what somebody must change, later.
fn first_pause(kind: Option<CloudErrorKind>) -> Duration {
    Duration::from_secs(match kind {
        None | Some(CloudErrorKind::Throttled | CloudErrorKind::Unreachable) => 1,
        Some(CloudErrorKind::State | CloudErrorKind::NotFound | CloudErrorKind::TokenUsed) => 3,
        Some(CloudErrorKind::Capacity | CloudErrorKind::Limit) => 30,
        Some(CloudErrorKind::Denied | CloudErrorKind::Invalid) => 60,
        // The service says when, in words; half an hour costs a request and little room.
        Some(CloudErrorKind::CoolDown) => 30 * 60,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound_and_begin_anew_after_a_success() {
        let (mut backoff, key) = (Backoff::default(), ActionKey { action: "attach", volume: None });
        let seconds: Vec<u64> = (0..12).map(|_| backoff.failed(&key, None).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        backoff.succeeded(&key);
        assert_eq!(backoff.failed(&key, None).as_secs(), 1);
        assert_eq!(backoff.failed(&key, Some(CloudErrorKind::CoolDown)).as_secs(), 1_800);
    }
}
