//! Plain file I/O, timed.

use crate::plan::MIB;
use anyhow::{Context, Result, ensure};
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};
use tarn_tests::data;

/// A file that was written: how long the write calls took, and how long the close.
#[derive(Debug, Clone, Copy)]
pub struct Written {
    /// From after the open, which makes the object, to after the last write.
    pub writes: Duration,
    /// The close.
    pub close: Duration,
}

/// Writes a new file of `size` bytes, 1 MiB a call. No two MiB of it are equal, nor two files of different seeds.
pub fn write(path: &Path, size: u64, seed: u64) -> Result<Written> {
    write_by(path, size, seed, MIB)
}

/// The same with `call` bytes a call, 8 at least.
pub fn write_by(path: &Path, size: u64, seed: u64, call: u64) -> Result<Written> {
    write_chunks(path, size, data::bytes(seed, usize::try_from(call)?))
}

/// The same as [`write`], but each MiB repeats 4 KiB, so that a server can keep it in little space.
pub fn write_repeats(path: &Path, size: u64, seed: u64) -> Result<Written> {
    write_chunks(path, size, data::bytes(seed, 4096).repeat(256))
}

/// Writes `chunk` again and again, each time with its offset in its first bytes.
fn write_chunks(path: &Path, size: u64, chunk: Vec<u8>) -> Result<Written> {
    let mut file = File::create_new(path).with_context(|| format!("create {}", path.display()))?;
    let start = Instant::now();
    fill_by(&mut file, size, chunk).with_context(|| format!("write {}", path.display()))?;
    let writes = start.elapsed();
    let start = Instant::now();
    // An error of the close is not seen here: whoever needs the bytes in the bucket looks there.
    drop(file);
    Ok(Written { writes, close: start.elapsed() })
}

/// Writes to an empty file what [`write()`] writes.
pub fn fill(file: &mut File, size: u64, seed: u64) -> Result<()> {
    fill_by(file, size, data::bytes(seed, MIB as usize))
}

fn fill_by(file: &mut File, size: u64, mut chunk: Vec<u8>) -> Result<()> {
    let call = chunk.len() as u64;
    let mut at = 0;
    while at < size {
        chunk[..8].copy_from_slice(&at.to_le_bytes());
        let length = (size - at).min(call);
        file.write_all(&chunk[..length as usize])?;
        at += length;
    }
    Ok(())
}

/// Reads a file to its end, 1 MiB a call; from the open to the close.
pub fn read(path: &Path, size: u64) -> Result<Duration> {
    let mut buffer = vec![0; MIB as usize];
    let start = Instant::now();
    let mut file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    let mut total = 0;
    loop {
        match file.read(&mut buffer).with_context(|| format!("read {}", path.display()))? {
            0 => break,
            count => total += count as u64,
        }
    }
    drop(file);
    let elapsed = start.elapsed();
    ensure!(total == size, "{} has {total} bytes instead of {size}", path.display());
    Ok(elapsed)
}

/// Both files must have the same bytes.
pub fn same(left: &Path, right: &Path) -> Result<()> {
    let (mut left_file, mut right_file) = (File::open(left)?, File::open(right)?);
    let (mut a, mut b) = (Vec::new(), Vec::new());
    loop {
        a.clear();
        b.clear();
        (&mut left_file).take(MIB).read_to_end(&mut a)?;
        (&mut right_file).take(MIB).read_to_end(&mut b)?;
        ensure!(a == b, "{} and {} differ", left.display(), right.display());
        if a.is_empty() {
            return Ok(());
        }
    }
}

/// Writes out what the disk has not seen yet, so that no round pays for the one before it.
pub fn settle(dir: &Path) -> Result<()> {
    rustix::fs::syncfs(File::open(dir)?).context("syncfs")
}
