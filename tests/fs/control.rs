//! What a running mount can be asked: `tarn status`, `flush`, `cache`, `log-level` and the metrics.

use serde_json::Value;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use tarn_fs::control::Client;
use tarn_tests::mount::{self, CHANGE_LIMIT};
use tarn_tests::subject::{Mode, Subject};
use tarn_tests::suite::{Behaviour, On};
use tarn_tests::{behaviours, data, disk, run, server};

pub(crate) const ALL: &[Behaviour] = behaviours!(
    On::Tarn,
    status_says_what_a_mount_is_and_what_it_did,
    flush_puts_an_open_file_into_the_bucket,
    a_conflict_stands_in_the_status,
    local_copies_are_warmed_counted_and_dropped,
    pinned_copies_stay_whatever_room_is_needed,
    a_flipped_bit_in_the_cache_is_found_and_healed,
    what_is_passed_through_is_not_compared_again,
    the_log_level_changes,
    the_server_is_tried_out_at_the_first_mount,
    a_disk_with_too_little_room_is_named,
    only_the_owner_and_root_are_answered,
    metrics_are_served_when_asked_for,
    what_is_no_mount_is_named,
);

fn tarn(arguments: &[&str], path: &Path) -> run::Outcome {
    run::run(mount::tarn().unwrap().args(arguments).arg(path), CHANGE_LIMIT).unwrap()
}

fn must(arguments: &[&str], path: &Path) -> String {
    let outcome = tarn(arguments, path);
    assert!(outcome.status.success(), "{arguments:?}: {}", outcome.stderr);
    outcome.stdout
}

/// The status of the subject's mount.
fn status(subject: &Subject<'_>) -> Value {
    let all: Value = serde_json::from_str(&must(&["status", "--json"], subject.root())).unwrap();
    all[0].clone()
}

fn status_says_what_a_mount_is_and_what_it_did(subject: &Subject<'_>) {
    fs::write(subject.path("f"), b"12345").unwrap();
    let status = status(subject);
    assert_eq!(status["dir"], subject.root().to_str().unwrap());
    assert_eq!(status["source"], format!("s3://{}", subject.plan().source));
    assert_eq!(status["endpoint"], subject.server().endpoint());
    assert_eq!(status["serving"]["passthrough"], subject.mode() == Mode::Passthrough, "{status}");
    assert_eq!(status["dirty"]["files"], 0);
    assert_eq!(status["transfer"]["sent"], 5);
    let put = status["store_calls"].as_array().unwrap().iter().find(|calls| calls["op"] == "put").unwrap();
    assert_eq!((&put["count"], &put["errors"]), (&1.into(), &0.into()));
    let calls = |op: &str| {
        let kinds = status["kernel_calls"].as_array().unwrap();
        kinds.iter().find(|calls| calls["op"] == op).unwrap_or_else(|| panic!("{op} in {status}"))
    };
    assert_eq!((&calls("create")["count"], &status["panics"]), (&1.into(), &0.into()));
    assert!(calls("create")["nanos"].as_u64().unwrap() > 1000, "{status}");
    assert!(status["billed"]["put"].as_u64().unwrap() >= 1, "{status}");
    let text = must(&["status"], &subject.path("f"));
    assert!(text.contains("everything is in the bucket") && text.contains("conflicts   none"), "{text}");
}

/// SEMANTICS: "`tarn status` and `tarn flush` show and end what waits."
fn flush_puts_an_open_file_into_the_bucket(subject: &Subject<'_>) {
    // Asked from within this process: a command would close its copy of the open file, and a close commits.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let socket = tarn_fs::mount::registry().unwrap().socket_of(subject.root());
    let mut client = runtime.block_on(Client::connect(&socket)).unwrap();
    let asked = client.clone();
    let dirty = || runtime.block_on(asked.clone().status()).unwrap().dirty.unwrap();
    let mut file = File::create(subject.path("f")).unwrap();
    file.write_all(&data::bytes(1, 100_000)).unwrap();
    assert_eq!(dirty().files, 1);
    assert!(dirty().bytes >= 100_000, "{:?}", dirty());
    assert!(runtime.block_on(client.flush()).unwrap().failed.is_empty());
    assert_eq!(dirty().files, 0);
    assert!(subject.bucket().get("f").unwrap() == data::bytes(1, 100_000));
    file.write_all(b"more").unwrap();
    assert_eq!(dirty().files, 1);
    drop(file);
    must(&["flush"], subject.root());
    assert_eq!(dirty().files, 0);
}

fn a_conflict_stands_in_the_status(subject: &Subject<'_>) {
    fs::write(subject.path("f"), b"first").unwrap();
    let mut file = OpenOptions::new().append(true).open(subject.path("f")).unwrap();
    // Theirs first: a fork of another test may close, and so commit, this file at any time.
    subject.bucket().put("f", b"theirs").unwrap();
    file.write_all(b" ours").unwrap();
    file.sync_all().unwrap_err();
    let status = status(subject);
    let conflict = &status["conflicts"][0];
    assert_eq!(conflict["key"], "f");
    let kept = conflict["kept_as"].as_str().unwrap();
    assert_eq!(subject.bucket().get(kept).unwrap(), b"first ours");
    assert!(must(&["status"], subject.root()).contains(kept));
}

fn local_copies_are_warmed_counted_and_dropped(subject: &Subject<'_>) {
    let bytes = data::bytes(2, 20 << 20);
    for name in ["set/a", "set/b/c"] {
        subject.bucket().put(name, &bytes).unwrap();
    }
    subject.bucket().put("other", b"not asked for").unwrap();
    let set = subject.path("set");
    assert!(
        must(&["cache", "stat"], &set).starts_with("0 B of 40.0 MiB in 2 files on the local disk, 0 whole")
    );
    assert!(
        must(&["cache", "warm"], &set)
            .starts_with("40.0 MiB of 40.0 MiB in 2 files on the local disk, 2 whole")
    );
    let received = || status(subject)["transfer"]["received"].as_u64().unwrap();
    let before = received();
    assert!(fs::read(set.join("a")).unwrap() == bytes);
    assert_eq!(received(), before, "what is warm is not fetched");
    assert!(must(&["cache", "stat"], &subject.path("other")).starts_with("0 B of 13 B in 1 files"));
    let open = File::open(set.join("a")).unwrap();
    let kept = must(&["cache", "drop"], &set);
    assert!(kept.starts_with("20.0 MiB of 40.0 MiB") && kept.contains("open"), "{kept}");
    drop(open);
    tarn_tests::wait::eventually(CHANGE_LIMIT, "the closed copy is dropped", || {
        Ok(must(&["cache", "drop"], &set).starts_with("no local copy is left of 2 files").then_some(()))
    })
    .unwrap();
    assert!(fs::read(set.join("b/c")).unwrap() == bytes, "what was dropped is fetched again");
}

fn pinned_copies_stay_whatever_room_is_needed(subject: &Subject<'_>) {
    for name in ["pinned", "1", "2", "3", "4"] {
        subject.bucket().put(name, &data::bytes(7, 20 << 20)).unwrap();
    }
    subject.bucket().put("large", &data::bytes(8, 45 << 20)).unwrap();
    subject.take_mount().unmount().unwrap();
    let plan = subject.plan().clone().with(&["--cache-size", "64MiB"]);
    let mount = plan.mount().unwrap();
    let said = must(&["cache", "pin"], &subject.path("pinned"));
    assert_eq!(said, "20.0 MiB of 20.0 MiB in 1 files on the local disk, 1 whole, 1 pinned\n");
    let refused = tarn(&["cache", "pin"], &subject.path("large"));
    let why = "20.0 MiB are pinned already, and 45.0 MiB more would not fit into the cache of 64.0 MiB";
    assert!(!refused.status.success() && refused.stderr.contains(why), "{}", refused.stderr);
    let press = || {
        for name in ["1", "2", "3", "4"] {
            fs::read(subject.path(name)).unwrap();
        }
    };
    press();
    assert!(must(&["cache", "stat"], &subject.path("pinned")).ends_with("1 whole, 1 pinned\n"));
    assert!(must(&["status"], subject.root()).contains(", 20.0 MiB pinned"));
    fs::write(subject.path("own"), b"just closed").unwrap();
    assert!(must(&["cache", "pin"], &subject.path("own")).ends_with("1 whole, 1 pinned\n"));
    mount.unmount().unwrap();
    let mount = plan.mount().unwrap();
    press();
    let kept = must(&["cache", "drop"], &subject.path("pinned"));
    assert!(kept.contains("1 whole, 1 pinned; what is open, pinned or"), "{kept}");
    assert!(must(&["cache", "unpin"], &subject.path("pinned")).ends_with("1 whole\n"));
    assert!(must(&["cache", "drop"], &subject.path("pinned")).starts_with("no local copy is left"));
    mount.unmount().unwrap();
    subject.mount_again().unwrap();
}

/// The largest file below `dir` whose name ends in `.data`.
fn data_file(dir: &Path) -> PathBuf {
    let mut found: Vec<(u64, PathBuf)> = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            if meta.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "data") {
                found.push((meta.size(), path));
            }
        }
    }
    found.into_iter().max().unwrap().1
}

/// SEMANTICS: "Blocks on the local disk have a CRC64NVME, which is compared before their first use after a
/// reboot, and whenever `tarn cache verify` asks for it."
fn a_flipped_bit_in_the_cache_is_found_and_healed(subject: &Subject<'_>) {
    let bytes = data::bytes(3, 1 << 20);
    subject.bucket().put("f", &bytes).unwrap();
    must(&["cache", "warm"], subject.root());
    let file = OpenOptions::new().write(true).open(data_file(&subject.plan().cache)).unwrap();
    file.write_all_at(&[bytes[300_000] ^ 1], 300_000).unwrap();
    let said = must(&["cache", "verify"], subject.root());
    assert!(said.contains("1 damaged blocks were dropped"), "{said}");
    assert_eq!(status(subject)["cache"]["bad_blocks"], 1);
    assert!(fs::read(subject.path("f")).unwrap() == bytes);
}

/// SEMANTICS: "What the kernel reads by itself from a local copy (passthrough) is not compared again: there
/// the local disk is trusted, as for any local file."
fn what_is_passed_through_is_not_compared_again(subject: &Subject<'_>) {
    if subject.mode() != Mode::Passthrough {
        return;
    }
    let mut bytes = data::bytes(4, 1 << 20);
    subject.bucket().put("f", &bytes).unwrap();
    must(&["cache", "warm"], subject.root());
    bytes[300_000] ^= 1;
    let file = OpenOptions::new().write(true).open(data_file(&subject.plan().cache)).unwrap();
    file.write_all_at(&bytes[300_000..=300_000], 300_000).unwrap();
    assert!(fs::read(subject.path("f")).unwrap() == bytes, "the local disk is trusted");
    bytes[300_000] ^= 1;
    // Once nobody has the file open any more.
    tarn_tests::wait::eventually(CHANGE_LIMIT, "the bit is found", || {
        must(&["cache", "verify"], subject.root());
        Ok((fs::read(subject.path("f"))? == bytes).then_some(()))
    })
    .unwrap();
}

fn the_log_level_changes(subject: &Subject<'_>) {
    assert_eq!(status(subject)["log_level"], "info");
    let said =
        run::must(mount::tarn().unwrap().arg("log-level").arg(subject.root()).arg("debug"), CHANGE_LIMIT)
            .unwrap();
    assert!(said.contains("debug, was info"), "{said}");
    assert_eq!(status(subject)["log_level"], "debug");
    assert!(must(&["log-level"], subject.root()).contains(": log level debug; the log: "));
    let wrong =
        run::run(mount::tarn().unwrap().arg("log-level").arg(subject.root()).arg("loud"), CHANGE_LIMIT)
            .unwrap();
    assert_eq!(wrong.status.code(), Some(2));
}

fn the_server_is_tried_out_at_the_first_mount(subject: &Subject<'_>) {
    assert_eq!(status(subject)["guard"]["holds"], false);
    subject.take_mount().unmount().unwrap();
    let mut plan = subject.plan().clone();
    plan.probe = "auto";
    let first = plan.mount().unwrap();
    assert_eq!(status(subject)["guard"]["holds"], true, "MinIO honours what a commit rests on");
    let calls = |status: &Value| status["store_calls"].as_array().unwrap().len();
    assert!(calls(&status(subject)) > 4);
    assert!(fs::read_dir(subject.root()).unwrap().next().is_none(), "nothing of the trial is left");
    first.unmount().unwrap();
    let second = plan.mount().unwrap();
    let status = status(subject);
    assert_eq!(status["guard"]["holds"], true);
    assert!(calls(&status) <= 2, "it is not tried again: {status}");
    second.unmount().unwrap();
    subject.mount_again().unwrap();
}

fn a_disk_with_too_little_room_is_named(subject: &Subject<'_>) {
    fs::write(subject.path("f"), b"12345").unwrap();
    subject.take_mount().unmount().unwrap();
    let mut plan = subject.plan().clone();
    plan.cache_floor = "100%";
    plan.cache = subject.scratch().join("another cache");
    let mount = plan.mount().unwrap();
    assert_eq!(fs::read(subject.path("f")).unwrap(), b"12345", "it is read all the same");
    let text = must(&["status"], subject.root());
    assert!(text.contains("NOTHING more is kept"), "{text}");
    assert!(must(&["cache", "stat"], &subject.path("f")).starts_with("0 B of 5 B"));
    mount.unmount().unwrap();
    subject.mount_again().unwrap();
}

fn only_the_owner_and_root_are_answered(subject: &Subject<'_>) {
    if !disk::is_root() {
        println!("needs root, to be somebody else");
        return;
    }
    let socket = tarn_fs::mount::registry().unwrap().socket_of(subject.root());
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let mut other = Command::new("setpriv");
    other.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
    let tarn = mount::tarn().unwrap();
    let outcome =
        run::run(other.arg(tarn.get_program()).arg("status").arg(subject.root()), CHANGE_LIMIT).unwrap();
    assert!(!outcome.status.success());
    assert!(!outcome.stdout.contains(&subject.plan().source), "{}", outcome.stdout);
}

fn metrics_are_served_when_asked_for(subject: &Subject<'_>) {
    subject.take_mount().unmount().unwrap();
    let address = server::free_port().unwrap();
    let plan = subject.plan().clone().with(&["--metrics", &address.to_string()]);
    let mount = plan.mount().unwrap();
    fs::write(subject.path("f"), b"12345").unwrap();
    let ask = |path: &str| {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: tarn\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let answer = ask("/metrics");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let dir = subject.root().to_str().unwrap();
    let line = format!("tarn_sent_bytes_total{{dir=\"{dir}\",source=\"s3://{}\"}} 5", plan.source);
    assert!(answer.lines().any(|found| found == line), "{line} is not in\n{answer}");
    assert!(ask("/").starts_with("HTTP/1.1 404"));
    mount.unmount().unwrap();
    subject.mount_again().unwrap();
}

fn what_is_no_mount_is_named(subject: &Subject<'_>) {
    let scratch = subject.scratch();
    for arguments in [&["status"][..], &["flush"], &["cache", "warm"]] {
        let outcome = tarn(arguments, &scratch);
        assert_eq!(outcome.status.code(), Some(1));
        assert!(outcome.stderr.contains("is not below a mount of tarn"), "{}", outcome.stderr);
    }
}
