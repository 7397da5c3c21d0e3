//! Trees of files: git, tar, rsync, zip, and the ways in which editors save.

use crate::{must, shell};
use std::fs;
use std::path::{Path, PathBuf};
use tarn_tests::behaviours;
use tarn_tests::subject::Subject;
use tarn_tests::suite::{Behaviour, On};
use tarn_tests::{data, paths, run};

pub(crate) const ALL: &[Behaviour] = behaviours!(
    On::EveryFileSystem,
    git_clones_commits_and_checks,
    an_unpacked_tree_is_the_same,
    a_second_rsync_moves_nothing,
    zip_and_unzip_round_trip,
    sed_edits_in_place,
    vim_saves,
    a_compiled_program_runs,
);

/// The number of files with `TARN_FULL=1`, else the smaller one.
fn sized(full: u64, quick: u64) -> u64 {
    if paths::full() { full } else { quick }
}

/// A tree of `count` files outside the subject, in nested folders, with some large, empty and executable ones.
fn tree(subject: &Subject<'_>, count: u64) -> PathBuf {
    let root = subject.scratch().join("tree");
    for i in 0..count {
        let dir = root.join(format!("d{}/sub {}", i % 23, i % 7));
        fs::create_dir_all(&dir).unwrap();
        let size = match i % 50 {
            0 => 0,
            1 => 300_000,
            other => other as usize * 61,
        };
        fs::write(dir.join(format!("file-{i}.txt")), data::bytes(i, size)).unwrap();
    }
    fs::create_dir_all(root.join("empty/folder")).unwrap();
    shell(&root, "cp /bin/true d1/tool; chmod 700 d1/tool; ln -s ../d1/tool d2/link; touch -d 2001-02-03 d3");
    root
}

fn same(left: &Path, right: &Path) {
    must(run::command("diff").args(["--recursive", "--no-dereference"]).arg(left).arg(right));
}

fn git_clones_commits_and_checks(subject: &Subject<'_>) {
    let origin = tree(subject, sized(400, 200));
    let config = "git config user.name Test; git config user.email test@example.invalid";
    shell(&origin, &format!("git init -q -b main .; {config}; git add -A; git commit -qm first"));
    for round in 0..5 {
        fs::write(origin.join("d1/changes.txt"), data::bytes(round, 10_000)).unwrap();
        shell(&origin, "git add -A; git commit -qm more");
    }
    // As a remote would: objects are packed and written here, not linked or copied as files.
    shell(subject.root(), &format!("git clone -q --no-local 'file://{}' clone", origin.display()));
    let clone = subject.path("clone");
    shell(&clone, "git fsck --full --strict; test -z \"$(git status --porcelain)\"");
    shell(&clone, &format!("{config}; echo new > new.txt; git add new.txt; git commit -qm new; git gc -q"));
    shell(
        &clone,
        "git checkout -q -b side HEAD~3; git rebase -q main || true; git checkout -q main; git fsck --full",
    );
    subject.remount().unwrap();
    shell(
        &clone,
        "git fsck --full --strict; test -z \"$(git status --porcelain)\"; test \"$(cat new.txt)\" = new",
    );
}

fn an_unpacked_tree_is_the_same(subject: &Subject<'_>) {
    let source = tree(subject, sized(3000, 800));
    shell(&source, "tar cf ../tree.tar .");
    fs::create_dir(subject.path("out")).unwrap();
    must(
        run::command("tar")
            .arg("xf")
            .arg(subject.scratch().join("tree.tar"))
            .arg("-C")
            .arg(subject.path("out")),
    );
    same(&source, &subject.path("out"));
    subject.remount().unwrap();
    same(&source, &subject.path("out"));
    // Back into an archive: everything is read through the mount.
    must(
        run::command("tar")
            .arg("cf")
            .arg(subject.path("again.tar"))
            .arg("-C")
            .arg(subject.path("out"))
            .arg("."),
    );
    let listed = must(run::command("tar").arg("tf").arg(subject.path("again.tar")));
    let expected = must(run::command("tar").arg("tf").arg(subject.scratch().join("tree.tar")));
    assert_eq!(listed.lines().count(), expected.lines().count());
}

fn a_second_rsync_moves_nothing(subject: &Subject<'_>) {
    let count = sized(600, 200);
    let source = tree(subject, count);
    let rsync = || {
        let mut command = run::command("rsync");
        command
            .args(["-a", "--itemize-changes"])
            .arg(format!("{}/", source.display()))
            .arg(subject.path("copy"));
        must(&mut command)
    };
    assert!(rsync().lines().count() as u64 > count);
    same(&source, &subject.path("copy"));
    assert_eq!(rsync(), "", "nothing is left to do");
    subject.remount().unwrap();
    assert_eq!(rsync(), "", "nothing is left to do after a new mount");
    fs::write(source.join("d1/new"), b"new").unwrap();
    fs::remove_file(source.join("d2/sub 2/file-2.txt")).unwrap_or_default();
    let changed = rsync();
    assert!(changed.contains("d1/new") && changed.lines().count() <= 3, "{changed}");
}

fn zip_and_unzip_round_trip(subject: &Subject<'_>) {
    let source = tree(subject, sized(300, 100));
    fs::remove_file(source.join("d2/link")).unwrap();
    must(run::command("cp").arg("-a").arg(&source).arg(subject.path("in")));
    shell(subject.root(), "zip -q -r all.zip in; unzip -q all.zip -d out; unzip -tq all.zip");
    same(&source, &subject.path("out/in"));
    // Adding to an archive rewrites it in place or beside it, then renames.
    shell(
        subject.root(),
        "echo more > more.txt; zip -q all.zip more.txt; unzip -tq all.zip; unzip -p all.zip more.txt",
    );
}

fn sed_edits_in_place(subject: &Subject<'_>) {
    for i in 0..20 {
        fs::write(subject.path(&format!("f{i}")), format!("one {i}\ntwo {i}\n")).unwrap();
    }
    shell(subject.root(), "sed -i 's/two/second/' f*; sed -i.bak '1d' f3");
    assert_eq!(fs::read_to_string(subject.path("f7")).unwrap(), "one 7\nsecond 7\n");
    assert_eq!(fs::read_to_string(subject.path("f3")).unwrap(), "second 3\n");
    assert_eq!(fs::read_to_string(subject.path("f3.bak")).unwrap(), "one 3\nsecond 3\n");
    assert_eq!(fs::read_dir(subject.root()).unwrap().count(), 21);
}

/// What vim does with its different settings: a backup copy and a rewrite, or a rename and a new file; swap files.
fn vim_saves(subject: &Subject<'_>) {
    fs::write(subject.path("text"), "line\n").unwrap();
    for (round, setting) in ["backupcopy=yes", "backupcopy=no", "nowritebackup", "backup"].iter().enumerate()
    {
        let mut command = run::command("vim");
        command
            .args(["-e", "-s", "-n", "-u", "NONE", "-c", &format!("set {setting}")])
            .args(["-c", &format!("normal Goround {round}"), "-c", "wq"])
            .arg(subject.path("text"))
            .env("TERM", "dumb")
            .env("HOME", subject.scratch());
        must(&mut command);
    }
    assert_eq!(
        fs::read_to_string(subject.path("text")).unwrap(),
        "line\nround 0\nround 1\nround 2\nround 3\n"
    );
}

fn a_compiled_program_runs(subject: &Subject<'_>) {
    fs::write(
        subject.path("a.c"),
        "#include <stdio.h>\nint twice(int);\nint main(void) { printf(\"%d\\n\", twice(21)); }\n",
    )
    .unwrap();
    fs::write(subject.path("b.c"), "int twice(int x) { return 2 * x; }\n").unwrap();
    let script = "cc -c a.c; cc -c b.c; ar rcs libb.a b.o; cc -o program a.o libb.a; ./program";
    assert_eq!(shell(subject.root(), script), "42\n");
    subject.remount().unwrap();
    assert_eq!(shell(subject.root(), "./program"), "42\n");
}
