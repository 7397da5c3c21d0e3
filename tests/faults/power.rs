//! The disk of the cache loses its power in the middle of everything, or the cache is a copy that was made in the middle
//! of everything. What was on its way to the disk is there or lost, in any order: nothing of it is read as data that it
//! is not, and what was said to be in the bucket is there.

use crate::load::{Manifest, Promise};
use crate::{COMMITS, results, rounds};
use anyhow::{Context, Result};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use tarn_tests::disk::{Disk, Loss};
use tarn_tests::mount::MountPlan;
use tarn_tests::subject::{Subject, private_dir};
use tarn_tests::suite::{Behaviour, On};
use tarn_tests::{behaviours, data, disk, run, wait};

pub(crate) const TARN: &[Behaviour] = behaviours!(
    On::Tarn,
    no_promise_is_lost_with_the_power,
    no_promise_is_lost_with_a_copy_of_a_cache_in_use
);

const WRITERS: u64 = 3;
const DISK_MIB: u64 = 2048;
const PATIENCE: Duration = Duration::from_secs(60);

fn no_promise_is_lost_with_the_power(subject: &Subject<'_>) {
    survive(subject, || Disaster::PowerLoss(Disk::with_journal(DISK_MIB).unwrap()));
}

fn no_promise_is_lost_with_a_copy_of_a_cache_in_use(subject: &Subject<'_>) {
    survive(subject, || Disaster::Copied { home: subject.scratch() });
}

/// What happens to a cache while it is written to.
enum Disaster {
    /// Its disk loses its power.
    PowerLoss(Disk),
    /// It is replaced by a copy that was made meanwhile.
    Copied { home: PathBuf },
}

impl Disaster {
    fn name(&self) -> &'static str {
        match self {
            Self::PowerLoss(_) => "power loss",
            Self::Copied { .. } => "copy of a cache in use",
        }
    }

    fn cache(&self) -> PathBuf {
        match self {
            Self::PowerLoss(disk) => disk.path().join("cache"),
            Self::Copied { home } => home.join("cache"),
        }
    }

    /// While the writers go on: from here on the disk, or the copy, has no more than it gets by itself.
    fn begin(&self) -> Result<()> {
        match self {
            Self::PowerLoss(disk) => disk.sync(),
            Self::Copied { home } => copy(&self.cache(), &home.join("copy")),
        }
    }

    /// While the writers go on.
    fn strike(&self, round: usize) -> Result<()> {
        match self {
            Self::PowerLoss(disk) if round.is_multiple_of(2) => disk.lose_power(Loss::All),
            Self::PowerLoss(disk) => disk.lose_power(Loss::AllButTheLog),
            Self::Copied { .. } => Ok(()),
        }
    }

    /// When nobody uses it any more.
    fn end(&self) -> Result<()> {
        match self {
            Self::PowerLoss(disk) => disk.mount_again(),
            Self::Copied { home } => {
                fs::remove_dir_all(self.cache())?;
                fs::rename(home.join("copy"), self.cache()).context("put the copy in its place")
            }
        }
    }
}

/// Copies a folder whose files come and go. In this process: a program that is started closes its copies of the files that
/// are being written, and a close commits.
fn copy(from: &Path, to: &Path) -> Result<()> {
    private_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => copy(&path, &to)?,
            Ok(_) => match fs::copy(&path, &to) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(error).context("copy a file");
                }
                Ok(_) | Err(_) => {}
            },
            Err(_) => {}
        }
    }
    Ok(())
}

/// Writers on a mount, the disaster, and the next mount in another boot: it has what was promised.
fn survive(subject: &Subject<'_>, disaster: impl FnOnce() -> Disaster) {
    if !disk::is_root() {
        return println!("skipped: only root mounts disks, and shows a process another boot");
    }
    subject.take_mount().unmount().unwrap();
    let (disaster, boot) = (disaster(), Boot::new(subject.scratch().join("boot-id")));
    private_dir(&disaster.cache()).unwrap();
    let mut moments = data::numbers(u64::from(std::process::id()), 30);
    // One for both: the second finds what the first has left in the bucket.
    let manifest = Manifest::default();
    for (index, commit) in COMMITS.into_iter().enumerate() {
        let promise = if commit[1] == "async" { Promise::Fsync } else { Promise::Close };
        // In one piece each: what the journal knows of an upload under way may be lost with the power.
        let mut plan = subject.plan().clone().with(commit).with(&["--part-size", "16MiB"]);
        plan.cache = disaster.cache();
        let (started, rounds) = (Instant::now(), rounds(2, 100));
        let mut files = 0;
        for round in 0..rounds {
            boot.next();
            let moments = [(); 2].map(|()| moments.next().unwrap_or(0) as usize);
            disrupt(subject, (&plan, index * rounds + round, promise), &manifest, &disaster, moments)
                .unwrap();
            boot.next();
            let again = plan.mount().unwrap();
            files = manifest.check(subject.root(), matches!(disaster, Disaster::PowerLoss(_)));
            manifest.go_on();
            again.unmount().unwrap();
        }
        results::record(disaster.name(), subject.mode(), commit[1], (rounds, files), started.elapsed());
    }
    drop(boot);
    subject.mount_again().unwrap();
}

/// One round up to the end of the mount and the disaster.
fn disrupt(
    subject: &Subject<'_>,
    (plan, round, promise): (&MountPlan, usize, Promise),
    manifest: &Manifest,
    disaster: &Disaster,
    moments: [usize; 2],
) -> Result<()> {
    let mount = plan.mount()?;
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            scope.spawn(move || manifest.write(subject.root(), writer, round as u64, promise));
        }
        let go_on = |more: usize| {
            let enough = manifest.acknowledged() + 5 + more;
            let reached = || Ok((manifest.acknowledged() >= enough).then_some(()));
            wait::eventually(PATIENCE, "the writers have written enough", reached)
        };
        let struck = go_on(moments[0])
            .and_then(|()| disaster.begin())
            .and_then(|()| go_on(moments[1]))
            .and_then(|()| disaster.strike(round));
        manifest.stop();
        mount.crash()?;
        struck
    })?;
    disaster.end()
}

/// A boot id of our own in place of the kernel's, for whoever reads it from here on: after a loss of power there is another.
struct Boot {
    file: PathBuf,
    count: AtomicU32,
}

impl Boot {
    const SHOWN_AT: &str = "/proc/sys/kernel/random/boot_id";

    fn new(file: PathBuf) -> Self {
        fs::write(&file, "before").unwrap();
        run::must(Command::new("mount").arg("--bind").arg(&file).arg(Self::SHOWN_AT), PATIENCE).unwrap();
        Self { file, count: AtomicU32::new(0) }
    }

    fn next(&self) {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        fs::write(&self.file, format!("boot {count}")).unwrap();
    }
}

impl Drop for Boot {
    fn drop(&mut self) {
        run::must(Command::new("umount").arg(Self::SHOWN_AT), PATIENCE)
            .expect("the kernel's own id is seen again");
    }
}
