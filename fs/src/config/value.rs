//! Text to values: sizes, times, modes, switches. Pure; an error says what was expected, the caller says where.

use std::time::Duration;

/// What was expected instead.
pub(super) type Expected = &'static str;

/// An amount of disk: absolute, or a part of the whole.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Share {
    /// So many bytes.
    Bytes(u64),
    /// So many hundredths of the disk, 0 to 100.
    Percent(f64),
}

impl Share {
    /// The bytes this is on a disk of `total` bytes.
    pub fn of(self, total: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Percent(percent) => scale(total as f64, percent / 100.0).unwrap_or(total),
        }
    }
}

/// Reads `true` and `false` and their usual spellings.
pub(super) fn switch(text: &str) -> Result<bool, Expected> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _other => Err("true or false"),
    }
}

/// Reads a size. `k`, `kb`, `kib` and so on all count in 1024, as `df -h` and `fio` do.
pub(super) fn size(text: &str) -> Result<u64, Expected> {
    const EXPECTED: Expected = "a size such as 512k, 8MiB or 1.5g";
    let (number, unit) = split_unit(text);
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        "p" | "pb" | "pib" => 50,
        _other => return Err(EXPECTED),
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(1 << shift).ok_or("a size below 16 EiB");
    }
    let factor = decimal(number).ok_or(EXPECTED)?;
    scale(factor, (1_u64 << shift) as f64).ok_or("a size below 16 EiB")
}

/// Reads a size or a percentage.
pub(super) fn share(text: &str) -> Result<Share, Expected> {
    const EXPECTED: Expected = "a size such as 20GiB, or a part of the disk such as 10%";
    let Some(number) = text.trim().strip_suffix('%') else {
        return size(text).map(Share::Bytes).map_err(|_| EXPECTED);
    };
    match decimal(number.trim()) {
        Some(percent) if percent <= 100.0 => Ok(Share::Percent(percent)),
        Some(_) | None => Err(EXPECTED),
    }
}

/// Reads a span of time; a bare number counts seconds.
pub fn time(text: &str) -> Result<Duration, &'static str> {
    const EXPECTED: Expected = "a time such as 500ms, 1s or 1m";
    let (number, unit) = split_unit(text);
    let seconds = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _other => return Err(EXPECTED),
    };
    let number = decimal(number).ok_or(EXPECTED)?;
    Duration::try_from_secs_f64(number * seconds).map_err(|_| EXPECTED)
}

/// Reads permission bits.
pub(super) fn mode(text: &str) -> Result<u32, Expected> {
    const EXPECTED: Expected = "permission bits in octal, such as 0644";
    if text.is_empty() || !text.bytes().all(|byte| (b'0'..=b'7').contains(&byte)) {
        return Err(EXPECTED);
    }
    match u32::from_str_radix(text, 8) {
        Ok(bits) if bits <= 0o7777 => Ok(bits),
        Ok(_) | Err(_) => Err(EXPECTED),
    }
}

/// Reads a whole number.
pub(super) fn number(text: &str) -> Result<u32, Expected> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or("a whole number")
}

fn split_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

/// Digits and at most one point: no sign, exponent, `inf` or `nan`, which `f64` would take.
fn decimal(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    text.parse().ok().filter(|_| plain && text.bytes().any(|byte| byte.is_ascii_digit()))
}

fn scale(value: f64, factor: f64) -> Option<u64> {
    let product = (value * factor).round();
    (product.is_finite() && (0.0..u64::MAX as f64).contains(&product)).then_some(product as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("8MiB", 8 << 20),
            ("8 mb", 8 << 20),
            ("1.5g", 3 << 29),
            ("512K", 512 << 10),
            ("1t", 1 << 40),
            ("17b", 17),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for bad in ["", "MiB", "-1", "1e3", "inf", "8 MiBs", "1..5m", "99999999t", ".", "1.5.g"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn shares_are_sizes_or_percentages() {
        assert_eq!(share("10%"), Ok(Share::Percent(10.0)));
        assert_eq!(share("2.5 %").map(|share| share.of(1000)), Ok(25));
        assert_eq!(share("1GiB").map(|share| share.of(5)), Ok(1 << 30));
        assert!(share("101%").is_err() && share("%").is_err() && share("-1%").is_err());
    }

    #[test]
    fn times() {
        for (text, millis) in
            [("500ms", 500), ("1s", 1000), ("1m", 60_000), ("2", 2000), ("0.5s", 500), ("1h", 3_600_000)]
        {
            assert_eq!(time(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for bad in ["", "s", "1y", "-1s", "1 s s", "99999999999999999999999d"] {
            assert!(time(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn modes_are_octal() {
        assert_eq!(mode("0644"), Ok(0o644));
        assert_eq!(mode("755"), Ok(0o755));
        assert!(mode("0898").is_err() && mode("+7").is_err() && mode("77777").is_err() && mode("").is_err());
    }

    proptest! {
        #[test]
        fn nothing_panics_and_nothing_signed_passes(text in "\\PC{0,24}") {
            let _ = (size(&text), share(&text), time(&text), mode(&text), number(&text), switch(&text));
            if text.trim_start().starts_with(['-', '+']) {
                prop_assert!(size(&text).is_err() && time(&text).is_err() && number(&text).is_err());
            }
        }

        #[test]
        fn numeric_soup_never_panics(text in "[0-9.]{0,40}[kmgtpsh%iB]{0,4}") {
            let _ = (size(&text), share(&text), time(&text));
        }

        #[test]
        fn whole_sizes_come_back(n in 0_u64..1 << 24, unit in 0_usize..4) {
            let (name, shift) = [("", 0), ("KiB", 10), ("MiB", 20), ("GiB", 30)][unit];
            prop_assert_eq!(size(&format!("{n}{name}")), Ok(n << shift));
        }
    }
}
