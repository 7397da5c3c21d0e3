//! The hot tier: which cache a mount has, and what becomes of it when the volume comes, goes and is pulled.
//!
//! The volume is an ext4 of its own on a loop device; the link that leads to it is kept as `tarn-volume` keeps it.

use crate::Test;
use crate::life::{Volume, block};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;
use tarn_tests::csi::Driver;
use tarn_tests::disk::{Disk, Loss};
use tarn_tests::foreign::{Bucket, Foreign};
use tarn_tests::server::Server;
use tarn_tests::{data, mount, run, wait};
use tempfile::TempDir;

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("hot::a_hot_volume_caches_on_the_cache_volume_and_a_standard_one_does_not", tiers),
    ("hot::a_mount_follows_the_link_the_next_time_it_is_made", next_mount),
    ("hot::a_directory_of_any_medium_is_a_hot_cache", any_medium),
    ("hot::a_volume_that_is_pulled_fails_no_read_that_tarn_serves", pulled_ordinary),
    ("hot::a_volume_that_is_pulled_fails_no_file_that_is_opened_afterwards", pulled_passthrough),
    ("hot::a_mount_that_died_with_its_volume_is_made_again_without_it", died),
];

pub(crate) const FILE: usize = 3 << 20;

/// A cache volume and the link to it.
struct Hot {
    disk: Disk,
    home: TempDir,
}

impl Hot {
    fn new() -> Result<Self> {
        let hot = Self { disk: Disk::with_journal(512)?, home: tempfile::tempdir()? };
        fs::DirBuilder::new().mode(0o700).create(hot.cache())?;
        Ok(hot)
    }

    fn cache(&self) -> PathBuf {
        self.disk.path().join("cache")
    }

    fn link(&self) -> PathBuf {
        self.home.path().join("link")
    }

    /// Has the link lead to a directory, in one step.
    fn point(&self, dir: &Path) -> Result<()> {
        let new = self.home.path().join("link.new");
        symlink(dir, &new)?;
        fs::rename(new, self.link()).context("switch the link")
    }

    fn driver(&self, server: &Server, prefix: &str) -> Result<Driver> {
        let link = self.link().display().to_string();
        Driver::start(server, &["--bucket-prefix", prefix, "--hot-cache-dir", &link])
    }
}

/// Bytes on disk of the objects that a cache holds.
pub(crate) fn kept(cache: &Path) -> Result<u64> {
    let objects = cache.join("v1/objects");
    let listed =
        run::must(run::command("find").arg(&objects).args(["-type", "f", "-printf", "%b\\n"]), LIMIT)?;
    Ok(listed.lines().filter_map(|blocks| blocks.parse::<u64>().ok()).sum::<u64>() * 512)
}

pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// Puts an object into the bucket of a volume, and reads it in a pod.
pub(crate) async fn use_it(volume: &mut Volume, target: &Path, bucket: &Bucket<'_>) -> Result<()> {
    let text = data::bytes(3, FILE);
    bucket.put("file", &text)?;
    volume.stage().await?;
    volume.publish(target, false).await?;
    ensure!(fs::read(target.join("file"))? == text, "another text");
    Ok(())
}

async fn end(mut volume: Volume, target: &Path) -> Result<()> {
    volume.unpublish(target).await?;
    volume.unstage().await?;
    volume.delete().await
}

fn tiers(server: &Server) -> Result<()> {
    block(async {
        let hot = Hot::new()?;
        hot.point(&hot.cache())?;
        let driver = hot.driver(server, "tiers-")?;
        let foreign = Foreign::start(&server.endpoint())?;
        let own = driver.cache();
        let (one, two) = (driver.kubelet("hot"), driver.kubelet("standard"));
        let mut volume = Volume::create(&driver, "pvc-hot", &[("cacheTier", "hot")]).await?;
        use_it(&mut volume, &one, &foreign.bucket("tiers-pvc-hot")).await?;
        ensure!(kept(&hot.cache())? >= FILE as u64, "the cache volume holds {} bytes", kept(&hot.cache())?);
        ensure!(!own.join("v1").exists(), "the node's folder is used too");
        let before = reads(&volume.staging)?;
        ensure!(fs::read(one.join("file"))? == data::bytes(3, FILE), "another text");
        ensure!(reads(&volume.staging)? == before, "a warm file is not read by the kernel itself");
        let mut standard = Volume::create(&driver, "pvc-standard", &[]).await?;
        let before = kept(&hot.cache())?;
        use_it(&mut standard, &two, &foreign.bucket("tiers-pvc-standard")).await?;
        ensure!(kept(&own)? >= FILE as u64, "the node's folder holds {} bytes", kept(&own)?);
        ensure!(kept(&hot.cache())? == before, "a standard volume caches on the cache volume");
        end(standard, &two).await?;
        end(volume, &one).await
    })
}

fn status(dir: &Path) -> Result<Value> {
    let told = run::must(mount::tarn()?.args(["status", "--json"]).arg(dir), LIMIT)?;
    Ok(serde_json::from_str::<Value>(&told)?[0].take())
}

/// How many reads the kernel has asked the mount at `dir` for.
fn reads(dir: &Path) -> Result<u64> {
    let status = status(dir)?;
    let calls = status["kernel_calls"].as_array().context("calls")?;
    Ok(calls
        .iter()
        .find(|calls| calls["op"] == "read")
        .and_then(|calls| calls["count"].as_u64())
        .unwrap_or(0))
}

/// How many processes of the mount at `dir` have died.
fn restarts(dir: &Path) -> Result<u64> {
    status(dir)?["restarts"].as_u64().context("restarts")
}

fn next_mount(server: &Server) -> Result<()> {
    block(async {
        let hot = Hot::new()?;
        // As after a reboot: the link leads to a volume that is not mounted yet.
        hot.point(&hot.home.path().join("volumes/vol-00000001/cache"))?;
        let driver = hot.driver(server, "next-")?;
        let foreign = Foreign::start(&server.endpoint())?;
        let target = driver.kubelet("next");
        let mut volume = Volume::create(&driver, "pvc-1", &[("cacheTier", "hot")]).await?;
        let bucket = foreign.bucket("next-pvc-1");
        bucket.put("second", &data::bytes(4, FILE))?;
        use_it(&mut volume, &target, &bucket).await?;
        ensure!(kept(&driver.cache())? >= FILE as u64, "without a volume the node's folder serves");
        hot.point(&hot.cache())?;
        ensure!(fs::read(target.join("second"))? == data::bytes(4, FILE), "another text");
        ensure!(!hot.cache().join("v1").exists(), "a running mount stays where it is");
        volume.unpublish(&target).await?;
        volume.unstage().await?;
        use_it(&mut volume, &target, &bucket).await?;
        ensure!(kept(&hot.cache())? >= FILE as u64, "the next one caches on the volume");
        end(volume, &target).await
    })
}

fn any_medium(server: &Server) -> Result<()> {
    block(async {
        // A file system's root, as the kubelet shows a volume: for everybody to read, and with lost+found.
        let disk = Disk::with_journal(512)?;
        let dir = disk.path().display().to_string();
        let driver = Driver::start(server, &["--bucket-prefix", "medium-", "--hot-cache-dir", &dir])?;
        let foreign = Foreign::start(&server.endpoint())?;
        let target = driver.kubelet("medium");
        let mut volume = Volume::create(&driver, "pvc-1", &[("cacheTier", "hot")]).await?;
        use_it(&mut volume, &target, &foreign.bucket("medium-pvc-1")).await?;
        ensure!(kept(&disk.path())? >= FILE as u64, "the medium holds {} bytes", kept(&disk.path())?);
        end(volume, &target).await
    })
}

/// Programs that read files over and over.
#[derive(Default)]
struct Readers {
    /// Counted up: 0 at first, 1 when the volume is pulled and no file is open from before, 2 to end.
    phase: AtomicU32,
    rounds: AtomicU64,
}

impl Readers {
    /// Reads all files until the end, and names those reads that failed in phase 1, or at all if `strict`.
    fn run(&self, dir: &Path, flags: i32, strict: bool) -> Vec<String> {
        let mut failures = Vec::new();
        while self.phase.load(Ordering::SeqCst) < 2 {
            for number in 0..FILES {
                let phase = self.phase.load(Ordering::SeqCst);
                let read = || -> Result<()> {
                    let mut file =
                        OpenOptions::new().read(true).custom_flags(flags).open(dir.join(name(number)))?;
                    let mut text = Vec::new();
                    file.read_to_end(&mut text)?;
                    ensure!(text == data::bytes(number, FILE), "wrong bytes");
                    Ok(())
                };
                match read() {
                    Err(error) if strict || phase > 0 || format!("{error:#}").contains("wrong") => {
                        failures.push(format!("{} in phase {phase}: {error:#}", name(number)));
                    }
                    Ok(()) | Err(_) => {}
                }
            }
            self.rounds.fetch_add(1, Ordering::SeqCst);
        }
        failures
    }

    fn await_rounds(&self, more: u64) -> Result<()> {
        let goal = self.rounds.load(Ordering::SeqCst) + more;
        wait::eventually(Duration::from_secs(60), "the readers go on", || {
            Ok((self.rounds.load(Ordering::SeqCst) >= goal).then_some(()))
        })
    }
}

const FILES: u64 = 6;

fn open_all(dir: &Path, flags: i32) -> Result<Vec<File>> {
    let open = |number| OpenOptions::new().read(true).custom_flags(flags).open(dir.join(name(number)));
    (0..FILES).map(|number| open(number).context("open a warm file")).collect()
}

fn is_io_error(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

fn name(number: u64) -> String {
    format!("file-{number}")
}

/// Pulls the volume under readers, and gives the reads that failed.
fn pull(server: &Server, prefix: &str, passthrough: &str, flags: i32) -> Result<Vec<String>> {
    block(async {
        let hot = Hot::new()?;
        hot.point(&hot.cache())?;
        let driver = hot.driver(server, prefix)?;
        let foreign = Foreign::start(&server.endpoint())?;
        let target = driver.kubelet("pulled");
        let parameters = [("cacheTier", "hot"), ("passthrough", passthrough)];
        let mut volume = Volume::create(&driver, "pvc-1", &parameters).await?;
        let bucket_name = format!("{prefix}pvc-1");
        let bucket = foreign.bucket(&bucket_name);
        for number in 0..FILES {
            bucket.put(&name(number), &data::bytes(number, FILE))?;
        }
        volume.stage().await?;
        volume.publish(&target, false).await?;
        let readers = Readers::default();
        let strict = passthrough == "off";
        let failures = std::thread::scope(|scope| -> Result<Vec<String>> {
            // While one has a file open that the kernel reads by itself, others get the same file.
            let count = if strict { 2 } else { 1 };
            let threads: Vec<_> =
                (0..count).map(|_| scope.spawn(|| readers.run(&target, flags, strict))).collect();
            let work = || -> Result<()> {
                readers.await_rounds(4)?;
                ensure!(kept(&hot.cache())? >= FILES * FILE as u64, "they are not warm");
                hot.disk.sync()?;
                let mut open = open_all(&target, flags)?;
                hot.disk.lose_power(Loss::All)?;
                ensure!(File::open(hot.cache().join("v1/lock")).is_err(), "the disk is not dead");
                for (number, file) in (0..).zip(&mut open) {
                    let mut text = Vec::new();
                    match file.read_to_end(&mut text) {
                        Ok(_) => ensure!(text == data::bytes(number, FILE), "wrong bytes in an open file"),
                        // What the kernel reads by itself is the dead disk's to answer.
                        Err(error) => ensure!(!strict && is_io_error(&error), "an open file: {error}"),
                    }
                }
                drop(open);
                // The kernel tells of a close some time after it.
                readers.await_rounds(1)?;
                readers.phase.store(1, Ordering::SeqCst);
                readers.await_rounds(8)?;
                ensure!(restarts(&volume.staging)? == 0, "the process of the mount has died");
                let written = fs::write(target.join("new"), b"new");
                ensure!(written.is_err_and(|error| is_io_error(&error)), "what cannot be kept is taken");
                Ok(())
            };
            let worked = work();
            readers.phase.store(2, Ordering::SeqCst);
            let failures = threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect();
            worked.map(|()| failures)
        })?;
        // The reconciler has the link lead to the host's directory; the volume can be mounted anew there.
        hot.point(&driver.cache())?;
        volume.unpublish(&target).await?;
        volume.unstage().await?;
        volume.stage().await?;
        volume.publish(&target, false).await?;
        ensure!(fs::read(target.join(name(0)))? == data::bytes(0, FILE), "another text");
        ensure!(kept(&driver.cache())? >= FILE as u64, "the node's folder serves now");
        end(volume, &target).await?;
        Ok(failures)
    })
}

fn pulled_ordinary(server: &Server) -> Result<()> {
    // Past the kernel's own pages, so that every read reaches the mount.
    let direct = i32::try_from(rustix::fs::OFlags::DIRECT.bits())?;
    let failures = pull(server, "pulled-off-", "off", direct)?;
    ensure!(failures.is_empty(), "{failures:#?}");
    Ok(())
}

fn pulled_passthrough(server: &Server) -> Result<()> {
    let failures = pull(server, "pulled-", "auto", 0)?;
    ensure!(failures.is_empty(), "{failures:#?}");
    Ok(())
}

fn died(server: &Server) -> Result<()> {
    block(async {
        let hot = Hot::new()?;
        hot.point(&hot.cache())?;
        let driver = hot.driver(server, "died-")?;
        let foreign = Foreign::start(&server.endpoint())?;
        let (one, two) = (driver.kubelet("died-one"), driver.kubelet("died-two"));
        let mut volume = Volume::create(&driver, "pvc-1", &[("cacheTier", "hot")]).await?;
        use_it(&mut volume, &one, &foreign.bucket("died-pvc-1")).await?;
        // The link still leads there: the disk itself says that it keeps nothing.
        hot.disk.lose_power(Loss::All)?;
        volume.signal_mount("-KILL")?;
        wait::eventually(LIMIT, "the mount is dead", || Ok(fs::read_dir(&one).is_err().then_some(())))?;
        volume.publish(&two, false).await?;
        ensure!(fs::read(two.join("file"))? == data::bytes(3, FILE), "another text");
        ensure!(kept(&driver.cache())? >= FILE as u64, "the node's folder serves");
        volume.unpublish(&one).await?;
        end(volume, &two).await
    })
}
