//! Speed of one large file, the same way for the mount and for the local disk.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// Size of the large file.
pub(super) const LARGE: u64 = 256 << 20;
const BLOCK: usize = 1 << 20;

/// How fast a large file was written and read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Speed {
    /// Until the last `write` returned.
    pub(super) write: Duration,
    /// Of the `close` after it.
    pub(super) close: Duration,
    /// Of reading it again.
    pub(super) read: Duration,
}

/// Writes the large file, closes it and reads it twice; the second read counts.
pub(super) fn large_file(path: &Path) -> io::Result<Speed> {
    let block: Vec<u8> = (0..BLOCK).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let start = Instant::now();
    let mut file = File::create(path)?;
    for number in 0..LARGE / BLOCK as u64 {
        file.write_all(&number.to_le_bytes())?;
        file.write_all(&block[8..])?;
    }
    let write = start.elapsed();
    let start = Instant::now();
    drop(file);
    let close = start.elapsed();
    read_all(path)?;
    let start = Instant::now();
    read_all(path)?;
    Ok(Speed { write, close, read: start.elapsed() })
}

fn read_all(path: &Path) -> io::Result<()> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; BLOCK];
    while file.read(&mut buffer)? > 0 {}
    Ok(())
}

/// `1,234 MiB/s`
pub(super) fn rate(bytes: u64, time: Duration) -> String {
    let rate = bytes as f64 / f64::from(1 << 20) / time.as_secs_f64().max(1e-9);
    if rate < 100.0 { format!("{rate:.1} MiB/s") } else { format!("{rate:.0} MiB/s") }
}

/// `47.9 MiB`
pub(super) fn amount(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well() {
        assert_eq!(rate(256 << 20, Duration::from_secs(2)), "128 MiB/s");
        assert_eq!(rate(3 << 19, Duration::from_secs(1)), "1.5 MiB/s");
        assert_eq!(amount(3 << 19), "1.5 MiB");
    }
}
