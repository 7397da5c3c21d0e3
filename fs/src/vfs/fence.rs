//! Between a mount and its store. A PUT or a copy of a worker that was killed may reach the store after the next worker has
//! removed its key, and would bring it back. For a while what is removed is remembered here, and such an object goes
//! again as soon as it is seen.
//!
//! Invariants: only an earlier state of the very file that was removed goes, known by its `file-btime` to the nanosecond
//! and a `file-ctime` before the takeover, or an empty marker as old: what was renamed since and comes back stays. A key
//! that is written to again is spared before, in the session log too.

use crate::clock;
use crate::meta;
use crate::name::Key;
use crate::session_log::time::Time;
use crate::session_log::{REMOVED_FOR, Record, RemovedRecord, SessionLog, State};
use crate::store::{
    Abandoned, CompleteRequest, Condition, CopyRequest, Deleted, ETag, Error, ErrorKind, GetRequest,
    GetResponse, Headers, ListPage, ListRequest, ObjectInfo, ObjectStore, Op, Part, PartKinds, PartSource,
    Result, Upload, Version,
};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

/// Keys that are remembered.
const REMOVED_MAX: usize = 4096;

/// The store of a mount.
#[derive(Debug)]
pub(super) struct Fence {
    store: Arc<dyn ObjectStore>,
    log: SessionLog,
    removed: Mutex<HashMap<Key, RemovedRecord>>,
    /// When an earlier worker was taken over: its requests may be under way.
    taken_over: Mutex<Option<SystemTime>>,
    /// Held while one goes that has come back: nothing is written there meanwhile.
    dropping: tokio::sync::Mutex<()>,
    /// Nothing is remembered: most mounts are never taken over.
    idle: AtomicBool,
}

impl Fence {
    pub(super) fn new(store: Arc<dyn ObjectStore>, log: SessionLog) -> Arc<Self> {
        Arc::new(Self {
            store,
            log,
            removed: Mutex::default(),
            taken_over: Mutex::default(),
            dropping: tokio::sync::Mutex::default(),
            idle: AtomicBool::new(true),
        })
    }

    /// Goes on for a worker that was killed just now.
    pub(super) fn take_over(&self, state: &State) {
        *self.taken_over.lock() = Some(clock::now());
        let removed = state.removed.iter().filter_map(|(key, removed)| {
            Some((Key::parse(key).ok()?, removed.clone())).filter(|(_, removed)| is_young(removed))
        });
        self.removed.lock().extend(removed);
        self.idle.store(false, Ordering::Release);
    }

    /// A key is about to be removed: that of a file that was made at `born`, or a directory's marker. An answer to a
    /// commit of it may have been lost (`unheard`).
    pub(super) fn removing(&self, key: &Key, born: Option<SystemTime>, unheard: bool) {
        let now = clock::now();
        let taken_over = self.taken_over.lock().filter(|taken_over| now < *taken_over + REMOVED_FOR);
        let Some(before) = (if unheard { Some(now) } else { taken_over }) else { return };
        let mut born: Vec<_> = born.map(Time).into_iter().collect();
        let mut known = self.removed.lock();
        if let Some(earlier) = known.remove(key).filter(is_young) {
            born.extend(earlier.born);
        }
        let removed = RemovedRecord { born, before: Time(before), at: Time(now), is_there: false };
        if known.len() >= REMOVED_MAX {
            known.retain(|_, removed| is_young(removed));
        }
        if known.len() >= REMOVED_MAX {
            // Memory is bounded; what was to be guarded against is rare.
            return;
        }
        self.note(key, &removed);
        known.insert(key.clone(), removed);
        drop(known);
        self.idle.store(false, Ordering::Release);
        // The next worker must know of it if this one is killed when the key has gone, and before it can answer.
        self.log.flush();
    }

    /// What is written under this key from now on is there to stay.
    pub(super) fn spare(&self, key: &Key) {
        if !self.is_remembered(key) {
            return;
        }
        if let Some(removed) = self.removed.lock().get_mut(key) {
            removed.is_there = true;
            self.note(key, removed);
        }
        self.log.flush();
    }

    fn note(&self, key: &Key, removed: &RemovedRecord) {
        self.log.note(|| Record::Removed { key: key.as_str().to_owned(), removed: removed.clone() });
    }

    fn is_remembered(&self, key: &Key) -> bool {
        let is_gone = |removed: &RemovedRecord| !removed.is_there;
        !self.idle.load(Ordering::Acquire) && self.removed.lock().get(key).is_some_and(is_gone)
    }

    fn is_late(&self, key: &Key, info: &ObjectInfo) -> bool {
        if self.idle.load(Ordering::Acquire) {
            return false;
        }
        let removed = self.removed.lock();
        removed.get(key).is_some_and(|removed| has_come_back(key, removed, info))
    }

    /// Removes what has come back under this key. Says whether anything had.
    async fn clear(&self, key: &Key) -> Result<bool> {
        if !self.is_remembered(key) {
            return Ok(false);
        }
        match self.store.head(key).await {
            Ok(info) if self.is_late(key, &info) => self.drop_late(key).await,
            Ok(_) => Ok(false),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes what has come back, if nothing is to be written there by now.
    async fn drop_late(&self, key: &Key) -> Result<bool> {
        let _dropping = self.dropping.lock().await;
        if !self.is_remembered(key) {
            return Ok(false);
        }
        tracing::info!(%key, "a request of an earlier worker arrived after its removal: removed again");
        self.store.delete(std::slice::from_ref(key)).await?.into_iter().try_for_each(|(_, result)| result)?;
        Ok(true)
    }

    /// Makes way for a write, before it is sent.
    async fn make_way(&self, key: &Key, condition: &Condition) -> Result<()> {
        if *condition == Condition::Absent {
            self.clear(key).await?;
        }
        if self.is_remembered(key) {
            let _dropping = self.dropping.lock().await;
            self.spare(key);
        }
        Ok(())
    }
}

fn is_young(removed: &RemovedRecord) -> bool {
    clock::now() < removed.at.0 + REMOVED_FOR
}

/// Whether an object is what was removed.
fn has_come_back(key: &Key, removed: &RemovedRecord, info: &ObjectInfo) -> bool {
    let is_older = || meta::was_changed_before(&info.headers, removed.before.0);
    let is_it = || match key.as_str().ends_with('/') {
        true => info.version.size == 0,
        false => removed.born.iter().any(|born| meta::was_made_at(&info.headers, born.0)),
    };
    !removed.is_there && is_young(removed) && is_older() && is_it()
}

#[deny(clippy::missing_trait_methods)]
#[async_trait::async_trait]
impl ObjectStore for Fence {
    async fn head(&self, key: &Key) -> Result<ObjectInfo> {
        loop {
            let info = self.store.head(key).await?;
            if !self.is_late(key, &info) {
                return Ok(info);
            }
            if self.drop_late(key).await? {
                return Err(Error::new(ErrorKind::NotFound, Op::Head, Some(key), "removed"));
            }
        }
    }

    async fn get(&self, key: &Key, request: GetRequest) -> Result<GetResponse> {
        self.store.get(key, request).await
    }

    async fn put(&self, key: &Key, body: Bytes, headers: &Headers, condition: Condition) -> Result<Version> {
        self.make_way(key, &condition).await?;
        self.store.put(key, body, headers, condition).await
    }

    async fn copy(&self, request: CopyRequest) -> Result<Version> {
        self.make_way(&request.to, &request.condition).await?;
        self.store.copy(request).await
    }

    async fn delete(&self, keys: &[Key]) -> Result<Vec<Deleted>> {
        self.store.delete(keys).await
    }

    async fn delete_version(&self, key: &Key, version: &ETag) -> Result<()> {
        self.store.delete_version(key, version).await
    }

    async fn list(&self, request: ListRequest) -> Result<ListPage> {
        loop {
            let page = self.store.list(request.clone()).await?;
            let mut cleared = false;
            for listed in page.objects.iter().filter(|listed| self.is_remembered(&listed.key)) {
                cleared |= self.clear(&listed.key).await?;
            }
            if !cleared {
                return Ok(page);
            }
        }
    }

    async fn create_upload(&self, key: &Key, headers: &Headers, parts: PartKinds) -> Result<Upload> {
        self.store.create_upload(key, headers, parts).await
    }

    async fn upload_part(&self, upload: &Upload, number: u16, source: PartSource) -> Result<Part> {
        self.store.upload_part(upload, number, source).await
    }

    async fn complete_upload(&self, request: CompleteRequest) -> Result<Version> {
        self.make_way(&request.upload.key, &request.condition).await?;
        self.store.complete_upload(request).await
    }

    async fn abort_upload(&self, abandoned: &Abandoned) -> Result<()> {
        self.store.abort_upload(abandoned).await
    }
}
