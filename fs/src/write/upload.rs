//! Sends a file to the store: one PUT, or parts in parallel under one memory budget. Every upload that does not
//! complete is aborted.

use super::plan::{PartPlan, Piece};
use crate::error::{Error, Result};
use crate::name::Key;
use crate::store::{
    CompleteRequest, Condition, ETag, ErrorKind, Headers, ObjectStore, Part, PartKinds, PartSource, Upload,
    Version,
};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use std::ops::Range;
use std::sync::Arc;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Where an upload reads its bytes.
#[async_trait::async_trait]
pub trait Source: Send + Sync {
    /// Exactly the bytes of `range`; an error if the file has become shorter.
    async fn read(&self, range: Range<u64>) -> Result<Bytes>;
}

/// What the store has after an upload.
#[derive(Debug)]
pub struct Uploaded {
    /// The new version.
    pub version: Version,
}

/// Uploads for one mount.
#[derive(Debug)]
pub struct Uploader {
    store: Arc<dyn ObjectStore>,
    /// One permit for each KiB of part buffers.
    memory: Semaphore,
    memory_kib: u32,
    parallel: usize,
}

/// What is to be uploaded.
pub struct Job<'a> {
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

impl Uploader {
    /// An uploader that keeps at most `memory` bytes of parts and `parallel` requests under way.
    pub fn new(store: Arc<dyn ObjectStore>, memory: u64, parallel: usize) -> Self {
        let memory_kib = u32::try_from(memory / 1024).unwrap_or(u32::MAX >> 3).min(u32::MAX >> 3);
        Self { store, memory: Semaphore::new(memory_kib as usize), memory_kib, parallel }
    }

    /// Uploads; the object exists with these bytes when it returns.
    pub async fn upload(&self, job: Job<'_>) -> Result<Uploaded> {
        if job.parts.is_empty() {
            let _budget = self.budget(job.size).await?;
            let body = job.source.read(0..job.size).await?;
            let version = self.store.put(job.key, body, job.headers, job.condition).await?;
            return Ok(Uploaded { version });
        }
        let copies = job.parts.iter().any(|part| part.piece == Piece::Copy);
        let kinds = if copies { PartKinds::Copied } else { PartKinds::Sent };
        let upload = self.store.create_upload(job.key, job.headers, kinds).await?;
        match self.send(&upload, &job).await {
            Ok(version) => Ok(Uploaded { version }),
            Err(error) => {
                if let Err(abort) = self.store.abort_upload(&upload).await {
                    tracing::warn!(key = %job.key, %abort, "unfinished upload stays in the bucket");
                }
                Err(error)
            }
        }
    }

    async fn send(&self, upload: &Upload, job: &Job<'_>) -> Result<Version> {
        let numbered = job.parts.iter().zip(1u16..);
        let sends: Vec<_> =
            numbered.map(|(plan, number)| self.send_part(upload, number, plan, job)).collect();
        let mut parts: Vec<Part> = stream::iter(sends).buffer_unordered(self.parallel).try_collect().await?;
        parts.sort_by_key(|part| part.number);
        let request = CompleteRequest { upload: upload.clone(), parts, condition: job.condition.clone() };
        let version = self.store.complete_upload(request).await?;
        if version.size != job.size {
            let message = format!("{} bytes were sent, the object has {}", job.size, version.size);
            let op = crate::store::Op::CompleteUpload;
            return Err(crate::store::Error::new(ErrorKind::Corrupt, op, Some(job.key), message).into());
        }
        Ok(version)
    }

    async fn send_part(&self, upload: &Upload, number: u16, plan: &PartPlan, job: &Job<'_>) -> Result<Part> {
        match (plan.piece, &job.base) {
            (Piece::Copy, Some((key, etag))) => {
                let source =
                    PartSource::Copy { key: key.clone(), if_match: etag.clone(), range: plan.range.clone() };
                Ok(self.store.upload_part(upload, number, source).await?)
            }
            (Piece::Copy, None) | (Piece::Send, _) => {
                let _budget = self.budget(plan.range.end - plan.range.start).await?;
                let bytes = job.source.read(plan.range.clone()).await?;
                Ok(self.store.upload_part(upload, number, PartSource::Bytes(bytes)).await?)
            }
        }
    }

    /// Waits for memory. A part larger than the whole budget takes all of it, alone.
    async fn budget(&self, bytes: u64) -> Result<SemaphorePermit<'_>> {
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX).min(self.memory_kib);
        self.memory.acquire_many(kib).await.map_err(|_closed| Error::Internal("upload budget closed"))
    }
}
