//! The file tests of Python and of Go, which come with the toolchains, and a build of this workspace by cargo.

use crate::list::Expected;
use crate::tally::{Tally, Verdict};
use std::fs;
use std::process::Command;
use std::time::Duration;
use tarn_tests::subject::Subject;
use tarn_tests::suite::{Behaviour, On};
use tarn_tests::{behaviours, paths, run};

pub(crate) const ALL: &[Behaviour] = behaviours!(
    On::EveryFileSystem,
    the_file_tests_of_python_pass,
    the_file_tests_of_go_pass,
    cargo_builds_this_workspace,
);

/// How long the tests of one module or package may take.
const LIMIT: Duration = Duration::from_secs(900);

/// Python's test modules that say most in a second.
const PYTHON_QUICK: &[&str] = &["test_filecmp", "test_glob", "test_shutil", "test_tempfile"];
/// Its other test modules that work on files.
const PYTHON_REST: &[&str] = &[
    "test_bufio",
    "test_bz2",
    "test_dbm",
    "test_dbm_dumb",
    "test_dbm_gnu",
    "test_fcntl",
    "test_file",
    "test_fileinput",
    "test_fileio",
    "test_genericpath",
    "test_gzip",
    "test_io",
    "test_largefile",
    "test_lzma",
    "test_mailbox",
    "test_mmap",
    "test_os",
    "test_pathlib",
    "test_posix",
    "test_posixpath",
    "test_py_compile",
    "test_shelve",
    "test_sqlite3",
    "test_stat",
    "test_tarfile",
    "test_unicode_file",
    "test_unicode_file_functions",
    "test_univnewlines",
    "test_zipapp",
    "test_zipfile",
    "test_zipimport",
];

/// Go's packages whose tests take seconds.
const GO_QUICK: &[&str] = &["io/fs", "path/filepath"];
/// Its other packages that work on files.
const GO_REST: &[&str] = &["archive/tar", "archive/zip", "embed", "internal/poll", "io/ioutil", "os"];

/// What a run of one module or package says.
fn verdict(command: &mut Command) -> Verdict {
    match run::run(command, LIMIT) {
        Ok(ended) if ended.status.success() => Verdict::Passed,
        Ok(ended) => Verdict::Failed(run::tail(&(ended.stdout + &ended.stderr))),
        Err(error) => Verdict::Failed(format!("{error:#}")),
    }
}

fn chosen(quick: &'static [&str], rest: &'static [&str]) -> impl Iterator<Item = &'static str> {
    quick.iter().chain(if paths::full() { rest } else { &[] }).copied()
}

fn the_file_tests_of_python_pass(subject: &Subject<'_>) {
    if !run::run(run::command("python3").args(["-c", "import test.test_os"]), LIMIT).unwrap().status.success()
    {
        eprintln!("not run: the file tests of Python. This Python came without its tests.");
        return;
    }
    let temporary = subject.path("tmp");
    fs::create_dir(&temporary).unwrap();
    let mut tally = Tally::start();
    for module in chosen(PYTHON_QUICK, PYTHON_REST) {
        let mut command = run::command("python3");
        command.args(["-m", "test", "-v", "--tempdir"]).arg(&temporary).arg(module);
        tally.add(module, verdict(command.env("TMPDIR", &temporary).current_dir(subject.scratch())));
    }
    tally.settle("file tests of Python, modules", subject.mode(), &Expected::none());
}

fn the_file_tests_of_go_pass(subject: &Subject<'_>) {
    let temporary = subject.path("tmp");
    fs::create_dir(&temporary).unwrap();
    let mut tally = Tally::start();
    for package in chosen(GO_QUICK, GO_REST) {
        let mut command = run::command("go");
        // The build is of no interest here, and a test that is a gigabyte of memory neither.
        command.args(["test", "-short", "-count=1", package]).env("GOTMPDIR", subject.scratch());
        tally.add(package, verdict(command.env("TMPDIR", &temporary).current_dir(subject.scratch())));
    }
    tally.settle("file tests of Go, packages", subject.mode(), &Expected::none());
}

/// The local store and what it needs, with `TARN_FULL=1`: sources and everything that is built lie in the folder.
fn cargo_builds_this_workspace(subject: &Subject<'_>) {
    if !paths::full() {
        eprintln!("not run: cargo builds this workspace. It takes TARN_FULL=1.");
        return;
    }
    let copy = "git clone --quiet \"$0\" source";
    let mut clone = run::command("sh");
    run::must(clone.args(["-c", copy]).arg(paths::root()).current_dir(subject.root()), LIMIT).unwrap();
    let mut tally = Tally::start();
    for package in ["tarn-cache", "tarn-fs"] {
        let mut command = run::command("cargo");
        command.args(["build", "--locked", "--offline", "--package", package]);
        command.env("CARGO_TARGET_DIR", subject.path("target")).current_dir(subject.path("source"));
        tally.add(package, verdict(&mut command));
    }
    tally.settle("cargo build of this workspace, packages", subject.mode(), &Expected::none());
    let tarn = subject.path("target/debug/tarn");
    assert!(run::must(run::command(tarn).arg("--version"), LIMIT).unwrap().starts_with("tarn "));
}
