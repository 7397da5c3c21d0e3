//! The keeper itself is killed: what is true then, and what to do, is said.

use crate::results;
use anyhow::ensure;
use rustix::process::{PidfdFlags, Signal, pidfd_open};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;
use tarn_tests::manager::Manager;
use tarn_tests::mount::{self, CHANGE_LIMIT, Mount};
use tarn_tests::subject::Subject;
use tarn_tests::suite::{Behaviour, On};
use tarn_tests::wait::eventually;
use tarn_tests::{behaviours, paths, run, wait};

pub(crate) const ALL: &[Behaviour] = behaviours!(
    On::Tarn,
    a_mount_goes_on_without_its_keeper_and_says_so,
    a_dead_mount_says_what_to_do,
    a_service_survives_kills_of_keeper_and_worker,
    a_restarted_service_keeps_its_mount,
    a_stopped_service_keeps_nothing,
);

fn tarn(command: &str, subject: &Subject<'_>) -> run::Outcome {
    run::run(mount::tarn().unwrap().arg(command).arg(subject.root()), CHANGE_LIMIT).unwrap()
}

fn a_mount_goes_on_without_its_keeper_and_says_so(subject: &Subject<'_>) {
    fs::write(subject.path("f"), b"before").unwrap();
    let mut mount = subject.take_mount();
    let worker = pidfd_open(mount.worker().unwrap().unwrap(), PidfdFlags::empty()).unwrap();
    mount.signal(Signal::KILL).unwrap();
    mount.wait().unwrap();
    let said =
        || Ok(tarn("status", subject).stdout.contains("keeper      GONE: nobody replaces").then_some(()));
    eventually(CHANGE_LIMIT, "the status tells of the keeper", said).unwrap();
    assert_eq!(fs::read(subject.path("f")).unwrap(), b"before");
    fs::write(subject.path("g"), b"after").unwrap();
    let outcome = tarn("umount", subject);
    assert!(outcome.stdout.contains("its keeper had been killed"), "{}{}", outcome.stdout, outcome.stderr);
    wait::end(&worker, Duration::ZERO).unwrap();
    assert_eq!(subject.bucket().get("g").unwrap(), b"after");
    drop(mount);
    subject.mount_again().unwrap();
}

fn a_dead_mount_says_what_to_do(subject: &Subject<'_>) {
    fs::write(subject.path("f"), b"before").unwrap();
    let mut mount = subject.take_mount();
    mount.kill().unwrap();
    let outcome = tarn("status", subject);
    assert_eq!(outcome.status.code(), Some(1));
    let advice = format!("clean it up with: tarn umount {}", subject.root().display());
    assert!(
        outcome.stderr.contains("is a dead mount") && outcome.stderr.contains(&advice),
        "{}",
        outcome.stderr
    );
    let all = run::run(mount::tarn().unwrap().arg("status"), CHANGE_LIMIT).unwrap();
    let line = format!("NO ANSWER   {} is a dead mount", subject.root().display());
    assert!(all.status.success() && all.stdout.contains(&line), "{}{}", all.stdout, all.stderr);
    let outcome = tarn("umount", subject);
    assert!(outcome.stdout.contains("removed a dead mount"), "{}{}", outcome.stdout, outcome.stderr);
    drop(mount);
    subject.mount_again().unwrap();
    assert_eq!(fs::read(subject.path("f")).unwrap(), b"before");
}

/// Works on the mount until a file says that it is enough; every call must succeed. A program of its own: one that is
/// started by who has files open on the mount closes its copies first, which waits for whoever serves the mount.
const WORK: &str = r#"
import os, sys
root, outside = sys.argv[1:]
log = os.open(f"{root}/log", os.O_RDWR | os.O_CREAT | os.O_EXCL)
rounds = os.open(f"{outside}/rounds", os.O_WRONLY | os.O_CREAT)
count = 0
while not os.path.exists(f"{outside}/done"):
    os.pwrite(log, count.to_bytes(8, "little"), count * 8)
    made = f"{root}/d{count}"
    os.mkdir(made)
    with open(f"{made}/a", "w") as file:
        file.write(str(count))
    os.rename(f"{made}/a", f"{made}/b")
    with open(f"{made}/b") as file:
        assert file.read() == str(count)
    assert os.listdir(made) == ["b"]
    os.remove(f"{made}/b")
    os.rmdir(made)
    os.pwrite(rounds, b".", count)
    count += 1
assert os.pread(log, count * 8 + 1, 0) == b"".join(at.to_bytes(8, "little") for at in range(count))
os.close(log)
os.remove(f"{root}/log")
"#;

/// The running work; dropped, it ends.
pub(crate) struct Load {
    child: Child,
    outside: PathBuf,
}

impl Load {
    /// Starts the work in `root`; how far it is stands in `outside`.
    pub(crate) fn start(root: &Path, outside: &Path) -> Self {
        let outside = outside.to_owned();
        fs::create_dir_all(&outside).unwrap();
        for left in ["rounds", "done"].map(|name| outside.join(name)).iter().filter(|left| left.exists()) {
            fs::remove_file(left).unwrap();
        }
        let mut command = run::command(paths::tool("venv/bin/python").unwrap());
        command.args(["-c", WORK]).arg(root).arg(&outside);
        Self { child: command.spawn().unwrap(), outside }
    }

    /// Rounds that were done so far.
    fn rounds(&self) -> u64 {
        fs::metadata(self.outside.join("rounds")).map_or(0, |rounds| rounds.len())
    }

    /// Waits for another round.
    pub(crate) fn goes_on(&mut self) {
        let before = self.rounds();
        let goes_on = || {
            let ended = self.child.try_wait()?;
            ensure!(ended.is_none(), "a call has failed: {ended:?}");
            Ok((self.rounds() > before).then_some(()))
        };
        eventually(CHANGE_LIMIT, "the load goes on", goes_on).unwrap();
    }

    /// Ends it, which must be a success.
    pub(crate) fn end(mut self) {
        fs::write(self.outside.join("done"), b"").unwrap();
        let ended = wait::exit(&mut self.child, CHANGE_LIMIT).unwrap();
        assert!(ended.is_some_and(|status| status.success()), "{ended:?}");
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // It may have ended.
        self.child.kill().unwrap_or_default();
    }
}

/// Runs the subject's mount as a service under load, and ends and starts it again and again.
fn served(subject: &Subject<'_>, what: &str, end: impl Fn(Mount)) {
    subject.take_mount().unmount().unwrap();
    let mut manager = Manager::new(&subject.scratch()).unwrap();
    let mut mount = manager.start(subject.plan()).unwrap();
    assert_eq!(manager.stored(), ["tarn-device", "tarn-log"]);
    let mut load = Load::start(subject.root(), &subject.scratch().join("load"));
    let rounds = if paths::full() { 100 } else { 3 };
    for _ in 0..rounds {
        load.goes_on();
        end(mount);
        mount = manager.start(subject.plan()).unwrap();
    }
    load.end();
    results::count(&format!("{what} of a service, {}", subject.mode().name()), rounds);
    let log = mount.log();
    assert!(!log.contains("ERROR tarn_fs::vfs") && !log.contains("panicked"), "{log}");
    subject.give_mount(mount);
    subject.take_mount().unmount().unwrap();
    subject.mount_again().unwrap();
}

/// SEMANTICS: "As a service of systemd, so may the process that keeps the mount, and `systemctl restart` is not
/// noticed either."
fn a_service_survives_kills_of_keeper_and_worker(subject: &Subject<'_>) {
    served(subject, "kills of keeper and worker", |mount| mount.kill_and_leave().unwrap());
    // The worker that a killed keeper leaves is ended by the next one.
    served(subject, "kills of the keeper", |mut mount| {
        mount.signal(Signal::KILL).unwrap();
        mount.wait().unwrap();
        mount.leave();
    });
}

/// SEMANTICS: "As a service of systemd, so may the process that keeps the mount, and `systemctl restart` is not
/// noticed either."
fn a_restarted_service_keeps_its_mount(subject: &Subject<'_>) {
    served(subject, "restarts", |mount| {
        mount.signal(Signal::USR1).unwrap();
        mount.wait_and_leave().unwrap();
    });
}

fn a_stopped_service_keeps_nothing(subject: &Subject<'_>) {
    subject.take_mount().unmount().unwrap();
    let mut manager = Manager::new(&subject.scratch()).unwrap();
    let mount = manager.start(subject.plan()).unwrap();
    fs::write(subject.path("f"), b"through the mount").unwrap();
    mount.signal(Signal::TERM).unwrap();
    mount.must_end_cleanly().unwrap();
    manager.hear("FDSTOREREMOVE=1").unwrap();
    manager.hear("FDSTOREREMOVE=1").unwrap();
    assert!(manager.stored().is_empty());
    // A dead mount is taken away by the next start.
    let mut mount = manager.start(subject.plan()).unwrap();
    mount.kill().unwrap();
    drop(manager);
    let mut manager = Manager::new(&subject.scratch()).unwrap();
    mount.leave();
    let mount = manager.start(subject.plan()).unwrap();
    assert_eq!(fs::read(subject.path("f")).unwrap(), b"through the mount");
    mount.unmount().unwrap();
    subject.mount_again().unwrap();
}
