//! Commits: a staged file becomes the object, if the object is still the one it was made from.

use super::Vfs;
use super::open::is_outdated;
use crate::clock;
use crate::error::{Error, Result};
use crate::inode::{Child, Committed, Content, File, Ino, Inode, RemoteFile, Stage, Stamp};
use crate::meta::{self, Posix};
use crate::name::Key;
use crate::read::{Fetcher, Target};
use crate::store::{Condition, CopyRequest, ErrorKind, Headers, Version};
use crate::write::{Extents, Job, Source, plan_overlay, plan_whole};
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use tarn_cache::BLOCK_SIZE;

/// Times a commit starts again because the file became shorter while it was read.
const COMMIT_TRIES: usize = 5;

/// What a commit sends, taken under the state lock.
struct Snapshot {
    key: Key,
    stage: Stage,
    stamp: Stamp,
    posix: Posix,
    headers: Headers,
    posix_changed: bool,
}

impl Vfs {
    /// Puts the file into the bucket as it is now; nothing to do if the bucket has it. The caller holds the
    /// namespace for reading.
    pub(super) async fn commit(&self, inode: &Inode) -> Result<()> {
        let Some(file) = inode.file() else { return Ok(()) };
        let _commit = file.commit.lock().await;
        for _ in 0..COMMIT_TRIES {
            let Some(snapshot) = self.snapshot(inode.ino, file)? else { return Ok(()) };
            let staged = Arc::clone(&snapshot.stage.file);
            let result = self.send(inode.ino, file, snapshot).await;
            // What did not reach the bucket outlives this process, as a file in the local store.
            staged.staged.keep(result.is_err() && !file.state.lock().superseded);
            match result {
                Err(Error::Disk(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => {}
                result => {
                    self.note(inode);
                    return result;
                }
            }
        }
        Err(Error::Internal("the file keeps shrinking while it is uploaded"))
    }

    fn snapshot(&self, ino: Ino, file: &File) -> Result<Option<Snapshot>> {
        let mut state = file.state.lock();
        if state.superseded {
            return Err(Error::Stale(
                "another client changed the object; these bytes are kept beside it".into(),
            ));
        }
        let Content::Staged(stage) = &state.content else { return Ok(None) };
        // A removed file has no key: its bytes go with the last handle.
        let Ok(key) = self.table.key(ino) else { return Ok(None) };
        let (stage, stamp) = (Stage::clone(stage), Stamp::of(stage.file.staged.file())?);
        let posix = state.written(stamp.modified());
        state.posix_changed |= posix != state.posix;
        state.posix = posix;
        let (headers, posix_changed) = (state.headers.clone(), state.posix_changed);
        Ok(Some(Snapshot { key, stage, stamp, posix, headers, posix_changed }))
    }

    async fn send(&self, ino: Ino, file: &File, snapshot: Snapshot) -> Result<()> {
        let Snapshot { key, stage, stamp, posix, mut headers, posix_changed } = snapshot;
        // Attributes that cannot be kept were refused when they were set. If the times of a write find no room
        // beside another client's metadata, the bytes go without them.
        match meta::write(&posix, &mut headers, self.options.defaults.attributes) {
            Ok(()) | Err(Error::NoRoom) => {}
            Err(error) => return Err(error),
        }
        let unchanged = is_unchanged(&stage, &stamp).await?;
        let known = || {
            let committed = stage.committed.as_ref();
            (committed.and_then(|known| known.crc64nvme), committed.and_then(|known| known.crcs.clone()))
        };
        let (version, (crc64nvme, crcs)) = match (&stage.base, unchanged) {
            (Some(base), true) if posix_changed => {
                let copied =
                    self.copy_onto_itself(ino, &RemoteFile::new(base.clone()), headers.clone()).await?;
                (copied.version.clone(), known())
            }
            (Some(base), true) => (base.clone(), known()),
            (Some(_), false) | (None, _) => match self.upload(ino, &key, &stage, &stamp, &headers).await {
                Ok((version, crcs)) => {
                    let crc64nvme = crcs.as_ref().map(|crcs| whole_crc(crcs, stamp.size));
                    (version, (crc64nvme, crcs))
                }
                Err(error) if error.store_kind() == Some(ErrorKind::Precondition) => {
                    match self.arrived_before(&key, &stage, &stamp).await? {
                        Some((version, crc64nvme)) => (version, (Some(crc64nvme), None)),
                        None => return Err(self.conflict(ino, file, &key, &stage, &headers).await),
                    }
                }
                Err(error) => return Err(error),
            },
        };
        self.published(ino, &version);
        let mut state = file.state.lock();
        state.headers = headers;
        state.checked = clock::instant();
        if state.posix == posix {
            state.posix_changed = false;
        }
        if let Content::Staged(current) = &mut state.content {
            if let Some(overlay) = &mut current.overlay {
                let object = if unchanged { overlay.base.object.lock().clone() } else { None };
                overlay.base = Arc::new(RemoteFile::with_object(version.clone(), object));
                // What was written meanwhile is not in the new base: then all dirty ranges stay dirty.
                if !unchanged && current.writes == stage.writes {
                    overlay.dirty = Extents::default();
                    overlay.base_len = stamp.size;
                }
            }
            current.base = Some(version);
            current.committed = Some(Committed { stamp, writes: stage.writes, crc64nvme, crcs });
            current.copied = None;
        }
        Ok(())
    }

    async fn upload(
        &self,
        ino: Ino,
        key: &Key,
        stage: &Stage,
        stamp: &Stamp,
        headers: &Headers,
    ) -> Result<(Version, Option<Arc<Vec<u64>>>)> {
        let condition = match &stage.base {
            Some(version) => Condition::Matches(version.etag.clone()),
            None => Condition::Absent,
        };
        let part_size = self.options.part_size;
        if let Some(overlay) = &stage.overlay {
            let base = self.target(ino, &overlay.base)?;
            let parts = plan_overlay(stamp.size, overlay.base_len, &overlay.dirty, part_size);
            let from = Some((key.clone(), overlay.base.version.etag.clone()));
            let source = OverlaySource {
                stage,
                fetcher: &self.fetcher,
                base,
                dirty: &overlay.dirty,
                base_len: overlay.base_len,
            };
            let job = Job { key, headers, condition, size: stamp.size, parts, source: &source, base: from };
            return Ok((self.uploader.upload(job).await?.version, None));
        }
        if let Some((version, crcs)) = self.copy_on_server(key, stage, stamp, headers, &condition).await? {
            return Ok((version, Some(crcs)));
        }
        let blocks = usize::try_from(stamp.size.div_ceil(BLOCK_SIZE)).unwrap_or(usize::MAX);
        let source = WholeSource { stage, crcs: Mutex::new(vec![0; blocks]) };
        let parts = plan_whole(stamp.size, part_size);
        let job = Job { key, headers, condition, size: stamp.size, parts, source: &source, base: None };
        let uploaded = self.uploader.upload(job).await?;
        Ok((uploaded.version, Some(Arc::new(source.crcs.into_inner()))))
    }

    /// A file that is still the copy of an object: the server makes it without an upload.
    async fn copy_on_server(
        &self,
        key: &Key,
        stage: &Stage,
        stamp: &Stamp,
        headers: &Headers,
        condition: &Condition,
    ) -> Result<Option<(Version, Arc<Vec<u64>>)>> {
        let Some(origin) = &stage.copied else { return Ok(None) };
        if stamp.size != origin.version.size || stamp.size <= self.options.part_size {
            return Ok(None);
        }
        let crcs = checksums(stage, stamp.size).await?;
        if whole_crc(&crcs, stamp.size) != origin.crc64nvme {
            return Ok(None);
        }
        let request = CopyRequest {
            from: origin.key.clone(),
            if_match: origin.version.etag.clone(),
            size: origin.version.size,
            to: key.clone(),
            condition: condition.clone(),
            headers: Some(headers.clone()),
        };
        match self.store.copy(request).await {
            Ok(version) => Ok(Some((version, Arc::new(crcs)))),
            // The source is gone or another version: our bytes are sent instead.
            Err(error) if is_outdated(&Error::Store(error.duplicate())) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The version that a worker which was killed has committed already: these very bytes.
    async fn arrived_before(
        &self,
        key: &Key,
        stage: &Stage,
        stamp: &Stamp,
    ) -> Result<Option<(Version, u64)>> {
        let Some(found) = self.head_if_any(key).await? else { return Ok(None) };
        if stage.overlay.is_some() || found.version.size != stamp.size {
            return Ok(None);
        }
        let ours = whole_crc(&checksums(stage, stamp.size).await?, stamp.size);
        Ok((found.crc64nvme == Some(ours)).then_some((found.version, ours)))
    }

    /// Somebody else changed the object: theirs stays, ours is kept beside it, and the caller is told.
    async fn conflict(&self, ino: Ino, file: &File, key: &Key, stage: &Stage, headers: &Headers) -> Error {
        let kept = match self.conflict_key(key) {
            Ok(kept) => kept,
            Err(error) => return error,
        };
        let mut ours = stage.clone();
        ours.base = None;
        ours.copied = None;
        let stamp = match Stamp::of(ours.file.staged.file()) {
            Ok(stamp) => stamp,
            Err(error) => return error.into(),
        };
        match self.upload(ino, &kept, &ours, &stamp, headers).await {
            Ok(_) => {
                tracing::warn!(%key, %kept, "conflict: another client changed the object; local bytes kept");
                self.note_conflict(key.to_string(), kept.to_string());
            }
            Err(error) => {
                // The staged file stays, and so does the inode: the next flush tries again.
                tracing::error!(%key, %error, "conflict: local bytes could not be kept in the bucket yet");
                return error;
            }
        }
        file.state.lock().superseded = true;
        if let Some(place) = self.table.place(ino) {
            self.forget_listing(place.parent);
        }
        self.table.remove(ino);
        Error::Stale(format!("another client changed {key}; these bytes are kept as {kept}"))
    }

    fn conflict_key(&self, key: &Key) -> Result<Key> {
        let seconds = clock::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let count = self.conflicts.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let suffix = format!(".conflict-{}-{seconds}-{count}", self.options.host);
        Ok(Key::parse(&format!("{}{suffix}", key.as_str()))?)
    }

    /// Notes a version that this mount just wrote in the listing of its directory.
    pub(super) fn published(&self, ino: Ino, version: &Version) {
        if let Some(place) = self.table.place(ino) {
            self.learned(place.parent);
            self.entry_changed(place.parent, &place.name, Some(Child::Object(version.clone())));
        }
    }

    pub(super) fn forget_listing(&self, parent: Ino) {
        if let Ok(inode) = self.table.inode(parent)
            && let Some(directory) = inode.directory()
        {
            let mut state = directory.state.lock();
            state.changes += 1;
            state.absent.clear();
            *directory.listing.lock() = None;
        }
    }
}

/// Whether the bucket has the staged file's bytes. Where size and times do not prove it, checksums do.
async fn is_unchanged(stage: &Stage, stamp: &Stamp) -> Result<bool> {
    let Some(committed) = &stage.committed else { return Ok(false) };
    if stage.overlay.is_some() || committed.writes != stage.writes {
        return Ok(committed.writes == stage.writes);
    }
    if committed.stamp.proves_unchanged(stamp) {
        return Ok(true);
    }
    match committed.crc64nvme {
        Some(crc64nvme) if committed.stamp.size == stamp.size => {
            Ok(whole_crc(&checksums(stage, stamp.size).await?, stamp.size) == crc64nvme)
        }
        Some(_) | None => Ok(false),
    }
}

/// CRC64NVME of each block of a staged file, as it is now.
pub(super) async fn checksums(stage: &Stage, size: u64) -> Result<Vec<u64>> {
    let file = Arc::clone(&stage.file);
    blocking(move || {
        let mut buffer = vec![0; 4 * BLOCK];
        let mut crcs = Vec::new();
        let mut at = 0;
        while at < size {
            let length = buffer.len().min(usize::try_from(size - at).unwrap_or(usize::MAX));
            file.staged.file().read_exact_at(&mut buffer[..length], at)?;
            crcs.extend(buffer[..length].chunks(BLOCK).map(crc));
            at += length as u64;
        }
        Ok(crcs)
    })
    .await
}

const BLOCK: usize = BLOCK_SIZE as usize;

fn crc(block: &[u8]) -> u64 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, block)
}

/// CRC64NVME of a whole file from those of its blocks.
pub(super) fn whole_crc(crcs: &[u64], size: u64) -> u64 {
    let algorithm = crc_fast::CrcAlgorithm::Crc64Nvme;
    let mut left = size;
    crcs.iter().fold(crc(&[]), |whole, block| {
        let length = left.min(BLOCK_SIZE);
        left -= length;
        crc_fast::checksum_combine(algorithm, whole, *block, length)
    })
}

/// Runs disk I/O that may take long off the request threads.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_panicked| Error::Internal("a disk task ended early"))?
}

/// A staged file that holds every byte.
struct WholeSource<'a> {
    stage: &'a Stage,
    /// CRC64NVME by block, filled in as parts are read.
    crcs: Mutex<Vec<u64>>,
}

#[async_trait::async_trait]
impl Source for WholeSource<'_> {
    async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        let file = Arc::clone(&self.stage.file);
        let first = usize::try_from(range.start / BLOCK_SIZE).unwrap_or(usize::MAX);
        let (bytes, crcs) = blocking(move || {
            let mut bytes = BytesMut::zeroed(usize::try_from(range.end - range.start).unwrap_or(usize::MAX));
            file.staged.file().read_exact_at(&mut bytes, range.start)?;
            let crcs: Vec<u64> = bytes.chunks(BLOCK).map(crc).collect();
            Ok((bytes.freeze(), crcs))
        })
        .await?;
        self.crcs.lock()[first..first + crcs.len()].copy_from_slice(&crcs);
        Ok(bytes)
    }
}

/// Changed ranges over a base version.
struct OverlaySource<'a> {
    stage: &'a Stage,
    fetcher: &'a Fetcher,
    base: Target,
    dirty: &'a Extents,
    base_len: u64,
}

#[async_trait::async_trait]
impl Source for OverlaySource<'_> {
    async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        let pieces = self.dirty.split(range);
        super::read::read_layers(&self.stage.file, self.fetcher, &self.base, self.base_len, pieces).await
    }
}
