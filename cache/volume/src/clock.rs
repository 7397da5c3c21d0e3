//! The only place of this crate that asks for the time. Everything else is given it, so that tests own the clock.

use crate::state::Timestamp;
use std::time::SystemTime;

/// Wall-clock time: volumes outlive processes and nodes, so nothing monotonic will do.
pub(crate) fn now() -> Timestamp {
    SystemTime::now().into()
}
