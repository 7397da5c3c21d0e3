//! Numbers and times as the dialects write them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Nanoseconds in a second.
const SECOND: i128 = 1_000_000_000;

/// A mode with format bits: decimal (s3fs, geesefs), or octal (rclone) where that is no mode.
pub(super) fn mode(text: &str) -> Option<u32> {
    let is_mode = |mode: &u32| *mode <= 0o177_777 && super::Kind::of_mode(*mode, 0).is_some();
    let decimal = text.parse().ok().filter(|_| !text.starts_with('0')).filter(is_mode);
    decimal.or_else(|| u32::from_str_radix(text, 8).ok().filter(is_mode))
}

/// A time in whole nanoseconds, as AWS writes it.
pub(super) fn nanoseconds(time: SystemTime) -> String {
    let nanos = match time.duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_nanos().cast_signed(),
        Err(before) => -before.duration().as_nanos().cast_signed(),
    };
    format!("{nanos}ns")
}

/// Seconds with an optional fraction (s3fs, rclone), or a whole number with `ns`, `ms` or `s` (AWS).
pub(super) fn time(text: &str) -> Option<SystemTime> {
    let scaled = |number: &str, scale: i128| number.parse::<i128>().ok()?.checked_mul(scale);
    let nanos = if let Some(number) = text.strip_suffix("ns") {
        scaled(number, 1)?
    } else if let Some(number) = text.strip_suffix("ms") {
        scaled(number, 1_000_000)?
    } else {
        let text = text.strip_suffix('s').unwrap_or(text);
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
        let fraction = i128::from(digits.parse::<u32>().ok()?);
        let whole = scaled(whole, SECOND)?;
        if text.starts_with('-') { whole.checked_sub(fraction)? } else { whole.checked_add(fraction)? }
    };
    let (seconds, rest) = (nanos.div_euclid(SECOND), nanos.rem_euclid(SECOND));
    let whole = Duration::from_secs(u64::try_from(seconds.unsigned_abs()).ok()?);
    let second = if seconds < 0 { UNIX_EPOCH.checked_sub(whole) } else { UNIX_EPOCH.checked_add(whole) };
    second?.checked_add(Duration::from_nanos(u64::try_from(rest).ok()?))
}
