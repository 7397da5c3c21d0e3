//! PostgreSQL with its data on the mount: a server that calls fsync for every commit, and checks its own pages.
//!
//! It runs where it is installed (`tests/tools.sh posix` does that); it refuses to run as root, so root runs it as
//! its own user.

use crate::must;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use tarn_tests::subject::Subject;
use tarn_tests::suite::{Behaviour, On};
use tarn_tests::{behaviours, disk, paths, run};

pub(crate) const ALL: &[Behaviour] = behaviours!(On::EveryFileSystem, postgres_keeps_what_it_committed);

/// Where Debian keeps the programs of each version.
const VERSIONS: &str = "/usr/lib/postgresql";

/// A folder of data and how to run programs on it.
struct Cluster<'a> {
    programs: PathBuf,
    data: PathBuf,
    /// For the socket and the log, on the local disk.
    outside: PathBuf,
    subject: &'a Subject<'a>,
}

fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir(VERSIONS).ok()?;
    let mut found: Vec<_> = versions.map(|version| version.unwrap().path().join("bin")).collect();
    found.retain(|programs| programs.join("initdb").exists());
    found.sort();
    found.pop()
}

fn own(dir: &Path) {
    fs::create_dir(dir).unwrap();
    fs::set_permissions(dir, Permissions::from_mode(0o700)).unwrap();
    if disk::is_root() {
        let id = |option| must(run::command("id").args([option, "postgres"])).trim().parse().unwrap();
        chown(dir, Some(id("-u")), Some(id("-g"))).unwrap();
    }
}

impl<'a> Cluster<'a> {
    fn new(programs: PathBuf, subject: &'a Subject<'a>) -> Self {
        // The way in, for the user who owns it.
        let home = subject.root().parent().unwrap();
        fs::set_permissions(home, Permissions::from_mode(0o755)).unwrap();
        let (data, outside) = (subject.path("data"), subject.scratch().join("postgres"));
        own(&data);
        own(&outside);
        Self { programs, data, outside, subject }
    }

    fn program(&self, name: &str) -> Command {
        let program = self.programs.join(name);
        let mut command = if disk::is_root() {
            let mut command = run::command("setpriv");
            command.args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups", "--"]).arg(program);
            command
        } else {
            run::command(program)
        };
        command.current_dir(&self.outside).env("PGHOST", &self.outside).env("PGDATABASE", "postgres");
        command
    }

    fn start(&self) {
        let options = format!("-c listen_addresses= -c unix_socket_directories={}", self.outside.display());
        let mut command = self.program("pg_ctl");
        command.arg("--pgdata").arg(&self.data).arg("--log").arg(self.outside.join("log"));
        must(command.args(["--wait", "--options", &options, "start"]));
    }

    fn stop(&self, how: &str) {
        let mut command = self.program("pg_ctl");
        must(command.arg("--pgdata").arg(&self.data).args(["--wait", "--mode", how, "stop"]));
    }

    /// All that is in it, as text. Indexes and tables are compared with each other on the way.
    fn content(&self) -> String {
        must(self.program("pg_amcheck").args(["--install-missing", "--heapallindexed", "postgres"]));
        let dump = must(&mut self.program("pg_dump"));
        // Each dump is marked with a word of its own.
        dump.lines().filter(|line| !line.contains("restrict ")).map(|line| format!("{line}\n")).collect()
    }
}

/// 200 transactions of four clients at once on 100,000 rows. Each is in the bucket when it is answered, so this takes
/// a while, and is run with `TARN_FULL=1` only.
fn postgres_keeps_what_it_committed(subject: &Subject<'_>) {
    if !paths::full() {
        eprintln!("not run: PostgreSQL. It takes TARN_FULL=1.");
        return;
    }
    let Some(programs) = programs() else {
        eprintln!("not run: PostgreSQL. {VERSIONS} does not exist; `tests/tools.sh posix` installs it.");
        return;
    };
    let cluster = Cluster::new(programs, subject);
    let mut command = cluster.program("initdb");
    command.arg("--pgdata").arg(&cluster.data);
    must(command.args([
        "--data-checksums",
        "--auth=trust",
        "--no-locale",
        "--encoding=UTF8",
        "--wal-segsize=1",
    ]));
    cluster.start();
    must(cluster.program("pgbench").args(["--quiet", "--initialize", "--scale=1"]));
    must(cluster.program("pgbench").args(["--no-vacuum", "--client=4", "--transactions=50"]));
    let before = cluster.content();
    // As if it were killed: the next start replays the log.
    cluster.stop("immediate");
    cluster.subject.remount().unwrap();
    cluster.start();
    assert!(cluster.content() == before, "after a crash of the server and a new mount the content differs");
    cluster.stop("fast");
    cluster.subject.remount().unwrap();
    must(cluster.program("pg_checksums").arg("--check").arg("--pgdata").arg(&cluster.data));
}
