//! How a mount ends: every way is clean, and a mount that fails leaves nothing.

use rustix::process::Signal;
use std::fs::{self, File};
use std::io::Write;
use std::process::Command;
use std::time::Duration;
use tarn_tests::manager::Manager;
use tarn_tests::mount::{self, CHANGE_LIMIT, MountPlan, is_mounted};
use tarn_tests::subject::Subject;
use tarn_tests::suite::{Behaviour, On};
use tarn_tests::wait::eventually;
use tarn_tests::{behaviours, paths, run, server};

pub(crate) const ALL: &[Behaviour] = behaviours!(
    On::Tarn,
    umount_ends_it,
    fusermount_ends_it,
    tarn_umount_ends_it,
    sigterm_ends_it,
    sigint_ends_it,
    systemd_learns_of_start_and_end,
    the_service_is_one_that_systemd_takes,
    a_busy_mount_is_not_unmounted_by_umount,
    sigterm_with_an_open_written_file_loses_nothing,
    a_mount_in_the_background_is_reported_and_ended,
    umount_of_what_is_not_mounted_says_so,
    a_mount_of_a_missing_bucket_fails,
    a_mount_with_wrong_credentials_fails,
    a_mount_of_an_unreachable_endpoint_fails,
    a_mount_on_a_missing_directory_fails,
    a_mount_on_a_file_fails,
    an_unknown_option_is_named_with_the_nearest_one,
    contradictory_options_are_refused,
);

/// Writes a file, ends the mount in some way, and finds the file again.
fn ends_cleanly(subject: &Subject<'_>, end: impl FnOnce(&mount::Mount)) {
    fs::write(subject.path("f"), b"written before the end").unwrap();
    let mount = subject.take_mount();
    end(&mount);
    mount.must_end_cleanly().unwrap();
    assert_eq!(subject.bucket().get("f").unwrap(), b"written before the end");
    subject.mount_again().unwrap();
    assert_eq!(fs::read(subject.path("f")).unwrap(), b"written before the end");
}

fn umount_ends_it(subject: &Subject<'_>) {
    ends_cleanly(subject, |mount| mount.system_umount().unwrap());
}

fn fusermount_ends_it(subject: &Subject<'_>) {
    ends_cleanly(subject, |mount| {
        run::must(Command::new("fusermount3").arg("-u").arg(mount.dir()), CHANGE_LIMIT).unwrap();
    });
}

fn tarn_umount_ends_it(subject: &Subject<'_>) {
    ends_cleanly(subject, |mount| {
        run::must(mount::tarn().unwrap().arg("umount").arg(mount.dir()), CHANGE_LIMIT).unwrap();
        assert!(!is_mounted(mount.dir()).unwrap(), "it is unmounted when the command returns");
    });
}

fn sigterm_ends_it(subject: &Subject<'_>) {
    ends_cleanly(subject, |mount| mount.signal(Signal::TERM).unwrap());
}

fn sigint_ends_it(subject: &Subject<'_>) {
    ends_cleanly(subject, |mount| mount.signal(Signal::INT).unwrap());
}

fn systemd_learns_of_start_and_end(subject: &Subject<'_>) {
    subject.take_mount().unmount().unwrap();
    let mut manager = Manager::new(&subject.scratch()).unwrap();
    let mount = manager.start(subject.plan()).unwrap();
    fs::write(subject.path("f"), b"through the mount").unwrap();
    mount.signal(Signal::TERM).unwrap();
    manager.hear("STOPPING=1").unwrap();
    mount.must_end_cleanly().unwrap();
    assert_eq!(subject.bucket().get("f").unwrap(), b"through the mount");
    subject.mount_again().unwrap();
}

fn the_service_is_one_that_systemd_takes(subject: &Subject<'_>) {
    let unit = fs::read_to_string(paths::root().join("deploy/systemd/tarn@.service")).unwrap();
    assert!(unit.contains("/usr/local/bin/tarn"), "{unit}");
    let here = paths::tarn().unwrap();
    // The instance of a mount point that exists.
    let path = subject.scratch().join("tarn@tmp.service");
    fs::write(&path, unit.replace("/usr/local/bin/tarn", here.to_str().unwrap())).unwrap();
    let mut verify = run::command("systemd-analyze");
    verify.args(["verify", "--man=no"]).arg(&path);
    let outcome = run::run(&mut verify, CHANGE_LIMIT).unwrap();
    let name = "tarn@tmp.service";
    assert!(outcome.status.success() && !outcome.stderr.contains(name), "{}", outcome.stderr);
}

fn a_busy_mount_is_not_unmounted_by_umount(subject: &Subject<'_>) {
    let mut file = File::create(subject.path("f")).unwrap();
    let mount = subject.take_mount();
    mount.system_umount().unwrap_err();
    file.write_all(b"still works").unwrap();
    drop(file);
    assert_eq!(fs::read(subject.path("f")).unwrap(), b"still works");
    mount.unmount().unwrap();
    subject.mount_again().unwrap();
}

fn sigterm_with_an_open_written_file_loses_nothing(subject: &Subject<'_>) {
    let mut file = File::create(subject.path("f")).unwrap();
    file.write_all(b"written, never closed").unwrap();
    let mut mount = subject.take_mount();
    mount.signal(Signal::TERM).unwrap();
    let there =
        || Ok((subject.bucket().get("f").ok().as_deref() == Some(b"written, never closed")).then_some(()));
    eventually(CHANGE_LIMIT, "the bytes are in the bucket while the file is open", there).unwrap();
    drop(file);
    assert!(mount.wait().unwrap().success(), "it ends once nobody uses it");
    drop(mount);
    subject.mount_again().unwrap();
}

/// Ids of the processes that have `text` among their arguments.
fn processes(text: &str) -> Vec<u32> {
    let pids = fs::read_dir("/proc").unwrap().filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        // A process that has ended meanwhile has no arguments.
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&arguments).split('\0').any(|argument| argument == text)
    })
    .collect()
}

fn a_mount_in_the_background_is_reported_and_ended(subject: &Subject<'_>) {
    subject.take_mount().unmount().unwrap();
    let plan = subject.plan();
    let text = plan.dir.to_str().unwrap();
    run::must(&mut plan.command().unwrap(), CHANGE_LIMIT).unwrap();
    assert!(is_mounted(&plan.dir).unwrap(), "it is mounted when the command returns");
    fs::write(subject.path("f"), b"in the background").unwrap();
    assert!(!processes(text).is_empty());
    run::must(mount::tarn().unwrap().arg("umount").arg(&plan.dir), CHANGE_LIMIT).unwrap();
    assert!(!is_mounted(&plan.dir).unwrap());
    eventually(CHANGE_LIMIT, "the process ends", || Ok(processes(text).is_empty().then_some(()))).unwrap();
    assert_eq!(subject.bucket().get("f").unwrap(), b"in the background");
    subject.mount_again().unwrap();
}

fn umount_of_what_is_not_mounted_says_so(subject: &Subject<'_>) {
    let outcome =
        run::run(mount::tarn().unwrap().arg("umount").arg(subject.scratch()), CHANGE_LIMIT).unwrap();
    assert!(!outcome.status.success());
    assert!(
        outcome.stderr.contains("not mounted") || outcome.stderr.contains("not a mount"),
        "{}",
        outcome.stderr
    );
}

/// Mounts, which must fail with `code` and all of `words`, in the foreground and in the background, and leave nothing.
fn must_fail(subject: &Subject<'_>, plan: &MountPlan, code: i32, words: &[&str]) {
    for foreground in [true, false] {
        let mut command = plan.command().unwrap();
        if foreground {
            command.arg("--foreground");
        }
        let outcome = run::run(&mut command, Duration::from_secs(60)).unwrap();
        let said = outcome.stderr.to_lowercase();
        assert_eq!(outcome.status.code(), Some(code), "foreground: {foreground}\n{said}");
        for word in words {
            assert!(
                word.split('|').any(|word| said.contains(word)),
                "{word:?} is not in the message (foreground: {foreground}):\n{said}"
            );
        }
        assert!(!said.contains(&plan.credentials.1), "the secret is in the message");
        assert!(!said.contains("panicked"), "{said}");
        assert!(!is_mounted(&plan.dir).unwrap());
        let left = processes(plan.dir.to_str().unwrap());
        assert!(left.is_empty(), "processes are left: {left:?}");
    }
    assert!(subject.root().is_dir());
}

/// The subject's plan for a second mount on a folder of its own.
fn second(subject: &Subject<'_>) -> MountPlan {
    let mut plan = subject.plan().clone();
    plan.dir = subject.scratch();
    plan
}

fn a_mount_of_a_missing_bucket_fails(subject: &Subject<'_>) {
    let mut plan = second(subject);
    plan.source = "no-such-bucket-anywhere".into();
    must_fail(subject, &plan, 1, &["no-such-bucket-anywhere", "not exist|no such|not found|no bucket"]);
}

fn a_mount_with_wrong_credentials_fails(subject: &Subject<'_>) {
    let mut plan = second(subject);
    plan.credentials.0 = "nobody".into();
    plan.credentials.1 = "wrong-secret-of-nobody".into();
    must_fail(subject, &plan, 1, &["denied|credentials|access key|accesskey|403"]);
    plan.credentials.0 = server::ACCESS_KEY.into();
    must_fail(subject, &plan, 1, &["denied|credentials|signature|403"]);
}

fn a_mount_of_an_unreachable_endpoint_fails(subject: &Subject<'_>) {
    let mut plan = second(subject);
    let address = server::free_port().unwrap();
    plan.endpoint = format!("http://{address}");
    must_fail(subject, &plan, 1, &[&address.port().to_string(), "connect|reach|refused"]);
}

fn a_mount_on_a_missing_directory_fails(subject: &Subject<'_>) {
    let mut plan = second(subject);
    plan.dir = plan.dir.join("missing");
    must_fail(subject, &plan, 1, &["missing", "no such|not exist|not found"]);
    assert!(!plan.dir.exists(), "a mount point is not made");
}

fn a_mount_on_a_file_fails(subject: &Subject<'_>) {
    let mut plan = second(subject);
    plan.dir = plan.dir.join("file");
    fs::write(&plan.dir, b"a file").unwrap();
    must_fail(subject, &plan, 1, &["not a directory"]);
    assert_eq!(fs::read(&plan.dir).unwrap(), b"a file");
}

fn an_unknown_option_is_named_with_the_nearest_one(subject: &Subject<'_>) {
    let plan = second(subject).with(&["--cache-sise", "1GiB"]);
    must_fail(subject, &plan, 2, &["cache-sise", "cache-size"]);
    let plan = second(subject).with(&["-o", "alow_other"]);
    must_fail(subject, &plan, 2, &["alow", "allow"]);
}

fn contradictory_options_are_refused(subject: &Subject<'_>) {
    let plan = second(subject).with(&["--sse-kms-key-id", "abc"]);
    must_fail(subject, &plan, 2, &["sse"]);
    let plan = second(subject).with(&["--part-size", "1KiB"]);
    must_fail(subject, &plan, 2, &["part-size"]);
}
