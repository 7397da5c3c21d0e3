//! Commits: a staged file becomes the object, if the object is still the one it was made from.

use super::Vfs;
use crate::error::{Error, Result};
use crate::inode::{Child, Committed, Content, File, Ino, Inode, RemoteFile, Stage, Stamp};
use crate::journal::{self, Base, Layer, Record, State, Sum};
use crate::meta::{self, Posix};
use crate::name::Key;
use crate::store::{ErrorKind, Headers, Version};
use crate::write::Extents;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use tarn_cache::BLOCK_SIZE;

/// Times a commit starts again: the file became shorter while it was read, an upload was gone, or the key was busy.
const COMMIT_TRIES: usize = 5;

/// What a commit sends, taken under the state lock.
pub(super) struct Snapshot {
    pub(super) key: Key,
    pub(super) stage: Stage,
    pub(super) stamp: Stamp,
    pub(super) posix: Posix,
    pub(super) headers: Headers,
    pub(super) posix_changed: bool,
    /// [`Record::closes`] at that time.
    pub(super) closes: u64,
    /// [`Record::attempts`] at that time.
    attempts: Vec<String>,
}

/// What the bucket has after a commit.
struct Sent {
    version: Version,
    crc64nvme: Option<u64>,
    crcs: Option<Arc<Vec<u64>>>,
}

impl Vfs {
    /// Puts the file into the bucket as it is now; nothing to do if the bucket has it. The caller holds the
    /// inode.
    pub(super) async fn commit(&self, inode: &Inode) -> Result<()> {
        let Some(file) = inode.file() else { return Ok(()) };
        let _commit = file.commit.lock().await;
        self.commit_locked(inode, file).await
    }

    /// The same for who holds [`File::commit`].
    pub(super) async fn commit_locked(&self, inode: &Inode, file: &File) -> Result<()> {
        for _ in 0..COMMIT_TRIES {
            let Some(snapshot) = self.snapshot(inode.ino, file)? else { return Ok(()) };
            match self.send(inode.ino, file, snapshot).await {
                Err(Error::Disk(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => {}
                Err(error) if error.store_kind() == Some(ErrorKind::NotFound) => {
                    tracing::debug!(ino = inode.ino.0, %error, "the upload was gone");
                }
                Ok(ControlFlow::Continue(())) => {}
                result => {
                    if let (Err(error), Content::Staged(stage)) = (&result, &mut file.state.lock().content) {
                        // What was refused here was never sent.
                        stage.unsure |= !matches!(error, Error::Quota(_));
                    }
                    self.note(inode);
                    return result.map(|_done| ());
                }
            }
        }
        Err(Error::Internal("the file keeps changing while it is uploaded, or others keep its key busy"))
    }

    /// The file as it is now; `None` if there is nothing to send.
    pub(super) fn snapshot(&self, ino: Ino, file: &File) -> Result<Option<Snapshot>> {
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
        let mut headers = state.headers.clone();
        if headers.content_type.is_none() {
            headers.content_type = meta::media_type(&key).map(str::to_owned);
        }
        // Attributes that cannot be kept were refused when they were set. If the times of a write find no room
        // beside another client's metadata, the bytes go without them.
        match meta::write(&posix, &mut headers, self.options.defaults.attributes) {
            Ok(()) | Err(Error::NoRoom) => {}
            Err(error) => return Err(error),
        }
        let posix_changed = state.posix_changed;
        let (closes, attempts) = stage.file.get(|record| (record.closes, record.attempts.clone()));
        Ok(Some(Snapshot { key, stage, stamp, posix, headers, posix_changed, closes, attempts }))
    }

    /// One try. It goes on with another if the file rests on another version now.
    async fn send(&self, ino: Ino, file: &File, snapshot: Snapshot) -> Result<ControlFlow<()>> {
        let unchanged = is_unchanged(&snapshot.stage, &snapshot.stamp).await?;
        let sent = match snapshot.stage.base.clone().filter(|_| unchanged) {
            Some(version) if !snapshot.posix_changed => snapshot.known(version),
            base => {
                if let Err(error) = snapshot.stage.file.note(|record| snapshot.attempt(record)) {
                    // Without room for its record the file can still get into the bucket, which is better.
                    tracing::warn!(key = %snapshot.key, %error, "the journal does not learn of a commit");
                }
                self.must_fit(&snapshot, base.as_ref())?;
                match self.bring(ino, file, &snapshot, base).await? {
                    ControlFlow::Break(sent) => sent,
                    ControlFlow::Continue(()) => return Ok(ControlFlow::Continue(())),
                }
            }
        };
        self.published(ino, &sent.version);
        self.committed(file, &snapshot, unchanged, sent);
        self.finish_rename(&snapshot.stage.file).await?;
        Ok(ControlFlow::Break(()))
    }

    /// Makes the object: of the same bytes in the bucket if `base` is given, by an upload otherwise. To be done again
    /// if what an earlier attempt had sent was there, on which the file rests now.
    async fn bring(
        &self,
        ino: Ino,
        file: &File,
        snapshot: &Snapshot,
        base: Option<Version>,
    ) -> Result<ControlFlow<Sent>> {
        let Snapshot { key, stage, stamp, headers, .. } = snapshot;
        let (result, crc64nvme, crcs) = match base {
            Some(version) => {
                let known = snapshot.known(version.clone());
                let copied = self.copy_onto_itself(ino, &RemoteFile::new(version), headers.clone()).await;
                (copied.map(|copied| copied.version.clone()), known.crc64nvme, known.crcs)
            }
            None => {
                let (result, crcs) = self.upload(ino, key, stage, stamp, headers).await;
                let crc64nvme = crcs.as_ref().map(|crcs| whole_crc(crcs, stamp.size));
                (result, crc64nvme, crcs)
            }
        };
        let version = match result {
            Ok(version) => ControlFlow::Break(version),
            Err(error) => self.refused((ino, file), snapshot, crc64nvme, error).await?,
        };
        Ok(version.map_break(|version| Sent { version, crc64nvme, crcs }))
    }

    /// Takes note of a commit, in memory and in the journal.
    fn committed(&self, file: &File, snapshot: &Snapshot, unchanged: bool, sent: Sent) {
        let Snapshot { stage, stamp, posix, headers, closes, .. } = snapshot;
        let Sent { version, crc64nvme, crcs } = sent;
        let sum = crc64nvme.filter(|_| stage.overlay.is_none());
        let noted = stage.file.note(|record| {
            record.base = Some(Base::from(&version));
            record.headers = headers.clone();
            record.modified = journal::nanoseconds(stamp.modified());
            if record.closes == *closes && record.state != State::Removed {
                record.state = State::Committed;
                record.attempts.clear();
                record.sum = sum.map(|crc64nvme| Sum { size: stamp.size, crc64nvme });
            }
        });
        if let Err(error) = noted {
            tracing::warn!(key = %snapshot.key, %error, "the journal does not learn that a file was committed");
        }
        let mut state = file.state.lock();
        self.count_commit(snapshot, &version);
        state.headers = headers.clone();
        state.made();
        if state.posix == *posix {
            state.posix_changed = false;
        }
        if let Content::Staged(current) = &mut state.content {
            current.rest_on(version, unchanged);
            // What was written meanwhile is not in the new base: then all dirty ranges stay dirty.
            let all_sent = !unchanged && current.writes == stage.writes;
            if let Some(overlay) = current.overlay.as_mut().filter(|_| all_sent) {
                overlay.dirty = Extents::default();
                overlay.base_len = stamp.size;
            }
            current.unsure = false;
            current.committed = Some(Committed { stamp: *stamp, writes: stage.writes, crc64nvme, crcs });
            current.copied = None;
        }
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

impl Snapshot {
    /// The version, with the checksums that were computed when it was committed.
    fn known(&self, version: Version) -> Sent {
        let committed = self.stage.committed.as_ref();
        Sent {
            version,
            crc64nvme: committed.and_then(|known| known.crc64nvme),
            crcs: committed.and_then(|known| known.crcs.clone()),
        }
    }

    /// Whether an earlier commit of the file carried this `file-ctime`, and its answer was never heard.
    pub(super) fn attempted(&self, time: &str) -> bool {
        self.attempts.iter().any(|attempt| attempt == time)
    }

    /// Bytes that an upload has to send.
    pub(super) fn bytes(&self) -> u64 {
        match &self.stage.overlay {
            Some(overlay) => overlay.dirty.iter().map(|range| range.end - range.start).sum(),
            None => self.stamp.size,
        }
    }

    /// Whether the bucket certainly has all of this already.
    pub(super) fn is_committed(&self) -> bool {
        let committed = self.stage.committed.as_ref();
        !self.posix_changed
            && committed.is_some_and(|known| {
                known.writes == self.stage.writes && known.stamp.proves_unchanged(&self.stamp)
            })
    }

    /// The same, and that it is about to be sent.
    fn attempt(&self, record: &mut Record) {
        self.close(record);
        record.attempted(&self.headers);
    }

    /// Writes down that the file, as it is here, must get into the bucket.
    pub(super) fn close(&self, record: &mut Record) {
        if record.state == State::Removed {
            return;
        }
        record.state = State::Closed;
        record.headers = self.headers.clone();
        record.modified = journal::nanoseconds(self.stamp.modified());
        record.sum = None;
        record.layer = self
            .stage
            .overlay
            .as_ref()
            .map(|overlay| Layer { base_len: overlay.base_len, dirty: overlay.dirty.iter().collect() });
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

pub(super) const BLOCK: usize = BLOCK_SIZE as usize;

pub(super) fn crc(block: &[u8]) -> u64 {
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
    #[cfg(test)]
    if crate::clock::simulated::is_on() {
        crate::clock::simulated::disk().await;
        return work();
    }
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_panicked| Error::Internal("a disk task ended early"))?
}
