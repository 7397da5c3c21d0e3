//! A wrapper that counts calls, failures, time and bytes by operation and logs each call at debug level.
//!
//! It counts calls of the trait: a batch delete or a copy by parts is one call, however many requests the store
//! below makes of it. A call is counted when it starts, its bytes as they pass, its time when it has answered: that
//! of a GET ends with its headers. "No such object" and "not that version" are answers and no failures.

use super::{
    Abandoned, CompleteRequest, Condition, CopyRequest, Deleted, ETag, Error, ErrorKind, GetRequest,
    GetResponse, Headers, ListPage, ListRequest, ObjectInfo, ObjectStore, Op, Part, PartKinds, PartSource,
    Result, Upload, Version,
};
use crate::name::Key;
use crate::telemetry::traces;
use bytes::Bytes;
use futures::StreamExt;
use std::fmt;
use std::ops::Sub;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tracing::Span;

/// What went through a store: a snapshot, to be shown or subtracted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    tallies: [Tally; Op::ALL.len()],
    /// Bytes of object data received.
    pub received: u64,
    /// Bytes of object data sent.
    pub sent: u64,
}

/// What became of the calls of one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Calls that were started.
    pub calls: u64,
    /// Those that failed, and bodies that did.
    pub failed: u64,
    /// Nanoseconds until they had answered, summed up.
    pub nanos: u64,
}

impl Counts {
    /// Calls of one operation with their failures and time.
    pub fn tally(&self, op: Op) -> Tally {
        self.tallies[op as usize]
    }

    /// Calls of one operation.
    pub fn of(&self, op: Op) -> u64 {
        self.tally(op).calls
    }

    /// Calls of all operations.
    pub fn total(&self) -> u64 {
        self.tallies.iter().map(|tally| tally.calls).sum()
    }
}

impl Sub for Counts {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            tallies: std::array::from_fn(|at| self.tallies[at] - earlier.tallies[at]),
            received: self.received - earlier.received,
            sent: self.sent - earlier.sent,
        }
    }
}

impl Sub for Tally {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            calls: self.calls - earlier.calls,
            failed: self.failed - earlier.failed,
            nanos: self.nanos - earlier.nanos,
        }
    }
}

/// The operations that were called, with their counts: `head 1, get 2`, or `nothing`.
impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let called = Op::ALL.iter().filter(|op| self.of(**op) > 0);
        let text: Vec<String> = called.map(|op| format!("{op} {}", self.of(*op))).collect();
        f.write_str(if text.is_empty() { "nothing" } else { "" })?;
        f.write_str(&text.join(", "))
    }
}

#[derive(Debug, Default)]
struct Counters {
    tallies: [Live; Op::ALL.len()],
    received: AtomicU64,
    sent: AtomicU64,
}

/// The live side of a [`Tally`].
#[derive(Debug, Default)]
struct Live {
    calls: AtomicU64,
    failed: AtomicU64,
    nanos: AtomicU64,
}

/// A store that is watched.
#[derive(Debug)]
pub struct ObserveStore {
    inner: Arc<dyn ObjectStore>,
    counters: Arc<Counters>,
}

impl ObserveStore {
    /// Watches `inner`.
    pub fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self { inner, counters: Arc::default() }
    }

    /// What has gone through so far.
    pub fn counts(&self) -> Counts {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            tallies: self.counters.tallies.each_ref().map(|live| Tally {
                calls: load(&live.calls),
                failed: load(&live.failed),
                nanos: load(&live.nanos),
            }),
            received: load(&self.counters.received),
            sent: load(&self.counters.sent),
        }
    }

    fn start<'a>(&'a self, op: Op, on: &'a (dyn fmt::Display + Sync)) -> Call<'a> {
        self.counters.tallies[op as usize].calls.fetch_add(1, Ordering::Relaxed);
        Call { counters: &self.counters, op, on, started: Instant::now(), span: traces::bucket(&op, on) }
    }
}

/// One call under way.
struct Call<'a> {
    counters: &'a Counters,
    op: Op,
    on: &'a (dyn fmt::Display + Sync),
    started: Instant,
    span: Span,
}

impl Call<'_> {
    fn end<T>(self, result: Result<T>) -> Result<T> {
        let elapsed = self.started.elapsed();
        let live = &self.counters.tallies[self.op as usize];
        live.nanos.fetch_add(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        let micros = elapsed.as_micros();
        match &result {
            Ok(_) => tracing::debug!(op = %self.op, on = %self.on, micros, "store call"),
            Err(error) => {
                live.failed.fetch_add(u64::from(is_failure(error)), Ordering::Relaxed);
                traces::failed(&self.span, error);
                tracing::debug!(op = %self.op, on = %self.on, micros, %error, "store call failed");
            }
        }
        result
    }

    fn sent(&self, size: usize) {
        self.counters.sent.fetch_add(size as u64, Ordering::Relaxed);
    }
}

fn is_failure(error: &Error) -> bool {
    !matches!(error.kind, ErrorKind::NotFound | ErrorKind::Precondition)
}

fn count_chunk(counters: &Counters, chunk: &std::result::Result<Bytes, Error>) {
    match chunk {
        Ok(bytes) => counters.received.fetch_add(bytes.len() as u64, Ordering::Relaxed),
        Err(_) => counters.tallies[Op::Get as usize].failed.fetch_add(1, Ordering::Relaxed),
    };
}

#[deny(clippy::missing_trait_methods)]
#[async_trait::async_trait]
impl ObjectStore for ObserveStore {
    async fn head(&self, key: &Key) -> Result<ObjectInfo> {
        self.start(Op::Head, key).end(self.inner.head(key).await)
    }

    async fn get(&self, key: &Key, request: GetRequest) -> Result<GetResponse> {
        let call = self.start(Op::Get, key);
        let GetResponse { info, checked, body } = call.end(self.inner.get(key, request).await)?;
        let counters = Arc::clone(&self.counters);
        let body = body.inspect(move |chunk| count_chunk(&counters, chunk)).boxed();
        Ok(GetResponse { info, checked, body })
    }

    async fn put(&self, key: &Key, body: Bytes, headers: &Headers, condition: Condition) -> Result<Version> {
        let call = self.start(Op::Put, key);
        call.sent(body.len());
        call.end(self.inner.put(key, body, headers, condition).await)
    }

    async fn copy(&self, request: CopyRequest) -> Result<Version> {
        let to = request.to.clone();
        self.start(Op::Copy, &to).end(self.inner.copy(request).await)
    }

    async fn delete(&self, keys: &[Key]) -> Result<Vec<Deleted>> {
        let on = format!("{} keys", keys.len());
        self.start(Op::Delete, &on).end(self.inner.delete(keys).await)
    }

    async fn delete_version(&self, key: &Key, version: &ETag) -> Result<()> {
        self.start(Op::Delete, key).end(self.inner.delete_version(key, version).await)
    }

    async fn list(&self, request: ListRequest) -> Result<ListPage> {
        let prefix = request.prefix.clone();
        self.start(Op::List, &prefix).end(self.inner.list(request).await)
    }

    async fn create_upload(&self, key: &Key, headers: &Headers, parts: PartKinds) -> Result<Upload> {
        self.start(Op::CreateUpload, key).end(self.inner.create_upload(key, headers, parts).await)
    }

    async fn upload_part(&self, upload: &Upload, number: u16, source: PartSource) -> Result<Part> {
        let call = self.start(Op::UploadPart, &upload.key);
        if let PartSource::Bytes(body) = &source {
            call.sent(body.len());
        }
        call.end(self.inner.upload_part(upload, number, source).await)
    }

    async fn complete_upload(&self, request: CompleteRequest) -> Result<Version> {
        let key = request.upload.key.clone();
        self.start(Op::CompleteUpload, &key).end(self.inner.complete_upload(request).await)
    }

    async fn abort_upload(&self, abandoned: &Abandoned) -> Result<()> {
        self.start(Op::AbortUpload, abandoned.key()).end(self.inner.abort_upload(abandoned).await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;

    #[tokio::test]
    async fn calls_and_bytes_are_counted_and_subtracted() {
        let store = ObserveStore::new(Arc::new(MemoryStore::new()));
        let key = Key::parse("k").unwrap();
        let before = store.counts();
        store.put(&key, Bytes::from_static(b"12345"), &Headers::default(), Condition::Always).await.unwrap();
        let mut answer =
            store.get(&key, GetRequest { range: Some(1..4), ..GetRequest::default() }).await.unwrap();
        while answer.body.next().await.is_some() {}
        store.head(&Key::parse("absent").unwrap()).await.unwrap_err();
        let counts = store.counts() - before;
        assert_eq!(counts.to_string(), "head 1, get 1, put 1");
        assert_eq!((counts.sent, counts.received, counts.total()), (5, 3, 3));
        assert_eq!(counts.tally(Op::Head).failed, 0, "absent is an answer");
        assert_eq!((counts - counts).to_string(), "nothing");
    }
}
