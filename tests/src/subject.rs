//! The folder that a behaviour is tested on: a plain local directory, or a mount by tarn in one of its two modes.
//!
//! On a mount every test gets a bucket, a cache and a process of its own, and after the test itself this is checked:
//! every object equals its file and nothing else is in the bucket (by another client), no upload is left half done,
//! tarn ends cleanly, after a new mount with an empty cache everything is as it was, and nobody hangs in FUSE.

use crate::disk;
use crate::foreign::{Bucket, Foreign, Object};
use crate::mount::{Mount, MountPlan};
use crate::server::Server;
use crate::stuck;
use crate::tree::{self, Tree};
use anyhow::{Context, Result, ensure};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tempfile::TempDir;

/// What a behaviour is tested on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A plain local directory: proves the test right.
    Local,
    /// A mount that passes files through where it can, the default.
    Passthrough,
    /// A mount that serves every byte itself, as on kernels without passthrough.
    Ordinary,
}

impl Mode {
    /// All of them, the control first.
    pub const ALL: [Self; 3] = [Self::Local, Self::Passthrough, Self::Ordinary];

    /// Its name in the tests' names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Passthrough => "passthrough",
            Self::Ordinary => "ordinary",
        }
    }

    fn options(self) -> &'static [&'static str] {
        match self {
            Self::Local | Self::Passthrough => &[],
            Self::Ordinary => &["--passthrough", "off"],
        }
    }
}

/// A server and the other client of it, shared by the tests of a run.
#[derive(Debug)]
pub struct Site {
    /// The server.
    pub server: Server,
    /// The other client.
    pub foreign: Foreign,
}

impl Site {
    /// Starts both.
    pub fn start() -> Result<Self> {
        let server = Server::start()?;
        let foreign = Foreign::start(&server.endpoint())?;
        Ok(Self { server, foreign })
    }
}

/// One folder under test. See the module.
#[derive(Debug)]
pub struct Subject<'a> {
    mode: Mode,
    root: PathBuf,
    tarn: Option<Tarn<'a>>,
    // Last: the mount in it must be gone before the folder is removed.
    home: TempDir,
}

/// The parts of a mounted subject.
#[derive(Debug)]
struct Tarn<'a> {
    site: &'a Site,
    bucket: String,
    plan: MountPlan,
    mount: Mutex<Option<Mount>>,
}

static BUCKETS: AtomicU32 = AtomicU32::new(0);

impl<'a> Subject<'a> {
    /// A fresh local directory.
    pub fn local() -> Result<Self> {
        let home = tempfile::Builder::new().prefix("tarn-local-").tempdir()?;
        let root = home.path().join("root");
        std::fs::create_dir(&root)?;
        Ok(Self { mode: Mode::Local, root, tarn: None, home })
    }

    /// A fresh bucket, mounted. The mount is killed when it is older than `limit`.
    pub fn mounted(mode: Mode, site: &'a Site, limit: Duration) -> Result<Self> {
        let home = tempfile::Builder::new().prefix("tarn-mount-").tempdir()?;
        let (root, cache) = (home.path().join("mnt"), home.path().join("cache"));
        std::fs::create_dir(&root)?;
        private_dir(&cache)?;
        let bucket = format!("t{}-{}", std::process::id(), BUCKETS.fetch_add(1, Ordering::Relaxed));
        site.foreign.bucket(&bucket).create()?;
        let mut plan = MountPlan::new(&site.server, &bucket, &root, &cache).with(mode.options());
        plan.limit = limit;
        if disk::is_root() {
            // Some tests act as other users.
            plan = plan.with(&["--allow-other"]);
        }
        let mount = Mutex::new(Some(plan.mount()?));
        Ok(Self { mode, root, tarn: Some(Tarn { site, bucket, plan, mount }), home })
    }

    /// What it is.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether it is a mount by tarn.
    pub fn is_tarn(&self) -> bool {
        self.tarn.is_some()
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A path in the folder.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// A folder outside, on the local disk, for what a test needs besides.
    pub fn scratch(&self) -> PathBuf {
        let scratch = self.home.path().join("scratch");
        std::fs::create_dir_all(&scratch).expect("a folder in a fresh folder");
        scratch
    }

    /// The bucket as the other client sees it.
    ///
    /// # Panics
    /// On a local directory: tests that call it are listed as tests of tarn only.
    pub fn bucket(&self) -> Bucket<'_> {
        let tarn = self.tarn();
        tarn.site.foreign.bucket(&tarn.bucket)
    }

    /// Removes what the server keeps of uploads that a kill cut off: folders that it lists without an object.
    ///
    /// # Panics
    /// On a local directory.
    pub fn sweep(&self) -> Result<()> {
        self.server().sweep(&self.tarn().bucket)
    }

    /// The server.
    ///
    /// # Panics
    /// On a local directory.
    pub fn server(&self) -> &Server {
        &self.tarn().site.server
    }

    /// How it is mounted, to mount it a second time or in another way.
    ///
    /// # Panics
    /// On a local directory.
    pub fn plan(&self) -> &MountPlan {
        &self.tarn().plan
    }

    /// Takes the mount out of the subject, to end it in a special way; see [`Subject::mount_again`].
    ///
    /// # Panics
    /// On a local directory, or if it is not mounted.
    pub fn take_mount(&self) -> Mount {
        self.mount().take().expect("the subject is mounted")
    }

    /// Gives a mount back after [`Subject::take_mount`].
    pub fn give_mount(&self, mount: Mount) {
        *self.mount() = Some(mount);
    }

    /// Mounts again after [`Subject::take_mount`].
    pub fn mount_again(&self) -> Result<()> {
        *self.mount() = Some(self.tarn().plan.mount()?);
        Ok(())
    }

    /// Unmounts cleanly and mounts again with an empty cache; on a local directory nothing happens.
    pub fn remount(&self) -> Result<()> {
        let Some(tarn) = &self.tarn else { return Ok(()) };
        self.take_mount().unmount()?;
        empty(&tarn.plan.cache)?;
        self.mount_again()
    }

    /// Checks what must hold after every test, and ends the mount.
    pub fn finish(self) -> Result<()> {
        let Some(tarn) = &self.tarn else { return Ok(()) };
        let mut before = tree::read(&self.root).context("read the tree at the end of the test")?;
        self.take_mount().unmount().context("unmount at the end of the test")?;
        let objects = self.check_bucket(&before)?;
        empty(&tarn.plan.cache)?;
        self.mount_again().context("mount again with an empty cache")?;
        let mut after = tree::read(&self.root).context("read the tree after a new mount")?;
        for tree in [&mut before, &mut after] {
            self.leave_out_phantoms(tree, &objects)?;
        }
        tree::same(&before, &after).context("after a new mount with an empty cache")?;
        self.take_mount().unmount()?;
        stuck::none()?;
        self.bucket().drop_all()
    }

    /// The objects are those of the tree.
    fn check_bucket(&self, tree: &Tree) -> Result<Vec<Object>> {
        let objects = self.bucket().objects()?;
        tree::compare(tree, &objects)?;
        let uploads = self.bucket().uploads()?;
        ensure!(uploads.is_empty(), "uploads are left half done: {uploads:?}");
        Ok(objects)
    }

    /// Removes directories that only the server's listings have, without any key: MinIO keeps the old data of an object
    /// that was replaced by a PUT whose client died (`<key>/<uuid>/part.1`), and lists that as a prefix when the object is
    /// gone.
    fn leave_out_phantoms(&self, tree: &mut Tree, objects: &[Object]) -> Result<()> {
        for path in tree::without_keys(tree, objects) {
            let parent = path.rsplit_once('/').map_or(String::new(), |(parent, _)| format!("{parent}/"));
            if self.bucket().prefixes(&parent)?.contains(&format!("{path}/")) {
                tree.remove(&path);
            }
        }
        Ok(())
    }

    fn tarn(&self) -> &Tarn<'a> {
        self.tarn.as_ref().expect("this test is for mounts by tarn only")
    }

    fn mount(&self) -> MutexGuard<'_, Option<Mount>> {
        self.tarn().mount.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes a folder that only its owner may use; tarn takes no other for its cache.
pub fn private_dir(dir: &Path) -> Result<()> {
    let made = std::fs::DirBuilder::new().mode(0o700).create(dir);
    made.with_context(|| format!("make {}", dir.display()))
}

/// Removes what is in a cache.
fn empty(dir: &Path) -> Result<()> {
    std::fs::remove_dir_all(dir).with_context(|| format!("empty {}", dir.display()))?;
    private_dir(dir)
}
