//! The nodes of a simulation: mounts with caches of their own. A node is killed and mounted again, or only its worker
//! is: then the next takes the mount over with the session log, and no program hears of it.

use super::Plan;
use super::bucket::{Bucket, Link, Weather};
use crate::clock;
use crate::inode::Ino;
use crate::session_log::{SessionLog, State};
use crate::store::ObjectStore;
use crate::vfs::stage::copy_all;
use crate::vfs::tests::faulty::copy_dir;
use crate::vfs::tests::mount_logged;
use crate::vfs::{Call, Options, Vfs};
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
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
    log: File,
    lives: usize,
    /// Tells who waits for the worker that it is dead.
    death: Arc<Notify>,
    /// Nobody asks for anything before what was left is taken over.
    pub(super) ready: bool,
    /// There is a mount, which a next worker can have.
    mounted: bool,
    beginning: Option<AbortHandle>,
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
    calls: AtomicU64,
    weather: Mutex<Weather>,
    home: tempfile::TempDir,
}

impl World {
    pub(super) fn new(plan: Plan, bucket: Bucket) -> Arc<Self> {
        let (bucket, home) = (Arc::new(bucket), in_memory().expect("a folder"));
        let nodes = (0..plan.nodes).map(|node| {
            let link = Link::new(&bucket, node, plan.weather);
            let dir = home.path().join(format!("{node}"));
            let log = tempfile::tempfile_in(home.path()).expect("a file");
            let vfs = mounted(&plan, node, &link, &dir, opened(&log).0);
            Mutex::new(Node {
                vfs,
                link,
                dir,
                log,
                lives: 0,
                death: Arc::default(),
                ready: true,
                mounted: true,
                beginning: None,
                open: Vec::new(),
                images: HashMap::new(),
                names: BTreeSet::new(),
                tasks: Vec::new(),
                running: 0,
                abandoned: 0,
            })
        });
        let nodes = nodes.collect();
        let (calls, weather) = (AtomicU64::new(0), Mutex::new(plan.weather));
        Arc::new(Self { plan, bucket, nodes, calls, weather, home })
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
        state.open.clear();
        state.images.clear();
        state.names.clear();
        state.running = 0;
        state.log = tempfile::tempfile_in(self.home.path()).expect("a file");
        state.mounted = false;
        self.begin(node, &mut state);
    }

    /// Kills a node's worker; another takes its mount over. Programs wait meanwhile.
    pub(super) fn replace_worker(self: &Arc<Self>, node: usize) {
        let mut state = self.nodes[node].lock();
        if !state.mounted {
            return;
        }
        self.bucket.reference.lock().trace(|| format!("{node} loses its worker"));
        // What the dead one has not written by now it never will.
        state.log = copy_of(&state.log, self.home.path());
        self.begin(node, &mut state);
    }

    /// Begins with what is on the disk and in the session log.
    fn begin(self: &Arc<Self>, node: usize, state: &mut Node) {
        state.link.die();
        state.beginning.take().inspect(AbortHandle::abort);
        std::mem::take(&mut state.death).notify_waiters();
        state.lives += 1;
        let image = self.home.path().join(format!("{node}-{}", state.lives));
        // The dead process holds its locks on the original, not on the copy.
        copy_dir(&state.dir, &image);
        state.dir = image;
        state.link = Link::new(&self.bucket, node, *self.weather.lock());
        let (log, session) = opened(&state.log);
        state.vfs = mounted(&self.plan, node, &state.link, &state.dir, log);
        state.ready = false;
        let (world, vfs) = (Arc::clone(self), Arc::clone(&state.vfs));
        let session = state.mounted.then_some(session);
        let beginning = tokio::spawn(async move { world.take_over(node, vfs, session).await });
        state.beginning = Some(beginning.abort_handle());
    }

    /// As a worker does it.
    async fn take_over(self: Arc<Self>, node: usize, vfs: Arc<Vfs>, session: Option<State>) {
        if let Some(Err(error)) = session.as_ref().map(|state| vfs.restore(state)) {
            self.bucket.reference.lock().complain(format!("node {node} cannot be taken over: {error}"));
            return;
        }
        let recovered = vfs.recover().await;
        self.bucket.reference.lock().trace(|| format!("{node} takes over: {recovered:?}"));
        if session.is_some() {
            vfs.go_on();
        } else if recovered.is_err() {
            // The mount fails, and somebody mounts again. Not from within a task that this kills.
            drop(vfs);
            tokio::spawn(async move { self.crash(node) });
            return;
        }
        let mut state = self.nodes[node].lock();
        (state.ready, state.mounted) = (true, true);
    }

    /// The worker of a node that answers now, and what tells when it is killed.
    async fn worker(&self, node: usize) -> (Arc<Vfs>, Arc<Notify>) {
        loop {
            {
                let state = self.nodes[node].lock();
                if state.ready {
                    return (Arc::clone(&state.vfs), Arc::clone(&state.death));
                }
            }
            clock::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Asks a node's worker for something. If it is killed before it has answered the next one is asked again, as the
    /// kernel does it.
    pub(super) async fn call<T>(
        &self,
        node: usize,
        op: &'static str,
        work: impl AsyncFn(&Arc<Vfs>) -> T,
    ) -> T {
        let unique = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        let mut call = Call { op, unique, resent: false, thread: 0 };
        loop {
            let (vfs, death) = self.worker(node).await;
            let asked = call;
            let answer = async {
                let answer = asked.during(work(&vfs)).await;
                vfs.log.flush();
                // It may die with the answer on its lips.
                clock::simulated::disk().await;
                answer
            };
            tokio::select! {
                biased;
                () = death.notified() => call.resent = true,
                answer = answer => return answer,
            }
        }
    }

    /// The same for what waits for nothing.
    pub(super) async fn call_now<T>(&self, node: usize, work: impl FnOnce(&Vfs) -> T) -> T {
        let (vfs, _death) = self.worker(node).await;
        let answer = work(&vfs);
        vfs.log.flush();
        answer
    }

    /// Unmounts, if that goes well, and mounts again. Nothing is open.
    pub(super) async fn remount(self: &Arc<Self>, node: usize) {
        if self.drain(node).await.is_empty() {
            self.crash(node);
        }
    }

    /// What could not be put into the bucket.
    pub(super) async fn drain(&self, node: usize) -> Vec<String> {
        let vfs = Arc::clone(&self.nodes[node].lock().vfs);
        let report = vfs.drain().await;
        let mut reference = self.bucket.reference.lock();
        let failed: Vec<_> = report.failed.into_iter().map(|(name, _)| name).collect();
        reference.trace(|| format!("{node} drains: {} files, failed: {failed:?}", report.committed));
        if failed.is_empty() {
            reference.drained(node);
        }
        failed
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

/// A folder that is ten times faster than on a disk, where there is room for that.
fn in_memory() -> std::io::Result<tempfile::TempDir> {
    const MEMORY: &str = "/dev/shm";
    let free = rustix::fs::statvfs(MEMORY).map_or(0, |memory| memory.f_bavail * memory.f_frsize);
    if free > 1 << 30 { tempfile::tempdir_in(MEMORY) } else { tempfile::tempdir() }
}

fn mounted(plan: &Plan, node: usize, link: &Arc<Link>, dir: &Path, log: SessionLog) -> Arc<Vfs> {
    let set = |options: &mut Options| {
        options.attr_ttl = plan.ttl;
        options.commit = plan.commit;
        options.part_size = tarn_cache::BLOCK_SIZE;
        options.whole_max = tarn_cache::BLOCK_SIZE;
        options.host = format!("n{node}");
    };
    mount_logged(Arc::clone(link) as Arc<dyn ObjectStore>, dir, Some("boot"), set, log)
}

fn opened(log: &File) -> (SessionLog, State) {
    SessionLog::open(log.try_clone().expect("a descriptor")).expect("a session log")
}

fn copy_of(log: &File, home: &Path) -> File {
    let copy = tempfile::tempfile_in(home).expect("a file");
    copy_all(log, &copy, log.metadata().expect("its length").len()).expect("a copy");
    copy
}
