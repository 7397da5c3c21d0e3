//! The keeper itself is killed: what is true then, and what to do, is said.

use rustix::process::{PidfdFlags, Signal, pidfd_open};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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

/// Works on the mount until `done`; every call must succeed.
fn work(subject: &Subject<'_>, rounds: &AtomicU64, done: &AtomicBool) {
    let log = File::options().read(true).write(true).create_new(true).open(subject.path("log")).unwrap();
    let mut round = 0_u64;
    while !done.load(Ordering::Relaxed) {
        log.write_all_at(&round.to_le_bytes(), round * 8).unwrap();
        let dir = subject.path(&format!("d{round}"));
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("a"), round.to_string()).unwrap();
        fs::rename(dir.join("a"), dir.join("b")).unwrap();
        assert_eq!(fs::read_to_string(dir.join("b")).unwrap(), round.to_string());
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
        fs::remove_file(dir.join("b")).unwrap();
        fs::remove_dir(dir).unwrap();
        round += 1;
        rounds.store(round, Ordering::Relaxed);
    }
    let mut bytes = vec![0; usize::try_from(round * 8).unwrap()];
    log.read_exact_at(&mut bytes, 0).unwrap();
    assert!(bytes.chunks(8).zip(0_u64..).all(|(chunk, round)| chunk == round.to_le_bytes()));
    drop(log);
    fs::remove_file(subject.path("log")).unwrap();
}

/// Runs the subject's mount as a service under load, and ends and starts it again and again.
fn served(subject: &Subject<'_>, end: impl Fn(Mount)) {
    subject.take_mount().unmount().unwrap();
    let (rounds, done) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        // Inside: if this fails, its descriptors go, and nobody waits for ever.
        let mut manager = Manager::new(&subject.scratch()).unwrap();
        let mut mount = manager.start(subject.plan()).unwrap();
        assert_eq!(manager.stored(), ["tarn-device", "tarn-log"]);
        let load = scope.spawn(|| work(subject, &rounds, &done));
        for _ in 0..if paths::full() { 100 } else { 3 } {
            let before = rounds.load(Ordering::Relaxed);
            let goes_on =
                || Ok((rounds.load(Ordering::Relaxed) > before || load.is_finished()).then_some(()));
            eventually(CHANGE_LIMIT, "the load goes on", goes_on).unwrap();
            end(mount);
            mount = manager.start(subject.plan()).unwrap();
        }
        done.store(true, Ordering::Relaxed);
        load.join().unwrap();
        let log = mount.log();
        assert!(!log.contains("ERROR tarn_fs::vfs") && !log.contains("panicked"), "{log}");
        subject.give_mount(mount);
    });
    subject.take_mount().unmount().unwrap();
    subject.mount_again().unwrap();
}

/// SEMANTICS: "As a service of systemd, so may the process that keeps the mount, and `systemctl restart` is not
/// noticed either."
fn a_service_survives_kills_of_keeper_and_worker(subject: &Subject<'_>) {
    served(subject, |mount| mount.kill_and_leave().unwrap());
    // The worker that a killed keeper leaves is ended by the next one.
    served(subject, |mut mount| {
        mount.signal(Signal::KILL).unwrap();
        mount.wait().unwrap();
        mount.leave();
    });
}

/// SEMANTICS: "As a service of systemd, so may the process that keeps the mount, and `systemctl restart` is not
/// noticed either."
fn a_restarted_service_keeps_its_mount(subject: &Subject<'_>) {
    served(subject, |mount| {
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
