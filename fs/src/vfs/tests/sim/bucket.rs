//! The bucket of a simulation, and each node's way to it: requests take their time, overtake each other, get lost, or
//! lose their answer, as chance has it. The reference hears of every change in the order in which they are made.

use super::reference::{Change, Means, Reference, Who};
use crate::clock::simulated;
use crate::name::Key;
use crate::store::*;
use bytes::Bytes;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use rand::Rng;
use std::fmt;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What a server may do wrong that no program can survive: planted, to see that the simulation finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lie {
    /// It says OK to a PUT that it does not execute.
    ForgetsPuts,
    /// It takes conditions and ignores them.
    IgnoresConditions,
    /// It answers a read with whatever version there is.
    MixesVersions,
    /// It says that an upload is dropped, and keeps it.
    KeepsUploads,
}

/// What one node's requests meet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weather {
    /// How likely a request fails.
    pub(super) faults: f64,
    /// The longest that a request is under way, and an answer.
    pub(super) delay: Duration,
}

pub(super) struct Bucket {
    pub(super) memory: MemoryStore,
    pub(super) reference: Mutex<Reference>,
    pub(super) lie: Option<Lie>,
}

/// A node's way to the bucket, until the node dies.
pub(super) struct Link {
    pub(super) bucket: Arc<Bucket>,
    node: usize,
    weather: Mutex<Weather>,
    dead: AtomicBool,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Answered,
    Refused,
    AnswerLost,
}

impl Bucket {
    /// What the key has now.
    pub(super) fn content(&self, key: &str) -> Option<Bytes> {
        let key = Key::parse(key).expect("a key");
        let got = self.memory.get(&key, GetRequest::default()).now_or_never().expect("memory does not wait");
        let body = got.ok()?.body.try_collect::<Vec<Bytes>>().now_or_never().expect("memory does not wait");
        let mut chunks = body.expect("a body");
        Some(if chunks.len() == 1 { chunks.remove(0) } else { chunks.concat().into() })
    }

    /// Executes a request that changes these keys. Says what it changed.
    fn execute<T>(
        &self,
        who: Who,
        (means, keys): (Means, &[Key]),
        call: impl Future<Output = Result<T>>,
    ) -> (Result<T>, Vec<(String, usize)>) {
        let before: Vec<_> = keys.iter().map(|key| self.content(key.as_str())).collect();
        let answer = call.now_or_never().expect("memory does not wait");
        let mut reference = self.reference.lock();
        let mut changed = Vec::new();
        for (key, before) in keys.iter().zip(before) {
            let (key, after) = (key.as_str().to_owned(), self.content(key.as_str()));
            if answer.is_ok() {
                let change = Change { who, key: key.clone(), before, after, means: means.clone() };
                changed.push((key, reference.changed(change)));
            }
        }
        (answer, changed)
    }

    /// Another client puts an object, or removes it.
    pub(super) fn foreign(&self, key: &str, content: Option<Bytes>) {
        let key = Key::parse(key).expect("a key");
        let keys = std::slice::from_ref(&key);
        let headers = Headers::default();
        match content {
            Some(body) => {
                let put = self.memory.put(&key, body, &headers, Condition::Always);
                self.execute(Who::Foreign, (Means::Put, keys), put).0.expect("put");
            }
            None => {
                let deleted = self.execute(Who::Foreign, (Means::Delete, keys), self.memory.delete(keys));
                deleted.0.expect("delete");
            }
        }
    }
}

impl Link {
    pub(super) fn new(bucket: &Arc<Bucket>, node: usize, weather: Weather) -> Arc<Self> {
        let (weather, dead) = (Mutex::new(weather), AtomicBool::new(false));
        Arc::new(Self { bucket: Arc::clone(bucket), node, weather, dead })
    }

    pub(super) fn set_weather(&self, weather: Weather) {
        *self.weather.lock() = weather;
    }

    /// The node is killed: nothing that it asked for is answered any more.
    pub(super) fn die(&self) {
        self.dead.store(true, Ordering::SeqCst);
    }

    fn trace(&self, line: impl FnOnce() -> String) {
        self.bucket.reference.lock().trace(|| format!("  {} {}", self.node, line()));
    }

    /// A while on the way. Who is dead by then goes no further.
    async fn travel(&self) {
        let longest = self.weather.lock().delay;
        let time = simulated::chance(|rng| match rng.random_range(0..4) {
            0 => Duration::ZERO,
            1 | 2 => longest.mul_f64(rng.random_range(0.0..0.1)),
            _ => longest.mul_f64(rng.random()),
        });
        if !time.is_zero() {
            crate::clock::sleep(time).await;
        }
        if self.dead.load(Ordering::SeqCst) {
            pending::<()>().await;
        }
    }

    fn fate(&self) -> Fate {
        let faults = self.weather.lock().faults;
        simulated::chance(|rng| match rng.random::<f64>() {
            chance if chance < faults / 2.0 => Fate::Refused,
            chance if chance < faults => Fate::AnswerLost,
            _ => Fate::Answered,
        })
    }

    /// A request that changes nothing.
    async fn ask<T>(&self, op: Op, about: &str, call: impl Future<Output = Result<T>>) -> Result<T> {
        self.carry(op, about, (Means::Delete, &[]), call).await
    }

    /// A request that changes these keys.
    async fn pass<T>(
        &self,
        op: Op,
        change: (Means, &[Key]),
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let about = change.1.iter().map(Key::as_str).collect::<Vec<_>>().join(" ");
        self.carry(op, &about, change, call).await
    }

    async fn carry<T>(
        &self,
        op: Op,
        about: &str,
        (means, keys): (Means, &[Key]),
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        self.trace(|| format!("{op} {about}"));
        let fate = self.fate();
        let failed = || {
            const KINDS: [ErrorKind; 3] = [ErrorKind::Unavailable, ErrorKind::Timeout, ErrorKind::Throttled];
            let kind = simulated::chance(|rng| KINDS[rng.random_range(0..KINDS.len())]);
            Error::new(kind, op, None, "a fault of the simulation")
        };
        self.travel().await;
        if fate == Fate::Refused {
            self.trace(|| format!("{op} {about}: refused"));
            return Err(failed());
        }
        let (answer, changed) = self.bucket.execute(Who::Node(self.node), (means.clone(), keys), call);
        self.trace(|| match &answer {
            Ok(_) if fate == Fate::AnswerLost => format!("{op} {about}: done, and the answer is lost"),
            Ok(_) => format!("{op} {about}: done"),
            Err(error) => format!("{op} {about}: {:?}", error.kind),
        });
        self.travel().await;
        if fate == Fate::AnswerLost {
            return Err(failed());
        }
        // What a directory's rename copies the node need not have known.
        if answer.is_ok() && means != Means::Copy {
            self.bucket.reference.lock().heard(self.node, changed);
        }
        answer
    }

    fn condition(&self, condition: Condition) -> Condition {
        match self.bucket.lie {
            Some(Lie::IgnoresConditions) => Condition::Always,
            Some(Lie::ForgetsPuts | Lie::MixesVersions | Lie::KeepsUploads) | None => condition,
        }
    }

    /// A body that breaks off, now and then.
    fn broken(&self, key: &Key, response: &mut GetResponse) {
        let faults = self.weather.lock().faults;
        if response.info.version.size > 0 && simulated::chance(|rng| rng.random_bool(faults / 2.0)) {
            let error = Error::new(ErrorKind::Corrupt, Op::Get, Some(key), "a fault of the simulation");
            let whole = std::mem::replace(&mut response.body, stream::empty().boxed());
            let cut = whole.map_ok(|chunk| chunk.slice(..chunk.len() / 2)).take(1);
            response.body = cut.chain(stream::iter([Err(error)])).boxed();
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("node", &self.node).finish_non_exhaustive()
    }
}

#[async_trait::async_trait]
impl ObjectStore for Link {
    async fn head(&self, key: &Key) -> Result<ObjectInfo> {
        self.ask(Op::Head, key.as_str(), self.bucket.memory.head(key)).await
    }

    async fn get(&self, key: &Key, mut request: GetRequest) -> Result<GetResponse> {
        if self.bucket.lie == Some(Lie::MixesVersions) {
            request.if_match = None;
        }
        let mut response = self.ask(Op::Get, key.as_str(), self.bucket.memory.get(key, request)).await?;
        self.broken(key, &mut response);
        Ok(response)
    }

    async fn put(&self, key: &Key, body: Bytes, headers: &Headers, condition: Condition) -> Result<Version> {
        let condition = self.condition(condition);
        let keys = std::slice::from_ref(key);
        if self.bucket.lie == Some(Lie::ForgetsPuts) && simulated::chance(|rng| rng.random_bool(0.1)) {
            let elsewhere = MemoryStore::new();
            return self
                .ask(Op::Put, key.as_str(), elsewhere.put(key, body, headers, Condition::Always))
                .await;
        }
        self.pass(Op::Put, (Means::Put, keys), self.bucket.memory.put(key, body, headers, condition)).await
    }

    async fn copy(&self, mut request: CopyRequest) -> Result<Version> {
        request.condition = self.condition(request.condition);
        let key = request.to.clone();
        let keys = std::slice::from_ref(&key);
        self.pass(Op::Copy, (Means::Copy, keys), self.bucket.memory.copy(request)).await
    }

    async fn delete(&self, keys: &[Key]) -> Result<Vec<Deleted>> {
        self.pass(Op::Delete, (Means::Delete, keys), self.bucket.memory.delete(keys)).await
    }

    async fn delete_version(&self, key: &Key, version: &ETag) -> Result<()> {
        let (memory, keys) = (&self.bucket.memory, std::slice::from_ref(key));
        match self.bucket.lie {
            Some(Lie::IgnoresConditions) => {
                self.pass(Op::Delete, (Means::Delete, keys), memory.delete(keys)).await.map(drop)
            }
            _ => self.pass(Op::Delete, (Means::Delete, keys), memory.delete_version(key, version)).await,
        }
    }

    async fn list(&self, request: ListRequest) -> Result<ListPage> {
        let prefix = request.prefix.clone();
        self.ask(Op::List, prefix.as_str(), self.bucket.memory.list(request)).await
    }

    async fn create_upload(&self, key: &Key, headers: &Headers, parts: PartKinds) -> Result<Upload> {
        let rounds = self.bucket.reference.lock().rounds();
        let begun = async {
            let upload = self.bucket.memory.create_upload(key, headers, parts).await?;
            self.bucket.reference.lock().uploads.insert(upload.id.clone(), rounds);
            Ok(upload)
        };
        self.ask(Op::CreateUpload, key.as_str(), begun).await
    }

    async fn upload_part(&self, upload: &Upload, number: u16, source: PartSource) -> Result<Part> {
        self.ask(Op::UploadPart, &upload.id, self.bucket.memory.upload_part(upload, number, source)).await
    }

    async fn complete_upload(&self, mut request: CompleteRequest) -> Result<Version> {
        request.condition = self.condition(request.condition);
        let (key, means) = (request.upload.key.clone(), Means::Upload(request.upload.id.clone()));
        let keys = std::slice::from_ref(&key);
        self.pass(Op::CompleteUpload, (means, keys), self.bucket.memory.complete_upload(request)).await
    }

    async fn abort_upload(&self, abandoned: &Abandoned) -> Result<()> {
        let about = format!("{abandoned:?}");
        if self.bucket.lie == Some(Lie::KeepsUploads) {
            return self.ask(Op::AbortUpload, &about, async { Ok(()) }).await;
        }
        self.ask(Op::AbortUpload, &about, self.bucket.memory.abort_upload(abandoned)).await
    }
}
