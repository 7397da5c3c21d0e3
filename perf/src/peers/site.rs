//! Where it is measured: a server on the loopback interface, the relay before it, one bucket, and local files. All of
//! it lies on one disk.
//!
//! The bucket has `data/large` for all readers, and below the name of each peer what that one writes. The folder of
//! local files has the same, so that the local disk is measured as if it were a mount.

use super::options::Plan;
use super::peer::{Kind, Peer, Place};
use super::session::Session;
use crate::machine::Machine;
use crate::plan::GIB;
use crate::proxy::{Distance, Proxy};
use crate::{files, raw};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tarn_tests::disk;
use tarn_tests::foreign::{Bucket, Foreign};
use tarn_tests::server::Server;
use tarn_tests::subject::private_dir;
use tempfile::TempDir;

/// The key of the large object that is read.
pub const LARGE: &str = "data/large";

const BUCKET: &str = "peers";
/// Large files that the disk must have room for: the object, what peers cache of it and of what they write.
const COPIES: u64 = 12;

/// What a mount finds in its cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cache {
    /// Nothing.
    Empty,
    /// What the last mount of this peer left there.
    Kept,
}

/// The site of a run. Dropped, it ends everything and removes what it made.
#[derive(Debug)]
pub struct Site {
    /// What is measured on.
    pub machine: Machine,
    /// How much is measured.
    pub plan: Plan,
    /// Between the peers and the server.
    pub proxy: Proxy,
    server: Server,
    foreign: Foreign,
    names: AtomicU32,
    // Last: the server must have ended before its data is removed.
    home: TempDir,
}

impl Site {
    /// Starts server and relay, and puts the large object there by the raw client.
    pub fn start(plan: Plan) -> Result<Self> {
        let home = tempfile::Builder::new().prefix("site-").tempdir()?;
        let free = disk::free(home.path())?;
        ensure!(free > plan.large * COPIES + 2 * GIB, "only {} GiB of the disk are free", free / GIB);
        let machine = Machine::here(home.path())?;
        let server = Server::start_with(&[])?;
        let foreign = Foreign::start(&server.endpoint())?;
        foreign.bucket(BUCKET).create()?;
        let proxy = Proxy::start(server.address())?;
        let site = Self { machine, plan, proxy, server, foreign, names: AtomicU32::new(0), home };
        fs::create_dir_all(site.local("data"))?;
        site.bucket().put("data/", b"")?;
        files::write(&site.local(LARGE), site.plan.large, 1)?;
        raw::Upload::prepare(&site.raw(), &site.local(LARGE), LARGE)?.run()?;
        Ok(site)
    }

    /// A path on the local disk.
    pub fn local(&self, name: &str) -> PathBuf {
        self.home.path().join("local").join(name)
    }

    /// The bucket as another client sees it that goes past the relay.
    pub fn bucket(&self) -> Bucket<'_> {
        self.foreign.bucket(BUCKET)
    }

    /// The raw client, which goes through the relay.
    pub fn raw(&self) -> raw::Client {
        self.raw_at(self.proxy.endpoint())
    }

    fn raw_at(&self, endpoint: String) -> raw::Client {
        raw::Client { endpoint, bucket: BUCKET, notes: self.home.path().to_owned() }
    }

    /// Lets the server have the large object in memory: how fast its disk is tells nothing of its clients.
    pub fn warm_server(&self) -> Result<()> {
        let client = self.raw_at(self.server.endpoint());
        raw::Download::prepare(&client, LARGE, self.plan.large)?.run().map(drop)
    }

    /// Moves the server away.
    pub fn set_delay(&self, delay_ms: u64) {
        let bandwidth = self.plan.bandwidth.map(|bytes| bytes as f64);
        self.proxy.set(Distance { delay: Duration::from_millis(delay_ms), bandwidth });
    }

    /// A name below the peer's folder that nothing had yet.
    pub fn fresh(&self, kind: Kind, what: &str) -> String {
        format!("{}/{what}-{}", kind.name(), self.names.fetch_add(1, Ordering::Relaxed))
    }

    /// Makes the peer's folder, empty.
    pub fn clear(&self, kind: Kind) -> Result<()> {
        let (prefix, folder) = (format!("{}/", kind.name()), self.local(kind.name()));
        if kind == Kind::Disk {
            drop(fs::remove_dir_all(&folder));
            return fs::create_dir(&folder).context("folder on the disk");
        }
        self.bucket().clear(&prefix)?;
        self.bucket().put(&prefix, b"")
    }

    /// Mounts the bucket by a peer.
    pub fn mount(&self, peer: &Peer, cache: Cache) -> Result<Session> {
        if peer.kind.is_limit() {
            return Ok(Session::folder(&self.local("")));
        }
        let home = self.home.path().join(peer.kind.name());
        let (root, cache_dir) = (home.join("mount"), home.join("cache"));
        fs::create_dir_all(&root)?;
        if cache == Cache::Empty {
            drop(fs::remove_dir_all(&cache_dir));
            private_dir(&cache_dir)?;
        }
        let endpoint = self.proxy.endpoint();
        let cache_mib = (self.plan.large * 4).max(GIB) >> 20;
        let place = Place { endpoint: &endpoint, bucket: BUCKET, root: &root, cache: &cache_dir, cache_mib };
        Session::mount(peer, place, &home.join("log"), self.plan.limit)
            .with_context(|| format!("mount by {}", peer.kind.name()))
    }

    /// Removes what a peer has cached: it takes room, and costs the next one nothing then.
    pub fn forget(&self, kind: Kind) -> Result<()> {
        let home = self.home.path().join(kind.name());
        if home.exists() { fs::remove_dir_all(&home).context("remove a cache") } else { Ok(()) }
    }

    /// Makes the measurements alike: writes out what earlier ones have left, drops the page cache, and touches free
    /// memory, which the host of a virtual machine takes back after some seconds and gives again at ten times the cost
    /// of a write.
    pub fn settle(&self) -> Result<()> {
        files::settle(self.home.path())?;
        fs::write("/proc/sys/vm/drop_caches", "3").context("drop the page cache")?;
        let bytes = (self.plan.large * 3).min(self.machine.memory_gib * GIB / 4);
        std::hint::black_box(vec![1_u8; usize::try_from(bytes)?]);
        Ok(())
    }

    /// The folder that all of a run is in, which no page may name.
    pub fn home(&self) -> &Path {
        self.home.path()
    }
}
