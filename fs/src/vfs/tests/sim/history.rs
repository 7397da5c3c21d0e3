//! One history: operations begun by chance, one over the other, while nodes are killed and another client interferes;
//! in the end everything comes to rest and must agree.

use super::client::{Act, Client, How, Operation};
use super::node::{Open, World};
use crate::clock;
use crate::store::{Depth, ListRequest, ObjectStore};
use crate::vfs::RenameMode;
use bytes::Bytes;
use futures::FutureExt;
use rand::Rng;
use rand::rngs::StdRng;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

const FILES: [&str; 6] = ["a", "b", "c", "d/x", "d/y", "e/x"];
const DIRECTORIES: [&str; 2] = ["d", "e"];
const BLOCK: usize = tarn_cache::BLOCK_SIZE as usize;

/// Longer than everything that a mount waits for by itself.
const LONG: Duration = Duration::from_secs(130);
/// Nothing takes so long.
const FOREVER: Duration = Duration::from_secs(24 * 3600);
/// Drains before what does not get into the bucket counts as stuck: the first may tell of conflicts.
const DRAINS: usize = 4;

pub(super) struct History {
    world: Arc<World>,
    rng: StdRng,
    /// The byte that was written last; each is written once.
    byte: u8,
}

impl History {
    pub(super) fn new(world: &Arc<World>, rng: StdRng) -> Self {
        Self { world: Arc::clone(world), rng, byte: 0 }
    }

    /// Lives it, to its end or to the first thing that is wrong.
    pub(super) async fn live(mut self) {
        let world = Arc::clone(&self.world);
        let steps = async {
            let mut any = |number: usize| -> Vec<usize> {
                (0..number).map(|_| self.rng.random_range(0..world.plan.steps)).collect()
            };
            let (crashes, takeovers) = (any(world.plan.crashes), any(world.plan.takeovers));
            for step in 0..world.plan.steps {
                if crashes.contains(&step) {
                    world.crash(self.rng.random_range(0..world.plan.nodes));
                }
                if takeovers.contains(&step) {
                    world.replace_worker(self.rng.random_range(0..world.plan.nodes));
                }
                self.step().await;
                if self.rng.random_bool(0.6) {
                    let longest = world.plan.weather.delay.max(Duration::from_millis(1));
                    clock::sleep(longest.mul_f64(self.rng.random())).await;
                }
                if self.is_wrong() {
                    return;
                }
            }
            self.settle().await;
        };
        futures::select_biased! {
            () = steps.boxed_local().fuse() => {}
            () = clock::sleep(FOREVER).boxed_local().fuse() => {
                world.bucket.reference.lock().complain("something hangs".to_owned());
            }
        }
    }

    fn is_wrong(&self) -> bool {
        self.world.bucket.reference.lock().wrong.is_some()
    }

    async fn step(&mut self) {
        let plan = self.world.plan;
        if self.rng.random_bool(plan.foreign) {
            return self.interfere();
        }
        let node = self.rng.random_range(0..plan.nodes);
        let (ready, running, open) = {
            let node = self.world.nodes[node].lock();
            (node.ready, node.running, node.open.len())
        };
        if !ready || running >= plan.parallel {
            return;
        }
        if running == 0 && open == 0 && self.rng.random_bool(0.05) {
            return self.world.remount(node).await;
        }
        let Some(operation) = self.operation(node) else { return };
        self.begin(node, operation);
    }

    fn operation(&mut self, node: usize) -> Option<Operation> {
        let path = self.path();
        Some(match self.rng.random_range(0..100) {
            0..42 => return self.on_open_file(node),
            42..62 => {
                const HOW: [How; 5] = [How::Read, How::Write, How::Write, How::Truncate, How::Exclusive];
                Operation::Open(path, self.one(&HOW))
            }
            62..74 => self.save(),
            74..80 => {
                const MODES: [RenameMode; 4] =
                    [RenameMode::Replace, RenameMode::Replace, RenameMode::NoReplace, RenameMode::Exchange];
                let to = self.path();
                Operation::Rename(path, Some(to).filter(|to| *to != path)?, self.one(&MODES))
            }
            80..82 => Operation::Rename("d/", "e/", RenameMode::Replace),
            82..88 => Operation::Unlink(path),
            88..92 => Operation::Chmod(path, self.rng.random_range(0..0o777)),
            92..94 => Operation::Mkdir(self.one(&DIRECTORIES)),
            94..96 => Operation::Rmdir(self.one(&DIRECTORIES)),
            96..98 => Operation::List("", &FILES[..3]),
            _ => Operation::List("d/", &FILES[3..5]),
        })
    }

    fn path(&mut self) -> &'static str {
        self.one(&FILES)
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.rng.random_range(0..of.len())]
    }

    /// A file is opened, written and closed at once, as most are.
    fn save(&mut self) -> Operation {
        let how = if self.rng.random() { How::Truncate } else { How::Write };
        Operation::Save { path: self.path(), how, data: self.data(), fsync: self.rng.random_bool(0.2) }
    }

    /// An operation on a file that is open, if one is.
    fn on_open_file(&mut self, node: usize) -> Option<Operation> {
        let open: Vec<Open> = {
            let state = self.world.nodes[node].lock();
            state.open.iter().filter(|open| !open.closing).cloned().collect()
        };
        if open.is_empty() {
            return Some(self.save());
        }
        let open = open[self.rng.random_range(0..open.len())].clone();
        let act = match self.rng.random_range(0..20) {
            0..7 if open.writes => Act::Write(self.data()),
            0..9 => Act::Read { offset: self.size(), length: self.size() },
            9..12 => Act::Flush,
            12..14 => Act::Fsync,
            14..16 => Act::Truncate(self.size()),
            _ if open.uses == 0 => Act::Close,
            _ => return None,
        };
        Some(Operation::On(open, act))
    }

    /// Another client puts or removes something.
    fn interfere(&mut self) {
        let path = self.path();
        let content = self.rng.random_bool(0.7).then(|| {
            let (_, data) = self.data();
            Bytes::from(data)
        });
        self.world.bucket.foreign(path, content);
    }

    /// Where to write what.
    fn data(&mut self) -> (usize, Vec<u8>) {
        self.byte = self.byte.checked_add(1).expect("so many writes are too many for one history");
        let (offset, length) = if self.world.plan.large {
            let offsets = [0, 0, 100, BLOCK - 3, BLOCK, 2 * BLOCK - 1];
            let lengths = [3, BLOCK - 1, BLOCK + 10, 2 * BLOCK + 5];
            (self.one(&offsets), self.one(&lengths))
        } else {
            (self.rng.random_range(0..8), self.rng.random_range(1..12))
        };
        (offset, vec![self.byte; length])
    }

    fn size(&mut self) -> usize {
        let most = if self.world.plan.large { 3 * BLOCK } else { 16 };
        if self.rng.random_bool(0.2) { 0 } else { self.rng.random_range(0..most) }
    }

    /// Begins an operation, unless another one is about its names: the kernel lets no two change a name at once.
    fn begin(&mut self, node: usize, operation: Operation) {
        let names: Vec<String> = operation.names().into_iter().map(str::to_owned).collect();
        let client = Client::new(&self.world, node);
        let mut state = self.world.nodes[node].lock();
        let below = |one: &str, other: &str| one.ends_with('/') && other.starts_with(one);
        let meets = |one: &str, other: &str| one == other || below(one, other) || below(other, one);
        if names.iter().any(|name| state.names.iter().any(|other| meets(name, other))) {
            return;
        }
        state.names.extend(names.iter().cloned());
        state.running += 1;
        state.tasks.retain(|task| !task.is_finished());
        let world = Arc::clone(&self.world);
        // It begins before anything else does, as a call of a program does.
        let mut work = async move {
            client.run(operation).await;
            let mut state = world.nodes[node].lock();
            state.running -= 1;
            state.names.retain(|name| !names.contains(name));
        }
        .boxed_local();
        drop(state);
        if work.as_mut().now_or_never().is_none() {
            self.world.nodes[node].lock().tasks.push(tokio::task::spawn_local(work).abort_handle());
        }
    }

    /// No more operations and no more faults: what was promised is kept, and all agree.
    async fn settle(&mut self) {
        let world = Arc::clone(&self.world);
        world.calm_down();
        for node in 0..world.plan.nodes {
            self.come_to_rest(node).await;
        }
        clock::sleep(world.plan.ttl + LONG).await;
        self.agree().await;
        for node in 0..world.plan.nodes {
            world.crash(node);
            self.come_to_rest(node).await;
        }
        clock::sleep(world.plan.ttl).await;
        self.agree().await;
        let mut reference = world.bucket.reference.lock();
        reference.settled();
        for node in 0..world.plan.nodes {
            let (left, most) = (world.left_behind(node), world.nodes[node].lock().abandoned);
            if left > most {
                reference.complain(format!("{left} staged files are left on node {node}, expected {most}"));
            }
        }
        let uploads = world.bucket.memory.pending_uploads();
        if uploads > 0 {
            reference.complain(format!("{uploads} uploads are left in the bucket"));
        }
    }

    /// Everything is closed and in the bucket.
    async fn come_to_rest(&self, node: usize) {
        let state = || self.world.nodes[node].lock();
        let is_idle = || {
            let state = state();
            state.ready && state.running == 0
        };
        while !is_idle() {
            clock::sleep(Duration::from_millis(50)).await;
        }
        let client = Client::new(&self.world, node);
        let open = state().open.clone();
        for open in open {
            client.run(Operation::On(open, Act::Close)).await;
        }
        let mut failed = Vec::new();
        for _ in 0..DRAINS {
            failed = self.world.drain(node).await;
            if failed.is_empty() {
                return;
            }
        }
        let mut reference = self.world.bucket.reference.lock();
        if self.world.plan.large && failed.iter().all(|key| reference.is_removed_by_others(node, key)) {
            reference.judges_no_more();
        } else {
            reference.complain(format!("node {node} cannot be drained"));
        }
    }

    /// Every node shows what the bucket has.
    async fn agree(&self) {
        for node in 0..self.world.plan.nodes {
            let client = Client::new(&self.world, node);
            for path in FILES {
                if let Some(open) = client.open(path, How::Read).await {
                    client.run(Operation::On(open, Act::Close)).await;
                }
            }
            let listed = client.list("").await.unwrap_or_default();
            let request = ListRequest::new(Default::default(), Depth::Subtree, 1000);
            let page = self.world.bucket.memory.list(request).await.expect("a listing");
            let first = |key: &str| key.split('/').next().unwrap_or_default().to_owned();
            let names: BTreeSet<String> =
                page.objects.iter().map(|listed| first(listed.key.as_str())).collect();
            let mut reference = self.world.bucket.reference.lock();
            if listed != names {
                reference.complain(format!("node {node} lists {listed:?}, the bucket has {names:?}"));
            }
            // Where another client changed one of the two, what was set aside may be all there is of the other.
            let alone = self.world.plan.nodes == 1 && self.world.plan.foreign == 0.0;
            if alone && self.world.is_calm() && names.iter().any(|name| name.contains(".exchange-")) {
                reference.complain(format!("an exchange left something: {names:?}"));
            }
        }
    }
}
