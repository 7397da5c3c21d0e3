//! What a process has used, from /proc.

use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

/// User and system time of a process until now.
pub fn cpu(pid: u32) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("read /proc/PID/stat")?;
    let ticks = ticks(&stat).context("times in /proc/PID/stat")?;
    Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// User and system time in clock ticks.
fn ticks(stat: &str) -> Option<u64> {
    // The second field is the name, which may hold spaces and parentheses; the third follows the last of them.
    let (_, after) = stat.rsplit_once(") ")?;
    let mut fields = after.split(' ').skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// The most memory the process has had resident, in MiB.
pub fn peak_mib(pid: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("read /proc/PID/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().context("VmHWM")?;
    Ok(kib / 1024.0)
}

/// A process and all that descend from it, parents first. Those that end meanwhile are left out.
pub fn tree(pid: u32) -> Vec<u32> {
    let mut tree = vec![pid];
    let mut next = 0;
    while let Some(&parent) = tree.get(next) {
        tree.extend(children(parent));
        next += 1;
    }
    tree
}

/// User and system time of a process and all that descend from it, until now.
pub fn tree_cpu(pid: u32) -> Result<Duration> {
    tree(pid).into_iter().map(cpu).sum()
}

/// What each of them has had resident at most, added up, in MiB.
pub fn tree_peak_mib(pid: u32) -> Result<f64> {
    tree(pid).into_iter().map(peak_mib).sum()
}

/// Brings into memory again what a process tree runs, after the page cache was dropped: to read programs and libraries
/// from the disk is no work of a mount.
pub fn warm_programs(pid: u32) -> Result<()> {
    for file in tree(pid).into_iter().flat_map(programs).collect::<BTreeSet<_>>() {
        let mut file = File::open(&file).with_context(|| format!("open {}", file.display()))?;
        std::io::copy(&mut file, &mut std::io::sink())?;
    }
    Ok(())
}

/// The files that a process has mapped to run them.
fn programs(pid: u32) -> BTreeSet<PathBuf> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let executable =
        maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|mode| mode.contains('x')));
    executable.filter_map(|line| line.find('/').map(|start| line[start..].into())).collect()
}

fn children(pid: u32) -> Vec<u32> {
    // Each thread has children of its own.
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().flat_map(str::parse).collect::<Vec<u32>>()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 100 0 0 0 12 34 0 0 20 0";
        assert_eq!(ticks(stat), Some(46));
    }

    #[test]
    fn this_process_has_memory_and_time() {
        let pid = std::process::id();
        assert!(peak_mib(pid).unwrap() > 0.5);
        cpu(pid).unwrap();
    }

    #[test]
    fn this_program_is_among_those_that_it_runs() {
        let pid = std::process::id();
        assert!(programs(pid).contains(&std::env::current_exe().unwrap()));
        warm_programs(pid).unwrap();
    }

    #[test]
    fn a_child_is_in_the_tree_of_its_parent() {
        let mut child =
            std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let tree = tree(std::process::id());
        assert_eq!(tree[0], std::process::id());
        assert!(tree.contains(&child.id()));
        drop(child.stdin.take());
        child.wait().unwrap();
    }
}
