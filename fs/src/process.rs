//! Which process is meant: pids come round again, so a pid counts only together with the time of its start.

pub mod code;

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

/// Whether a signal has ended the process of this thread, even if it cannot go yet because a call of it waits in the
/// kernel: SIGKILL is pending, or it is on its way out with a signal's number as its exit code (`proc_pid_stat(5)`).
/// One whose files cannot be read was not killed.
///
/// `stat` is read of those alone that are on their way out: reading it of one that is in execve(2) waits until that has
/// closed its files, which may be the very call that somebody wants to know about.
pub fn was_killed(tid: u32) -> bool {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{tid}/{file}")).unwrap_or_default();
    let status = read("status");
    has_fatal_signal(&status) || (!has_memory(&status) && is_leaving_by_signal(&read("stat")))
}

/// A process that ends gives up its memory before its files.
fn has_memory(status: &str) -> bool {
    status.lines().any(|line| line.starts_with("VmSize:"))
}

/// A signal that ends a process puts SIGKILL into the set of each of its threads.
fn has_fatal_signal(status: &str) -> bool {
    const SIGKILL: u64 = 1 << (libc::SIGKILL - 1);
    let pending =
        |line: &str| line.strip_prefix("SigPnd:").or_else(|| line.strip_prefix("ShdPnd:")).map(mask);
    status.lines().filter_map(pending).any(|signals| signals & SIGKILL != 0)
}

fn mask(hexadecimal: &str) -> u64 {
    u64::from_str_radix(hexadecimal.trim(), 16).unwrap_or_default()
}

/// The ninth field has the kernel's `PF_EXITING`, the 52nd the exit code as `wait` has it.
fn is_leaving_by_signal(stat: &str) -> bool {
    const EXITING: u64 = 4;
    let field = |number: usize| {
        let rest = stat.rsplit_once(')')?.1;
        rest.split_ascii_whitespace().nth(number - 3)?.parse::<u64>().ok()
    };
    let signal = field(52).unwrap_or_default() & 0x7f;
    field(9).unwrap_or_default() & EXITING != 0 && signal != 0
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
    fn a_process_is_killed_when_a_signal_has_ended_it() {
        let status = |set: &str| {
            format!("Name:\tcat\nSigPnd:\t0000000000000000\nShdPnd:\t{set}\nSigBlk:\tffffffffffffffff\n")
        };
        assert!(has_fatal_signal(&status("0000000000000100")));
        assert!(!has_fatal_signal(&status("0000000000004002")), "SIGINT and SIGTERM that somebody handles");
        assert!(has_memory("VmPeak:\t 10 kB\nVmSize:\t 10 kB\n") && !has_memory("Threads:\t1\n"));
        let stat = |flags, code| {
            let zeros = "0 ".repeat(42);
            format!("7 (a) b) D 1 1 1 0 -1 {flags} {zeros}{code}")
        };
        assert!(is_leaving_by_signal(&stat(0x0040_0004, 9)));
        assert!(is_leaving_by_signal(&stat(0x0040_000c, 0x82)), "a core was dumped");
        assert!(!is_leaving_by_signal(&stat(0x0040_0004, 1 << 8)), "exit(1)");
        assert!(!is_leaving_by_signal(&stat(0x0040_0000, 9)), "it runs");
        assert!(!was_killed(std::process::id()));
    }

    #[test]
    fn a_number_that_came_round_is_another_process() {
        let own = ProcessId::own();
        assert!(own.is_alive() && ProcessId::of(own.pid) == Some(own));
        assert!(!ProcessId { start_time: own.start_time + 1, ..own }.is_alive());
    }
}
