//! `tarn upgrade`: another binary takes over, or the old one goes on.

use crate::results;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;
use tarn_tests::subject::Subject;
use tarn_tests::suite::{Behaviour, On};
use tarn_tests::{behaviours, mount, paths, run};

pub(crate) const ALL: &[Behaviour] = behaviours!(
    On::Tarn,
    upgrades_are_not_noticed,
    a_broken_binary_changes_nothing,
    who_cannot_take_over_gives_way
);

const LIMIT: Duration = Duration::from_secs(60);

fn upgrade(subject: &Subject<'_>, binary: &Path) -> run::Outcome {
    let mut command = mount::tarn().unwrap();
    command.arg("upgrade").arg(subject.root()).arg("--binary").arg(binary);
    run::run(&mut command, LIMIT).unwrap()
}

fn worker(subject: &Subject<'_>) -> i32 {
    let mount = subject.take_mount();
    let worker = mount.worker().unwrap().unwrap();
    subject.give_mount(mount);
    worker.as_raw_nonzero().get()
}

fn upgrades_are_not_noticed(subject: &Subject<'_>) {
    under_load(subject);
    results::count(&format!("upgrades, {}", subject.mode().name()), rounds());
}

fn rounds() -> usize {
    if paths::full() { 100 } else { 3 }
}

/// Upgrades between two binaries while files are made, written, read and removed.
pub(crate) fn under_load(subject: &Subject<'_>) {
    let binaries = ["one", "other"].map(|name| subject.scratch().join(name));
    for binary in &binaries {
        fs::copy(paths::tarn().unwrap(), binary).unwrap();
    }
    let file = File::options().read(true).write(true).create_new(true).open(subject.path("f")).unwrap();
    std::thread::scope(|scope| {
        let upgrades = scope.spawn(|| {
            for binary in binaries.iter().cycle().take(rounds()) {
                let before = worker(subject);
                let outcome = upgrade(subject, binary);
                assert!(outcome.status.success(), "{}{}", outcome.stdout, outcome.stderr);
                assert_ne!(worker(subject), before);
            }
        });
        let mut round = 0_u64;
        while !upgrades.is_finished() {
            file.write_all_at(&round.to_le_bytes(), round * 8).unwrap();
            let name = subject.path(&format!("d{round}"));
            fs::create_dir(&name).unwrap();
            fs::write(name.join("g"), round.to_string()).unwrap();
            assert_eq!(fs::read_to_string(name.join("g")).unwrap(), round.to_string());
            fs::remove_file(name.join("g")).unwrap();
            fs::remove_dir(name).unwrap();
            round += 1;
        }
        let mut bytes = vec![0; usize::try_from(round * 8).unwrap()];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert!(bytes.chunks(8).zip(0_u64..).all(|(chunk, round)| chunk == round.to_le_bytes()));
    });
}

fn a_broken_binary_changes_nothing(subject: &Subject<'_>) {
    let broken = subject.scratch().join("broken");
    fs::write(&broken, "#!/bin/sh\nexit 1\n").unwrap();
    fs::set_permissions(&broken, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(subject.path("f"), b"before").unwrap();
    let before = worker(subject);
    for binary in [broken.as_path(), Path::new("/etc/passwd")] {
        let outcome = upgrade(subject, binary);
        assert!(!outcome.status.success(), "{}", outcome.stdout);
        assert!(outcome.stderr.contains("goes on as it was"), "{}", outcome.stderr);
        assert_eq!(worker(subject), before);
    }
    assert_eq!(fs::read(subject.path("f")).unwrap(), b"before");
}

/// It says that it can, and then cannot: its cache is not to be had.
fn who_cannot_take_over_gives_way(subject: &Subject<'_>) {
    let (binary, cache) = (subject.scratch().join("no-cache"), subject.plan().cache.display());
    let tarn = paths::tarn().unwrap();
    let script = format!(
        "#!/bin/bash\nexec {} \"${{@/#{}/\\/dev\\/null\\/cache}}\"\n",
        tarn.display(),
        cache.to_string().replace('/', "\\/")
    );
    fs::write(&binary, script).unwrap();
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).unwrap();
    let file = File::options().read(true).write(true).create_new(true).open(subject.path("f")).unwrap();
    file.write_all_at(b"before ", 0).unwrap();
    let before = worker(subject);
    let outcome = upgrade(subject, &binary);
    assert!(!outcome.status.success(), "{}", outcome.stdout);
    assert!(outcome.stderr.contains("make /dev/null for the cache"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("the old version goes on"), "{}", outcome.stderr);
    assert_ne!(worker(subject), before, "another worker of the old version");
    file.write_all_at(b"after", 7).unwrap();
    drop(file);
    assert_eq!(fs::read(subject.path("f")).unwrap(), b"before after");
}
