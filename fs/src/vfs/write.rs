//! Writing through tarn, truncation, flush and fsync.

use super::Vfs;
use super::namespace::Use;
use crate::error::{Error, Result};
use crate::inode::{Content, FileState, Ino, Inode, Node, Stage};
use crate::session_log::Record;
use crate::write::Extents;
use std::sync::Arc;

/// The largest object that S3 holds.
pub(super) const OBJECT_MAX: u64 = 5 << 40;

impl Vfs {
    /// Writes at `offset`.
    pub fn write(&self, fh: u64, offset: u64, data: &[u8]) -> Result<()> {
        let handle = self.file_handle(fh)?;
        let file = handle.inode.file().ok_or(Error::IsDirectory)?;
        if !handle.writes {
            return Err(Error::BadHandle);
        }
        let end =
            offset.checked_add(data.len() as u64).filter(|end| *end <= OBJECT_MAX).ok_or(Error::TooLarge)?;
        let mut state = file.state.lock();
        state.drop_capabilities();
        let stage = staged(&mut state)?;
        self.claim_up_to(stage, end)?;
        stage.file.write(data, offset)?;
        stage.wrote(offset..end);
        if stage.overlay.is_some() {
            self.log.note(|| Record::Dirty { ino: handle.inode.ino.0, start: offset, end });
        }
        Ok(())
    }

    /// Sets the length. The caller holds the inode.
    pub(super) async fn truncate(&self, inode: &Arc<Inode>, size: u64) -> Result<()> {
        if size > OBJECT_MAX {
            return Err(Error::TooLarge);
        }
        let Node::File(file) = &inode.node else { return Err(Error::IsDirectory) };
        let _op = file.op.lock().await;
        self.stage(inode, file, size == 0).await?;
        {
            let mut state = file.state.lock();
            state.drop_capabilities();
            let stage = staged(&mut state)?;
            self.claim_up_to(stage, size)?;
            set_len(stage, size)?;
        }
        self.note(inode);
        Ok(())
    }

    /// Keeps what was written (`FUSE_FLUSH`, sent by every close): in the bucket, or in the journal.
    pub async fn flush(self: &Arc<Self>, fh: u64) -> Result<()> {
        let handle = self.file_handle(fh)?;
        if !handle.writes {
            return Ok(());
        }
        let _held = self.hold(&[Use::Inode(handle.inode.ino)]).await;
        self.close(&handle.inode).await
    }

    /// Puts what was written, through whichever handle, into the bucket (`FUSE_FSYNC`).
    pub async fn fsync(&self, fh: u64) -> Result<()> {
        let handle = self.file_handle(fh)?;
        let _held = self.hold(&[Use::Inode(handle.inode.ino)]).await;
        if handle.writes || self.is_pending(&handle.inode) {
            self.commit(&handle.inode).await
        } else {
            Ok(())
        }
    }

    /// Puts the files of a directory that wait for their upload into the bucket (`FUSE_FSYNCDIR`).
    pub async fn fsyncdir(&self, ino: Ino) -> Result<()> {
        let _held = self.hold(&[Use::Inode(ino)]).await;
        for (_, inode) in self.table.children(ino) {
            if self.is_pending(&inode) {
                self.commit(&inode).await?;
            }
        }
        Ok(())
    }
}

/// The staged file behind a writable handle.
pub(super) fn staged(state: &mut FileState) -> Result<&mut Stage> {
    match &mut state.content {
        Content::Staged(stage) => Ok(stage),
        Content::Remote(_) => Err(Error::Internal("a writable handle without a staged file")),
    }
}

/// Shrinks or grows; what is grown reads as zeros.
pub(super) fn set_len(stage: &mut Stage, size: u64) -> Result<()> {
    stage.file.set_len(size)?;
    stage.writes += 1;
    if let Some(overlay) = &mut stage.overlay {
        overlay.dirty.truncate(size);
        overlay.base_len = overlay.base_len.min(size);
        if size == 0 {
            overlay.dirty = Extents::default();
            stage.overlay = None;
        }
    }
    Ok(())
}
