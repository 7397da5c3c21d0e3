//! Sending a staged file: which parts, read from where.

use super::Vfs;
use super::commit::{BLOCK, blocking, checksums, crc, whole_crc};
use super::open::is_outdated;
use crate::error::{Error, Result};
use crate::inode::{Ino, Overlay, Stage, Stamp};
use crate::name::Key;
use crate::read::{Fetcher, Target};
use crate::store::{Condition, CopyRequest, Headers, Version};
use crate::write::{Extents, Job, Source, plan_overlay, plan_whole};
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use tarn_cache::BLOCK_SIZE;

/// CRC64NVME of each block of a file, where it was read whole.
type Checksums = Option<Arc<Vec<u64>>>;

impl Vfs {
    /// Sends a staged file under `key`. The checksums are there also if the store refused it.
    pub(super) async fn upload(
        &self,
        ino: Ino,
        key: &Key,
        stage: &Stage,
        stamp: &Stamp,
        headers: &Headers,
    ) -> (Result<Version>, Checksums) {
        let condition = match &stage.base {
            Some(version) => Condition::Matches(version.etag.clone()),
            None => Condition::Absent,
        };
        if let Some(overlay) = &stage.overlay {
            return (self.upload_layer(ino, key, stage, overlay, (stamp, headers, condition)).await, None);
        }
        match self.copy_on_server(key, stage, stamp, headers, &condition).await {
            Ok(Some((version, crcs))) => return (Ok(version), Some(crcs)),
            Ok(None) => {}
            Err(error) => return (Err(error), None),
        }
        let blocks = usize::try_from(stamp.size.div_ceil(BLOCK_SIZE)).unwrap_or(usize::MAX);
        let source = WholeSource { stage, crcs: Mutex::new(vec![0; blocks]) };
        let parts = plan_whole(stamp.size, self.options.part_size);
        let job = Job {
            file: &stage.file,
            key,
            headers,
            condition,
            size: stamp.size,
            parts,
            source: &source,
            base: None,
        };
        let result = self.uploader.upload(job).await;
        (result, Some(Arc::new(source.crcs.into_inner())))
    }

    /// Sends what changed of an object; the server copies the rest. Without a base to replace all is sent.
    async fn upload_layer(
        &self,
        ino: Ino,
        key: &Key,
        stage: &Stage,
        overlay: &Overlay,
        (stamp, headers, condition): (&Stamp, &Headers, Condition),
    ) -> Result<Version> {
        let (size, part_size) = (stamp.size, self.options.part_size);
        let (parts, from) = match &stage.base {
            Some(_) => (
                plan_overlay(size, overlay.base_len, &overlay.dirty, part_size),
                Some((key.clone(), overlay.base.version.etag.clone())),
            ),
            None => (plan_whole(size, part_size), None),
        };
        let source = OverlaySource {
            stage,
            fetcher: &self.fetcher,
            base: self.target(ino, &overlay.base)?,
            dirty: &overlay.dirty,
            base_len: overlay.base_len,
        };
        let job =
            Job { file: &stage.file, key, headers, condition, size, parts, source: &source, base: from };
        self.uploader.upload(job).await
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
            log: None,
        };
        match self.copy(request).await {
            Ok(version) => Ok(Some((version, Arc::new(crcs)))),
            // The source is gone or another version: our bytes are sent instead.
            Err(error) if is_outdated(&Error::Store(error.duplicate())) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
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
