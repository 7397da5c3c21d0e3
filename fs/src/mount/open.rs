//! Puts the parts of a mount together: S3 store, local store, file system, adapter. The only place that knows
//! them all.

use super::guard::Guard;
use super::{Drained, Failure, OpenSession, Opened, Served};
use crate::config::{Config, Encryption, StoreSettings};
use crate::control::Mounted;
use crate::fuse::{Adapter, AdapterOptions};
use crate::meta::{Attributes, Defaults};
use crate::name::Prefix;
use crate::process::ProcessId;
use crate::session_log::State;
use crate::spec::Source;
use crate::store::{
    CredentialSource, CustomerKey, Depth, LimitStore, ListRequest, ObjectStore, ObserveStore, PathStyle,
    S3Config, S3Store, Sse,
};

use crate::vfs::{Options, Recovered, Vfs, VfsParts};
use rustix::thread::CapabilitySet;
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;
use std::time::Duration;
use tarn_cache::{BucketId, Store as Cache, StoreOptions};

/// No read or look-up takes longer, however its request fares; with its attempts a request takes less.
const DEADLINE: Duration = Duration::from_secs(120);
/// Programs that wait for a worker come first.
const SURVEY_AFTER: Duration = Duration::from_secs(10);
/// See [`Options::whole_max`].
const WHOLE_MAX: u64 = 8 << 20;
/// See [`Options::note_after`]: a second, and what the clocks of a node and a store may differ.
const NOTE_AFTER: Duration = Duration::from_secs(5);

#[async_trait::async_trait]
impl Served for Vfs {
    async fn drain(&self) -> Drained {
        let report = Self::drain(self).await;
        Drained { committed: report.committed, failed: report.failed }
    }
}

/// Builds the file system of `config` on S3, after one request that shows that the bucket can be listed.
pub async fn open(
    config: Config,
    runtime: tokio::runtime::Handle,
    session: OpenSession,
) -> Result<Opened<Adapter>, Failure> {
    let s3 = s3_config(&config.source, &config.store);
    open_with(config, s3, runtime, session).await
}

/// The same with other settings of the store, such as the credentials of an embedded server.
pub async fn open_with(
    config: Config,
    s3: S3Config,
    runtime: tokio::runtime::Handle,
    session: OpenSession,
) -> Result<Opened<Adapter>, Failure> {
    let store = S3Store::connect(s3).await?;
    if session.state.is_none() {
        reach(&store, &config.source.prefix)
            .await
            .map_err(|failure| Failure::text(format!("{}: {failure}", config.source)))?;
    }
    let bucket = BucketId::new(&format!("{}/{}", store.endpoint(), store.bucket()));
    let cache = open_cache(&config)?;
    let endpoint = store.endpoint().to_owned();
    let limited = LimitStore::new(Arc::new(store), config.store.max_requests);
    let store = Arc::new(ObserveStore::new(Arc::new(limited)));
    let guard = match &session.state {
        None => guard(&config, store.as_ref(), &cache, &bucket).await,
        // Programs wait for this worker: it asks nothing.
        Some(_) => Guard::noted(&cache, &bucket)
            .unwrap_or_else(|| Guard::NotTried("the first worker could not find out".to_owned())),
    };
    let parts = VfsParts {
        store: Arc::clone(&store) as Arc<dyn ObjectStore>,
        cache: Arc::clone(&cache),
        bucket,
        options: options(&config, session.owner.unwrap_or_else(ProcessId::own)),
        runtime: runtime.clone(),
        log: session.log,
    };
    let vfs = Vfs::new(parts);
    // What it was changed to counts, also for the next worker.
    let changed = session.state.as_ref().and_then(|state| state.quota);
    vfs.set_quota(changed.or(config.files.quota).filter(|bytes| *bytes > 0));
    take_over(&vfs, session.state.as_ref()).await?;
    let passthrough_off = no_passthrough(&config);
    let options = AdapterOptions {
        passthrough: passthrough_off.is_none(),
        device: session.device,
        deadline: DEADLINE + config.store.retry_for,
    };
    let mut adapter = Adapter::new(Arc::clone(&vfs), runtime, options);
    if let Some(state) = &session.state {
        adapter.restore(state);
    }
    survey_later(&cache);
    let gate = adapter.gate();
    let mounted = Mounted {
        vfs: Arc::clone(&vfs),
        store,
        cache,
        passthrough: adapter.passthrough(),
        passthrough_off,
        endpoint,
        guard,
        gate: gate.clone(),
    };
    Ok(Opened { adapter, served: vfs, gate, mounted })
}

/// Why the kernel need not be asked to pass files through.
fn no_passthrough(config: &Config) -> Option<String> {
    let privileged = || {
        rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN))
    };
    match config.files.passthrough {
        false => Some("turned off (passthrough=off)".to_owned()),
        true if !privileged() => Some("only root may (CAP_SYS_ADMIN)".to_owned()),
        true => None,
    }
}

/// The file system's part of the settings.
fn options(config: &Config, owner: ProcessId) -> Options {
    Options {
        prefix: config.source.prefix.clone(),
        defaults: Defaults {
            uid: config.files.uid,
            gid: config.files.gid,
            file_mode: config.files.file_mode,
            dir_mode: config.files.dir_mode,
            attributes: if config.files.fixed_attributes { Attributes::Fixed } else { Attributes::Keep },
        },
        read_only: config.files.read_only,
        whole_max: WHOLE_MAX,
        attr_ttl: config.files.attr_ttl,
        part_size: config.store.part_size,
        always_checked: config.files.always_checked,
        memory_limit: config.files.memory_limit,
        max_requests: config.store.max_requests,
        note_after: NOTE_AFTER,
        commit: config.files.commit,
        exclusive: config.files.exclusive,
        host: host_name(),
        owner,
    }
}

async fn guard(config: &Config, store: &dyn ObjectStore, cache: &Cache, bucket: &BucketId) -> Guard {
    if config.files.read_only {
        return Guard::NotTried("the mount is read-only".to_owned());
    }
    if !config.store.probe {
        return Guard::NotTried("turned off (probe=off)".to_owned());
    }
    Guard::find(store, &config.source.prefix, cache, bucket).await
}

/// Takes over what a killed worker of this session left, then what earlier mounts left in the journal.
async fn take_over(vfs: &Arc<Vfs>, session: Option<&State>) -> Result<(), Failure> {
    if let Some(state) = session {
        // First: what the session had staged is in the journal too, and its owner is dead.
        vfs.restore(state)?;
    }
    let recovered = match vfs.recover().await {
        // The files under way are taken over; what else the journal has can wait for the next mount.
        Err(error) if session.is_some() => {
            tracing::error!(%error, "the journal cannot be read");
            Recovered::default()
        }
        recovered => recovered?,
    };
    if session.is_some() {
        vfs.go_on();
    }
    if recovered != Recovered::default() {
        let Recovered { uploading, left, renames } = recovered;
        tracing::info!(uploading, left, renames, "took over what an earlier mount left in the journal");
    }
    Ok(())
}

/// The S3 store's settings.
pub fn s3_config(source: &Source, settings: &StoreSettings) -> S3Config {
    /// Attempts together may take this many times one attempt.
    const OPERATION: u32 = 3;
    S3Config {
        endpoint: settings.endpoint.clone(),
        region: settings.region.clone(),
        profile: settings.profile.clone(),
        path_style: match settings.path_style {
            None => PathStyle::Auto,
            Some(true) => PathStyle::On,
            Some(false) => PathStyle::Off,
        },
        credentials: if settings.anonymous { CredentialSource::Anonymous } else { CredentialSource::Chain },
        requester_pays: settings.requester_pays,
        ca_bundle: settings.ca_bundle.clone(),
        sse: match &settings.encryption {
            Encryption::BucketDefault => Sse::None,
            Encryption::S3 => Sse::S3,
            Encryption::Kms(key_id) => Sse::Kms { key_id: key_id.clone() },
            Encryption::Customer(key) => Sse::Customer { key: CustomerKey::new(*key.bytes()) },
        },
        storage_class: settings.storage_class.clone(),
        attempt_timeout: settings.request_timeout,
        operation_timeout: settings.request_timeout * OPERATION,
        retry_for: settings.retry_for,
        max_connections: settings.max_requests.max(1) * 2,
        ..S3Config::new(source.bucket.clone())
    }
}

/// A bucket that is not there, or not ours, is an error of the mount and not of the first `ls`.
async fn reach(store: &dyn ObjectStore, prefix: &Prefix) -> Result<(), Failure> {
    let request = ListRequest::new(prefix.clone(), Depth::Directory, 1);
    store.list(request).await?;
    Ok(())
}

fn open_cache(config: &Config) -> Result<Arc<Cache>, Failure> {
    let dir = &config.cache.dir;
    if let Some(parent) = dir.parent() {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o755).create(parent);
        made.map_err(|error| Failure::text(format!("make {} for the cache: {error}", parent.display())))?;
        // The directory may be there already and have a disk of its own.
        let disk = rustix::fs::statvfs(dir).or_else(|_| rustix::fs::statvfs(parent));
        let disk = disk.map_err(std::io::Error::from)?;
        let total = disk.f_blocks.saturating_mul(disk.f_frsize);
        let cache = Cache::open(StoreOptions {
            dir: dir.clone(),
            max_bytes: config.cache.max_bytes(total),
            min_free_bytes: config.cache.min_free_bytes(total),
            boot_id: None,
        })?;
        let (free, floor) = (cache.free_bytes()?, cache.floor());
        if free < floor {
            tracing::warn!(
                dir = %dir.display(), free, floor,
                "too little of the disk is free: nothing is kept there, reads go to the bucket; \
                 free some, lower cache-min-free, or give another cache-dir"
            );
        }
        return Ok(cache);
    }
    let error = std::io::Error::new(std::io::ErrorKind::InvalidInput, "the cache directory cannot be /");
    Err(error.into())
}

/// Has the cache look at what it holds.
fn survey_later(cache: &Arc<Cache>) {
    let cache = Arc::downgrade(cache);
    tokio::spawn(async move {
        tokio::time::sleep(SURVEY_AFTER).await;
        let Some(cache) = cache.upgrade() else { return };
        match tokio::task::spawn_blocking(move || cache.survey()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "look at what the cache holds"),
            Err(error) => tracing::warn!(%error, "look at what the cache holds"),
        }
    });
}

fn host_name() -> String {
    let name = rustix::system::uname();
    let name = name.nodename().to_string_lossy();
    name.split('.').next().filter(|name| !name.is_empty()).unwrap_or("host").to_owned()
}
