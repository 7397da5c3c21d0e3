//! git's own tests of what lies in its folders: index, objects, references, packs, work trees.
//!
//! They run from the built source directory that `GIT_SUITE_DIR` names, with `TARN_FULL=1`.

use crate::list::Expected;
use crate::sources::directory;
use crate::tally::{Tally, Verdict};
use std::fs;
use std::time::Duration;
use tarn_tests::subject::Subject;
use tarn_tests::suite::{Behaviour, On};
use tarn_tests::{behaviours, paths, run};

pub(crate) const TARN: &[Behaviour] = behaviours!(On::Tarn, gits_own_tests_fail_where_they_are_listed);

const LIMIT: Duration = Duration::from_secs(900);

/// Those that ask most of a file system.
const SCRIPTS: &[&str] = &[
    "t0001-init",
    "t0002-gitfile",
    "t0003-attributes",
    "t0008-ignores",
    "t0010-racy-git",
    "t0020-crlf",
    "t0050-filesystem",
    "t0600-reffiles-backend",
    "t0601-reffiles-pack-refs",
    "t0610-reftable-basics",
    "t1000-read-tree-m-3way",
    "t1004-read-tree-m-u-wf",
    "t1006-cat-file",
    "t1050-large",
    "t1060-object-corruption",
    "t1300-config",
    "t1301-shared-repo",
    "t1400-update-ref",
    "t1410-reflog",
    "t1450-fsck",
    "t1500-rev-parse",
    "t2000-conflict-when-checking-files-out",
    "t2021-checkout-overwrite",
    "t2200-add-update",
    "t2400-worktree-add",
    "t3000-ls-files-others",
    "t3200-branch",
    "t3600-rm",
    "t3700-add",
    "t3903-stash",
    "t5300-pack-object",
    "t5302-pack-index",
    "t5304-prune",
    "t5510-fetch",
    "t5516-fetch-push",
    "t5601-clone",
    "t6500-gc",
    "t7001-mv",
    "t7300-clean",
    "t7500-commit-template-squash-signoff",
    "t7508-status",
    "t7700-repack",
];

fn gits_own_tests_fail_where_they_are_listed(subject: &Subject<'_>) {
    if !paths::full() {
        eprintln!("not run: git's own tests. They take TARN_FULL=1.");
        return;
    }
    let Some(dir) = directory("GIT_SUITE_DIR", "git's own tests") else { return };
    let (trees, output) = (subject.path("trees"), subject.scratch().join("git"));
    fs::create_dir(&output).unwrap();
    let mut tally = Tally::start();
    for script in SCRIPTS {
        let mut command = run::command("sh");
        command
            .arg(format!("{script}.sh"))
            .arg(format!("--root={}", trees.display()))
            .current_dir(dir.join("t"))
            .env("TEST_OUTPUT_DIRECTORY", &output);
        let verdict = match run::run(&mut command, LIMIT) {
            Ok(ended) if ended.status.success() => Verdict::Passed,
            Ok(ended) => {
                let bad: Vec<_> = ended.stdout.lines().filter(|line| line.starts_with("not ok ")).collect();
                let why = if bad.is_empty() { run::tail(&ended.stderr) } else { bad.join("\n    ") };
                Verdict::Failed(why)
            }
            Err(error) => Verdict::Failed(format!("{error:#}")),
        };
        tally.add(script, verdict);
    }
    let expected = Expected::parse(include_str!("git.expected"));
    tally.settle("git's own tests, scripts", subject.mode(), &expected);
}
