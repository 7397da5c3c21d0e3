//! What the figures were measured on, and of which version.

use anyhow::{Context, Result};
use serde::Serialize;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};
use tarn_tests::{paths, run};

/// What runs write themselves, as git is told to leave it out.
const WRITTEN: &[&str] =
    &[":!perf/RESULTS.md", ":!perf/results.json", ":!perf/peers.json", ":!perf/peers.svg"];
const LIMIT: Duration = Duration::from_secs(30);

/// Machine and version.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// When the run began.
    pub date: String,
    /// The commit, and whether the checkout differs from it.
    pub commit: String,
    /// Processor.
    pub cpu: String,
    /// Its cores that this program may use.
    pub cores: usize,
    /// Memory in GiB.
    pub memory_gib: u64,
    /// Kernel.
    pub kernel: String,
    /// The type of the file system that holds the cache, the server's data and the local files.
    pub file_system: String,
    /// Load average of one minute before the first workload.
    pub load_before: f64,
}

impl Machine {
    /// This machine; `scratch` is the folder that the run uses.
    pub fn here(scratch: &Path) -> Result<Self> {
        let cpus = std::fs::read_to_string("/proc/cpuinfo")?;
        let cpu = field(&cpus, "model name").unwrap_or("unknown").to_owned();
        let memory = std::fs::read_to_string("/proc/meminfo")?;
        let kib: u64 = field(&memory, "MemTotal").context("MemTotal")?.trim_end_matches(" kB").parse()?;
        Ok(Self {
            date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            commit: commit()?,
            cpu,
            cores: std::thread::available_parallelism()?.get(),
            memory_gib: kib.div_ceil(1 << 20),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            file_system: file_system(scratch)?,
            load_before: load()?,
        })
    }
}

/// The load average of one minute.
fn load() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/loadavg")?;
    text.split(' ').next().context("load average")?.parse().context("load average")
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_once(':').map(|(_, value)| value.trim())
}

fn commit() -> Result<String> {
    let git = |arguments: &[&str]| {
        run::must(Command::new("git").arg("-C").arg(paths::root()).args(arguments), LIMIT)
    };
    let head = git(&["rev-parse", "--short=12", "HEAD"])?.trim().to_owned();
    let changed = git(&[&["status", "--porcelain", "--", "."], WRITTEN].concat())?;
    Ok(if changed.trim().is_empty() { head } else { format!("{head} with changes") })
}

fn file_system(dir: &Path) -> Result<String> {
    let mut findmnt = Command::new("findmnt");
    Ok(run::must(findmnt.args(["-n", "-o", "FSTYPE", "-T"]).arg(dir), LIMIT)?.trim().to_owned())
}
