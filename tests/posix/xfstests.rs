//! xfstests: the quick group of its generic tests, one after the other, and its fsstress.
//!
//! They run from the built source directory that `XFSTESTS_DIR` names, with `TARN_FULL=1` and as root. The suite mounts
//! by itself, with mount(8) and two prefixes of one bucket, hundreds of times; after it both prefixes are compared
//! with the bucket and with a second mount like what any other test leaves.

use crate::list::Expected;
use crate::sources::directory;
use crate::stage::Stage;
use crate::tally::{Tally, Verdict};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tarn_tests::subject::Subject;
use tarn_tests::suite::{Behaviour, On};
use tarn_tests::{behaviours, disk, paths, run};

pub(crate) const ALL: &[Behaviour] = behaviours!(On::EveryFileSystem, a_verdict_is_read_from_the_report);

pub(crate) const TARN: &[Behaviour] =
    behaviours!(On::Tarn, xfstests_fail_where_they_are_listed, fsstress_leaves_what_every_mount_shows);

/// How long one test may take before it counts as hanging. On the local disk none takes a minute, but a hole costs as much
/// as bytes here.
const LIMIT: Duration = Duration::from_secs(900);

/// The directory, if the suite is to run.
fn suite() -> Option<PathBuf> {
    if !paths::full() || !disk::is_root() {
        eprintln!("not run: xfstests. It takes TARN_FULL=1, and root.");
        return None;
    }
    directory("XFSTESTS_DIR", "xfstests")
}

/// The tests of the group.
fn cases(stage: &Stage, suite: &Path) -> Vec<String> {
    let listed = run::must(stage.check(suite).args(["-n", "-g", "generic/quick"]), LIMIT).unwrap();
    listed.lines().map(str::trim).filter(|line| line.starts_with("generic/")).map(str::to_owned).collect()
}

/// Reads what the suite printed about a run of one test.
fn judge(case: &str, output: &str) -> Verdict {
    let of_case = || output.lines().skip_while(|line| !line.starts_with(case));
    let names = |what: &str| output.lines().any(|line| line.strip_prefix(what).map(str::trim) == Some(case));
    if names("Failures:") {
        // The lines between the test's own and the summary: the difference from what was expected.
        let why: Vec<_> = of_case().take_while(|line| !line.starts_with("Ran:")).map(str::trim).collect();
        Verdict::Failed(why.join("\n    "))
    } else if names("Not run:") {
        let line = of_case().find_map(|line| line.split_once("[not run]"));
        Verdict::Skipped(line.map_or_else(String::new, |(_, why)| why.trim().to_owned()))
    } else if names("Ran:") && output.lines().any(|line| line == "Passed all 1 tests") {
        Verdict::Passed
    } else {
        Verdict::Failed(format!("no verdict:\n{}", run::tail(output)))
    }
}

fn xfstests_fail_where_they_are_listed(subject: &Subject<'_>) {
    let Some(suite) = suite() else { return };
    subject.take_mount().unmount().unwrap();
    let stage = Stage::new(subject.plan()).unwrap();
    let mut tally = Tally::start();
    for case in cases(&stage, &suite) {
        let verdict = match run::run(stage.check(&suite).arg(&case), LIMIT) {
            Ok(ended) => judge(&case, &ended.stdout),
            Err(error) => Verdict::Failed(format!("{error:#}")),
        };
        stage.clear().unwrap();
        tally.add(&case, verdict);
    }
    subject.mount_again().unwrap();
    let expected = Expected::parse(include_str!("xfstests.expected"));
    tally.settle("xfstests generic/quick, tests", subject.mode(), &expected);
}

/// Several processes do random operations on one tree, which is then compared with the bucket and a second mount.
fn fsstress_leaves_what_every_mount_shows(subject: &Subject<'_>) {
    let Some(suite) = suite() else { return };
    let mut tally = Tally::start();
    for seed in 1..=8 {
        let dir = subject.path(&format!("seed-{seed}"));
        fs::create_dir(&dir).unwrap();
        let mut command = run::command(suite.join("ltp/fsstress"));
        command.arg("-d").arg(&dir).args(["-n", "250", "-p", "4", "-s", &seed.to_string()]);
        // These make files of a gigabyte, nearly all of it a hole, which an object cannot have.
        command.args(["-f", "copyrange=0", "-f", "clonerange=0", "-f", "splice=0"]);
        let verdict = match run::must(command.current_dir(subject.scratch()), crate::limit()) {
            Ok(_) => Verdict::Passed,
            Err(error) => Verdict::Failed(format!("{error:#}")),
        };
        tally.add(&format!("seed-{seed}"), verdict);
    }
    tally.settle("fsstress, seeds of 4 x 250 operations", subject.mode(), &Expected::none());
}

fn a_verdict_is_read_from_the_report(_subject: &Subject<'_>) {
    let report = |last: &str| {
        format!("FSTYP -- fuse\n\ngeneric/001\t- output mismatch\n    +x\nRan: generic/001\n{last}\n")
    };
    assert_eq!(judge("generic/001", &report("Passed all 1 tests")), Verdict::Passed);
    let skipped =
        "generic/001\t[not run] no quota\nRan: generic/001\nNot run: generic/001\nPassed all 1 tests";
    assert_eq!(judge("generic/001", skipped), Verdict::Skipped("no quota".into()));
    let failed = judge("generic/001", &report("Failures: generic/001\nFailed 1 of 1 tests"));
    assert_eq!(failed, Verdict::Failed("generic/001\t- output mismatch\n    +x".into()));
    assert!(matches!(judge("generic/001", "out of memory"), Verdict::Failed(_)));
}
