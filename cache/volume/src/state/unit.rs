//! Sizes and times.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Whole GiB, the unit in which volumes are sold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Gib(pub u32);

impl Gib {
    /// The least size that holds so many bytes.
    pub fn holding(bytes: u64) -> Self {
        Self(u32::try_from(bytes.div_ceil(1 << 30)).unwrap_or(u32::MAX))
    }

    /// In bytes.
    pub fn bytes(self) -> u64 {
        u64::from(self.0) << 30
    }
}

impl fmt::Display for Gib {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} GiB", self.0)
    }
}

/// A time of the wall clock in whole seconds since 1970, as tags hold it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// How long `earlier` is ago; nothing if it is yet to come.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_secs(self.0.saturating_sub(earlier.0))
    }

    /// So much later.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration.as_secs()))
    }

    /// Reads what [`fmt::Display`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        humantime::parse_rfc3339(text).ok().map(Self::from)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The last second that the calendar can write, in the year 9999.
        let shown = UNIX_EPOCH + Duration::from_secs(self.0.min(253_402_300_799));
        write!(f, "{}", humantime::format_rfc3339_seconds(shown))
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        Self(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
    }
}
