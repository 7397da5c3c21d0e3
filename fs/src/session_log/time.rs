//! Times of files, which may lie before 1970: nanoseconds since then, with a sign.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A time in a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time(pub SystemTime);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize(deserializer).map(Self)
    }
}

/// For `#[serde(with = ...)]`.
pub fn serialize<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    let (nanos, sign) = match time.duration_since(UNIX_EPOCH) {
        Ok(since) => (since.as_nanos(), 1),
        Err(before) => (before.duration().as_nanos(), -1),
    };
    // A time has 64 bits of seconds: its nanoseconds fit in half of these.
    (i128::try_from(nanos).unwrap_or(i128::MAX) * sign).serialize(serializer)
}

/// For `#[serde(with = ...)]`.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SystemTime, D::Error> {
    const SECOND: u128 = 1_000_000_000;
    let nanos = i128::deserialize(deserializer)?;
    let (seconds, rest) = (nanos.unsigned_abs() / SECOND, nanos.unsigned_abs() % SECOND);
    let seconds = u64::try_from(seconds).map_err(serde::de::Error::custom)?;
    let span = Duration::new(seconds, u32::try_from(rest).map_err(serde::de::Error::custom)?);
    let time = if nanos < 0 { UNIX_EPOCH.checked_sub(span) } else { UNIX_EPOCH.checked_add(span) };
    time.ok_or_else(|| serde::de::Error::custom("a time that this machine cannot hold"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_comes_back() {
        let day = Duration::from_secs(86_400);
        for time in [
            UNIX_EPOCH,
            UNIX_EPOCH + day + Duration::from_nanos(1),
            UNIX_EPOCH - Duration::from_nanos(1),
            UNIX_EPOCH - day * 100_000,
            UNIX_EPOCH + day * 1_000_000,
        ] {
            let bytes = postcard::to_stdvec(&Time(time)).expect("encoded");
            assert_eq!(postcard::from_bytes(&bytes), Ok(Time(time)));
        }
    }
}
