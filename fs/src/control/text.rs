//! A status as a person reads it. Pure.

use super::proto::{Billed, CacheUse, Calls, Dirty, Guard, MountStatus, QuotaUse, Serving};
use std::fmt::Write;

/// Bytes with a unit that keeps the number short: `12.5 MiB`.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut units = UNITS.iter();
    let mut unit = units.next().unwrap_or(&"");
    while value >= 1023.95 {
        let Some(next) = units.next() else { break };
        value /= 1024.0;
        unit = next;
    }
    format!("{value:.1} {unit}")
}

/// A span with its two largest units: `3 h 12 min`.
pub(super) fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        (_, _, _) => format!("{days} d {hours} h"),
    }
}

/// The whole status, a line for each subject.
pub(super) fn status(status: &MountStatus) -> String {
    let mut text = format!("{}  {}\n", status.dir, status.source);
    let mut line = |name: &str, value: String| {
        // Writing to a string cannot fail.
        writeln!(text, "  {name:<12}{value}").unwrap_or_default();
    };
    if !status.error.is_empty() {
        line("NO ANSWER", status.error.clone());
        return text;
    }
    let (version, pid) = (&status.version, status.pid);
    line("endpoint", status.endpoint.clone());
    line(
        "process",
        format!(
            "tarn {version}, pid {pid}, up {}, {} of memory",
            span(status.up_seconds),
            bytes(status.memory)
        ),
    );
    line("restarts", restarts(status));
    if status.keeper_gone {
        line("keeper", KEEPER_GONE.to_owned());
    }
    line("serving", serving(status.serving.as_ref()));
    line("writers", guard(status.guard.as_ref()));
    line("dirty", dirty(status.dirty.as_ref()));
    if let Some(used) = &status.quota {
        line("quota", quota(used));
    }
    line("cache", cache(status.cache.as_ref()));
    line("kernel", kernel(status));
    line("requests", calls(&status.store_calls));
    line("billed", billed(status.billed.unwrap_or_default()));
    if let Some(transfer) = &status.transfer {
        line("transfer", format!("{} received, {} sent", bytes(transfer.received), bytes(transfer.sent)));
    }
    line("known", format!("{} files and directories, {} open", status.inodes, status.handles));
    line("log", format!("{} at level {}", status.log, status.log_level));
    match status.conflicts.as_slice() {
        [] => line("conflicts", "none".to_owned()),
        some => line("conflicts", format!("{}; both sides were kept:", some.len())),
    }
    for conflict in &status.conflicts {
        line("", format!("{} was changed elsewhere, ours is {}", conflict.key, conflict.kept_as));
    }
    text
}

/// What a mount without its keeper is, and what to do.
const KEEPER_GONE: &str = "GONE: nobody replaces this process if it dies, and it cannot be upgraded; programs \
    notice nothing until then. Unmount and mount again when they can spare the mount";

fn kernel(status: &MountStatus) -> String {
    let text = calls(&status.kernel_calls);
    match status.panics {
        0 => text,
        count => format!("{text}; {count} ran into a bug and got EIO, please report what the log says"),
    }
}

fn billed(Billed { put, get, free }: Billed) -> String {
    format!(
        "{put} as PUT, COPY, POST or LIST, {get} as GET or HEAD, {free} not; what was sent again not counted"
    )
}

fn restarts(status: &MountStatus) -> String {
    let mut text = match status.restarts {
        0 => "none".to_owned(),
        count => format!("{count}; the last {} ago: {}", span(status.up_seconds), status.last_death),
    };
    if status.fails_calls {
        text.push_str(
            "; a crash fails the calls under way, for the kernel is older than 6.9; upgrades lose nothing",
        );
    }
    text
}

fn serving(serving: Option<&Serving>) -> String {
    let Some(serving) = serving else { return "unknown".to_owned() };
    let access = if serving.read_only { "read-only" } else { "read and write" };
    match serving.passthrough {
        true => format!("{access}; the kernel reads and writes local files by itself (passthrough)"),
        false => format!("{access}; every read and write comes to tarn: {}", serving.reason),
    }
}

fn guard(guard: Option<&Guard>) -> String {
    match guard {
        Some(guard) if guard.holds => {
            "cannot overwrite each other unnoticed: the server honours conditions".into()
        }
        Some(guard) if !guard.weak.is_empty() => {
            format!("CAN overwrite each other unnoticed; the server: {}", guard.weak.join(", "))
        }
        Some(guard) => {
            format!("are kept apart if the server honours conditions; not tried: {}", guard.unknown)
        }
        None => "unknown".to_owned(),
    }
}

fn dirty(dirty: Option<&Dirty>) -> String {
    match dirty {
        Some(dirty) if dirty.files > 0 => format!(
            "{} files are not in the bucket yet, {}, the oldest for {}",
            dirty.files,
            bytes(dirty.bytes),
            span(dirty.oldest_seconds)
        ),
        Some(_) | None => "nothing; everything is in the bucket".to_owned(),
    }
}

fn quota(quota: &QuotaUse) -> String {
    let used = quota.stored.saturating_add(quota.staged);
    let mut text = format!("{} of {} used, {} files", bytes(used), bytes(quota.limit), quota.files);
    if quota.staged > 0 {
        write!(text, "; {} of it are not in the bucket yet", bytes(quota.staged)).unwrap_or_default();
    }
    if used >= quota.limit {
        text.push_str("; NOTHING is left: writes answer ENOSPC");
    }
    match quota.counting {
        true => text.push_str("; being counted, there may be more"),
        false => write!(text, "; counted {} ago", span(quota.counted_seconds)).unwrap_or_default(),
    }
    text
}

fn cache(cache: Option<&CacheUse>) -> String {
    let Some(cache) = cache else { return "unknown".to_owned() };
    let mut text = format!("{} of {} in {}", bytes(cache.used), bytes(cache.limit), cache.dir);
    if cache.pinned > 0 {
        write!(text, ", {} pinned", bytes(cache.pinned)).unwrap_or_default();
    }
    let reads = cache.hits + cache.misses;
    if reads > 0 {
        let percent = cache.hits as f64 * 100.0 / reads as f64;
        write!(text, "; {percent:.1} % of {reads} reads hit").unwrap_or_default();
    }
    if cache.free < cache.floor {
        let (free, floor) = (bytes(cache.free), bytes(cache.floor));
        write!(text, "; NOTHING more is kept: {free} of the disk are free, {floor} must be (cache-min-free)")
            .unwrap_or_default();
    }
    if cache.bad_blocks > 0 {
        write!(text, "; {} damaged blocks healed", cache.bad_blocks).unwrap_or_default();
    }
    text
}

fn calls(calls: &[Calls]) -> String {
    let one = |call: &Calls| {
        let mean = call.nanos as f64 / 1e6 / call.count.max(1) as f64;
        let failed = if call.errors > 0 { format!(", {} failed", call.errors) } else { String::new() };
        format!("{} {} ({mean:.1} ms{failed})", call.op, call.count)
    };
    match calls {
        [] => "none".to_owned(),
        some => some.iter().map(one).collect::<Vec<_>>().join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::super::proto::{Conflict, Transfer};
    use super::*;

    #[test]
    fn sizes_and_spans_stay_short() {
        let sizes = [0, 1023, 1024, 1_048_575, 1 << 20, 5 << 30, u64::MAX].map(bytes);
        assert_eq!(sizes, ["0 B", "1023 B", "1.0 KiB", "1.0 MiB", "1.0 MiB", "5.0 GiB", "16.0 EiB"]);
        assert_eq!([0, 59, 61, 3600, 90_061].map(span), ["0 s", "59 s", "1 min 1 s", "1 h 0 min", "1 d 1 h"]);
    }

    #[test]
    fn a_status_names_what_somebody_must_look_at() {
        let busy = MountStatus {
            dir: "/mnt/data".into(),
            source: "s3://data".into(),
            version: "1.2.3".into(),
            pid: 7,
            up_seconds: 12,
            restarts: 2,
            last_death: "signal: 9 (SIGKILL)".into(),
            serving: Some(Serving { passthrough: false, reason: "turned off".into(), read_only: false }),
            guard: Some(Guard {
                weak: vec!["conditional PUT: accepted and ignored".into()],
                ..Guard::default()
            }),
            dirty: Some(Dirty { files: 2, bytes: 4096, oldest_seconds: 61 }),
            cache: Some(CacheUse {
                hits: 3,
                misses: 1,
                bad_blocks: 1,
                pinned: 3 << 20,
                free: 1 << 30,
                floor: 2 << 30,
                ..CacheUse::default()
            }),
            kernel_calls: vec![Calls { op: "lookup".into(), count: 10, errors: 0, nanos: 5_000_000 }],
            panics: 1,
            store_calls: vec![Calls { op: "get".into(), count: 4, errors: 1, nanos: 8_000_000 }],
            billed: Some(Billed { put: 0, get: 4, free: 2 }),
            keeper_gone: true,
            fails_calls: true,
            transfer: Some(Transfer { received: 1 << 20, sent: 0 }),
            quota: Some(QuotaUse {
                limit: 4096,
                stored: 3072,
                staged: 1024,
                files: 5,
                counted_seconds: 61,
                ..QuotaUse::default()
            }),
            conflicts: vec![Conflict { key: "a".into(), kept_as: "a.conflict".into(), unix_seconds: 0 }],
            ..MountStatus::default()
        };
        let text = status(&busy);
        for part in [
            "/mnt/data  s3://data\n",
            "restarts    2; the last 12 s ago: signal: 9 (SIGKILL); a crash fails the calls under way",
            "comes to tarn: turned off",
            "CAN overwrite each other unnoticed; the server: conditional PUT: accepted and ignored",
            "2 files are not in the bucket yet, 4.0 KiB, the oldest for 1 min 1 s",
            ", 3.0 MiB pinned; 75.0 % of 4 reads hit; NOTHING more is kept: 1.0 GiB of the disk are free, 2.0 GiB must be",
            "(cache-min-free); 1 damaged blocks healed",
            "keeper      GONE: nobody replaces this process if it dies",
            "kernel      lookup 10 (0.5 ms); 1 ran into a bug and got EIO",
            "get 4 (2.0 ms, 1 failed)",
            "billed      0 as PUT, COPY, POST or LIST, 4 as GET or HEAD, 2 not",
            "a was changed elsewhere, ours is a.conflict",
            "4.0 KiB of 4.0 KiB used, 5 files; 1.0 KiB of it are not in the bucket yet; NOTHING is left",
            "counted 1 min 1 s ago",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert!(status(&MountStatus::default()).contains("everything is in the bucket"));
        let dead = MountStatus { dir: "/d".into(), error: "a dead mount".into(), ..MountStatus::default() };
        assert_eq!(status(&dead), "/d  \n  NO ANSWER   a dead mount\n");
    }
}
