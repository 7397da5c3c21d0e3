//! stress-ng's file system class, each stressor on its own, checking what it reads (`--verify`).

use crate::list::Expected;
use crate::results::{self, Counts};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use tarn_tests::subject::Subject;
use tarn_tests::suite::{Behaviour, On};
use tarn_tests::{behaviours, paths, run};

pub(crate) const TARN: &[Behaviour] = behaviours!(On::Tarn, stress_ng_fails_where_it_is_listed);

/// Those that say much in a second.
const QUICK: &[&str] = &[
    "access",
    "chmod",
    "fallocate",
    "fcntl",
    "flock",
    "fpunch",
    "getdent",
    "iomix",
    "lease",
    "locka",
    "lockf",
    "lockofd",
    "rename",
    "symlink",
    "utime",
];
/// The rest of the class, without those that use no file system (`binderfs`, `eventfd`, `ioprio`, `procfs`) and
/// fs-verity, which FUSE does not have.
const REST: &[&str] = &[
    "chattr",
    "chdir",
    "chown",
    "copy-file",
    "dentry",
    "dir",
    "dirdeep",
    "dirmany",
    "dnotify",
    "dup",
    "fanotify",
    "fiemap",
    "file-ioctl",
    "filename",
    "fsize",
    "fstat",
    "handle",
    "hdd",
    "inode-flags",
    "inotify",
    "io",
    "link",
    "mknod",
    "open",
    "sync-file",
    "touch",
    "xattr",
];
/// What a stressor may take to clean up after its time.
const CLEAN_UP: Duration = Duration::from_secs(120);

/// Exit statuses of stress-ng (its manual, "EXIT STATUS").
const NO_RESOURCE: i32 = 3;
const NOT_IMPLEMENTED: i32 = 4;

fn stress_ng_fails_where_it_is_listed(subject: &Subject<'_>) {
    let started = Instant::now();
    let (seconds, rest) = if paths::full() { (10, REST) } else { (1, &[][..]) };
    let (mut seen, mut failed, mut skipped) = (BTreeSet::new(), BTreeMap::new(), 0);
    for name in QUICK.iter().chain(rest) {
        let mut command = run::command("stress-ng");
        command.arg(format!("--{name}")).args(["1", "--timeout", &format!("{seconds}s"), "--verify"]);
        command.arg("--temp-path").arg(subject.root()).current_dir(subject.scratch());
        seen.insert((*name).to_owned());
        match run::run(&mut command, CLEAN_UP + Duration::from_secs(seconds)) {
            Ok(ended) => match ended.status.code() {
                Some(0) => {}
                Some(NO_RESOURCE | NOT_IMPLEMENTED) => skipped += 1,
                _ => {
                    let said = ended.stdout + &ended.stderr;
                    let why = said.lines().find(|line| line.contains("fail")).unwrap_or("no reason given");
                    failed.insert((*name).to_owned(), why.to_owned());
                }
            },
            Err(error) => drop(failed.insert((*name).to_owned(), format!("{error:#}"))),
        }
    }
    let counts = Counts { passed: seen.len() - failed.len() - skipped, failed: failed.len(), skipped };
    results::record(
        "stress-ng --class filesystem --verify, stressors",
        subject.mode(),
        counts,
        started.elapsed(),
    );
    let mut expected = Expected::parse(include_str!("stress-ng.expected"));
    expected.limit_to(&seen);
    let wrong = expected.differences(&seen, &failed);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
