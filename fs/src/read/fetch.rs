//! Reads a version of an object: from the local store where it is there, from the bucket otherwise.
//!
//! Invariants: every GET carries If-Match of the version; a block is fetched once however many wait for it; what
//! was fetched is in the local store before its readers go on, unless that store cannot take it. Of an answer with
//! a checksum nobody sees a byte before it has been compared; one that is wrong is fetched again.

use super::{Ahead, PartLayout};
use crate::error::{Error, Result};
use crate::inode::RemoteFile;
use crate::name::Key;
use crate::store::{self, ErrorKind, GetRequest, ObjectStore};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tarn_cache::{BLOCK_SIZE, BlockIndex, ByteRange, Landed, Lead, Lookup, Object, Role, Waiter};
use tokio::sync::Semaphore;
use tracing::Instrument;

type SharedError = Arc<store::Error>;
type BlockLead = Lead<BlockIndex, SharedError>;

/// Times a reader leads again after a fetch that ended without a result, as it does when its parts lie elsewhere.
const ABANDONED_MAX: usize = 3 + PartLayout::GUESSES_MAX;

/// What a reader says after as many.
const GIVEN_UP: Error = Error::Internal("a fetch was given up repeatedly");

/// Times a body that came wrong is asked for again.
const CORRUPT_MAX: usize = 2;

/// Neighbouring blocks that go to the local store in one write: 1 MiB.
const WRITTEN_TOGETHER: usize = 4;

/// Figures that bound fetching.
#[derive(Debug, Clone, Copy)]
pub struct FetcherOptions {
    /// Largest range of one GET, in bytes.
    pub unit: u64,
    /// Largest window ahead of one reader, in bytes.
    pub window_max: u64,
    /// Fetch nothing less than a part, where the object has parts with checksums.
    pub always_checked: bool,
    /// Bytes of answers that wait in memory for their checksum, of all readers together.
    pub held_max: u64,
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
    /// A permit for each block that may be held.
    held: Arc<Semaphore>,
}

impl Fetcher {
    /// A fetcher whose background work runs on `runtime`.
    pub fn new(
        store: Arc<dyn ObjectStore>,
        runtime: tokio::runtime::Handle,
        options: FetcherOptions,
    ) -> Self {
        let blocks = usize::try_from(options.held_max.max(PartLayout::LARGEST).div_ceil(BLOCK_SIZE));
        let held =
            Arc::new(Semaphore::new(blocks.unwrap_or(Semaphore::MAX_PERMITS).min(Semaphore::MAX_PERMITS)));
        Self { store, runtime, options, held }
    }

    /// Bytes of `range`, which must lie within the object.
    pub async fn read(&self, target: &Target, range: Range<u64>) -> Result<Bytes> {
        self.fetch_ahead(target, &range);
        for _ in 0..ABANDONED_MAX {
            let mut waiters = self.start(target, &range);
            waiters.retain(|(block, _)| touches(target, *block, &range));
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
        Err(GIVEN_UP)
    }

    /// Compares a whole copy with the bucket's checksum, if that is still to be done.
    pub async fn check(&self, target: &Target) {
        check_whole(self.store.as_ref(), target).await;
    }

    /// Notes a read that the local store answered, so that its stream goes on being fetched ahead.
    pub fn fetch_ahead(&self, target: &Target, range: &Range<u64>) {
        let size = target.remote.version.size;
        let ahead = target.remote.windows.lock().on_read(range, size, self.options.window_max);
        if let Ahead::Fetch(ahead) = ahead {
            // The waiters are dropped: nobody waits for what is fetched ahead.
            drop(self.start(target, &whole_parts(target, ahead)));
        }
    }

    /// Fetches all that is missing, in one request if the object is small, in steps of a window if it is large.
    pub async fn fetch_whole(&self, target: &Target) -> Result<()> {
        let (size, window) = (target.remote.version.size, self.options.window_max.max(self.options.unit));
        let (mut at, mut abandoned) = (0, 0);
        while at < size {
            let end = size.min(at + window);
            let mut whole = true;
            for (_, waiter) in self.start(target, &(at..end)) {
                match waiter.wait().await {
                    Landed::Done(result) => drop(result?),
                    Landed::Abandoned => whole = false,
                }
            }
            if whole {
                at = end;
            } else if abandoned == ABANDONED_MAX {
                return Err(GIVEN_UP);
            } else {
                abandoned += 1;
            }
        }
        Ok(())
    }

    /// Sees to it that every missing block of the range is being fetched; gives the waiters for them.
    fn start(&self, target: &Target, range: &Range<u64>) -> Vec<(BlockIndex, Waiter<SharedError>)> {
        let part = target.remote.parts.part_size();
        let always = part.filter(|_| self.options.always_checked);
        let wanted = widened(range, always, target.remote.version.size);
        let wanted = ByteRange::at(wanted.start, wanted.end - wanted.start);
        let (mut waiters, mut run) = (Vec::new(), Vec::new());
        for block in target.object.missing(wanted) {
            let mut role = target.remote.flights.join(block);
            if let Role::Lead(lead) = role {
                if self.breaks_run(part, &run, block) {
                    self.spawn(target, part, std::mem::take(&mut run));
                }
                run.push(lead);
                role = target.remote.flights.join(block);
            }
            if let Role::Wait(waiter) = role {
                waiters.push((block, waiter));
            }
        }
        self.spawn(target, part, run);
        waiters
    }

    fn breaks_run(&self, part: Option<u64>, run: &[BlockLead], next: BlockIndex) -> bool {
        let Some((first, last)) = run.first().zip(run.last()) else { return false };
        let full = match part {
            Some(part) => (next.get() * BLOCK_SIZE).is_multiple_of(part),
            None => (next.get() - first.key().get()) * BLOCK_SIZE >= self.options.unit,
        };
        full || last.key().get() + 1 != next.get()
    }

    fn spawn(&self, target: &Target, part: Option<u64>, run: Vec<BlockLead>) {
        if run.is_empty() {
            return;
        }
        let (store, target, held) = (Arc::clone(&self.store), target.clone(), Arc::clone(&self.held));
        let always_checked = self.options.always_checked;
        let run = Run { target, part, always_checked, leads: run.into_iter() };
        let fetch = async move { run.fetch(store.as_ref(), &held).await };
        self.runtime.spawn(fetch.in_current_span());
    }
}

/// `range`, or the whole parts that it touches.
fn widened(range: &Range<u64>, part: Option<u64>, size: u64) -> Range<u64> {
    match part {
        Some(part) => range.start / part * part..range.end.next_multiple_of(part).min(size),
        None => range.clone(),
    }
}

fn touches(target: &Target, block: BlockIndex, range: &Range<u64>) -> bool {
    let block = block.range(target.remote.version.size);
    block.start() < range.end && range.start < block.end()
}

/// A window of at least half a part goes on to the end of its last part, which can be checked then.
fn whole_parts(target: &Target, ahead: Range<u64>) -> Range<u64> {
    match target.remote.parts.part_size() {
        Some(part) if ahead.end - ahead.start >= part / 2 => {
            ahead.start..ahead.end.next_multiple_of(part).min(target.remote.version.size)
        }
        Some(_) | None => ahead,
    }
}

/// Neighbouring blocks of one object, all in one part if it has parts, that are to be fetched together.
struct Run {
    target: Target,
    /// Bytes of a part, as it was guessed when the blocks were put together.
    part: Option<u64>,
    always_checked: bool,
    /// The blocks that are not published yet.
    leads: std::vec::IntoIter<BlockLead>,
}

impl Run {
    /// Fetches the blocks and publishes each as soon as it may be used.
    async fn fetch(mut self, store: &dyn ObjectStore, held: &Semaphore) {
        let mut corrupt = 0;
        while let Some(range) = self.range() {
            if self.target.remote.parts.part_size() != self.part {
                // The guess was wrong: who waits asks for what lies in the parts of the next one.
                return;
            }
            let Err(error) = self.stream(store, held, range).await else {
                return check_whole(store, &self.target).await;
            };
            if error.kind == ErrorKind::Corrupt && corrupt < CORRUPT_MAX {
                corrupt += 1;
                tracing::warn!(key = %self.target.key, %error, "a wrong answer is asked for again");
            } else if let Some(size) = self.part.filter(|_| error.kind == ErrorKind::Unsupported) {
                self.target.remote.parts.refute(size);
            } else {
                let error = Arc::new(error);
                return self.leads.for_each(|lead| lead.publish(Err(Arc::clone(&error))));
            }
        }
    }

    /// What is to be asked for: the blocks that are not published, or the whole part where a range of it has no checksum.
    fn range(&self) -> Option<Range<u64>> {
        let (first, last) = self.leads.as_slice().first().zip(self.leads.as_slice().last())?;
        let size = self.target.remote.version.size;
        let blocks = first.key().range(size).start()..last.key().range(size).end();
        Some(widened(&blocks, self.part.filter(|_| self.always_checked), size))
    }

    async fn stream(
        &mut self,
        store: &dyn ObjectStore,
        held: &Semaphore,
        range: Range<u64>,
    ) -> store::Result<()> {
        let remote = Arc::clone(&self.target.remote);
        let size = remote.version.size;
        let whole = range == (0..size);
        let part = self.part.filter(|_| !whole).and_then(|part| PartLayout::number(part, &range, size));
        let blocks = u32::try_from(self.leads.len()).unwrap_or(u32::MAX);
        let _room = if whole || part.is_some() { held.acquire_many(blocks).await.ok() } else { None };
        let if_match = Some(remote.version.etag.clone());
        let request = GetRequest { range: (!whole).then(|| range.clone()), if_match, part };
        let mut response = store.get(&self.target.key, request).await?;
        // One PUT without a checksum has none on the whole either.
        remote.unchecked.fetch_or(!response.checked && !whole, Ordering::AcqRel);
        let mut fetched = Vec::new();
        let received = self.receive(&mut response, range, &mut fetched).await;
        // A checksum stands at the end of its body: nobody sees a byte before that.
        if received.is_ok() || !response.checked {
            land(&self.target, &mut self.leads, fetched);
        }
        received
    }

    /// Takes the body of `range` block by block, drops what is not to be published, and lands what needs no checksum as
    /// it comes.
    async fn receive(
        &mut self,
        response: &mut store::GetResponse,
        range: Range<u64>,
        fetched: &mut Vec<Bytes>,
    ) -> store::Result<()> {
        let mut rest = Bytes::new();
        let leads = self.leads.as_slice();
        let wanted = leads.first().map(|lead| *lead.key())..=leads.last().map(|lead| *lead.key());
        for index in ByteRange::at(range.start, range.end - range.start).blocks() {
            let block = next_block(&self.target, response, &mut rest, index).await?;
            if wanted.contains(&Some(index)) {
                fetched.push(block);
            }
            if !response.checked && until_written(index) == 1 {
                land(&self.target, &mut self.leads, std::mem::take(fetched));
            }
        }
        response.body.next().await.transpose()?;
        Ok(())
    }
}

/// An object of which some ranges came without a checksum is compared with the bucket's when it is whole. If it is
/// not the same nobody can tell which block is wrong: all of them are fetched again.
async fn check_whole(store: &dyn ObjectStore, target: &Target) {
    let remote = &target.remote;
    if !remote.unchecked.load(Ordering::Acquire) || !target.object.is_whole() {
        return;
    }
    let info = match store.head(&target.key).await {
        Ok(info) => info,
        Err(error) => {
            return tracing::warn!(key = %target.key, %error, "the checksum of an object cannot be asked for now");
        }
    };
    let expected = info.crc64nvme.filter(|_| info.version.same_bytes(&remote.version));
    if let (Some(expected), Some(found)) = (expected, target.object.crc64nvme())
        && expected != found
    {
        tracing::error!(key = %target.key, "the local copy is not the object; it is fetched again");
        remote.spoiled.store(true, Ordering::Release);
        return target.object.discard_blocks();
    }
    remote.unchecked.store(false, Ordering::Release);
}

/// The bytes of the next block of a body, in memory of its own: blocks are held, and one that shared memory with what came
/// with it would hold that too. `rest` is what came beyond the block before.
async fn next_block(
    target: &Target,
    response: &mut store::GetResponse,
    rest: &mut Bytes,
    index: BlockIndex,
) -> store::Result<Bytes> {
    let wanted = length_of(index, target);
    let mut block = BytesMut::with_capacity(wanted);
    loop {
        block.extend_from_slice(&rest.split_to(rest.len().min(wanted - block.len())));
        if block.len() == wanted {
            return Ok(block.freeze());
        }
        let Some(chunk) = response.body.next().await else {
            let (kind, message) = (ErrorKind::Corrupt, "the body ended before its length");
            return Err(store::Error::new(kind, store::Op::Get, Some(&target.key), message));
        };
        *rest = chunk?;
    }
}

fn length_of(index: BlockIndex, target: &Target) -> usize {
    local(index.range(target.remote.version.size).len())
}

/// Keeps blocks, those that lie in one MiB in one write, and publishes them.
fn land(target: &Target, leads: &mut std::vec::IntoIter<BlockLead>, mut fetched: Vec<Bytes>) {
    while let Some(first) = leads.as_slice().first().map(|lead| *lead.key()).filter(|_| !fetched.is_empty()) {
        let together: Vec<Bytes> = fetched.drain(..until_written(first).min(fetched.len())).collect();
        if let Err(error) = target.object.fill(first, &together) {
            // Not kept: whoever waits has the bytes all the same.
            tracing::debug!(key = %target.key, block = %first, %error, "blocks not cached");
        }
        for (block, lead) in together.into_iter().zip(leads.by_ref()) {
            lead.publish(Ok(block));
        }
    }
}

/// Blocks from `index` to the end of those that are written together, at least one.
fn until_written(index: BlockIndex) -> usize {
    WRITTEN_TOGETHER - index.get() as usize % WRITTEN_TOGETHER
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
