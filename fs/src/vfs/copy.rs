//! `copy_file_range`: on the local disk where the bytes are there; an untouched copy of a whole object is made
//! by the server at the next commit, without an upload.

use super::Vfs;
use super::handle::FileHandle;
use super::write::{OBJECT_MAX, staged};
use crate::error::{Error, Result};
use crate::inode::{Content, Origin, RemoteFile};
use std::sync::Arc;
use tarn_cache::Access;

/// Bytes copied by one call, unless it is a whole file.
const CALL_MAX: u64 = 128 << 20;
/// Bytes of one step; also the most that a reply of `FUSE_COPY_FILE_RANGE` can say is above it.
const STEP: u64 = 4 << 20;
/// The reply holds 32 bits.
const WHOLE_MAX: u64 = 2 << 30;

impl Vfs {
    /// Copies a range between open files; gives the number of bytes copied, 0 at the end of the source.
    pub async fn copy_file_range(&self, from: (u64, u64), to: (u64, u64), length: u64) -> Result<u32> {
        let (source, sink) = (self.file_handle(from.0)?, self.file_handle(to.0)?);
        if !sink.writes {
            return Err(Error::BadHandle);
        }
        let size = source.inode.attr().size;
        let available = size.saturating_sub(from.1).min(length);
        let whole = from.1 == 0 && to.1 == 0 && available == size && size <= WHOLE_MAX;
        let length = if whole { size } else { available.min(CALL_MAX) };
        if to.1.checked_add(length).is_none_or(|end| end > OBJECT_MAX) {
            return Err(Error::TooLarge);
        }
        let origin = if whole { self.origin(&source, &sink) } else { None };
        let mut done = 0;
        while done < length {
            let step = (length - done).min(STEP);
            let copied = self.copy_step(&source, from.0, from.1 + done, &sink, to.1 + done, step).await?;
            if copied == 0 {
                break;
            }
            done += copied;
        }
        if let Some((key, remote)) = origin.filter(|_| done == size) {
            self.remember_origin(&sink, key, &remote)?;
        }
        self.note(&sink.inode);
        Ok(u32::try_from(done).unwrap_or(u32::MAX))
    }

    /// The object that the source is, if the sink is empty and would become the same.
    fn origin(&self, source: &FileHandle, sink: &FileHandle) -> Option<(crate::name::Key, Arc<RemoteFile>)> {
        let content = source.inode.file()?.state.lock().content.clone();
        let Content::Remote(remote) = content else { return None };
        (sink.inode.attr().size == 0).then_some(())?;
        Some((self.table.key(source.inode.ino).ok()?, remote))
    }

    fn remember_origin(&self, sink: &FileHandle, key: crate::name::Key, remote: &RemoteFile) -> Result<()> {
        let file = sink.inode.file().ok_or(Error::IsDirectory)?;
        let mut state = file.state.lock();
        let stage = staged(&mut state)?;
        let crc64nvme = remote.object.lock().as_ref().and_then(|object| object.crc64nvme());
        // Without a checksum of the source nothing proves later that the copy was left alone.
        stage.copied = crc64nvme.map(|crc64nvme| Origin { key, version: remote.version.clone(), crc64nvme });
        Ok(())
    }

    async fn copy_step(
        &self,
        source: &FileHandle,
        from_fh: u64,
        from: u64,
        sink: &FileHandle,
        to: u64,
        length: u64,
    ) -> Result<u64> {
        if let Some(local) = whole_file(source)? {
            let (mut read_at, mut write_at) = (from, to);
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            let file = sink.inode.file().ok_or(Error::IsDirectory)?;
            let mut state = file.state.lock();
            let stage = staged(&mut state)?;
            self.claim_up_to(stage, to + length as u64)?;
            let copied = rustix::fs::copy_file_range(
                &local,
                Some(&mut read_at),
                stage.file.staged.file(),
                Some(&mut write_at),
                length,
            );
            let copied = copied.map_err(std::io::Error::from)? as u64;
            stage.wrote(to..to + copied);
            return Ok(copied);
        }
        let bytes = self.read(from_fh, from, usize::try_from(length).unwrap_or(usize::MAX)).await?;
        let file = sink.inode.file().ok_or(Error::IsDirectory)?;
        let mut state = file.state.lock();
        let stage = staged(&mut state)?;
        self.claim_up_to(stage, to + bytes.len() as u64)?;
        stage.file.write(&bytes, to)?;
        stage.wrote(to..to + bytes.len() as u64);
        Ok(bytes.len() as u64)
    }
}

/// A descriptor of the source if all its bytes are on the local disk.
fn whole_file(source: &FileHandle) -> Result<Option<std::fs::File>> {
    let file = source.inode.file().ok_or(Error::IsDirectory)?;
    let content = file.state.lock().content.clone();
    Ok(match content {
        Content::Staged(stage) if stage.overlay.is_none() => Some(stage.file.staged.reopen(Access::Read)?),
        Content::Staged(_) => None,
        Content::Remote(remote) => {
            let slot = remote.object.lock();
            match slot.as_ref().filter(|object| object.is_whole()) {
                Some(object) => Some(object.open_whole(Access::Read)?),
                None => None,
            }
        }
    })
}
