//! Which process is meant: pids come round again, so a pid counts only together with the time of its start.

use serde::{Deserialize, Serialize};

/// A process of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// Its number.
    pub pid: i32,
    /// When it started, in clock ticks since boot.
    pub start_time: u64,
}

impl ProcessId {
    /// The process that has this number now; `None` if there is none.
    pub fn of(pid: i32) -> Option<Self> {
        Some(Self { pid, start_time: start_time(pid)? })
    }

    /// This process.
    pub fn own() -> Self {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        Self { pid, start_time: start_time(pid).unwrap_or_default() }
    }

    /// The process that started this one; `None` if it has ended.
    pub fn parent() -> Option<Self> {
        Self::of(rustix::process::getppid()?.as_raw_nonzero().get())
    }

    /// Whether it still runs.
    pub fn is_alive(self) -> bool {
        start_time(self.pid) == Some(self.start_time)
    }
}

fn start_time(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    parse_stat(&stat)
}

/// The second field is the name in brackets and may hold anything; the third is the state, the 22nd the start time.
/// A process that is dead and not yet waited for does nothing any more.
fn parse_stat(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    let start = fields.nth(18)?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zombie_has_ended() {
        let stat = |state| format!("7 (a) b) {state} 1 1 1 0 -1 4 0 0 0 0 0 0 0 0 20 0 1 0 4711 0 0");
        assert_eq!(parse_stat(&stat("S")), Some(4711));
        assert_eq!(parse_stat(&stat("Z")), None);
    }

    #[test]
    fn a_number_that_came_round_is_another_process() {
        let own = ProcessId::own();
        assert!(own.is_alive() && ProcessId::of(own.pid) == Some(own));
        assert!(!ProcessId { start_time: own.start_time + 1, ..own }.is_alive());
    }
}
