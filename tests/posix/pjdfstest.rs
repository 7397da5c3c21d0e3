//! pjdfstest in Rust: what each system call answers, case by case.

use crate::list::Expected;
use crate::results::{self, Counts};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;
use tarn_tests::subject::Subject;
use tarn_tests::suite::{Behaviour, On};
use tarn_tests::{behaviours, paths, run};

pub(crate) const ALL: &[Behaviour] =
    behaviours!(On::EveryFileSystem, pjdfstest_fails_where_it_is_listed, output_is_read_to_the_last_case);

/// What the suite said of its cases.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    passed: BTreeSet<String>,
    skipped: BTreeSet<String>,
    /// With the first line of the reason.
    failed: BTreeMap<String, String>,
}

/// Reads the lines `name  ok`, `name  skipped` and `name  FAILED`; what is indented explains the case above.
fn read(output: &str) -> Outcome {
    let mut outcome = Outcome::default();
    let mut lines = output.lines().peekable();
    while let Some(line) = lines.next() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let &[name, verdict] = &words[..] else { continue };
        if line.starts_with(char::is_whitespace) {
            continue;
        }
        match verdict {
            "ok" => drop(outcome.passed.insert(name.to_owned())),
            "skipped" => drop(outcome.skipped.insert(name.to_owned())),
            "FAILED" => {
                let why = lines.peek().map_or("", |line| line.trim());
                outcome.failed.insert(name.to_owned(), why.to_owned());
            }
            _ => {}
        }
    }
    outcome
}

/// The number of cases by the suite's own count.
fn total(output: &str) -> Option<usize> {
    let summary = output.lines().find(|line| line.starts_with("Summary"))?;
    summary.strip_suffix(" total")?.rsplit(' ').next()?.parse().ok()
}

fn pjdfstest_fails_where_it_is_listed(subject: &Subject<'_>) {
    let (config, started) = (paths::root().join("tests/posix/pjdfstest.toml"), Instant::now());
    let mut command = run::command(paths::tool("bin/pjdfstest").unwrap());
    command.arg("-c").arg(config).arg("-p").arg(subject.root()).current_dir(subject.scratch());
    let output = run::run(&mut command, crate::limit()).unwrap().stdout;
    let Outcome { passed, skipped, failed } = read(&output);
    let counts = Counts { passed: passed.len(), failed: failed.len(), skipped: skipped.len() };
    results::record("pjdfstest 0.2.2 (Rust), cases", subject.mode(), counts, started.elapsed());
    assert_eq!(total(&output), Some(passed.len() + failed.len() + skipped.len()), "{}", run::tail(&output));
    let expected = if subject.is_tarn() {
        Expected::parse(include_str!("pjdfstest.expected"))
    } else {
        Expected::none()
    };
    let seen = passed.iter().chain(&skipped).chain(failed.keys()).cloned().collect();
    let wrong = expected.differences(&seen, &failed);
    assert!(wrong.is_empty(), "{} passed, {} failed:\n{}", passed.len(), failed.len(), wrong.join("\n"));
}

fn output_is_read_to_the_last_case(_subject: &Subject<'_>) {
    let output =
        "a::b                    ok\nc                FAILED\n\tno such file\n\td ok\ne   skipped\n\twhy\n
Summary: 1 failed, 1 skipped, 1 passed, 0 expected failures, 3 total\n";
    let outcome = read(output);
    assert_eq!(outcome.passed, BTreeSet::from(["a::b".to_owned()]));
    assert_eq!(outcome.skipped, BTreeSet::from(["e".to_owned()]));
    assert_eq!(outcome.failed, BTreeMap::from([("c".to_owned(), "no such file".to_owned())]));
    assert_eq!(total(output), Some(3));
    let expected = Expected::parse("# comment\nc   links\na::b  once\nz  gone\n?e  chance\n");
    let seen = ["a::b", "c", "e"].map(str::to_owned).into();
    assert_eq!(expected.differences(&seen, &outcome.failed).len(), 2);
    assert_eq!(Expected::none().differences(&seen, &outcome.failed), ["c fails: no such file"]);
}
