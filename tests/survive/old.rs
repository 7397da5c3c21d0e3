//! Kernels before 6.9 send nothing again that a dead worker has read. `TARN_NO_RESEND` makes a development build behave
//! as on one of them.

use crate::upgrade;
use rustix::io::Errno;
use rustix::process::{Signal, kill_process};
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use tarn_tests::mount::{self, CHANGE_LIMIT, Mount};
use tarn_tests::subject::Subject;
use tarn_tests::suite::{Behaviour, On};
use tarn_tests::wait::eventually;
use tarn_tests::{behaviours, data, paths, run};

pub(crate) const ALL: &[Behaviour] = behaviours!(
    On::Tarn,
    upgrades_are_not_noticed_on_older_kernels,
    a_crash_fails_the_calls_under_way_on_older_kernels,
);

/// Mounts the subject as on an older kernel.
fn older(subject: &Subject<'_>) {
    subject.take_mount().unmount().unwrap();
    subject.give_mount(subject.plan().clone().with_env("TARN_NO_RESEND", "1").mount().unwrap());
}

/// SEMANTICS: "On older kernels the mount is upgraded without loss, and a crash fails the calls that were under way
/// with ECONNABORTED."
fn upgrades_are_not_noticed_on_older_kernels(subject: &Subject<'_>) {
    older(subject);
    upgrade::under_load(subject);
    let mount = subject.take_mount();
    assert!(!mount.log().contains("sent again"), "{}", mount.log());
    mount.unmount().unwrap();
    subject.mount_again().unwrap();
}

/// SEMANTICS: "On older kernels the mount is upgraded without loss, and a crash fails the calls that were under way
/// with ECONNABORTED."
fn a_crash_fails_the_calls_under_way_on_older_kernels(subject: &Subject<'_>) {
    const LOADS: usize = 4;
    older(subject);
    let said = run::must(mount::tarn().unwrap().arg("status").arg(subject.root()), CHANGE_LIMIT).unwrap();
    assert!(said.contains("a crash fails the calls under way"), "{said}");
    fs::write(subject.path("f"), data::bytes(1, 1000)).unwrap();
    let (kills, done) = (if paths::full() { 200 } else { 10 }, AtomicBool::new(false));
    let failed = std::thread::scope(|scope| {
        let done = &done;
        let load = move |of: usize| {
            let mut failed = Vec::new();
            for round in 0_u64.. {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                // A name that nobody has asked for: the kernel cannot answer it by itself.
                let name = format!("none {of} {round}");
                failed.extend(fs::symlink_metadata(subject.path(&name)).err().and_then(|e| e.raw_os_error()));
            }
            failed.retain(|code| *code != Errno::NOENT.raw_os_error());
            failed
        };
        let loads: Vec<_> = (0..LOADS).map(|of| scope.spawn(move || load(of))).collect();
        let mount = subject.take_mount();
        for _ in 0..kills {
            kill(&mount);
        }
        subject.give_mount(mount);
        done.store(true, Ordering::Relaxed);
        loads.into_iter().flat_map(|load| load.join().unwrap()).collect::<Vec<i32>>()
    });
    println!("{} of the calls under way failed in {kills} kills", failed.len());
    assert!(!failed.is_empty() && failed.len() <= kills * (LOADS + 1), "{}", failed.len());
    assert!(failed.iter().all(|code| *code == Errno::CONNABORTED.raw_os_error()), "{failed:?}");
    assert_eq!(fs::read(subject.path("f")).unwrap(), data::bytes(1, 1000));
    subject.take_mount().unmount().unwrap();
    subject.mount_again().unwrap();
}

/// Kills the worker and waits for the next one, which is there when a call is answered again.
fn kill(mount: &Mount) {
    let before = mount.worker().unwrap();
    kill_process(before.unwrap(), Signal::KILL).unwrap();
    let next = || {
        let now = mount.worker()?;
        let answers = fs::symlink_metadata(mount.dir().join(format!("none {now:?}")));
        let answers = answers.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound);
        Ok((now.is_some() && now != before && answers).then_some(()))
    };
    eventually(CHANGE_LIMIT, "the next worker answers", next).unwrap();
}
