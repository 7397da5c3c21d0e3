//! Warm reads by fio.
//!
//! `--invalidate=0`, because by default fio drops the pages of a local file before it starts, but cannot drop those
//! of the file behind a passthrough mount, which would flatter the mount tenfold.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::path::Path;
use std::time::Duration;
use tarn_tests::run;

/// How fio reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pattern {
    /// 1 MiB after 1 MiB.
    Sequential,
    /// 4 KiB anywhere.
    Random,
}

impl Pattern {
    fn options(self) -> &'static [&'static str] {
        match self {
            Self::Sequential => &["--rw=read", "--bs=1M"],
            Self::Random => &["--rw=randread", "--bs=4k", "--norandommap"],
        }
    }
}

/// What fio did.
#[derive(Debug, Clone, Copy)]
pub struct Reads {
    /// Bytes each second.
    pub bytes_per_second: f64,
    /// Reads each second.
    pub per_second: f64,
    /// Bytes in all.
    pub bytes: f64,
}

/// Reads a file for `seconds`.
pub fn read(file: &Path, pattern: Pattern, seconds: u32) -> Result<Reads> {
    let mut fio = run::command("fio");
    fio.args(["--name=warm", "--readonly", "--ioengine=psync", "--invalidate=0", "--gtod_reduce=1"])
        .args(["--time_based", "--output-format=json"])
        .args(pattern.options())
        .arg(format!("--runtime={seconds}"))
        .arg("--filename")
        .arg(file);
    let answer = run::must(&mut fio, Duration::from_secs(u64::from(seconds) + 60))?;
    // Remarks may stand before the JSON.
    let json = answer.find('{').map(|start| &answer[start..]).context("output of fio")?;
    let answer: Value = serde_json::from_str(json).context("output of fio")?;
    let reads = &answer["jobs"][0]["read"];
    let number = |name: &str| reads[name].as_f64().with_context(|| format!("{name} in the output of fio"));
    let reads = Reads {
        bytes_per_second: number("bw_bytes")?,
        per_second: number("iops")?,
        bytes: number("io_bytes")?,
    };
    ensure!(reads.bytes > 0.0, "fio has read nothing of {}", file.display());
    Ok(reads)
}
