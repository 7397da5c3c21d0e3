//! Suites that no registry has, from source directories that variables name. One that is not named is not run, and
//! the run says so.

use crate::list::Expected;
use crate::results::{self, Counts};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Instant;
use tarn_tests::subject::Subject;
use tarn_tests::suite::{Behaviour, On};
use tarn_tests::{behaviours, run};

pub(crate) const TARN: &[Behaviour] = behaviours!(On::Tarn, pjdfstest_in_c_fails_where_it_is_listed);

/// The directory that a variable names.
pub(crate) fn directory(variable: &str, suite: &str) -> Option<PathBuf> {
    let dir = std::env::var_os(variable).map(PathBuf::from);
    if dir.is_none() {
        eprintln!("not run: {suite}. {variable} names no built source directory.");
    }
    dir
}

/// Reads the report of `prove`: per file the number of failed assertions, and the number of all.
fn read(output: &str, dir: &str) -> (BTreeMap<String, usize>, usize) {
    let file = |line: &str| {
        let (name, rest) = line.split_once(" (Wstat: ")?;
        let failed = rest.split_once("Failed: ")?.1.strip_suffix(')')?.parse().ok()?;
        Some((name.trim_end().strip_prefix(dir).unwrap_or(name).to_owned(), failed))
    };
    let total = output
        .lines()
        .find_map(|line| line.strip_prefix("Files=")?.split_once("Tests=")?.1.split(',').next());
    (output.lines().filter_map(file).collect(), total.and_then(|total| total.parse().ok()).unwrap_or(0))
}

/// pjdfstest in C (built in place: `autoreconf -ifs && ./configure && make pjdfstest`), listed by file.
fn pjdfstest_in_c_fails_where_it_is_listed(subject: &Subject<'_>) {
    let Some(dir) = directory("PJDFSTEST_DIR", "pjdfstest (C)") else { return };
    let (tests, started) = (format!("{}/tests/", dir.display()), Instant::now());
    let mut command = run::command("prove");
    command.args(["--recurse", "--quiet", &tests]).current_dir(subject.root());
    let output = run::run(&mut command, crate::limit()).unwrap().stdout;
    let (files, total) = read(&output, &tests);
    assert!(total > 0, "no report of prove:\n{}", run::tail(&output));
    let failed = files.values().sum();
    let counts = Counts { passed: total - failed, failed, skipped: 0 };
    results::record("pjdfstest (C), assertions", subject.mode(), counts, started.elapsed());
    let expected = Expected::parse(include_str!("pjdfstest-c.expected"));
    let failed: BTreeMap<_, _> =
        files.into_iter().map(|(name, count)| (name, format!("{count} assertions"))).collect();
    let mut seen: BTreeSet<String> = failed.keys().cloned().collect();
    seen.extend(expected.names());
    let wrong = expected.differences(&seen, &failed);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
