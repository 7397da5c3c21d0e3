//! A service in memory, for tests. It keeps the promises of [`Service`], and can be told to fail: the nth call, as a
//! crash or a lost answer would.

use super::{Connect, Copy, Reach, Service};
use crate::error::{Error, Kind, Result};
use crate::record::Fields;
use futures::TryStreamExt;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use tarn_fs::name::{Key, Prefix};
use tarn_fs::store::{Condition, Depth, GetRequest, ListRequest, MemoryStore, ObjectStore};

/// The account of a fake service. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Fake {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    buckets: BTreeMap<String, Bucket>,
    calls: usize,
    fail_at: Option<usize>,
}

#[derive(Debug)]
struct Bucket {
    tags: Fields,
    objects: Arc<MemoryStore>,
}

impl Fake {
    /// Has the nth call from now, counted from zero, fail after it has taken effect, and those after it without.
    pub fn fail_from(&self, nth: Option<usize>) {
        let mut state = self.state.lock();
        state.calls = 0;
        state.fail_at = nth;
    }

    /// Makes a bucket of somebody else.
    pub fn foreign_bucket(&self, bucket: &str) {
        self.state.lock().buckets.insert(bucket.to_owned(), Bucket::new());
    }

    /// The names of all buckets.
    pub fn names(&self) -> Vec<String> {
        self.state.lock().buckets.keys().cloned().collect()
    }

    /// The keys of a bucket.
    pub async fn keys(&self, bucket: &str) -> Vec<String> {
        let objects = self.state.lock().buckets.get(bucket).map(|bucket| Arc::clone(&bucket.objects));
        let Some(objects) = objects else { return Vec::new() };
        let request = ListRequest::new(Prefix::default(), Depth::Subtree, 1000);
        let page = objects.list(request).await.expect("memory does not fail");
        page.objects.iter().map(|object| object.key.as_str().to_owned()).collect()
    }

    fn enter<T>(&self, act: impl FnOnce(&mut BTreeMap<String, Bucket>) -> Result<T>) -> Result<T> {
        let mut state = self.state.lock();
        let call = state.calls;
        state.calls += 1;
        let lost = || Error::new(Kind::Unavailable, "the fake service is told to fail");
        match state.fail_at {
            Some(at) if call > at => Err(lost()),
            Some(at) if call == at => act(&mut state.buckets).and(Err(lost())),
            Some(_) | None => act(&mut state.buckets),
        }
    }
}

impl Bucket {
    fn new() -> Self {
        Self { tags: Fields::new(), objects: Arc::new(MemoryStore::new()) }
    }
}

fn absent(bucket: &str) -> Error {
    Error::new(Kind::NotFound, format!("there is no bucket {bucket}"))
}

#[async_trait::async_trait]
impl Connect for Fake {
    async fn connect(&self, _reach: Reach) -> Result<Arc<dyn Service>> {
        Ok(Arc::new(self.clone()))
    }
}

#[async_trait::async_trait]
impl Service for Fake {
    async fn buckets(&self) -> Result<Vec<String>> {
        self.enter(|buckets| Ok(buckets.keys().cloned().collect()))
    }

    async fn create_bucket(&self, bucket: &str) -> Result<()> {
        self.enter(|buckets| {
            buckets.entry(bucket.to_owned()).or_insert_with(Bucket::new);
            Ok(())
        })
    }

    async fn delete_bucket(&self, bucket: &str) -> Result<()> {
        if !self.keys(bucket).await.is_empty() {
            return Err(Error::new(Kind::Precondition, format!("bucket {bucket} is not empty")));
        }
        self.enter(|buckets| {
            buckets.remove(bucket);
            Ok(())
        })
    }

    async fn tags(&self, bucket: &str) -> Result<Option<Fields>> {
        self.enter(|buckets| Ok(buckets.get(bucket).map(|bucket| bucket.tags.clone())))
    }

    async fn set_tags(&self, bucket: &str, tags: &Fields) -> Result<()> {
        self.enter(|buckets| {
            buckets.get_mut(bucket).ok_or_else(|| absent(bucket))?.tags = tags.clone();
            Ok(())
        })
    }

    async fn keep_versions(&self, bucket: &str) -> Result<()> {
        self.enter(|buckets| buckets.get(bucket).map(drop).ok_or_else(|| absent(bucket)))
    }

    async fn purge(&self, bucket: &str, prefix: &str) -> Result<()> {
        let keys = self.keys(bucket).await;
        let doomed: Vec<Key> = keys
            .iter()
            .filter(|key| key.starts_with(prefix))
            .filter_map(|key| Key::parse(key).ok())
            .collect();
        let objects = self.objects(bucket);
        objects.delete(&doomed).await?;
        self.enter(|_| Ok(()))
    }

    async fn copy(&self, copy: &Copy) -> Result<()> {
        let key = |text: &str| Key::parse(text).map_err(|error| Error::invalid(error.to_string()));
        let request = GetRequest { if_match: Some(copy.etag.clone()), ..GetRequest::default() };
        let answer = self.objects(&copy.from.0).get(&key(&copy.from.1)?, request).await?;
        let chunks: Vec<bytes::Bytes> = answer.body.try_collect().await?;
        let (body, headers) = (chunks.concat().into(), answer.info.headers);
        self.objects(&copy.to.0).put(&key(&copy.to.1)?, body, &headers, Condition::Always).await?;
        self.enter(|_| Ok(()))
    }

    fn objects(&self, bucket: &str) -> Arc<dyn ObjectStore> {
        let mut state = self.state.lock();
        match state.buckets.get_mut(bucket) {
            Some(bucket) => Arc::clone(&bucket.objects) as Arc<dyn ObjectStore>,
            // A bucket that is not there has no objects; what is put into this one is lost with it.
            None => Arc::new(MemoryStore::new()),
        }
    }
}
