//! Reads a version of an object: from the local store where it is there, from the bucket otherwise.
//!
//! Invariants: every GET carries If-Match of the version; a block is fetched once however many wait for it; what
//! was fetched is in the local store before its readers go on, unless that store cannot take it.

use super::Ahead;
use crate::error::{Error, Result};
use crate::inode::RemoteFile;
use crate::name::Key;
use crate::store::{self, GetRequest, ObjectStore};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use std::ops::Range;
use std::sync::Arc;
use tarn_cache::{BLOCK_SIZE, BlockIndex, ByteRange, Landed, Lead, Lookup, Object, Role, Waiter};

type SharedError = Arc<store::Error>;
type BlockLead = Lead<BlockIndex, SharedError>;

/// Times a reader leads again after a fetch that ended without a result.
const ABANDONED_MAX: usize = 3;

/// Figures that bound fetching.
#[derive(Debug, Clone, Copy)]
pub struct FetcherOptions {
    /// Largest range of one GET, in bytes.
    pub unit: u64,
    /// Largest window ahead of one reader, in bytes.
    pub window_max: u64,
}

/// The version of an object that is to be read.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its key now.
    pub key: Key,
    /// The version.
    pub remote: Arc<RemoteFile>,
    /// Its local copy.
    pub object: Arc<Object>,
}

/// Fetches for one mount.
#[derive(Debug)]
pub struct Fetcher {
    store: Arc<dyn ObjectStore>,
    runtime: tokio::runtime::Handle,
    options: FetcherOptions,
}

impl Fetcher {
    /// A fetcher whose background work runs on `runtime`.
    pub fn new(
        store: Arc<dyn ObjectStore>,
        runtime: tokio::runtime::Handle,
        options: FetcherOptions,
    ) -> Self {
        Self { store, runtime, options }
    }

    /// Bytes of `range`, which must lie within the object.
    pub async fn read(&self, target: &Target, range: Range<u64>) -> Result<Bytes> {
        self.fetch_ahead(target, &range);
        for _ in 0..ABANDONED_MAX {
            let waiters = self.start(target, &range);
            if waiters.is_empty() {
                let mut bytes = BytesMut::zeroed(length(&range));
                if let Lookup::Hit = target.object.read(range.start, &mut bytes)? {
                    return Ok(bytes.freeze());
                }
                continue;
            }
            if let Some(bytes) = assemble(target, &range, waiters).await? {
                return Ok(bytes);
            }
        }
        Err(Error::Internal("a fetch was given up repeatedly"))
    }

    /// Notes a read that the local store answered, so that its stream goes on being fetched ahead.
    pub fn fetch_ahead(&self, target: &Target, range: &Range<u64>) {
        let size = target.remote.version.size;
        let ahead = target.remote.windows.lock().on_read(range, size, self.options.window_max);
        if let Ahead::Fetch(ahead) = ahead {
            // The waiters are dropped: nobody waits for what is fetched ahead.
            drop(self.start(target, &ahead));
        }
    }

    /// Fetches all that is missing, in one request if the object is small, in steps of a window if it is large.
    pub async fn fetch_whole(&self, target: &Target) -> Result<()> {
        let (size, window) = (target.remote.version.size, self.options.window_max.max(self.options.unit));
        let mut at = 0;
        while at < size {
            let end = size.min(at + window);
            for (_, waiter) in self.start(target, &(at..end)) {
                if let Landed::Done(Err(error)) = waiter.wait().await {
                    return Err(error.into());
                }
            }
            at = end;
        }
        Ok(())
    }

    /// Sees to it that every missing block of the range is being fetched; gives the waiters for them.
    fn start(&self, target: &Target, range: &Range<u64>) -> Vec<(BlockIndex, Waiter<SharedError>)> {
        let wanted = ByteRange::at(range.start, range.end - range.start);
        let (mut waiters, mut run) = (Vec::new(), Vec::new());
        for block in target.object.missing(wanted) {
            let mut role = target.remote.flights.join(block);
            if let Role::Lead(lead) = role {
                if self.breaks_run(&run, block) {
                    self.spawn(target, std::mem::take(&mut run));
                }
                run.push(lead);
                role = target.remote.flights.join(block);
            }
            if let Role::Wait(waiter) = role {
                waiters.push((block, waiter));
            }
        }
        self.spawn(target, run);
        waiters
    }

    fn breaks_run(&self, run: &[BlockLead], next: BlockIndex) -> bool {
        let Some((first, last)) = run.first().zip(run.last()) else { return false };
        let full = (next.get() - first.key().get()) * BLOCK_SIZE >= self.options.unit;
        full || last.key().get() + 1 != next.get()
    }

    fn spawn(&self, target: &Target, run: Vec<BlockLead>) {
        if run.is_empty() {
            return;
        }
        let (store, target) = (Arc::clone(&self.store), target.clone());
        self.runtime.spawn(async move { fetch_run(store.as_ref(), &target, run).await });
    }
}

/// Fetches neighbouring blocks with one GET and publishes each as it is complete.
async fn fetch_run(store: &dyn ObjectStore, target: &Target, run: Vec<BlockLead>) {
    let size = target.remote.version.size;
    let mut leads = run.into_iter();
    let (Some(first), Some(last)) = (leads.as_slice().first(), leads.as_slice().last()) else { return };
    let range = first.key().range(size).start()..last.key().range(size).end();
    if let Err(error) = stream_run(store, target, range, &mut leads).await {
        let error = Arc::new(error);
        for lead in leads {
            lead.publish(Err(Arc::clone(&error)));
        }
    }
}

async fn stream_run(
    store: &dyn ObjectStore,
    target: &Target,
    range: Range<u64>,
    leads: &mut std::vec::IntoIter<BlockLead>,
) -> store::Result<()> {
    let size = target.remote.version.size;
    let whole = range == (0..size);
    let request =
        GetRequest { range: (!whole).then_some(range), if_match: Some(target.remote.version.etag.clone()) };
    let mut response = store.get(&target.key, request).await?;
    let mut pending = BytesMut::new();
    // A whole object comes with a checksum that stands at its end: nobody sees a byte before that.
    let mut held = Vec::new();
    while let Some(lead) = leads.as_slice().first() {
        let wanted = usize::try_from(lead.key().range(size).len()).expect("a block fits in memory");
        while pending.len() < wanted {
            let Some(chunk) = response.body.next().await else {
                let message = "the body ended before its length";
                return Err(store::Error::new(
                    store::ErrorKind::Corrupt,
                    store::Op::Get,
                    Some(&target.key),
                    message,
                ));
            };
            pending.extend_from_slice(&chunk?);
        }
        let block = pending.split_to(wanted).freeze();
        let Some(lead) = leads.next() else { return Ok(()) };
        if whole {
            held.push((lead, block));
        } else {
            land(target, lead, block);
        }
    }
    let verdict = response.body.next().await.transpose().map(drop);
    for (lead, block) in held {
        match &verdict {
            Ok(()) => land(target, lead, block),
            Err(error) => lead.publish(Err(Arc::new(error.duplicate()))),
        }
    }
    verdict
}

fn land(target: &Target, lead: BlockLead, block: Bytes) {
    if let Err(error) = target.object.fill(*lead.key(), &block) {
        // Not kept: whoever waits has the bytes all the same.
        tracing::debug!(key = %target.key, block = %lead.key(), %error, "block not cached");
    }
    lead.publish(Ok(block));
}

/// Puts the range together from fetched blocks and the local store; `None` if some went missing meanwhile.
async fn assemble(
    target: &Target,
    range: &Range<u64>,
    waiters: Vec<(BlockIndex, Waiter<SharedError>)>,
) -> Result<Option<Bytes>> {
    let size = target.remote.version.size;
    let single = waiters.len() == 1;
    let mut out = BytesMut::with_capacity(if single { 0 } else { length(range) });
    for (block, waiter) in waiters {
        let bytes = match waiter.wait().await {
            Landed::Done(result) => result?,
            Landed::Abandoned => return Ok(None),
        };
        let at = block.range(size);
        let piece = range.start.max(at.start())..range.end.min(at.end());
        let within = local(piece.start - at.start())..local(piece.end - at.start());
        if single && piece == *range {
            return Ok(Some(bytes.slice(within)));
        }
        if !fill_gap(target, &mut out, range, piece.start)? {
            return Ok(None);
        }
        out.extend_from_slice(&bytes[within]);
    }
    let complete = fill_gap(target, &mut out, range, range.end)?;
    Ok(complete.then(|| out.freeze()))
}

/// Appends what lies between the end of `out` and `to` from the local store.
fn fill_gap(target: &Target, out: &mut BytesMut, range: &Range<u64>, to: u64) -> Result<bool> {
    let have = out.len();
    let from = range.start + have as u64;
    if from >= to {
        return Ok(true);
    }
    out.resize(have + length(&(from..to)), 0);
    Ok(matches!(target.object.read(from, &mut out[have..])?, Lookup::Hit))
}

fn length(range: &Range<u64>) -> usize {
    local(range.end - range.start)
}

fn local(bytes: u64) -> usize {
    usize::try_from(bytes).expect("a read fits in memory")
}
