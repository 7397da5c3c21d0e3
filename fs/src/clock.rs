//! The only place that asks for the time, or for chance.

#[cfg(test)]
pub(crate) mod simulated;

use std::fs::File;
use std::io;
use std::time::{Duration, Instant, SystemTime};

/// Wall-clock time, for the times that files show.
pub fn now() -> SystemTime {
    #[cfg(test)]
    if let Some(now) = simulated::now() {
        return now;
    }
    SystemTime::now()
}

/// Monotonic time, for lifetimes and deadlines.
pub fn instant() -> Instant {
    #[cfg(test)]
    if let Some(instant) = simulated::instant() {
        return instant;
    }
    Instant::now()
}

/// The local disk has a clock of its own for what is written; in a simulation it goes by the simulated one.
pub fn stamp(_written: &File) -> io::Result<()> {
    #[cfg(test)]
    if let Some(time) = simulated::stamp() {
        _written.set_modified(time)?;
    }
    Ok(())
}

/// How long ago that was.
pub fn since(then: Instant) -> Duration {
    instant().saturating_duration_since(then)
}

/// Waits.
pub async fn sleep(time: Duration) {
    #[cfg(test)]
    if simulated::is_on() {
        return simulated::sleep(time).await;
    }
    tokio::time::sleep(time).await;
}

/// By chance between half of `time` and all of it.
pub fn jitter(time: Duration) -> Duration {
    #[cfg(test)]
    if simulated::is_on() {
        return time.mul_f64(simulated::chance(|rng| rand::Rng::random_range(rng, 0.5..1.0)));
    }
    time.mul_f64(rand::random_range(0.5..1.0))
}
