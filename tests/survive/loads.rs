//! Programs that check what they read, while the worker is killed: each alone, and all of them at once.

use crate::killer::while_killing;
use crate::results;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tarn_tests::subject::Subject;
use tarn_tests::suite::{Behaviour, On};
use tarn_tests::{behaviours, data, paths, run};

pub(crate) const ALL: &[Behaviour] = behaviours!(
    On::Tarn,
    fio_verifies,
    fsx_agrees,
    tar_unpacks_and_compares,
    sqlite_is_sound,
    git_is_sound,
    names_change_hands,
    all_at_once_in_both_commit_modes,
);

/// Rounds of a program, each of which checks what it has done.
struct Load {
    name: &'static str,
    prepare: fn(&Place),
    round: fn(&Place, u32),
}

/// Where a program works: a folder of the mount, and one beside it.
struct Place {
    inside: PathBuf,
    outside: PathBuf,
}

impl Place {
    fn new(subject: &Subject<'_>, name: &str) -> Self {
        let (inside, outside) = (subject.path(name), subject.scratch().join(name));
        fs::create_dir(&inside).unwrap();
        fs::create_dir_all(&outside).unwrap();
        Self { inside, outside }
    }

    /// Runs a script inside; `$0` is the folder outside.
    fn shell(&self, script: &str) -> String {
        let mut command = run::command("bash");
        command.args(["-euo", "pipefail", "-c", script]).arg(&self.outside).current_dir(&self.inside);
        must(&mut command)
    }
}

fn must(command: &mut Command) -> String {
    run::must(command, Duration::from_secs(120)).unwrap_or_else(|error| panic!("{error:#}"))
}

/// Keeps programs going, all at once, while the worker is killed.
fn under_kills(subject: &Subject<'_>, name: &str, loads: &[Load], time: Duration) {
    let place = |load: &Load| Place::new(subject, &format!("{}-{name}", load.name));
    let places: Vec<Place> = loads.iter().map(place).collect();
    for (load, place) in loads.iter().zip(&places) {
        (load.prepare)(place);
    }
    let tally = while_killing(subject, || {
        let end = Instant::now() + time;
        std::thread::scope(|scope| {
            for (load, place) in loads.iter().zip(&places) {
                scope.spawn(move || {
                    let mut rounds = (0..).take_while(|_| Instant::now() < end);
                    rounds.by_ref().for_each(|round| (load.round)(place, round));
                });
            }
        });
    });
    assert!(tally.stalls.len() >= 8, "{tally:?}");
    let who: Vec<&str> = loads.iter().map(|load| load.name).collect();
    results::note(format!("{}, {name}, {}", who.join(" + "), subject.mode().name()), time, tally);
}

fn alone(subject: &Subject<'_>, load: Load) {
    let time = Duration::from_secs(if paths::full() { 30 } else { 8 });
    under_kills(subject, "alone", &[load], time);
    subject.remount().unwrap();
    subject.sweep().unwrap();
}

/// SEMANTICS: "It may be killed at any moment (Linux 6.9 or later): no system call fails; open files, locks
/// and positions in directories stay."
fn all_at_once_in_both_commit_modes(subject: &Subject<'_>) {
    let time = Duration::from_secs(if paths::full() { 600 } else { 8 });
    for commit in ["close", "async"] {
        subject.take_mount().unmount().unwrap();
        subject.give_mount(subject.plan().clone().with(&["--commit", commit]).mount().unwrap());
        under_kills(subject, commit, &[FIO, FSX, TAR, SQLITE, GIT, NAMES], time);
        subject.remount().unwrap();
        subject.sweep().unwrap();
    }
}

fn fio_verifies(subject: &Subject<'_>) {
    alone(subject, FIO);
}

const FIO: Load = Load {
    name: "fio",
    prepare: |_| (),
    round: |place, _| {
        let mut command = run::command("fio");
        command.arg(format!("--directory={}", place.inside.display()));
        must(command.arg(paths::root().join("tests/fio/survive.fio")).current_dir(&place.outside));
    },
};

fn fsx_agrees(subject: &Subject<'_>) {
    alone(subject, FSX);
}

const FSX: Load = Load {
    name: "fsx",
    prepare: |_| (),
    round: |place, round| {
        let mut command = run::command(paths::tool("bin/fsx").unwrap());
        command.args(["-N", "400", "-S", &(round + 1).to_string(), "-f"]);
        command.arg(paths::root().join("tests/posix/fsx.toml")).arg("-P").arg(&place.outside);
        must(command.arg(place.inside.join("fsx")).current_dir(&place.outside));
    },
};

fn tar_unpacks_and_compares(subject: &Subject<'_>) {
    alone(subject, TAR);
}

const TAR: Load = Load {
    name: "tar",
    prepare: |place| {
        let make = "cd \"$0\"; mkdir -p tree; cd tree
            for i in $(seq 1 60); do mkdir -p d$((i % 7)); head -c $((i * 997)) /dev/urandom > d$((i % 7))/f$i; done
            ln -sf d1/f1 link; cd ..; tar cf tree.tar tree";
        place.shell(make);
    },
    round: |place, round| {
        place.shell(&format!(
            "mkdir r{round}; cd r{round}; tar xf \"$0/tree.tar\"; diff -r --no-dereference tree \"$0/tree\"
             tar df \"$0/tree.tar\"; mv tree moved; diff -r --no-dereference moved \"$0/tree\"; cd ..; rm -rf r{round}"
        ));
    },
};

fn sqlite_is_sound(subject: &Subject<'_>) {
    alone(subject, SQLITE);
}

const SQLITE: Load = Load {
    name: "SQLite",
    prepare: |place| {
        place.shell("sqlite3 data.db 'CREATE TABLE t(id INTEGER PRIMARY KEY, round INTEGER, text TEXT);'");
    },
    round: |place, round| {
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
        assert_eq!(place.shell(&script), "ok\n200\n");
    },
};

fn git_is_sound(subject: &Subject<'_>) {
    alone(subject, GIT);
}

const GIT: Load = Load {
    name: "git",
    prepare: |place| {
        place.shell(
            "git init -q -b main repo; cd repo
             for i in $(seq 8); do echo \"int f$i(void) { return $i; }\" > f$i.c; done
             (seq -f 'int f%g(void);' 8; echo '#include <stdio.h>'
              echo 'int main(void) { printf(\"%d\\n\", ROUND + 0'; seq -f '+ f%g()' 8; echo '); return 0; }') > main.c
             printf '%s\\n\\t%s\\n' 'sum: $(patsubst %.c,%.o,$(wildcard *.c))' '$(CC) -o $@ $^' > Makefile",
        );
    },
    round: |place, round| {
        let git = "git -c user.name=t -c user.email=t@t -c gc.auto=0";
        let script = format!(
            "cd repo; for i in 1 2 3 4 5; do echo \"{round} $i\" > f$i; done; {git} add .
             {git} commit -q -m 'round {round}'; git status --short; git fsck --strict 2>&1
             cd ..; git clone -q repo built; make -s -j2 -C built CFLAGS=-DROUND={round}; built/sum
             rm -rf built || {{ find built -ls; false; }}
             cd repo; git log --oneline | wc -l"
        );
        assert_eq!(place.shell(&script).trim(), format!("{}\n{}", round + 36, round + 1));
    },
};

fn names_change_hands(subject: &Subject<'_>) {
    alone(subject, NAMES);
}

/// Exchanges two files, two directories, and a file with a directory, and renames where nothing may be replaced.
const NAMES: Load = Load {
    name: "names",
    prepare: |_| (),
    round: |place, round| {
        let dir = place.inside.join(format!("r{round}"));
        fs::create_dir(&dir).unwrap();
        let (small, large) = (data::bytes(round.into(), 3_000), data::bytes(round.into(), 300_000));
        fs::write(dir.join("a"), &small).unwrap();
        fs::write(dir.join("b"), &large).unwrap();
        for (tree, files) in [("x", 2), ("y", 5)] {
            fs::create_dir(dir.join(tree)).unwrap();
            (0..files).for_each(|file| fs::write(dir.join(format!("{tree}/{file}")), tree).unwrap());
        }
        let mut held = File::open(dir.join("a")).unwrap();
        let rename = |from: &str, to: &str, how| renameat_with(CWD, dir.join(from), CWD, dir.join(to), how);
        rename("a", "b", RenameFlags::EXCHANGE).unwrap();
        assert!(fs::read(dir.join("a")).unwrap() == large && fs::read(dir.join("b")).unwrap() == small);
        rename("x", "y", RenameFlags::EXCHANGE).unwrap();
        let (two, five) = (["0", "1"], ["0", "1", "2", "3", "4"]);
        assert_eq!(entries(&dir.join("x")), five);
        assert_eq!(entries(&dir.join("y")), two);
        rename("b", "x", RenameFlags::EXCHANGE).unwrap();
        assert_eq!(entries(&dir.join("b")), five);
        assert!(fs::read(dir.join("x")).unwrap() == small);
        assert_eq!(rename("x", "a", RenameFlags::NOREPLACE), Err(Errno::EXIST));
        rename("x", "z", RenameFlags::NOREPLACE).unwrap();
        let mut read = Vec::new();
        held.read_to_end(&mut read).unwrap();
        assert!(read == small, "an open file has other bytes after its name changed hands");
        fs::remove_dir_all(&dir).unwrap();
    },
};

fn entries(dir: &Path) -> Vec<String> {
    let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
    let mut names: Vec<String> = fs::read_dir(dir).unwrap().map(|entry| name(entry.unwrap())).collect();
    names.sort();
    names
}
