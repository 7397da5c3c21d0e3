//! The only place that asks for the time.

use std::time::{Instant, SystemTime};

/// Wall-clock time, for the times that files show.
pub fn now() -> SystemTime {
    SystemTime::now()
}

/// Monotonic time, for lifetimes and deadlines.
pub fn instant() -> Instant {
    Instant::now()
}
