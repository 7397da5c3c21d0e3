//! Programs that check what they read, while the worker is killed.

use crate::killer::while_killing;
use crate::results;
use std::process::Command;
use std::time::{Duration, Instant};
use tarn_tests::subject::Subject;
use tarn_tests::suite::{Behaviour, On};
use tarn_tests::{behaviours, paths, run};

pub(crate) const ALL: &[Behaviour] =
    behaviours!(On::Tarn, fio_verifies, fsx_agrees, tar_unpacks_and_compares, sqlite_is_sound, git_is_sound);

/// Repeats `round` until kills enough have fallen into it.
fn under_kills(subject: &Subject<'_>, name: &str, mut round: impl FnMut(u32)) {
    let time = Duration::from_secs(if paths::full() { 600 } else { 8 });
    let tally = while_killing(subject, || {
        let (end, mut count) = (Instant::now() + time, 0);
        while Instant::now() < end {
            round(count);
            count += 1;
        }
    });
    assert!(tally.stalls.len() >= 8, "{tally:?}");
    subject.remount().unwrap();
    subject.sweep().unwrap();
    results::note(format!("{name}, {}", subject.mode().name()), tally);
}

fn must(command: &mut Command) -> String {
    run::must(command, Duration::from_secs(120)).unwrap_or_else(|error| panic!("{error:#}"))
}

fn shell(subject: &Subject<'_>, script: &str) -> String {
    let mut command = run::command("bash");
    command.args(["-euo", "pipefail", "-c", script]).arg(subject.scratch()).current_dir(subject.root());
    must(&mut command)
}

/// SEMANTICS: "It may be killed at any moment (Linux 6.9 or later): no system call fails; open files, locks
/// and positions in directories stay."
fn fio_verifies(subject: &Subject<'_>) {
    under_kills(subject, "fio --verify", |_| {
        let mut command = run::command("fio");
        command.arg(format!("--directory={}", subject.root().display()));
        must(command.arg(paths::root().join("tests/fio/survive.fio")).current_dir(subject.scratch()));
    });
}

fn fsx_agrees(subject: &Subject<'_>) {
    let fsx = paths::tool("bin/fsx").unwrap();
    under_kills(subject, "fsx", |round| {
        let mut command = run::command(&fsx);
        command.args(["-N", "400", "-S", &(round + 1).to_string(), "-f"]);
        command.arg(paths::root().join("tests/posix/fsx.toml")).arg("-P").arg(subject.scratch());
        must(command.arg(subject.path("fsx")).current_dir(subject.scratch()));
    });
}

fn tar_unpacks_and_compares(subject: &Subject<'_>) {
    let make = "cd \"$0\"; mkdir -p tree; cd tree
        for i in $(seq 1 60); do mkdir -p d$((i % 7)); head -c $((i * 997)) /dev/urandom > d$((i % 7))/f$i; done
        ln -s d1/f1 link; cd ..; tar cf tree.tar tree";
    shell(subject, make);
    under_kills(subject, "tar", |round| {
        let script = format!(
            "mkdir r{round}; cd r{round}; tar xf \"$0/tree.tar\"; diff -r --no-dereference tree \"$0/tree\"
             tar df \"$0/tree.tar\"; mv tree moved; diff -r --no-dereference moved \"$0/tree\"; cd ..; rm -rf r{round}"
        );
        shell(subject, &script);
    });
}

fn sqlite_is_sound(subject: &Subject<'_>) {
    shell(subject, "sqlite3 data.db 'CREATE TABLE t(id INTEGER PRIMARY KEY, round INTEGER, text TEXT);'");
    under_kills(subject, "SQLite", |round| {
        let script = format!(
            "sqlite3 -bail data.db \"
                 BEGIN;
                 WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200)
                 INSERT INTO t(round, text) SELECT {round}, hex(randomblob(50)) FROM n;
                 COMMIT;
                 DELETE FROM t WHERE round < {round} - 3;
                 PRAGMA integrity_check;
                 SELECT count(*) FROM t WHERE round = {round};\""
        );
        assert_eq!(shell(subject, &script), "ok\n200\n");
    });
}

fn git_is_sound(subject: &Subject<'_>) {
    let git = "git -c user.name=t -c user.email=t@t -c gc.auto=0";
    shell(subject, "git init -q -b main repo");
    under_kills(subject, "git", |round| {
        let script = format!(
            "cd repo; for i in 1 2 3 4 5; do echo \"{round} $i\" > f$i; done; {git} add .
             {git} commit -q -m 'round {round}'; git status --short; git fsck --strict 2>&1
             git log --oneline | wc -l"
        );
        assert_eq!(shell(subject, &script).trim(), (round + 1).to_string());
    });
}
