//! From a finding to its line. Pure: what was found comes in, what to think and do of it comes out.

use crate::store::{ErrorKind, Support};
use std::fmt;
use std::time::Duration;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// As it should be.
    Ok,
    /// tarn works, slower or with fewer promises.
    Degraded,
    /// tarn does not work like this.
    Fail,
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// How bad it is.
    pub status: Status,
    /// What was looked at.
    pub check: &'static str,
    /// What was found.
    pub finding: String,
    /// What to do.
    pub advice: Option<&'static str>,
}

impl Line {
    /// A line without fault.
    pub fn ok(check: &'static str, finding: impl Into<String>) -> Self {
        Self { status: Status::Ok, check, finding: finding.into(), advice: None }
    }

    /// A line that asks for something.
    pub fn bad(
        status: Status,
        check: &'static str,
        finding: impl Into<String>,
        advice: &'static str,
    ) -> Self {
        Self { status, check, finding: finding.into(), advice: Some(advice) }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = match self.status {
            Status::Ok => "OK",
            Status::Degraded => "DEGRADED",
            Status::Fail => "FAIL",
        };
        write!(f, "{status:<8}  {:<24}  {}", self.check, self.finding)?;
        self.advice.map_or(Ok(()), |advice| write!(f, "; {advice}"))
    }
}

/// A condition or feature, with what its absence means.
pub fn support(check: &'static str, support: &Support, status: Status, advice: &'static str) -> Line {
    match support {
        Support::Yes => Line::ok(check, "kept"),
        Support::Ignored => Line::bad(status, check, "accepted and ignored", advice),
        Support::Refused(why) => Line::bad(status, check, format!("refused: {why}"), advice),
    }
}

/// What the first request says of the way to the store, the bucket and the credentials.
pub fn first_request(result: Result<(), (ErrorKind, String)>) -> Vec<Line> {
    const REACH: &str = "reachability";
    const CREDENTIALS: &str = "credentials";
    const LIST: &str = "list";
    let Err((kind, text)) = result else {
        return vec![
            Line::ok(REACH, "the store answers"),
            Line::ok(CREDENTIALS, "accepted"),
            Line::ok(LIST, "works"),
        ];
    };
    let fail = |check, advice| Line::bad(Status::Fail, check, text.clone(), advice);
    let answers = Line::ok(REACH, "the store answers");
    match kind {
        ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Throttled => {
            vec![fail(REACH, "check endpoint, network, proxy and ca-bundle")]
        }
        ErrorKind::Credentials => {
            vec![answers, fail(CREDENTIALS, "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile")]
        }
        ErrorKind::Denied => {
            vec![
                answers,
                fail(
                    LIST,
                    "allow s3:ListBucket, check the keys and the region; public buckets need anonymous",
                ),
            ]
        }
        ErrorKind::NotFound => {
            vec![answers, fail(LIST, "create the bucket, or correct its name or the endpoint")]
        }
        ErrorKind::Precondition
        | ErrorKind::Corrupt
        | ErrorKind::Rejected
        | ErrorKind::InvalidName
        | ErrorKind::NameTooLong
        | ErrorKind::TooLarge
        | ErrorKind::Full
        | ErrorKind::Archived
        | ErrorKind::Unsupported => {
            vec![answers, fail(LIST, "check region and path-style; is this an S3 endpoint?")]
        }
    }
}

/// The difference between the store's clock and ours. Signatures are refused beyond 15 minutes.
pub fn clock_skew(skew: Duration) -> Line {
    const CHECK: &str = "clock skew";
    const ADVICE: &str = "set the clock by NTP; beyond 15 minutes S3 refuses every request";
    let finding = format!("{} s", skew.as_secs());
    match skew.as_secs() {
        0..=60 => Line::ok(CHECK, format!("under {} s", skew.as_secs().max(1) + 1)),
        61..=600 => Line::bad(Status::Degraded, CHECK, finding, ADVICE),
        _far => Line::bad(Status::Fail, CHECK, finding, ADVICE),
    }
}

/// What a kernel of this release can do; `6.18.1-amd64`.
pub fn kernel(release: &str) -> Line {
    const CHECK: &str = "kernel";
    let mut numbers =
        release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version >= (6, 9) {
        return Line::ok(CHECK, format!("{release}, passthrough possible"));
    }
    let advice = "files go through tarn at a third of the speed; Linux 6.9 or newer passes them through";
    Line::bad(Status::Degraded, CHECK, release, advice)
}

/// The file system under the cache directory, by its `statfs` magic.
pub fn cache_disk(magic: u64) -> Line {
    const CHECK: &str = "cache disk";
    match magic {
        0xef53 => Line::ok(CHECK, "ext4"),
        0x5846_5342 => Line::ok(CHECK, "xfs"),
        0x9123_683e => Line::ok(CHECK, "btrfs"),
        0x0102_1994 => {
            Line::bad(Status::Degraded, CHECK, "tmpfs", "unsent data is lost at a reboot; use ext4 or xfs")
        }
        0x794c_7630 => Line::bad(
            Status::Degraded,
            CHECK,
            "overlayfs",
            "no passthrough there; mount a volume for cache-dir",
        ),
        0x6969 => Line::bad(Status::Fail, CHECK, "nfs", "the cache must be on a local disk"),
        other => {
            Line::bad(Status::Degraded, CHECK, format!("type {other:#x}"), "tarn is tested on ext4 and xfs")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_reads_from_left_to_right() {
        let line = Line::bad(Status::Degraded, "copy", "refused: no", "expect slow renames");
        assert_eq!(line.to_string(), "DEGRADED  copy                      refused: no; expect slow renames");
        assert_eq!(Line::ok("list", "works").to_string(), "OK        list                      works");
    }

    #[test]
    fn the_first_failure_names_its_cause() {
        let of = |kind| {
            let lines = first_request(Err((kind, "text".into())));
            lines.last().map(|line| (line.check, line.status)).expect("a line")
        };
        assert_eq!(of(ErrorKind::Unavailable), ("reachability", Status::Fail));
        assert_eq!(of(ErrorKind::Credentials), ("credentials", Status::Fail));
        assert_eq!(of(ErrorKind::NotFound), ("list", Status::Fail));
        assert_eq!(of(ErrorKind::Denied), ("list", Status::Fail));
        assert!(first_request(Ok(())).iter().all(|line| line.status == Status::Ok));
    }

    #[test]
    fn an_ignored_condition_is_no_kept_one() {
        for (found, status) in [
            (Support::Yes, Status::Ok),
            (Support::Ignored, Status::Fail),
            (Support::Refused("x".into()), Status::Fail),
        ] {
            assert_eq!(support("conditional PUT", &found, Status::Fail, "do").status, status, "{found:?}");
        }
    }

    #[test]
    fn clocks_kernels_and_disks() {
        assert_eq!(clock_skew(Duration::from_secs(2)).status, Status::Ok);
        assert_eq!(clock_skew(Duration::from_secs(120)).status, Status::Degraded);
        assert_eq!(clock_skew(Duration::from_secs(3600)).status, Status::Fail);
        for (release, status) in [
            ("6.18.1-amd64", Status::Ok),
            ("6.9", Status::Ok),
            ("6.8.12", Status::Degraded),
            ("5.15.0", Status::Degraded),
        ] {
            assert_eq!(kernel(release).status, status, "{release}");
        }
        assert_eq!(cache_disk(0xef53).status, Status::Ok);
        assert_eq!(cache_disk(0x6969).status, Status::Fail);
    }
}
