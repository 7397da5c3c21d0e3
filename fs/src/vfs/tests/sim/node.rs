//! The nodes of a simulation: mounts with caches of their own that are killed and mounted again.

use super::Plan;
use super::bucket::{Bucket, Link, Weather};
use crate::inode::Ino;
use crate::store::ObjectStore;
use crate::vfs::Vfs;
use crate::vfs::tests::faulty::copy_dir;
use crate::vfs::tests::mount_with;
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::task::AbortHandle;

/// An open file.
#[derive(Debug, Clone)]
pub(super) struct Open {
    pub(super) fh: u64,
    pub(super) ino: Ino,
    pub(super) image: usize,
    pub(super) writes: bool,
    /// Operations with it that are under way.
    pub(super) uses: usize,
    /// It is being closed.
    pub(super) closing: bool,
}

/// One mount.
pub(super) struct Node {
    pub(super) vfs: Arc<Vfs>,
    pub(super) link: Arc<Link>,
    dir: PathBuf,
    lives: usize,
    /// Nobody asks for anything before what was left is taken over.
    pub(super) ready: bool,
    pub(super) open: Vec<Open>,
    /// The images of inodes.
    pub(super) images: HashMap<Ino, usize>,
    /// Names that an operation is about: the kernel lets no other change them meanwhile.
    pub(super) names: BTreeSet<String>,
    pub(super) tasks: Vec<AbortHandle>,
    /// Operations that are under way.
    pub(super) running: usize,
    /// Images that were not kept when the node was killed: their bytes may stay behind.
    pub(super) abandoned: usize,
}

/// Everything.
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) bucket: Arc<Bucket>,
    pub(super) nodes: Vec<Mutex<Node>>,
    weather: Mutex<Weather>,
    home: tempfile::TempDir,
}

impl World {
    pub(super) fn new(plan: Plan, bucket: Bucket) -> Arc<Self> {
        let (bucket, home) = (Arc::new(bucket), tempfile::tempdir().expect("a folder"));
        let nodes = (0..plan.nodes).map(|node| {
            let link = Link::new(&bucket, node, plan.weather);
            let dir = home.path().join(format!("{node}"));
            let vfs = mounted(&plan, node, &link, &dir);
            Mutex::new(Node {
                vfs,
                link,
                dir,
                lives: 0,
                ready: true,
                open: Vec::new(),
                images: HashMap::new(),
                names: BTreeSet::new(),
                tasks: Vec::new(),
                running: 0,
                abandoned: 0,
            })
        });
        let nodes = nodes.collect();
        Arc::new(Self { plan, bucket, nodes, weather: Mutex::new(plan.weather), home })
    }

    /// No more faults.
    pub(super) fn calm_down(&self) {
        let calm = Weather { faults: 0.0, ..self.plan.weather };
        *self.weather.lock() = calm;
        self.nodes.iter().for_each(|node| node.lock().link.set_weather(calm));
    }

    /// Kills a node; another mount of it begins with what is on its disk.
    pub(super) fn crash(self: &Arc<Self>, node: usize) {
        let mut state = self.nodes[node].lock();
        state.link.die();
        state.tasks.drain(..).for_each(|task| task.abort());
        {
            let mut reference = self.bucket.reference.lock();
            reference.trace(|| format!("{node} is killed"));
            let local = reference.images.iter().filter(|image| image.node == node && image.local).count();
            // An open that is under way may leave one, too.
            state.abandoned += local + state.running;
            reference.crashed(node);
        }
        state.lives += 1;
        let image = self.home.path().join(format!("{node}-{}", state.lives));
        // The dead process holds its locks on the original, not on the copy.
        copy_dir(&state.dir, &image);
        state.dir = image;
        self.begin(node, &mut state);
    }

    fn begin(self: &Arc<Self>, node: usize, state: &mut Node) {
        state.link = Link::new(&self.bucket, node, *self.weather.lock());
        state.vfs = mounted(&self.plan, node, &state.link, &state.dir);
        state.open.clear();
        state.images.clear();
        state.names.clear();
        state.running = 0;
        state.ready = false;
        let (world, vfs) = (Arc::clone(self), Arc::clone(&state.vfs));
        state.tasks.push(tokio::spawn(async move { world.recover(node, vfs).await }).abort_handle());
    }

    async fn recover(self: Arc<Self>, node: usize, vfs: Arc<Vfs>) {
        let recovered = vfs.recover().await;
        self.bucket.reference.lock().trace(|| format!("{node} takes over: {recovered:?}"));
        if recovered.is_ok() {
            self.nodes[node].lock().ready = true;
        } else {
            // The mount fails, and somebody mounts again. Not from within a task that this kills.
            drop(vfs);
            tokio::spawn(async move { self.crash(node) });
        }
    }

    /// Unmounts, if that goes well, and mounts again. Nothing is open.
    pub(super) async fn remount(self: &Arc<Self>, node: usize) {
        if self.drain(node).await {
            self.crash(node);
        }
    }

    /// Whether everything could be put into the bucket.
    pub(super) async fn drain(&self, node: usize) -> bool {
        let vfs = Arc::clone(&self.nodes[node].lock().vfs);
        let report = vfs.drain().await;
        let mut reference = self.bucket.reference.lock();
        let failed: Vec<_> = report.failed.iter().map(|(name, _)| name).collect();
        reference.trace(|| format!("{node} drains: {} files, failed: {failed:?}", report.committed));
        if report.failed.is_empty() {
            reference.drained(node);
        }
        report.failed.is_empty()
    }

    /// Whether nothing but other clients can be the reason of an error.
    pub(super) fn is_calm(&self) -> bool {
        self.plan.weather.faults == 0.0 && self.plan.crashes == 0
    }

    /// Files in the staging folders that nobody cares for any more, by node.
    pub(super) fn left_behind(&self, node: usize) -> usize {
        let dir = self.nodes[node].lock().dir.join("v1/staged");
        let names =
            std::fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("an entry").file_name());
        names.filter(|name| name.to_str().is_some_and(|name| name.ends_with(".data"))).count()
    }
}

fn mounted(plan: &Plan, node: usize, link: &Arc<Link>, dir: &Path) -> Arc<Vfs> {
    mount_with(Arc::clone(link) as Arc<dyn ObjectStore>, dir, Some("boot"), |options| {
        options.attr_ttl = plan.ttl;
        options.commit = plan.commit;
        options.part_size = tarn_cache::BLOCK_SIZE;
        options.whole_max = tarn_cache::BLOCK_SIZE;
        options.host = format!("n{node}");
    })
}
