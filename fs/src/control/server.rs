//! The serving side: gathers what the parts of a mount say and answers on the socket.

use super::proto;
use super::proto::control_server::{Control, ControlServer};
use super::proto::{
    Billed, CacheAction, CacheReply, CacheRequest, CacheUse, Calls, Conflict, Dirty, Failure, FlushReply,
    FlushRequest, LogLevel, MountStatus, Quota, QuotaUse, Serving, StatusRequest, Transfer,
};
use crate::clock;
use crate::config::table::LOG_LEVELS;
use crate::fuse::session::mountinfo;
use crate::fuse::{AnsweredKind, Gate};
use crate::inode::Ino;
use crate::keeper::channel::Restarts;
use crate::mount::guard::Guard;
use crate::mount::record;
use crate::store::{Counts, ObserveStore, Op, Price};
use crate::telemetry::LevelSwitch;
use crate::vfs::{CopyAction, CopyError, LocalCopy, Vfs};
use parking_lot::Mutex;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, UNIX_EPOCH};
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::server::UdsConnectInfo;
use tonic::{Request, Response, Status};

/// The parts of a mount that can be asked.
#[derive(Debug)]
pub struct Mounted {
    /// The file system.
    pub vfs: Arc<Vfs>,
    /// The store, watched.
    pub store: Arc<ObserveStore>,
    /// The local store.
    pub cache: Arc<tarn_cache::Store>,
    /// Whether the kernel agreed to serve local files by itself.
    pub passthrough: Arc<AtomicBool>,
    /// Why it was not asked to.
    pub passthrough_off: Option<String>,
    /// The bucket's address.
    pub endpoint: String,
    /// What is known of the server.
    pub guard: Guard,
    /// Where the kernel's requests are counted.
    pub gate: Gate,
}

/// What the mount knows of itself.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) source: String,
    pub(crate) dir: PathBuf,
    pub(crate) log: String,
    pub(crate) log_level: String,
    pub(crate) read_only: bool,
    pub(crate) restarts: Restarts,
    pub(crate) keeper_gone: Arc<AtomicBool>,
    pub(crate) resends: bool,
    pub(crate) switch: LevelSwitch,
}

/// A socket that is being served. [`Server::stop`] ends it and removes it.
#[derive(Debug)]
pub(crate) struct Server {
    path: PathBuf,
    inode: u64,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Server {
    /// Listens at `path`, in a directory of this user only; one that a dead process left is replaced.
    pub(crate) fn start(path: PathBuf, desk: Arc<Desk>) -> io::Result<Self> {
        record::remove(&path)?;
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        let inode = std::fs::symlink_metadata(&path)?.ino();
        let (stop, mut stopped) = watch::channel(false);
        let serve = tonic::transport::Server::builder()
            .add_service(InterceptedService::new(ControlServer::from_arc(desk), only_owner_and_root))
            .serve_with_incoming_shutdown(UnixListenerStream::new(listener), async move {
                // An error means that the server was dropped.
                stopped.changed().await.unwrap_or_default();
            });
        let task = tokio::spawn(async move {
            if let Err(error) = serve.await {
                tracing::error!(%error, "the control socket failed");
            }
        });
        Ok(Self { path, inode, stop, task })
    }

    /// Stops answering and removes the socket, unless the next mount of the directory has replaced it.
    pub(crate) async fn stop(self) {
        /// Calls under way are cut off then: a status that nobody waits for must not hold an unmount.
        const GRACE: Duration = Duration::from_secs(1);
        self.stop.send_replace(true);
        if tokio::time::timeout(GRACE, self.task).await.is_err() {
            tracing::debug!("a control call was cut off");
        }
        if let Err(error) = record::remove_own(&self.path, self.inode) {
            tracing::warn!(%error, path = %self.path.display(), "the control socket stays behind");
        }
    }
}

/// The socket's mode says the same; this holds also where somebody loosened it.
fn only_owner_and_root(request: Request<()>) -> Result<Request<()>, Status> {
    let peer = request.extensions().get::<UdsConnectInfo>().and_then(|peer| peer.peer_cred);
    match peer.map(|peer| peer.uid()) {
        Some(uid) if uid == 0 || uid == rustix::process::geteuid().as_raw() => Ok(request),
        Some(_) | None => Err(Status::permission_denied("only the user who mounted and root may ask")),
    }
}

/// Answers the calls.
#[derive(Debug)]
pub(crate) struct Desk {
    mounted: Mounted,
    facts: Facts,
    level: Mutex<String>,
    started: Instant,
}

impl Desk {
    /// For a mount that has just been made.
    pub(crate) fn new(mounted: Mounted, facts: Facts) -> Self {
        let level = Mutex::new(facts.log_level.clone());
        Self { mounted, facts, level, started: clock::instant() }
    }

    /// What the mount is and how it is doing.
    pub(crate) fn status(&self) -> MountStatus {
        let overview = self.mounted.vfs.overview();
        let seconds =
            |at: std::time::SystemTime| at.duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs());
        let conflicts = overview.conflicts.into_iter().map(|conflict| Conflict {
            key: conflict.key,
            kept_as: conflict.kept_as,
            unix_seconds: seconds(conflict.at),
        });
        let (counts, answered) = (self.mounted.store.counts(), self.mounted.gate.answered());
        MountStatus {
            source: self.facts.source.clone(),
            dir: self.facts.dir.display().to_string(),
            endpoint: self.mounted.endpoint.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: rustix::process::getpid().as_raw_nonzero().get(),
            up_seconds: self.started.elapsed().as_secs(),
            log: self.facts.log.clone(),
            log_level: self.level.lock().clone(),
            serving: Some(self.serving()),
            dirty: Some(Dirty {
                files: overview.dirty_files as u64,
                bytes: overview.dirty_bytes,
                oldest_seconds: overview.oldest.unwrap_or_default().as_secs(),
            }),
            cache: Some(self.cache()),
            store_calls: Op::ALL.into_iter().filter_map(|op| calls(op, counts.tally(op))).collect(),
            transfer: Some(Transfer { received: counts.received, sent: counts.sent }),
            conflicts: conflicts.collect(),
            inodes: overview.inodes as u64,
            handles: overview.handles as u64,
            memory: resident(),
            guard: Some(guard(&self.mounted.guard)),
            restarts: self.facts.restarts.count,
            last_death: self.facts.restarts.last.clone(),
            kernel_calls: answered.kinds.into_iter().map(|(op, kind)| kernel_calls(op, kind)).collect(),
            panics: answered.panics,
            billed: Some(billed(&counts)),
            keeper_gone: self.facts.keeper_gone.load(Ordering::Relaxed),
            fails_calls: !self.facts.resends,
            error: String::new(),
            quota: self.quota(),
        }
    }

    fn quota(&self) -> Option<QuotaUse> {
        let standing = self.mounted.vfs.quota()?;
        let ago = |time| clock::now().duration_since(time).unwrap_or_default().as_secs();
        Some(QuotaUse {
            limit: standing.limit,
            stored: standing.stored.bytes,
            files: standing.stored.files,
            staged: standing.staged,
            counting: standing.counted.is_none(),
            counted_seconds: standing.counted.map(ago).unwrap_or_default(),
        })
    }

    fn serving(&self) -> Serving {
        let passthrough = self.mounted.passthrough.load(Ordering::Relaxed);
        let refused = || "the kernel does not offer it (6.9 or later, and root)".to_owned();
        let reason = if passthrough {
            String::new()
        } else {
            self.mounted.passthrough_off.clone().unwrap_or_else(refused)
        };
        // The kernel's own may have been changed since (`mount -o remount`).
        let kernel = mountinfo::find_last(&self.facts.dir).ok().flatten();
        let read_only = self.facts.read_only || kernel.is_some_and(|entry| entry.has("ro"));
        Serving { passthrough, reason, read_only }
    }

    fn cache(&self) -> CacheUse {
        let (cache, stats) = (&self.mounted.cache, self.mounted.cache.stats());
        CacheUse {
            dir: cache.path().display().to_string(),
            used: stats.used_bytes,
            limit: cache.limit(),
            hits: stats.hits,
            misses: stats.misses,
            bad_blocks: stats.bad_blocks,
            evicted: stats.evicted_bytes,
            // A disk that does not answer shows in the counters of errors.
            free: cache.free_bytes().unwrap_or_default(),
            floor: cache.floor(),
            pinned: stats.held_bytes,
        }
    }
}

fn refusal(error: CopyError) -> Status {
    let bytes = super::text::bytes;
    Status::failed_precondition(match error {
        CopyError::Full { pinned, size, limit } => format!(
            "{} are pinned already, and {} more would not fit into the cache of {}; unpin some, or mount with a \
             larger --cache-size",
            bytes(pinned),
            bytes(size),
            bytes(limit)
        ),
        CopyError::NoRoom { cached, size } => format!(
            "only {} of {} could be kept on the local disk; give it room, see cache-min-free",
            bytes(cached),
            bytes(size)
        ),
        error @ (CopyError::Dirty | CopyError::Failed(_)) => error.to_string(),
    })
}

fn guard(guard: &Guard) -> proto::Guard {
    match guard {
        Guard::Holds => proto::Guard { holds: true, ..proto::Guard::default() },
        Guard::Weak(weak) => proto::Guard { weak: weak.clone(), ..proto::Guard::default() },
        Guard::NotTried(why) => proto::Guard { unknown: why.clone(), ..proto::Guard::default() },
    }
}

fn calls(op: Op, tally: crate::store::Tally) -> Option<Calls> {
    let crate::store::Tally { calls: count, failed: errors, nanos } = tally;
    (count > 0).then(|| Calls { op: op.to_string(), count, errors, nanos })
}

fn kernel_calls(op: &str, kind: AnsweredKind) -> Calls {
    Calls { op: op.to_owned(), count: kind.count, errors: 0, nanos: kind.nanos }
}

fn billed(counts: &Counts) -> Billed {
    let of = |price| Op::ALL.into_iter().filter(|op| op.price() == price).map(|op| counts.of(op)).sum();
    Billed { put: of(Price::Put), get: of(Price::Get), free: of(Price::Free) }
}

/// Bytes of memory that this process has in RAM (`statm`, second field, in pages).
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split_ascii_whitespace().nth(1)?.parse::<u64>().ok());
    pages.unwrap_or(0) * rustix::param::page_size() as u64
}

#[tonic::async_trait]
impl Control for Desk {
    async fn status(&self, _request: Request<StatusRequest>) -> Result<Response<MountStatus>, Status> {
        Ok(Response::new(self.status()))
    }

    async fn flush(&self, _request: Request<FlushRequest>) -> Result<Response<FlushReply>, Status> {
        let report = self.mounted.vfs.drain().await;
        let failed = report.failed.into_iter().map(|(path, reason)| Failure { path, reason }).collect();
        Ok(Response::new(FlushReply { committed: report.committed as u64, failed }))
    }

    async fn set_log_level(&self, request: Request<LogLevel>) -> Result<Response<LogLevel>, Status> {
        let level = request.into_inner().level;
        if !LOG_LEVELS.contains(&level.as_str()) {
            return Err(Status::invalid_argument(format!("{level:?} is not {}", LOG_LEVELS.join(", "))));
        }
        self.facts.switch.set(&level).map_err(|error| Status::internal(error.to_string()))?;
        let before = std::mem::replace(&mut *self.level.lock(), level);
        Ok(Response::new(LogLevel { level: before }))
    }

    async fn set_quota(&self, request: Request<Quota>) -> Result<Response<Quota>, Status> {
        let vfs = &self.mounted.vfs;
        let before = vfs.quota().map_or(0, |standing| standing.limit);
        let bytes = request.into_inner().bytes;
        vfs.change_quota(Some(bytes).filter(|bytes| *bytes > 0));
        tracing::info!(before, bytes, "the quota was changed");
        Ok(Response::new(Quota { bytes: before }))
    }

    async fn cache(&self, request: Request<CacheRequest>) -> Result<Response<CacheReply>, Status> {
        let request = request.into_inner();
        let action = match request.action() {
            CacheAction::Stat => CopyAction::Look,
            CacheAction::Warm => CopyAction::Warm,
            CacheAction::Drop => CopyAction::Drop,
            CacheAction::Verify => CopyAction::Verify,
            CacheAction::Pin => CopyAction::Pin,
            CacheAction::Unpin => CopyAction::Unpin,
        };
        let LocalCopy { size, cached, damaged, pinned } =
            self.mounted.vfs.local_copy(Ino(request.ino), action).await.map_err(refusal)?;
        Ok(Response::new(CacheReply { size, cached, damaged, pinned }))
    }
}
