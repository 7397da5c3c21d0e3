//! A store that fails at a chosen request, or from then on: as a server that is gone, or as a process that is killed
//! and leaves its local store as it was in that moment.

use crate::clock::{self, simulated};
use crate::name::Key;
use crate::read::PartLayout;
use crate::store::*;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It does not arrive.
    Refuse,
    /// It is executed, and the answer is lost.
    LoseReply,
    /// It is refused, for another request to the key is under way (409 ConditionalRequestConflict).
    Busy,
    /// The process is killed before it is sent.
    DieBefore,
    /// The process is killed before it learns that it was executed.
    DieAfter,
    /// The process is killed, and the server has received the request, a PUT, and carries it out when it comes to it:
    /// see [`FaultyStore::arrive`].
    Stray,
    /// It is executed, and answered after all else that can be. In a simulation only: it knows when that is.
    Late,
    /// Another client's removal of these keys is executed first.
    Overtaken(&'static [&'static str]),
    /// Another client's PUT of this key, with the key as its body, is executed first.
    Rewritten(&'static str),
}

/// Longer than all that does not wait for it takes.
const LATE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct FaultyStore {
    pub(super) inner: Arc<MemoryStore>,
    fault: Mutex<Option<(usize, Fault)>>,
    /// Told when the planned request comes.
    hit: Notify,
    count: AtomicUsize,
    /// Nothing gets through.
    down: AtomicBool,
    /// The next GET answers without a checksum and breaks off after so many bytes.
    breaks_off: Mutex<Option<usize>>,
    /// Bytes of a part: of what is not a part there is no checksum.
    parts: Mutex<Option<u64>>,
    /// Answers to GET that came without a checksum.
    unchecked: AtomicUsize,
    /// PUTs that have not been carried out yet.
    strays: Mutex<Vec<(Key, Bytes, Headers, Condition)>>,
    /// The cache directory, and where its copy goes when the process dies.
    cache: PathBuf,
    image: PathBuf,
}

impl FaultyStore {
    pub(super) fn new(inner: Arc<MemoryStore>, home: &Path) -> Arc<Self> {
        let fault = Mutex::default();
        let (cache, image) = (home.join("cache"), home.join("image"));
        Arc::new(Self {
            inner,
            fault,
            hit: Notify::new(),
            count: AtomicUsize::new(0),
            down: AtomicBool::new(false),
            breaks_off: Mutex::default(),
            parts: Mutex::default(),
            unchecked: AtomicUsize::new(0),
            strays: Mutex::default(),
            cache,
            image,
        })
    }

    /// The request with this number from now on gets a fault.
    pub(super) fn plan(&self, number: usize, fault: Fault) {
        self.count.store(0, Ordering::SeqCst);
        *self.fault.lock() = Some((number, fault));
    }

    pub(super) fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }

    pub(super) fn break_off_after(&self, bytes: usize) {
        *self.breaks_off.lock() = Some(bytes);
    }

    pub(super) fn has_parts_of(&self, bytes: u64) {
        *self.parts.lock() = Some(bytes);
    }

    pub(super) fn unchecked(&self) -> usize {
        self.unchecked.load(Ordering::SeqCst)
    }

    /// Whether the planned request has come.
    pub(super) fn is_hit(&self) -> bool {
        self.fault.lock().is_none()
    }

    /// Waits for the planned request.
    pub(super) async fn hit(&self) {
        self.hit.notified().await;
    }

    /// Carries out what the killed process has sent. Says for each PUT whether it was refused.
    pub(super) async fn arrive(&self) -> Vec<bool> {
        let strays = std::mem::take(&mut *self.strays.lock());
        let puts = strays.into_iter().map(|(key, body, headers, condition)| async move {
            self.inner.put(&key, body, &headers, condition).await.is_err()
        });
        futures::future::join_all(puts).await
    }

    fn die(&self) {
        self.set_down(true);
        copy_dir(&self.cache, &self.image);
    }

    /// As a server does it that keeps no condition on the destination of a copy.
    async fn copy_by_parts(&self, request: &CopyRequest, log: &dyn UploadLog) -> Result<Version> {
        let headers = match &request.headers {
            Some(headers) => headers.clone(),
            None => self.head(&request.from).await?.headers,
        };
        let upload = self.create_upload(&request.to, &headers, PartKinds::Copied).await?;
        log.begun(&upload);
        let (key, if_match) = (request.from.clone(), request.if_match.clone());
        let range = PartSource::Copy { key, if_match, range: 0..request.size };
        let parts = vec![self.upload_part(&upload, 1, range).await?];
        let condition = request.condition.clone();
        self.complete_upload(CompleteRequest { upload, parts, condition }).await
    }

    async fn pass<T>(&self, op: Op, call: impl Future<Output = Result<T>>) -> Result<T> {
        let lost = || Error::new(ErrorKind::Unavailable, op, None, "a fault of the test");
        if self.down.load(Ordering::SeqCst) {
            return Err(lost());
        }
        let number = self.count.fetch_add(1, Ordering::SeqCst);
        let fault = self.fault.lock().take_if(|(at, _)| *at == number).map(|(_, fault)| fault);
        if fault.is_some() {
            self.hit.notify_one();
        }
        match fault {
            None => call.await,
            Some(Fault::Refuse) => Err(lost()),
            Some(Fault::Busy) => {
                Err(Error::new(ErrorKind::Precondition, op, None, "ConditionalRequestConflict"))
            }
            Some(Fault::Overtaken(keys)) => {
                let keys: Vec<Key> = keys.iter().map(|key| Key::parse(key).expect("a key")).collect();
                self.inner.delete(&keys).await?;
                call.await
            }
            Some(Fault::Rewritten(key)) => {
                let (body, headers) = (Bytes::from_static(key.as_bytes()), Headers::default());
                let key = Key::parse(key).expect("a key");
                self.inner.put(&key, body, &headers, Condition::Always).await?;
                call.await
            }
            Some(Fault::Late) => {
                let answer = call.await;
                assert!(simulated::is_on(), "a late answer needs a simulation");
                clock::sleep(LATE).await;
                answer
            }
            Some(Fault::LoseReply) => {
                // Whatever it says.
                drop(call.await);
                Err(lost())
            }
            Some(Fault::DieBefore | Fault::Stray) => {
                self.die();
                Err(lost())
            }
            Some(Fault::DieAfter) => {
                drop(call.await);
                self.die();
                Err(lost())
            }
        }
    }
}

/// Copies a directory as it is now.
pub(super) fn copy_dir(from: &Path, to: &Path) {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().mode(0o700).create(to).expect("a new folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("its kind").is_dir() {
            copy_dir(&entry.path(), &target);
        } else if let Err(error) = copy_file(&entry.path(), &target) {
            // Files come and go while they are copied.
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}");
        }
    }
}

fn copy_file(from: &Path, to: &Path) -> std::io::Result<()> {
    let source = std::fs::File::open(from)?;
    let modified = source.metadata()?.modified()?;
    std::fs::copy(from, to)?;
    std::fs::File::options().write(true).open(to)?.set_modified(modified)
}

#[async_trait::async_trait]
impl ObjectStore for FaultyStore {
    async fn head(&self, key: &Key) -> Result<ObjectInfo> {
        self.pass(Op::Head, self.inner.head(key)).await
    }

    async fn get(&self, key: &Key, request: GetRequest) -> Result<GetResponse> {
        let (parts, asked) = (*self.parts.lock(), request.clone());
        let mut response = self.pass(Op::Get, self.inner.get(key, request)).await?;
        if let Some(bytes) = parts {
            let (part, size) = (asked.part, response.info.version.size);
            let range = asked.range.unwrap_or(0..size);
            if part.is_some() && part != PartLayout::number(bytes, &range, size) {
                let elsewhere = "the part lies elsewhere";
                return Err(Error::new(ErrorKind::Unsupported, Op::Get, Some(key), elsewhere));
            }
            response.checked = part.is_some();
        }
        self.unchecked.fetch_add(usize::from(!response.checked), Ordering::SeqCst);
        let breaks_off = self.breaks_off.lock().take();
        if let Some(after) = breaks_off {
            let body: Vec<Bytes> = response.body.try_collect().await?;
            let broken = Error::new(ErrorKind::Corrupt, Op::Get, Some(key), "a fault of the test");
            response.checked = false;
            response.body =
                stream::iter([Ok(Bytes::from(body.concat()).slice(..after)), Err(broken)]).boxed();
        }
        Ok(response)
    }

    async fn put(&self, key: &Key, body: Bytes, headers: &Headers, condition: Condition) -> Result<Version> {
        let next = (self.count.load(Ordering::SeqCst), Fault::Stray);
        if *self.fault.lock() == Some(next) {
            self.strays.lock().push((key.clone(), body.clone(), headers.clone(), condition.clone()));
        }
        self.pass(Op::Put, self.inner.put(key, body, headers, condition)).await
    }

    async fn copy(&self, request: CopyRequest) -> Result<Version> {
        match &request.log {
            Some(log) => self.copy_by_parts(&request, &**log).await,
            None => self.pass(Op::Copy, self.inner.copy(request)).await,
        }
    }

    async fn delete(&self, keys: &[Key]) -> Result<Vec<Deleted>> {
        self.pass(Op::Delete, self.inner.delete(keys)).await
    }

    async fn delete_version(&self, key: &Key, version: &ETag) -> Result<()> {
        self.pass(Op::Delete, self.inner.delete_version(key, version)).await
    }

    async fn list(&self, request: ListRequest) -> Result<ListPage> {
        self.pass(Op::List, self.inner.list(request)).await
    }

    async fn create_upload(&self, key: &Key, headers: &Headers, parts: PartKinds) -> Result<Upload> {
        self.pass(Op::CreateUpload, self.inner.create_upload(key, headers, parts)).await
    }

    async fn upload_part(&self, upload: &Upload, number: u16, source: PartSource) -> Result<Part> {
        self.pass(Op::UploadPart, self.inner.upload_part(upload, number, source)).await
    }

    async fn complete_upload(&self, request: CompleteRequest) -> Result<Version> {
        self.pass(Op::CompleteUpload, self.inner.complete_upload(request)).await
    }

    async fn abort_upload(&self, abandoned: &Abandoned) -> Result<()> {
        self.pass(Op::AbortUpload, self.inner.abort_upload(abandoned)).await
    }
}
