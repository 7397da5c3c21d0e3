//! stress-ng's file system class, each stressor on its own, checking what it reads (`--verify`).

use crate::list::Expected;
use crate::tally::{Tally, Verdict};
use std::time::Duration;
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
    let (seconds, rest) = if paths::full() { (10, REST) } else { (1, &[][..]) };
    let mut tally = Tally::start();
    for name in QUICK.iter().chain(rest) {
        let mut command = run::command("stress-ng");
        command.arg(format!("--{name}")).args(["1", "--timeout", &format!("{seconds}s"), "--verify"]);
        command.arg("--temp-path").arg(subject.root()).current_dir(subject.scratch());
        let verdict = match run::run(&mut command, CLEAN_UP + Duration::from_secs(seconds)) {
            Ok(ended) => judge(ended.status.code(), &(ended.stdout + &ended.stderr)),
            Err(error) => Verdict::Failed(format!("{error:#}")),
        };
        tally.add(name, verdict);
    }
    let mut expected = Expected::parse(include_str!("stress-ng.expected"));
    expected.limit_to(&QUICK.iter().chain(rest).map(|name| (*name).to_owned()).collect());
    tally.settle("stress-ng --class filesystem --verify, stressors", subject.mode(), &expected);
}

fn judge(status: Option<i32>, said: &str) -> Verdict {
    let line = |word: &str| said.lines().find(|line| line.contains(word)).unwrap_or("no reason given");
    match status {
        Some(0) => Verdict::Passed,
        Some(NO_RESOURCE | NOT_IMPLEMENTED) => Verdict::Skipped(line("skip").to_owned()),
        _ => Verdict::Failed(line("fail").to_owned()),
    }
}
