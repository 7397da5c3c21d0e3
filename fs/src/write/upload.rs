//! Sends a file to the store: one PUT, or parts in parallel under one memory budget.
//!
//! A multipart upload is in the journal before it is begun. One that fails for a while goes on where it was, in this
//! process or the next: parts that the server has are not sent again if the file still holds their bytes. One
//! that can come to nothing is aborted.

use super::plan::{PartPlan, Piece};
use super::progress::Progress;
use crate::error::{Error, Result};
use crate::journal::StagedFile;
use crate::name::Key;
use crate::store::{
    self, Abandoned, CompleteRequest, Condition, CopyRequest, ETag, ErrorKind, Headers, ObjectStore, Part,
    PartKinds, PartSource, Upload, UploadLog, Version,
};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use std::ops::Range;
use std::sync::Arc;
use tarn_cache::Staged;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Uploads that the end of the mount drops once more, at most.
const UNDROPPED_MAX: usize = 1000;

/// Where an upload reads its bytes.
#[async_trait::async_trait]
pub trait Source: Send + Sync {
    /// Exactly the bytes of `range`; an error if the file has become shorter.
    async fn read(&self, range: Range<u64>) -> Result<Bytes>;
}

/// Uploads for one mount.
#[derive(Debug)]
pub struct Uploader {
    store: Arc<dyn ObjectStore>,
    /// One permit for each KiB of part buffers.
    memory: Semaphore,
    memory_kib: u32,
    parallel: usize,
    /// What is to be dropped once more: what the server would not drop, and what was asked for lately by a process that
    /// is gone, or without an answer, which the server may begin later still.
    undropped: Mutex<Vec<Progress>>,
    /// The records of some of these, for whoever comes after this process.
    records: Mutex<Vec<Staged>>,
}

/// What is to be uploaded.
pub struct Job<'a> {
    /// The staged file whose record says how far the upload is.
    pub file: &'a StagedFile,
    /// The key it becomes.
    pub key: &'a Key,
    /// Its headers.
    pub headers: &'a Headers,
    /// When it may take effect.
    pub condition: Condition,
    /// Length in bytes.
    pub size: u64,
    /// Parts; empty for one PUT.
    pub parts: Vec<PartPlan>,
    /// Where bytes come from.
    pub source: &'a dyn Source,
    /// The object that [`Piece::Copy`] parts are copied from.
    pub base: Option<(Key, ETag)>,
}

impl Job<'_> {
    fn base_tag(&self) -> Option<&ETag> {
        self.base.as_ref().map(|(_, etag)| etag)
    }
}

/// A multipart upload under way: what the journal knows of it, and how many parts of it were written there.
struct Running {
    upload: Upload,
    resumed: bool,
    progress: Mutex<(Progress, usize)>,
}

impl Uploader {
    /// An uploader that keeps at most `memory` bytes of parts and `parallel` requests under way.
    pub fn new(store: Arc<dyn ObjectStore>, memory: u64, parallel: usize) -> Self {
        let memory_kib = u32::try_from(memory / 1024).unwrap_or(u32::MAX >> 3).min(u32::MAX >> 3);
        Self {
            store,
            memory: Semaphore::new(memory_kib as usize),
            memory_kib,
            parallel,
            undropped: Mutex::default(),
            records: Mutex::default(),
        }
    }

    /// Uploads; the object exists with these bytes when it returns.
    pub async fn upload(&self, job: Job<'_>) -> Result<Version> {
        if job.parts.is_empty() {
            // The bytes come first: what stays is dropped at the end of the mount, or by the next.
            let _unfinished = self.abandon(job.file).await;
            let _budget = self.budget(job.size).await?;
            let body = job.source.read(0..job.size).await?;
            return Ok(self.store.put(job.key, body, job.headers, job.condition).await?);
        }
        let running = self.begin(&job).await?;
        let result = self.send(&running, &job).await;
        match &result {
            Ok(_) => note(job.file, None),
            Err(error) if goes_on(error) => {
                note(job.file, Some(running.progress.into_inner().0));
            }
            // What is left of it is dropped before the next attempt.
            Err(_) => _ = self.abandon(job.file).await,
        }
        match result {
            // The upload of an earlier attempt is gone: completed, if its answer was lost, or dropped by the server.
            Err(error) if running.resumed && is_gone(&error) => Err(lost(job.key, &error).into()),
            result => result,
        }
    }

    /// Copies an object on the server by an upload of copied parts, which is in the record of `file` meanwhile.
    pub async fn copy(&self, request: CopyRequest, file: &Arc<StagedFile>) -> store::Result<Version> {
        note(file, Some(Progress::asked(&request.to, &Headers::default(), Some(&request.if_match))));
        let log: Arc<dyn UploadLog> = Arc::<StagedFile>::clone(file);
        let copied = self.store.copy(CopyRequest { log: Some(log), ..request }).await;
        if let Err(error) = &copied {
            let is_begun =
                file.get(|record| record.upload.as_ref().is_some_and(|upload| upload.id.is_some()));
            if (is_begun || error.kind.may_pass()) && self.abandon(file).await.is_err() {
                file.staged.keep(true);
            }
        }
        copied
    }

    /// Drops the upload that the file's record speaks of, if it does. After an error that may pass the record still
    /// does.
    pub async fn abandon(&self, file: &StagedFile) -> Result<()> {
        let Some(progress) = file.get(|record| record.upload.clone()) else { return Ok(()) };
        self.drop_upload(&progress).await?;
        note(file, None);
        Ok(())
    }

    /// Drops an upload of ours. If that fails, the end of the mount tries again; what stays even so is only logged: the
    /// bucket's life-cycle rule takes it. An error that may pass is handed on.
    pub async fn drop_upload(&self, progress: &Progress) -> Result<()> {
        let abandoned = match progress.upload() {
            Some(upload) => Abandoned::Upload(upload),
            None => Abandoned::Asked { key: progress.key.clone(), at: progress.begun },
        };
        let dropped = self.store.abort_upload(&abandoned).await.map_err(Error::from);
        if let Err(error) = &dropped {
            tracing::warn!(key = %progress.key, %error, "an unfinished upload may stay in the bucket");
        }
        if dropped.is_err() || progress.id.is_none() {
            self.drop_later(progress);
        }
        dropped.or_else(|error| if goes_on(&error) { Err(error) } else { Ok(()) })
    }

    /// Lets the journal's record of an upload go that a killed process had under way and that was dropped here. While
    /// requests of that may still arrive, it waits for the end of the mount, which drops the upload once more: MinIO
    /// begins it later, or a late part brings its folder back.
    pub fn settle_record(&self, progress: &Progress, record: Staged) {
        if Abandoned::may_begin(progress.begun) {
            record.keep(true);
            self.records.lock().push(record);
            self.drop_later(progress);
        }
    }

    fn drop_later(&self, progress: &Progress) {
        let mut undropped = self.undropped.lock();
        undropped.retain(|known| is_to_drop(known) && known != progress);
        if undropped.len() < UNDROPPED_MAX {
            undropped.push(progress.clone());
        }
    }

    /// Drops once more what may still be there, or be there again. Not while anything is uploaded.
    pub async fn drop_rest(&self) {
        let undropped = std::mem::take(&mut *self.undropped.lock());
        let records = std::mem::take(&mut *self.records.lock());
        let mut dropped = true;
        for progress in undropped.iter().filter(|progress| is_to_drop(progress)) {
            dropped &= self.drop_upload(progress).await.is_ok();
        }
        records.iter().for_each(|record| record.keep(!dropped));
    }

    async fn begin(&self, job: &Job<'_>) -> Result<Running> {
        let before = job.file.get(|record| record.upload.clone());
        if let Some(progress) = &before
            && let Some(upload) = progress.resumable(job.key, job.headers, job.base_tag())
        {
            let noted = progress.parts.len();
            tracing::info!(key = %job.key, parts = noted, "an upload goes on where it was");
            return Ok(Running { upload, resumed: true, progress: Mutex::new((progress.clone(), noted)) });
        }
        self.abandon(job.file).await?;
        let mut progress = Progress::asked(job.key, job.headers, job.base_tag());
        note(job.file, Some(progress.clone()));
        let copies = job.parts.iter().any(|part| part.piece == Piece::Copy);
        let kinds = if copies { PartKinds::Copied } else { PartKinds::Sent };
        let upload = self.store.create_upload(job.key, job.headers, kinds).await?;
        progress.id = Some(upload.id.clone());
        note(job.file, Some(progress.clone()));
        Ok(Running { upload, resumed: false, progress: Mutex::new((progress, 0)) })
    }

    async fn send(&self, running: &Running, job: &Job<'_>) -> Result<Version> {
        let numbered = job.parts.iter().zip(1u16..);
        let sends: Vec<_> =
            numbered.map(|(plan, number)| self.send_part(running, number, plan, job)).collect();
        let mut parts: Vec<Part> = stream::iter(sends).buffer_unordered(self.parallel).try_collect().await?;
        parts.sort_by_key(|part| part.number);
        let upload = running.upload.clone();
        let request = CompleteRequest { upload, parts, condition: job.condition.clone() };
        let version = self.store.complete_upload(request).await?;
        if version.size != job.size {
            let message = format!("{} bytes were sent, the object has {}", job.size, version.size);
            let op = crate::store::Op::CompleteUpload;
            return Err(crate::store::Error::new(ErrorKind::Corrupt, op, Some(job.key), message).into());
        }
        Ok(version)
    }

    async fn send_part(
        &self,
        running: &Running,
        number: u16,
        plan: &PartPlan,
        job: &Job<'_>,
    ) -> Result<Part> {
        let done = running.progress.lock().0.done(number, plan).cloned();
        let part = match (plan.piece, &job.base) {
            (Piece::Copy, Some((key, etag))) => {
                if let Some(done) = done {
                    return Ok(Part::from(&done));
                }
                let source =
                    PartSource::Copy { key: key.clone(), if_match: etag.clone(), range: plan.range.clone() };
                self.store.upload_part(&running.upload, number, source).await?
            }
            (Piece::Copy, None) | (Piece::Send, _) => {
                let _budget = self.budget(plan.range.end - plan.range.start).await?;
                let bytes = job.source.read(plan.range.clone()).await?;
                if let Some(done) = done
                    && done.crc64nvme == Some(crc_fast::crc64_nvme(&bytes))
                {
                    return Ok(Part::from(&done));
                }
                self.store.upload_part(&running.upload, number, PartSource::Bytes(bytes)).await?
            }
        };
        let mut progress = running.progress.lock();
        let (known, noted) = &mut *progress;
        if known.add(&part, plan, *noted) {
            *noted = known.parts.len();
            note(job.file, Some(known.clone()));
        }
        Ok(part)
    }

    /// Waits for memory. A part larger than the whole budget takes all of it, alone.
    async fn budget(&self, bytes: u64) -> Result<SemaphorePermit<'_>> {
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX).min(self.memory_kib);
        self.memory.acquire_many(kib).await.map_err(|_closed| Error::Internal("upload budget closed"))
    }
}

/// Writes down how far the upload is. A full disk does not stop an upload; it only cannot be resumed.
fn note(file: &StagedFile, progress: Option<Progress>) {
    if let Err(error) = file.note(|record| record.upload = progress) {
        tracing::warn!(path = %file.staged.path().display(), %error, "the journal does not learn of an upload");
    }
}

impl UploadLog for StagedFile {
    fn begun(&self, upload: &Upload) {
        let progress = self.get(|record| record.upload.clone());
        note(self, progress.map(|asked| Progress { id: Some(upload.id.clone()), ..asked }));
    }
}

/// Whether a later attempt may go on with the same upload.
fn goes_on(error: &Error) -> bool {
    // Without an answer of the store the file became shorter while it was read; its other parts still count.
    error.store_kind().is_none_or(ErrorKind::may_pass)
}

/// Whether the upload may still be there. One without an id is found by its key for as long as it may begin.
fn is_to_drop(progress: &Progress) -> bool {
    progress.id.is_some() || Abandoned::may_begin(progress.begun)
}

fn is_gone(error: &Error) -> bool {
    matches!(error.store_kind(), Some(ErrorKind::NotFound | ErrorKind::Rejected))
}

/// Whoever gets this looks whether the object is there already, and uploads anew if it is not.
fn lost(key: &Key, error: &Error) -> crate::store::Error {
    let message = format!("the upload of an earlier attempt is gone: {error}");
    crate::store::Error::new(ErrorKind::NotFound, crate::store::Op::CompleteUpload, Some(key), message)
}
