//! A mount by a user who is not root: through fusermount3, without passthrough.

use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tarn_tests::subject::Subject;
use tarn_tests::suite::{Behaviour, On};
use tarn_tests::{behaviours, disk, mount, run};

pub(crate) const ALL: &[Behaviour] = behaviours!(
    On::Tarn,
    an_ordinary_user_has_a_mount_that_survives_its_worker,
    a_closed_device_is_explained
);

const USER: u32 = 65534;

/// Runs a script as the user, in namespaces of its own: no mount and no process outlives it. The device has the
/// mode that a distribution gives it, or none at all.
fn as_user(subject: &Subject<'_>, device_mode: u32, script: &str) -> run::Outcome {
    let home = subject.scratch().join("user");
    fs::create_dir(&home).unwrap();
    let device = home.join("fuse");
    mknodat(CWD, &device, FileType::CharacterDevice, Mode::RUSR, rustix::fs::makedev(10, 229)).unwrap();
    fs::set_permissions(&device, Permissions::from_mode(device_mode)).unwrap();
    // The tree that holds the binary may be closed to others.
    let tarn = mount::tarn().unwrap();
    fs::copy(tarn.get_program(), home.join("tarn")).unwrap();
    for dir in ["mnt", "cache"] {
        fs::create_dir(home.join(dir)).unwrap();
        std::os::unix::fs::chown(home.join(dir), Some(USER), Some(USER)).unwrap();
    }
    for dir in home.ancestors().take_while(|dir| *dir != Path::new("/tmp")) {
        fs::set_permissions(dir, Permissions::from_mode(0o755)).unwrap();
    }
    let enter = format!(
        "mount --bind fuse /dev/fuse
         exec setpriv --reuid {USER} --regid {USER} --clear-groups -- bash -euc \"$0\""
    );
    let plan = subject.plan().command().unwrap();
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--", "bash", "-euc"])
        .args([&enter, script])
        .current_dir(&home)
        .envs(plan.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .env("SOURCE", format!("s3://{}", subject.plan().source))
        .env("ENDPOINT", &subject.plan().endpoint)
        .env("XDG_CACHE_HOME", home.join("cache"))
        .env("XDG_STATE_HOME", home.join("cache"))
        .env("XDG_RUNTIME_DIR", home.join("cache"));
    run::run(&mut command, Duration::from_secs(60)).unwrap()
}

fn an_ordinary_user_has_a_mount_that_survives_its_worker(subject: &Subject<'_>) {
    if !disk::is_root() {
        println!("needs root, to become an ordinary user");
        return;
    }
    let script = r#"./tarn mount "$SOURCE" mnt --endpoint "$ENDPOINT"
        ./tarn status | grep -F 'only root may (CAP_SYS_ADMIN)'
        exec 5> mnt/open; echo one >&5
        kill -KILL "$(ps -o pid= --ppid "$(pgrep -o -x tarn)")"
        echo two >&5; exec 5>&-
        mkdir mnt/d; cp mnt/open mnt/d/copy
        ./tarn umount mnt
        ! mountpoint -q mnt"#;
    let outcome = as_user(subject, 0o666, script);
    assert!(outcome.status.success(), "{outcome:?}");
    for name in ["open", "d/copy"] {
        assert_eq!(fs::read(subject.path(name)).unwrap(), b"one\ntwo\n", "seen by another mount: {name}");
    }
}

fn a_closed_device_is_explained(subject: &Subject<'_>) {
    if !disk::is_root() {
        println!("needs root, to become an ordinary user");
        return;
    }
    let outcome = as_user(subject, 0o600, r#"./tarn mount "$SOURCE" mnt --endpoint "$ENDPOINT""#);
    assert!(!outcome.status.success());
    assert!(outcome.stderr.contains("as root: chmod 666 /dev/fuse"), "{outcome:?}");
}
