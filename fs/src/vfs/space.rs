//! Allocation, holes and the size of the file system.

use super::Vfs;
use super::write::{OBJECT_MAX, set_len, staged};
use crate::error::{Error, Result};
use crate::inode::{Content, Stage};
use rustix::fs::{FallocateFlags, SeekFrom};
use rustix::io::Errno;
use tarn_cache::Access;

/// What `fallocate` is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allocate {
    /// Reserve space; grow the file unless `keep_size`.
    Reserve {
        /// `FALLOC_FL_KEEP_SIZE`.
        keep_size: bool,
    },
    /// Make a hole (`FALLOC_FL_PUNCH_HOLE`, always with `FALLOC_FL_KEEP_SIZE`).
    Punch,
    /// Write zeros (`FALLOC_FL_ZERO_RANGE`).
    Zero {
        /// `FALLOC_FL_KEEP_SIZE`.
        keep_size: bool,
    },
}

/// What `lseek` looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seek {
    /// `SEEK_DATA`.
    Data,
    /// `SEEK_HOLE`.
    Hole,
}

/// What `statfs` shows. A bucket has no size: without a quota programs which check for room find plenty.
#[derive(Debug, Clone, Copy)]
pub struct Space {
    /// Bytes in all.
    pub total: u64,
    /// Bytes that are left.
    pub free: u64,
    /// Files that there are, as far as they are counted.
    pub files: u64,
    /// Bytes of one block.
    pub block: u32,
    /// Longest name.
    pub name_max: u32,
}

impl Vfs {
    /// The size of the file system.
    pub fn statfs(&self) -> Space {
        const PLENTY: u64 = 1 << 50;
        let (block, name_max) = (4096, crate::name::NAME_MAX as u32);
        self.see_unseen();
        match self.quota.standing() {
            Some(standing) => Space {
                total: standing.limit,
                free: standing.room(),
                files: standing.stored.files,
                block,
                name_max,
            },
            None => Space { total: PLENTY, free: PLENTY, files: 0, block, name_max },
        }
    }

    /// Allocates, punches or zeroes a range of an open file.
    pub fn fallocate(&self, fh: u64, offset: u64, length: u64, what: Allocate) -> Result<()> {
        let handle = self.file_handle(fh)?;
        let file = handle.inode.file().ok_or(Error::IsDirectory)?;
        if !handle.writes {
            return Err(Error::BadHandle);
        }
        let end = offset.checked_add(length).filter(|end| *end <= OBJECT_MAX).ok_or(Error::TooLarge)?;
        let mut state = file.state.lock();
        let stage = staged(&mut state)?;
        match what {
            Allocate::Reserve { .. } | Allocate::Zero { keep_size: false } => self.claim_up_to(stage, end)?,
            Allocate::Zero { keep_size: true } | Allocate::Punch => {}
        }
        stage.writes += 1;
        if stage.overlay.is_some() {
            allocate_overlay(stage, offset, end, what)?;
            drop(state);
            self.note(&handle.inode);
            return Ok(());
        }
        let flags = match what {
            Allocate::Reserve { keep_size: false } => FallocateFlags::empty(),
            Allocate::Reserve { keep_size: true } => FallocateFlags::KEEP_SIZE,
            Allocate::Punch => FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
            Allocate::Zero { keep_size: false } => FallocateFlags::ZERO_RANGE,
            Allocate::Zero { keep_size: true } => FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE,
        };
        rustix::fs::fallocate(stage.file.staged.file(), flags, offset, length).map_err(disk)
    }

    /// Finds data or a hole from `offset` on. What is not staged here is data up to its end.
    pub fn seek(&self, fh: u64, offset: u64, what: Seek) -> Result<u64> {
        let handle = self.file_handle(fh)?;
        let file = handle.inode.file().ok_or(Error::IsDirectory)?;
        let content = file.state.lock().content.clone();
        let size = match content {
            Content::Remote(remote) => remote.version.size,
            Content::Staged(stage) if stage.overlay.is_some() => stage.file.staged.file().metadata()?.len(),
            Content::Staged(stage) => {
                // A descriptor of its own: seeking moves its position.
                let file = stage.file.staged.reopen(Access::Read)?;
                let whence = match what {
                    Seek::Data => SeekFrom::Data(offset),
                    Seek::Hole => SeekFrom::Hole(offset),
                };
                return match rustix::fs::seek(&file, whence) {
                    Ok(found) => Ok(found),
                    Err(Errno::NXIO) => Err(Error::NoSuchOffset),
                    Err(errno) => Err(disk(errno)),
                };
            }
        };
        if offset >= size {
            return Err(Error::NoSuchOffset);
        }
        Ok(match what {
            Seek::Data => offset,
            Seek::Hole => size,
        })
    }
}

/// In a layer over an object zeros are written as holes that count as changed.
fn allocate_overlay(stage: &mut Stage, offset: u64, end: u64, what: Allocate) -> Result<()> {
    let size = stage.file.staged.file().metadata()?.len();
    let (zeroes, grows) = match what {
        Allocate::Reserve { keep_size } => (false, !keep_size),
        Allocate::Punch => (true, false),
        Allocate::Zero { keep_size } => (true, !keep_size),
    };
    if grows && end > size {
        set_len(stage, end)?;
    }
    let end = end.min(size.max(if grows { end } else { 0 }));
    if zeroes && offset < end {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(stage.file.staged.file(), flags, offset, end - offset).map_err(disk)?;
        if let Some(overlay) = &mut stage.overlay {
            overlay.dirty.insert(offset..end);
        }
    }
    Ok(())
}

fn disk(errno: Errno) -> Error {
    Error::Disk(errno.into())
}
