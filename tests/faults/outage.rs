//! The server goes away while files are written, and comes back.

use crate::load::close;
use crate::results;
use rustix::io::{Errno, ReadWriteFlags, pwritev2};
use rustix::process::{Signal, kill_process};
use std::fs::{self, File};
use std::io::{IoSlice, Write};
use std::time::{Duration, Instant};
use tarn_tests::mapping::Mapping;
use tarn_tests::proxy::Proxy;
use tarn_tests::subject::{Mode, Subject};
use tarn_tests::suite::{Behaviour, On};
use tarn_tests::wait::eventually;
use tarn_tests::{behaviours, data, run};

pub(crate) const TARN: &[Behaviour] = behaviours!(
    On::Tarn,
    files_closed_during_an_outage_arrive_after_it,
    files_closed_during_an_outage_arrive_though_the_worker_is_killed,
    a_mount_that_ends_during_an_outage_names_what_the_next_one_uploads,
    a_close_that_waits_for_the_bucket_fails_during_an_outage_and_loses_nothing,
    an_outage_makes_nothing_look_removed_or_empty,
    what_a_failed_rename_has_moved_is_found_and_removed,
    what_asks_for_safety_unseen_reaches_the_disk_only,
    syncfs_and_sync_file_range_say_nothing_about_the_bucket,
);

const PATIENCE: Duration = Duration::from_secs(60);

/// The upload under the new name fails, and with it the rename; the kernel has heard that the new name is free.
fn what_a_failed_rename_has_moved_is_found_and_removed(subject: &Subject<'_>) {
    through(subject, ("close", "1h"), |proxy, plan| {
        let mount = plan.mount().unwrap();
        know_that_nothing_is_there(subject);
        let mut file = File::create(subject.path("old")).unwrap();
        file.write_all(b"once").unwrap();
        file.sync_all().unwrap();
        file.write_all(b" again").unwrap();
        fs::metadata(subject.path("new")).unwrap_err();
        proxy.cut(true);
        fs::rename(subject.path("old"), subject.path("new")).unwrap_err();
        proxy.cut(false);
        assert_eq!(fs::read(subject.path("new")).unwrap(), b"once again");
        file.sync_all().unwrap();
        fs::metadata(subject.path("old")).unwrap_err();
        fs::remove_file(subject.path("new")).unwrap();
        drop(file);
        mount.unmount().unwrap();
        assert!(subject.bucket().keys().unwrap().is_empty(), "it was removed");
    });
}

/// Mounts through a relay, with requests that give up soon.
fn through<T>(
    subject: &Subject<'_>,
    (commit, attr_ttl): (&str, &str),
    work: impl FnOnce(&Proxy, &tarn_tests::mount::MountPlan) -> T,
) -> T {
    subject.take_mount().unmount().unwrap();
    let proxy = Proxy::start(subject.server().address()).unwrap();
    let mut plan = subject
        .plan()
        .clone()
        .with(&["--commit", commit, "--request-timeout", "1s"])
        .with(&["--attr-ttl", attr_ttl]);
    plan.endpoint = proxy.endpoint();
    let result = work(&proxy, &plan);
    subject.mount_again().unwrap();
    result
}

/// Without an answer of the server no name is known to be free.
fn know_that_nothing_is_there(subject: &Subject<'_>) {
    assert_eq!(fs::read_dir(subject.root()).unwrap().count(), 0);
}

fn write(subject: &Subject<'_>, name: &str, body: &[u8]) -> std::io::Result<()> {
    let mut file = File::create(subject.path(name))?;
    file.write_all(body)?;
    close(file)
}

/// SEMANTICS: "With `--commit=async` it answers when the local journal has it, and the upload runs at once in
/// the background, in order for each key."
fn files_closed_during_an_outage_arrive_after_it(subject: &Subject<'_>) {
    let started = Instant::now();
    through(subject, ("async", "1h"), |proxy, plan| {
        let mount = plan.mount().unwrap();
        fs::create_dir(subject.path("d")).unwrap();
        proxy.cut(true);
        for index in 0..10 {
            write(subject, &format!("d/{index}"), &data::bytes(index, 50_000)).unwrap();
        }
        assert!(fs::read(subject.path("d/7")).unwrap() == data::bytes(7, 50_000), "it is read from here");
        fs::rename(subject.path("d/0"), subject.path("d/renamed")).unwrap();
        let file = File::open(subject.path("d/2")).unwrap();
        file.sync_all().unwrap_err();
        proxy.cut(false);
        fs::remove_file(subject.path("d/1")).unwrap();
        let there = || {
            let keys = subject.bucket().keys()?;
            Ok((keys.iter().filter(|key| !key.ends_with('/')).count() == 9).then_some(()))
        };
        eventually(PATIENCE, "the files are in the bucket without anybody asking for it", there).unwrap();
        file.sync_all().unwrap();
        drop(file);
        assert!(subject.bucket().get("d/renamed").unwrap() == data::bytes(0, 50_000));
        mount.unmount().unwrap();
    });
    results::record("server away, then back", subject.mode(), "async", (1, 9), started.elapsed());
}

/// SEMANTICS: "That survives a killed process; after a loss of power the file is uploaded if it still has its
/// checksum, else left and named in the log."
fn files_closed_during_an_outage_arrive_though_the_worker_is_killed(subject: &Subject<'_>) {
    let started = Instant::now();
    through(subject, ("async", "1h"), |proxy, plan| {
        let mount = plan.mount().unwrap();
        know_that_nothing_is_there(subject);
        proxy.cut(true);
        write(subject, "f", &data::bytes(1, 50_000)).unwrap();
        kill_process(mount.worker().unwrap().unwrap(), Signal::KILL).unwrap();
        assert!(fs::read(subject.path("f")).unwrap() == data::bytes(1, 50_000), "the next worker has it");
        proxy.cut(false);
        let there = || Ok((subject.bucket().keys()? == ["f"]).then_some(()));
        eventually(PATIENCE, "the file is in the bucket without anybody asking for it", there).unwrap();
        mount.unmount().unwrap();
    });
    results::record("server away, worker killed", subject.mode(), "async", (1, 1), started.elapsed());
}

fn a_mount_that_ends_during_an_outage_names_what_the_next_one_uploads(subject: &Subject<'_>) {
    through(subject, ("async", "1h"), |proxy, plan| {
        let mut mount = plan.mount().unwrap();
        know_that_nothing_is_there(subject);
        proxy.cut(true);
        write(subject, "f", b"closed, and nowhere but here").unwrap();
        eventually(PATIENCE, "it can be unmounted", || Ok(mount.system_umount().ok())).unwrap();
        assert!(
            !mount.wait().unwrap().success(),
            "an end with files that are not in the bucket is no success"
        );
        let log = mount.log();
        assert!(log.contains("1 files are not in the bucket") && log.contains("next mount"), "{log}");
        drop(mount);
        proxy.cut(false);
        let again = plan.mount().unwrap();
        assert_eq!(fs::read(subject.path("f")).unwrap(), b"closed, and nowhere but here");
        let there = || Ok(subject.bucket().get("f").ok());
        assert_eq!(eventually(PATIENCE, "it is uploaded", there).unwrap(), b"closed, and nowhere but here");
        again.unmount().unwrap();
    });
}

fn a_close_that_waits_for_the_bucket_fails_during_an_outage_and_loses_nothing(subject: &Subject<'_>) {
    through(subject, ("close", "1h"), |proxy, plan| {
        let mount = plan.mount().unwrap();
        know_that_nothing_is_there(subject);
        proxy.cut(true);
        let mut file = File::create(subject.path("f")).unwrap();
        file.write_all(b"written").unwrap();
        close(file).unwrap_err();
        mount.crash().unwrap();
        proxy.cut(false);
        let again = plan.mount().unwrap();
        assert_eq!(fs::read(subject.path("f")).unwrap(), b"written");
        again.unmount().unwrap();
        assert_eq!(subject.bucket().get("f").unwrap(), b"written");
    });
}

/// SEMANTICS: "A call fails with EIO or ETIMEDOUT after four attempts, each limited by `--request-timeout`, and never
/// as if there were nothing."
fn an_outage_makes_nothing_look_removed_or_empty(subject: &Subject<'_>) {
    // Whatever is known is asked for again at once.
    through(subject, ("close", "0s"), |proxy, plan| {
        for name in ["f", "d/inner", "d/other"] {
            subject.bucket().put(name, b"there all the time").unwrap();
        }
        let mount = plan.mount().unwrap();
        assert_eq!(fs::read(subject.path("f")).unwrap(), b"there all the time");
        proxy.cut(true);
        let told = |what: &str, error: std::io::Error| {
            let kind = error.raw_os_error().map(Errno::from_raw_os_error);
            assert!(matches!(kind, Some(Errno::IO | Errno::TIMEDOUT)), "{what}: {error}");
        };
        for name in ["f", "d/inner", "unknown", "d/unknown"] {
            told("stat", fs::metadata(subject.path(name)).unwrap_err());
            told("read", fs::read(subject.path(name)).unwrap_err());
            told("remove", fs::remove_file(subject.path(name)).unwrap_err());
            told("rename", fs::rename(subject.path(name), subject.path("new")).unwrap_err());
        }
        match fs::read_dir(subject.path("d")) {
            Err(error) => told("opendir", error),
            Ok(entries) => told("readdir", entries.collect::<Result<Vec<_>, _>>().unwrap_err()),
        }
        told("rmdir", fs::remove_dir(subject.path("d")).unwrap_err());
        proxy.cut(false);
        for name in ["f", "d/inner", "d/other"] {
            assert_eq!(fs::read(subject.path(name)).unwrap(), b"there all the time", "{name}");
        }
        assert_eq!(fs::metadata(subject.path("unknown")).unwrap_err().kind(), std::io::ErrorKind::NotFound);
        mount.unmount().unwrap();
    });
}

/// Runs `work` on a new file while the server is away, which must not notice. Then only fsync brings the bytes there.
fn without_the_bucket(subject: &Subject<'_>, work: impl Fn(&File)) {
    through(subject, ("close", "1h"), |proxy, plan| {
        let mount = plan.mount().unwrap();
        know_that_nothing_is_there(subject);
        let mut file =
            File::options().read(true).write(true).create_new(true).open(subject.path("f")).unwrap();
        proxy.cut(true);
        file.write_all(b"bytes").unwrap();
        work(&file);
        file.sync_all().unwrap_err();
        proxy.cut(false);
        file.sync_all().unwrap();
        assert_eq!(subject.bucket().get("f").unwrap(), b"bytes");
        drop(file);
        mount.unmount().unwrap();
    });
}

/// SEMANTICS: "On a file that passes through, `msync(MS_SYNC)` and one write that asks for it by itself
/// (`RWF_DSYNC`, `RWF_SYNC` of `pwritev2`) reach the local disk only; `fsync` afterwards brings it to the
/// bucket."
fn what_asks_for_safety_unseen_reaches_the_disk_only(subject: &Subject<'_>) {
    if subject.mode() != Mode::Passthrough {
        return;
    }
    without_the_bucket(subject, |file| {
        for flags in [ReadWriteFlags::DSYNC, ReadWriteFlags::SYNC] {
            assert_eq!(pwritev2(file, &[IoSlice::new(b"byte")], 0, flags), Ok(4));
        }
        let mut mapping = Mapping::shared(file, 5).unwrap();
        mapping.write(4, b"s");
        mapping.sync().unwrap();
    });
}

/// SEMANTICS: "`sync_file_range` and `syncfs` say nothing about the bucket."
fn syncfs_and_sync_file_range_say_nothing_about_the_bucket(subject: &Subject<'_>) {
    const SCRIPT: &str = "import ctypes, os, sys
file, zero = os.open(sys.argv[1], os.O_RDONLY), ctypes.c_int64(0)
sys.exit(ctypes.CDLL(None).sync_file_range(file, zero, zero, 7))";
    without_the_bucket(subject, |file| {
        rustix::fs::syncfs(file).unwrap();
        let mut python = run::command("python3");
        run::must(python.args(["-c", SCRIPT]).arg(subject.path("f")), PATIENCE).unwrap();
    });
}
