//! The Linux Test Project: its tests of file systems and of the system calls on files, as its lists name them.
//!
//! They run from the installed directory that `LTP_DIR` names (with `runtest/` and `testcases/bin/`), with
//! `TARN_FULL=1` and as root. What a test calls a temporary directory is a folder of the mount.

use crate::list::Expected;
use crate::sources::directory;
use crate::tally::{Tally, Verdict};
use std::fs;
use std::path::Path;
use std::time::Duration;
use tarn_tests::subject::Subject;
use tarn_tests::suite::{Behaviour, On};
use tarn_tests::{behaviours, disk, paths, run};

pub(crate) const TARN: &[Behaviour] =
    behaviours!(On::Tarn, ltp_fails_where_it_is_listed, an_exit_status_of_ltp_is_read);

const LIMIT: Duration = Duration::from_secs(300);

/// Lists that are run whole.
const LISTS: &[&str] = &["fs_bind", "fs_perms_simple"];

/// Of the list `syscalls`: the calls on files, by the names of the programs without their numbers.
const CALLS: &[&str] = &[
    "access",
    "chdir",
    "chmod",
    "chown",
    "close",
    "copy_file_range",
    "creat",
    "dup",
    "dup2",
    "dup3",
    "faccessat",
    "fallocate",
    "fchdir",
    "fchmod",
    "fchmodat",
    "fchown",
    "fchownat",
    "fcntl",
    "fdatasync",
    "fgetxattr",
    "flistxattr",
    "flock",
    "fremovexattr",
    "fsetxattr",
    "fstat",
    "fstatat",
    "fstatfs",
    "fsync",
    "ftruncate",
    "getcwd",
    "getdents",
    "getxattr",
    "lchown",
    "lgetxattr",
    "link",
    "linkat",
    "listxattr",
    "llistxattr",
    "llseek",
    "lremovexattr",
    "lseek",
    "lstat",
    "mkdir",
    "mkdirat",
    "mknod",
    "mknodat",
    "mmap",
    "msync",
    "open",
    "openat",
    "posix_fadvise",
    "pread",
    "preadv",
    "preadv2",
    "pwrite",
    "pwritev",
    "pwritev2",
    "read",
    "readahead",
    "readdir",
    "readlink",
    "readlinkat",
    "readv",
    "removexattr",
    "rename",
    "renameat",
    "renameat2",
    "rmdir",
    "sendfile",
    "setxattr",
    "stat",
    "statfs",
    "statvfs",
    "statx",
    "symlink",
    "symlinkat",
    "sync",
    "sync_file_range",
    "syncfs",
    "truncate",
    "umask",
    "unlink",
    "unlinkat",
    "utime",
    "utimensat",
    "utimes",
    "write",
    "writev",
];

/// Bits of a test's exit status.
const FAILED: i32 = 1;
const BROKEN: i32 = 2;
const NOT_FOR_HERE: i32 = 32;

/// A line of a list: a name and a shell command.
fn lines(ltp: &Path, list: &str) -> Vec<(String, String)> {
    let text = fs::read_to_string(ltp.join("runtest").join(list)).unwrap();
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let pairs = lines.filter_map(|line| line.split_once(char::is_whitespace));
    pairs.map(|(name, command)| (name.to_owned(), command.trim().to_owned())).collect()
}

fn is_on_files(command: &str) -> bool {
    let program = command.split_whitespace().next().unwrap_or_default();
    let call = program.trim_end_matches("_64").trim_end_matches(|end: char| end.is_ascii_digit());
    CALLS.contains(&call) || CALLS.contains(&program)
}

fn judge(status: Option<i32>, said: &str) -> Verdict {
    match status {
        Some(0) => Verdict::Passed,
        Some(bits) if bits & (FAILED | BROKEN) == 0 && bits & NOT_FOR_HERE != 0 => {
            Verdict::Skipped(line_with(said, &["TCONF"]))
        }
        _ => Verdict::Failed(format!("{status:?} {}", line_with(said, &["TFAIL", "TBROK", "TWARN", "FAIL"]))),
    }
}

/// The first line that has one of the words.
fn line_with(said: &str, words: &[&str]) -> String {
    said.lines().find(|line| words.iter().any(|word| line.contains(word))).unwrap_or_default().to_owned()
}

fn ltp_fails_where_it_is_listed(subject: &Subject<'_>) {
    if !paths::full() || !disk::is_root() {
        eprintln!("not run: LTP. It takes TARN_FULL=1, and root.");
        return;
    }
    let Some(ltp) = directory("LTP_DIR", "LTP") else { return };
    let temporary = subject.path("ltp");
    fs::create_dir(&temporary).unwrap();
    let mut cases: Vec<_> = LISTS.iter().flat_map(|list| lines(&ltp, list)).collect();
    cases.extend(lines(&ltp, "syscalls").into_iter().filter(|(_, command)| is_on_files(command)));
    cases.push(("fcntl-locktests".into(), "locktests -n 100 -f $TMPDIR/locked".into()));
    let search = format!("{}/testcases/bin:{}", ltp.display(), std::env::var("PATH").unwrap_or_default());
    let mut tally = Tally::start();
    for (name, line) in cases {
        let mut command = run::command("sh");
        command.args(["-c", &line]).current_dir(&temporary);
        command.env("PATH", &search).env("LTPROOT", &ltp).env("TMPDIR", &temporary);
        let verdict = match run::run(&mut command, LIMIT) {
            Ok(ended) => judge(ended.status.code(), &(ended.stdout + &ended.stderr)),
            Err(error) => Verdict::Failed(format!("{error:#}")),
        };
        tally.add(&name, verdict);
    }
    let expected = Expected::parse(include_str!("ltp.expected"));
    tally.settle("LTP, tests of files", subject.mode(), &expected);
}

fn an_exit_status_of_ltp_is_read(_subject: &Subject<'_>) {
    assert_eq!(judge(Some(0), ""), Verdict::Passed);
    assert_eq!(judge(Some(NOT_FOR_HERE), "a\nb TCONF c"), Verdict::Skipped("b TCONF c".into()));
    assert_eq!(
        judge(Some(NOT_FOR_HERE | FAILED), "a\nx TFAIL y"),
        Verdict::Failed("Some(33) x TFAIL y".into())
    );
    assert!(is_on_files("openat02 -x") && is_on_files("pread01_64"));
    assert!(!is_on_files("openat2_01") && !is_on_files("clone01"));
}
