//! The keeper itself is killed: what is true then, and what to do, is said.

use rustix::process::{PidfdFlags, Signal, pidfd_open};
use std::fs;
use std::time::Duration;
use tarn_tests::mount::{self, CHANGE_LIMIT};
use tarn_tests::subject::Subject;
use tarn_tests::suite::{Behaviour, On};
use tarn_tests::wait::eventually;
use tarn_tests::{behaviours, run, wait};

pub(crate) const ALL: &[Behaviour] =
    behaviours!(On::Tarn, a_mount_goes_on_without_its_keeper_and_says_so, a_dead_mount_says_what_to_do,);

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
