//! The integration test of s3fs: what its users do on a mount, and what other clients do in the bucket meanwhile.
//!
//! It runs from the source directory that `S3FS_DIR` names, its helpers in `test/` built in place (`g++ -o NAME
//! NAME.cc`). Its cases of pjdfstest are left out: that suite runs by itself.

use crate::list::Expected;
use crate::sources::directory;
use crate::tally::{Tally, Verdict};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;
use tarn_tests::subject::Subject;
use tarn_tests::suite::{Behaviour, On};
use tarn_tests::{behaviours, paths, run};

pub(crate) const TARN: &[Behaviour] =
    behaviours!(On::Tarn, s3fs_cases_fail_where_they_are_listed, a_report_of_s3fs_is_read);

const LIMIT: Duration = Duration::from_secs(1800);

/// Runs the suite in this shell, whose command line it reads for the options of s3fs.
const SCRIPT: &str = r#"
. ./test-utils.sh
source() { :; }
add_tests() {
    for case in "$@"; do [[ $case == test_pjdfstest_* ]] || TEST_LIST+=("$case"); done
}
s3_cp() { "$PYTHON" "$CLIENT" PUT "$@"; }
s3_head() { "$PYTHON" "$CLIENT" HEAD "$@"; }
export S3FS_PID=$$
. ./integration-test-main.sh
"#;

/// The cases, each with what it printed if it failed.
fn read(output: &str) -> BTreeMap<&str, Verdict> {
    let mut said = Vec::new();
    let mut cases = BTreeMap::new();
    for line in output.lines() {
        if let Some(case) = line.strip_suffix(" passed").filter(|case| case.starts_with("test_")) {
            cases.insert(case, Verdict::Passed);
        } else if let Some(case) = line.strip_suffix(" failed").filter(|case| case.starts_with("test_")) {
            cases.insert(case, Verdict::Failed(said.join("\n    ")));
        } else {
            said.push(line);
            continue;
        }
        said.clear();
    }
    cases
}

fn s3fs_cases_fail_where_they_are_listed(subject: &Subject<'_>) {
    let Some(dir) = directory("S3FS_DIR", "s3fs's integration test") else { return };
    // The suite looks for its helpers two folders above the one it works in.
    for entry in fs::read_dir(dir.join("test")).unwrap() {
        let entry = entry.unwrap();
        symlink(entry.path(), subject.root().with_file_name(entry.file_name())).unwrap();
    }
    // What the other client does is looked for at once.
    subject.take_mount().unmount().unwrap();
    let plan = subject.plan().clone().with(&["--attr-ttl", "0s"]);
    let mount = plan.mount().unwrap();
    let mut command = run::command("bash");
    let mut tally = Tally::start();
    // Both streams in one, in their order: what is said before a verdict belongs to it.
    command.args(["-c", &format!("exec 2>&1\n{SCRIPT}")]).current_dir(dir.join("test"));
    command
        .envs(plan.credentials())
        .env("TEST_BUCKET_1", &plan.source)
        .env("TEST_BUCKET_MOUNT_POINT_1", subject.root())
        .env("S3_URL", &plan.endpoint)
        .env("S3_ENDPOINT", "us-east-1")
        .env("PYTHON", paths::tool("venv/bin/python").unwrap())
        .env("CLIENT", paths::root().join("tests/posix/s3fs.py"))
        .env("TMPDIR", subject.scratch());
    let output = run::run(&mut command, LIMIT).unwrap().stdout;
    mount.unmount().unwrap();
    subject.mount_again().unwrap();
    assert!(output.contains("\nSUMMARY for "), "the suite did not come to its end:\n{}", run::tail(&output));
    for (case, verdict) in read(&output) {
        tally.add(case, verdict);
    }
    let expected = Expected::parse(include_str!("s3fs.expected"));
    tally.settle("s3fs's integration test, cases", subject.mode(), &expected);
}

fn a_report_of_s3fs_is_read(_subject: &Subject<'_>) {
    let report =
        "test_a: \"Testing ...\"\ntest_a passed\nabc\n1 failed\ntest_b failed\nPASS: test_a\nFAIL: test_b\n";
    let failed = Verdict::Failed("abc\n    1 failed".into());
    assert_eq!(read(report), BTreeMap::from([("test_a", Verdict::Passed), ("test_b", failed)]));
}
