//! A bucket as a service of a real systemd, which has booted in a container.

use crate::keeper::Load;
use crate::results;
use anyhow::ensure;
use std::fs;
use std::path::Path;
use tarn_tests::mount::CHANGE_LIMIT;
use tarn_tests::subject::{Mode, Subject};
use tarn_tests::suite::{Behaviour, On};
use tarn_tests::systemd::{self, Systemd};
use tarn_tests::wait::eventually;
use tarn_tests::{behaviours, disk, paths};

pub(crate) const ALL: &[Behaviour] = behaviours!(On::Tarn, a_booted_systemd_keeps_a_mount);

const UNIT: &str = "tarn@mnt-data.service";
const ROUNDS: usize = 10;

/// What systemd is told to do to the service.
const ENDS: &[(&str, &[&str])] = &[
    ("kills of the keeper", &["systemctl", "kill", "--kill-who=main", "--signal=KILL", UNIT]),
    ("kills of keeper and worker", &["pkill", "-KILL", "-x", "tarn"]),
    ("restarts", &["systemctl", "restart", UNIT]),
];

/// SEMANTICS: "As a service of systemd, so may the process that keeps the mount, and `systemctl restart` is not
/// noticed either."
fn a_booted_systemd_keeps_a_mount(subject: &Subject<'_>) {
    if !paths::full() || !disk::is_root() {
        println!("not run: it needs TARN_FULL=1, root and systemd-nspawn (make test-survive)");
        return;
    }
    subject.take_mount().unmount().unwrap();
    let (etc, bin) = (subject.scratch().join("etc"), subject.scratch().join("bin"));
    install(subject, &etc, &bin);
    let cache = &subject.plan().cache;
    let unit = systemd::unit();
    let binds = [
        (etc.as_path(), "/etc/tarn"),
        (bin.as_path(), "/usr/local/bin"),
        (cache.as_path(), "/var/cache/tarn"),
        (unit.as_path(), "/etc/systemd/system/tarn@.service"),
    ];
    let system = Systemd::boot(&subject.scratch(), &binds).unwrap();
    system.must(&["mkdir", "-p", "/mnt/data"]).unwrap();
    system.must(&["systemctl", "start", UNIT]).unwrap();
    let mut load = Load::start(&system.path("/mnt/data"), &subject.scratch().join("load"));
    for (what, command) in ENDS {
        for _ in 0..ROUNDS {
            load.goes_on();
            system.must(command).unwrap();
            is_active(&system);
        }
        results::count(&format!("{what} by systemd, {}", subject.mode().name()), ROUNDS);
    }
    load.goes_on();
    load.end();
    fs::write(system.path("/mnt/data/last"), b"through the mount").unwrap();
    system.must(&["systemctl", "stop", UNIT]).unwrap();
    assert!(!system.mounts().unwrap().contains(" fuse.tarn "), "{}", system.mounts().unwrap());
    assert_eq!(subject.bucket().get("last").unwrap(), b"through the mount");
    drop(system);
    subject.mount_again().unwrap();
}

/// The program and what the unit reads.
fn install(subject: &Subject<'_>, etc: &Path, bin: &Path) {
    for dir in [etc, bin] {
        fs::create_dir_all(dir).unwrap();
    }
    fs::copy(paths::tarn().unwrap(), bin.join("tarn")).unwrap();
    let plan = subject.plan();
    let mut lines = format!("SOURCE=s3://{}\nTARN_ENDPOINT={}\n", plan.source, plan.endpoint);
    for (name, value) in plan.credentials() {
        lines += &format!("{name}={value}\n");
    }
    lines += "TARN_CONFIG=/etc/tarn/options.toml\n";
    fs::write(etc.join("mnt-data.env"), lines).unwrap();
    let passthrough = if subject.mode() == Mode::Passthrough { "auto" } else { "off" };
    let options = format!("passthrough = \"{passthrough}\"\nprobe = \"off\"\ncache-min-free = \"0\"\n");
    fs::write(etc.join("options.toml"), options).unwrap();
}

/// Waits until the service runs again, with two descriptors in systemd's keeping.
fn is_active(system: &Systemd) {
    let active = || {
        let shown = system.must(&["systemctl", "show", UNIT, "-p", "ActiveState,NFileDescriptorStore"])?;
        ensure!(!shown.contains("ActiveState=failed"), "{}", system.must(&["journalctl", "-u", UNIT])?);
        Ok((shown.contains("ActiveState=active\n") && shown.contains("Store=2")).then_some(()))
    };
    eventually(CHANGE_LIMIT, "the service is active", active).unwrap();
}
