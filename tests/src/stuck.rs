//! Looks for threads of any process that wait in FUSE for ever, where no signal reaches them.

use crate::wait::eventually;
use anyhow::Result;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

/// No wait is longer: every request of the kernel ends before.
const LIMIT: Duration = Duration::from_secs(20);

/// Whoever waits uninterruptibly for an answer of FUSE now gets one soon. Others may come and wait meanwhile.
pub fn none() -> Result<()> {
    let mut waiting = waiting()?;
    let gone_on = || {
        waiting = waiting.intersection(&self::waiting()?).cloned().collect();
        Ok(waiting.is_empty().then_some(()))
    };
    eventually(LIMIT, "nobody hangs in FUSE", gone_on)
}

/// The threads in that state, by their folders in `/proc` and what they wait in.
fn waiting() -> Result<BTreeSet<PathBuf>> {
    let numbered = |dir: PathBuf| {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        entries
            .filter(|entry| entry.file_name().as_encoded_bytes()[0].is_ascii_digit())
            .map(|entry| entry.path())
    };
    let hangs = |thread: &PathBuf| {
        // A thread that has ended meanwhile has no state.
        let read = |name| std::fs::read_to_string(thread.join(name)).unwrap_or_default();
        let waits = read("stat").rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('D'));
        waits && read("stack").contains("fuse")
    };
    Ok(numbered("/proc".into()).flat_map(|process| numbered(process.join("task"))).filter(hangs).collect())
}
