//! Where it is measured: a MinIO on the loopback interface, one bucket, mounts of it, and a folder for local files.
//! All of it lies on one disk, so that the local figures are those of the disk that the cache lies on.

use crate::machine::Machine;
use crate::plan::{GIB, Plan};
use crate::{files, raw};
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tarn_tests::foreign::{Bucket, Foreign};
use tarn_tests::mount::{Mount, MountPlan};
use tarn_tests::server::Server;
use tarn_tests::subject::private_dir;
use tempfile::TempDir;

/// The bucket that everything is in.
pub const BUCKET: &str = "perf";
/// The key of the large object that is read.
pub const LARGE: &str = "large";

/// Names with this end are compressed by the server, for what would not go on the disk twice.
pub const COMPRESSED: &str = ".repeats";

/// No mount is needed for longer.
const MOUNT_LIMIT: Duration = Duration::from_secs(3600);

/// The site of a run. Dropped, it ends everything and removes what it made.
#[derive(Debug)]
pub struct Bench {
    /// What is measured on.
    pub machine: Machine,
    /// How much is measured.
    pub plan: Plan,
    server: Server,
    foreign: Foreign,
    mounts: AtomicU32,
    // Last: the server must have ended before its data is removed.
    home: TempDir,
}

impl Bench {
    /// Starts the server and puts the large object there, by another client than tarn.
    pub fn start() -> Result<Self> {
        let home = tempfile::Builder::new().prefix("tarn-perf-").tempdir()?;
        let (machine, plan) = (Machine::here(home.path())?, Plan::new(home.path())?);
        let server = Server::start_with(&[
            ("MINIO_COMPRESSION_ENABLE", "on"),
            ("MINIO_COMPRESSION_EXTENSIONS", COMPRESSED),
            ("MINIO_COMPRESSION_MIME_TYPES", "none/none"),
        ])?;
        let foreign = Foreign::start(&server.endpoint())?;
        foreign.bucket(BUCKET).create()?;
        let bench = Self { machine, plan, server, foreign, mounts: AtomicU32::new(0), home };
        std::fs::create_dir(bench.local(""))?;
        files::write(&bench.local(LARGE), bench.plan.large, 1)?;
        raw::Upload::prepare(&bench.raw(), &bench.local(LARGE), LARGE)?.run()?;
        Ok(bench)
    }

    /// A path on the local disk.
    pub fn local(&self, name: &str) -> PathBuf {
        self.home.path().join("local").join(name)
    }

    /// The raw client of the bucket.
    pub fn raw(&self) -> raw::Client {
        raw::Client { endpoint: self.server.endpoint(), bucket: BUCKET, notes: self.home.path().to_owned() }
    }

    /// The bucket as another client sees it.
    pub fn bucket(&self) -> Bucket<'_> {
        self.foreign.bucket(BUCKET)
    }

    /// Fails unless the bucket has an object of that size: what was closed must be there.
    pub fn must_have(&self, key: &str, size: u64) -> Result<()> {
        let found = self.bucket().head(key)?.size;
        ensure!(found == size, "{key} has {found} bytes in the bucket instead of {size}");
        Ok(())
    }

    /// A new mount with an empty cache that has room for the large file.
    pub fn mount(&self) -> Result<Mounted> {
        self.mount_with_cache(self.plan.large * 4)
    }

    /// The same, whose worker keeps no session log.
    pub fn mount_without_log(&self) -> Result<Mounted> {
        self.mount_by(self.plan.large * 4, |plan| plan.with_env("TARN_NO_SESSION_LOG", "1"))
    }

    /// A new mount with an empty cache of so many bytes.
    pub fn mount_with_cache(&self, room: u64) -> Result<Mounted> {
        self.mount_by(room, |plan| plan)
    }

    fn mount_by(&self, room: u64, change: impl FnOnce(MountPlan) -> MountPlan) -> Result<Mounted> {
        let number = self.mounts.fetch_add(1, Ordering::Relaxed);
        let home = self.home.path().join(format!("mount-{number}"));
        let (root, cache) = (home.join("root"), home.join("cache"));
        std::fs::create_dir_all(&root)?;
        private_dir(&cache)?;
        let size = format!("{}MiB", room >> 20);
        let mut plan = MountPlan::new(&self.server, BUCKET, &root, &cache).with(&["--cache-size", &size]);
        plan.cache_floor = "1%";
        plan.limit = MOUNT_LIMIT;
        let mount = change(plan).mount()?;
        Ok(Mounted { mount, home })
    }

    /// Makes the rounds alike: writes out what earlier ones have left, so that no round pays for another, and
    /// touches free memory. A virtual machine's host takes memory back that was free for some seconds, and to get
    /// it again costs ten times what a write to the page cache costs; whoever came first would pay for it.
    pub fn settle(&self) -> Result<()> {
        files::settle(self.home.path())?;
        let bytes = (self.plan.large * 5).min(self.machine.memory_gib * GIB / 4);
        std::hint::black_box(vec![1_u8; usize::try_from(bytes)?]);
        Ok(())
    }
}

/// A mount and its cache.
#[derive(Debug)]
pub struct Mounted {
    mount: Mount,
    home: PathBuf,
}

impl Mounted {
    /// A path in the mount.
    pub fn path(&self, name: &str) -> PathBuf {
        self.mount.dir().join(name)
    }

    /// The mount point.
    pub fn root(&self) -> &Path {
        self.mount.dir()
    }

    /// The process that serves it.
    pub fn pid(&self) -> u32 {
        let worker = self.mount.worker().ok().flatten().expect("a mount that nobody kills has a worker");
        worker.as_raw_nonzero().get().unsigned_abs()
    }

    /// Unmounts cleanly and removes the cache.
    pub fn end(self) -> Result<()> {
        self.mount.unmount()?;
        std::fs::remove_dir_all(&self.home).with_context(|| format!("remove {}", self.home.display()))
    }
}
