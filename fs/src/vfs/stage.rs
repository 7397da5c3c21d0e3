//! Making a file writable: its bytes get a staged file on the local disk.

use super::Vfs;
use super::commit::whole_crc;
use super::open::is_outdated;
use crate::error::{Error, Result};
use crate::inode::{Committed, Content, File, Inode, Overlay, RemoteFile, Serving, Stage, Stamp};
use crate::journal::{Record, StagedFile, Sum};
use crate::write::Extents;
use std::sync::Arc;
use tarn_cache::{Access, Staged, Taken};

/// How a staged file begins.
enum Start {
    /// With nothing in it.
    Emptied,
    /// With the object's bytes, and their checksum.
    Same { crc64nvme: Option<u64> },
    /// As a layer over the object.
    Over(Overlay),
}

impl Vfs {
    /// Turns the file's content into a staged file. The caller holds [`File::op`].
    ///
    /// A whole local copy is taken over without copying. A small object is fetched first; a large one is staged
    /// as an overlay of which only the changed ranges are kept.
    pub(super) async fn stage(&self, inode: &Inode, file: &File, truncate: bool) -> Result<()> {
        // A statement of its own: a lock taken in the head of a match is held to the end of its arms.
        let content = file.state.lock().content.clone();
        let remote = match content {
            Content::Staged(stage) => {
                self.keep_promise(inode, file, &stage).await?;
                return if truncate { self.empty_stage(file, &stage) } else { Ok(()) };
            }
            Content::Remote(remote) => remote,
        };
        self.describe(inode.ino, file).await?;
        let passed = matches!(file.state.lock().serving, Serving::Passthrough { .. });
        let empty = truncate || remote.version.size == 0;
        if empty && !passed {
            return self.install(file, &remote, self.new_stage(inode, &remote)?, Start::Emptied);
        }
        let target = self.target(inode.ino, &remote)?;
        if !target.object.is_whole() && remote.version.size <= self.options.whole_max {
            self.fetcher.fetch_whole(&target).await?;
        }
        if target.object.is_whole() {
            drop(target);
            let crc64nvme = target_crc(&remote);
            let staged = self.take_whole(inode, &remote, passed, crc64nvme)?;
            let start = if truncate { Start::Emptied } else { Start::Same { crc64nvme } };
            return self.install(file, &remote, staged, start);
        }
        let staged = self.new_stage(inode, &remote)?;
        staged.0.file().set_len(remote.version.size)?;
        let overlay =
            Overlay { dirty: Extents::default(), base: Arc::clone(&remote), base_len: remote.version.size };
        self.install(file, &remote, staged, Start::Over(overlay))
    }

    /// What was closed gets into the bucket before it is changed again: a process that is killed in the middle of the
    /// change must not take it along.
    async fn keep_promise(&self, inode: &Inode, file: &File, stage: &Stage) -> Result<()> {
        let closed = stage.file.is_closed() && file.state.lock().handles.writers == 0;
        if closed { self.commit(inode).await } else { Ok(()) }
    }

    /// A staged file with all bytes of a whole local copy.
    fn take_whole(
        &self,
        inode: &Inode,
        remote: &Arc<RemoteFile>,
        passed: bool,
        crc64nvme: Option<u64>,
    ) -> Result<(Staged, Record)> {
        let key = self.table.key(inode.ino).map_err(|_| Error::Stale("removed".into()))?;
        let object = remote.object.lock().take().ok_or(Error::Internal("a whole object is open"))?;
        let mut record = self.open_record(key, Some(&remote.version));
        // Left as it is, the file is nothing that a later process has to care for.
        record.sum = crc64nvme.map(|crc64nvme| Sum { size: remote.version.size, crc64nvme });
        let label = self.label(&record);
        match self.cache.take(object, &label)? {
            Taken::Staged(staged) => Ok((staged, record)),
            Taken::Shared(object) => {
                let source = object.open_whole(Access::Read)?;
                *remote.object.lock() = Some(object);
                if passed {
                    return Err(self.supersede(inode, remote));
                }
                let staged = self.cache.stage(&label)?;
                copy_all(&source, staged.file(), remote.version.size)?;
                Ok((staged, record))
            }
        }
    }

    fn new_stage(&self, inode: &Inode, remote: &RemoteFile) -> Result<(Staged, Record)> {
        let record = self.open_record(self.table.key(inode.ino)?, Some(&remote.version));
        Ok((self.cache.stage(&self.label(&record))?, record))
    }

    fn install(
        &self,
        file: &File,
        remote: &RemoteFile,
        (staged, record): (Staged, Record),
        start: Start,
    ) -> Result<()> {
        let staged = StagedFile::new(staged, self.bucket.clone(), record);
        let mut state = file.state.lock();
        let (overlay, same, crc64nvme) = match start {
            Start::Emptied => {
                staged.set_len(0)?;
                (None, remote.version.size == 0, Some(whole_crc(&[], 0)))
            }
            Start::Same { crc64nvme } => (None, true, crc64nvme),
            Start::Over(overlay) => (Some(overlay), true, None),
        };
        if same {
            // The kernel shows the staged file's own time from now on, and an open changes no time.
            staged.staged.file().set_modified(state.posix.mtime)?;
        }
        let stamp = Stamp::of(staged.staged.file())?;
        state.content = Content::Staged(Box::new(Stage {
            file: Arc::new(staged),
            base: Some(remote.version.clone()),
            committed: same.then_some(Committed { stamp, writes: 0, crc64nvme, crcs: None }),
            overlay,
            writes: 0,
            copied: None,
            unsure: false,
            claim: Arc::new(self.quota.claim()),
        }));
        Ok(())
    }

    fn empty_stage(&self, file: &File, stage: &Stage) -> Result<()> {
        stage.file.set_len(0)?;
        let mut state = file.state.lock();
        if let Content::Staged(stage) = &mut state.content {
            stage.overlay = None;
            stage.writes += 1;
        }
        Ok(())
    }

    /// Fetches what an open file still needs before its object goes away (removed or replaced here).
    pub(super) async fn keep_readable(&self, inode: &Inode) -> Result<()> {
        let Some(file) = inode.file() else { return Ok(()) };
        let (remote, open) = {
            let state = file.state.lock();
            let remote = match &state.content {
                Content::Remote(remote) => Arc::clone(remote),
                Content::Staged(stage) => match &stage.overlay {
                    Some(overlay) => Arc::clone(&overlay.base),
                    None => return Ok(()),
                },
            };
            (remote, !state.handles.none())
        };
        if !open {
            return Ok(());
        }
        let target = self.target(inode.ino, &remote)?;
        match self.fetcher.fetch_whole(&target).await {
            Err(error) if is_outdated(&error) => Ok(()),
            result => result,
        }
    }
}

fn target_crc(remote: &RemoteFile) -> Option<u64> {
    remote.object.lock().as_ref().and_then(|object| object.crc64nvme())
}

/// Copies on the local disk, sharing blocks where the file system can.
pub(super) fn copy_all(from: &std::fs::File, to: &std::fs::File, size: u64) -> Result<()> {
    let (mut read_at, mut write_at) = (0, 0);
    while read_at < size {
        let length = usize::try_from(size - read_at).unwrap_or(usize::MAX);
        if rustix::fs::copy_file_range(from, Some(&mut read_at), to, Some(&mut write_at), length)
            .map_err(std::io::Error::from)?
            == 0
        {
            return Err(Error::Internal("a local file is shorter than its object"));
        }
    }
    Ok(())
}
