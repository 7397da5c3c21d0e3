//! Reading through tarn: what the kernel does not read by itself.

use super::Vfs;
use super::open::is_outdated;
use crate::clock;
use crate::error::{Error, Result};
use crate::inode::{Content, Ino, Overlay};
use crate::journal::StagedFile;
use crate::read::{Fetcher, Target};
use bytes::{Bytes, BytesMut};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use tarn_cache::Lookup;

impl Vfs {
    /// Reads into `buffer` if that needs no waiting; `None` if it does. Fewer bytes are the end of the file.
    pub fn read_now(&self, fh: u64, offset: u64, buffer: &mut [u8]) -> Result<Option<usize>> {
        let handle = self.file_handle(fh)?;
        let file = handle.inode.file().ok_or(Error::IsDirectory)?;
        let content = file.state.lock().content.clone();
        match content {
            Content::Staged(stage) if stage.overlay.is_none() => {
                Ok(Some(read_full(stage.file.staged.file(), buffer, offset)?))
            }
            Content::Staged(_) => Ok(None),
            Content::Remote(remote) => {
                let range = clip(offset, buffer.len(), remote.version.size);
                let target = self.target(handle.inode.ino, &remote)?;
                let length = size(range.end - range.start);
                if length == 0 {
                    return Ok(Some(0));
                }
                match target.object.read(range.start, &mut buffer[..length])? {
                    Lookup::Hit => {
                        if !target.object.is_whole() {
                            self.fetcher.fetch_ahead(&target, &range);
                        }
                        Ok(Some(length))
                    }
                    Lookup::Miss => Ok(None),
                }
            }
        }
    }

    /// Reads, fetching what is missing. Fewer bytes than asked for are the end of the file.
    pub async fn read(&self, fh: u64, offset: u64, length: usize) -> Result<Bytes> {
        let handle = self.file_handle(fh)?;
        let file = handle.inode.file().ok_or(Error::IsDirectory)?;
        let content = file.state.lock().content.clone();
        let bytes = match content {
            Content::Staged(stage) => match &stage.overlay {
                Some(overlay) => {
                    self.read_overlay(handle.inode.ino, &stage.file, overlay, offset, length).await
                }
                None => {
                    let mut buffer = BytesMut::zeroed(length);
                    let got = read_full(stage.file.staged.file(), &mut buffer, offset)?;
                    buffer.truncate(got);
                    Ok(buffer.freeze())
                }
            },
            Content::Remote(remote) => {
                let range = clip(offset, length, remote.version.size);
                if range.is_empty() {
                    return Ok(Bytes::new());
                }
                self.fetcher.read(&self.target(handle.inode.ino, &remote)?, range).await
            }
        };
        bytes.map_err(|error| {
            if is_outdated(&error) {
                file.state.lock().doubted = Some(clock::instant());
                return Error::Stale(format!("replaced by another client: {error}"));
            }
            error
        })
    }

    async fn read_overlay(
        &self,
        ino: Ino,
        staged: &Arc<StagedFile>,
        overlay: &Overlay,
        offset: u64,
        length: usize,
    ) -> Result<Bytes> {
        let end = staged.staged.file().metadata()?.len();
        let base = self.target(ino, &overlay.base)?;
        let pieces = overlay.dirty.split(clip(offset, length, end));
        read_layers(staged, &self.fetcher, &base, overlay.base_len, pieces).await
    }
}

/// Reads pieces of a file that is a staged layer (`true`) over the first `base_len` bytes of an object; zeros
/// where there is neither.
pub(super) async fn read_layers(
    staged: &StagedFile,
    fetcher: &Fetcher,
    base: &Target,
    base_len: u64,
    pieces: Vec<(Range<u64>, bool)>,
) -> Result<Bytes> {
    let mut out = BytesMut::new();
    for (piece, dirty) in pieces {
        let at = out.len();
        if dirty {
            out.resize(at + size(piece.end - piece.start), 0);
            staged.staged.file().read_exact_at(&mut out[at..], piece.start)?;
            continue;
        }
        let from_base = piece.start.min(base_len)..piece.end.min(base_len);
        let mut below = from_base.start;
        while below < from_base.end {
            let step = below..from_base.end.min(below + STEP);
            out.extend_from_slice(&fetcher.read(base, step.clone()).await?);
            below = step.end;
        }
        out.resize(at + size(piece.end - piece.start), 0);
    }
    Ok(out.freeze())
}

/// Bytes read from an object at once.
const STEP: u64 = 4 << 20;

/// Reads until `buffer` is full or the file ends.
fn read_full(file: &std::fs::File, buffer: &mut [u8], offset: u64) -> Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match file.read_at(&mut buffer[got..], offset + got as u64) {
            Ok(0) => break,
            Ok(count) => got += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(got)
}

fn clip(offset: u64, length: usize, end: u64) -> Range<u64> {
    let start = offset.min(end);
    start..start.saturating_add(length as u64).min(end)
}

fn size(bytes: u64) -> usize {
    usize::try_from(bytes).expect("a read fits in memory")
}
