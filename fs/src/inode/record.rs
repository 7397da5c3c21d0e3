//! A file's state as the session log keeps it.

use super::{Committed, Content, FileState, RemoteFile, Stage};
use crate::session_log::{CommittedRecord, ContentRecord, FileRecord, OverlayRecord, StagedRecord};

impl FileState {
    /// What the next worker needs of it.
    pub fn record(&self) -> FileRecord {
        let content = match &self.content {
            Content::Remote(remote) => {
                ContentRecord::Remote { version: (&remote.version).into(), object: object_key(remote) }
            }
            Content::Staged(stage) => ContentRecord::Staged(Box::new(self.staged_record(stage))),
        };
        FileRecord { posix: self.posix, content, superseded: self.superseded }
    }

    fn staged_record(&self, stage: &Stage) -> StagedRecord {
        let overlay = stage.overlay.as_ref().map(|overlay| OverlayRecord {
            base: (&overlay.base.version).into(),
            object: object_key(&overlay.base),
            base_len: overlay.base_len,
            dirty: overlay.dirty.clone(),
        });
        // What tarn wrote since shows in the stamp as well, except in a layer.
        let committed = stage.committed.as_ref().filter(|committed| committed.writes == stage.writes);
        StagedRecord {
            name: stage.file.staged.name().to_owned(),
            base: stage.base.as_ref().map(Into::into),
            committed: committed.map(committed_record),
            overlay,
            headers: self.headers.clone(),
            posix_changed: self.posix_changed,
        }
    }
}

fn committed_record(committed: &Committed) -> CommittedRecord {
    CommittedRecord { stamp: committed.stamp, crc64nvme: committed.crc64nvme }
}

/// The key that the local copy was fetched by: the file may have another name since, or none.
fn object_key(remote: &RemoteFile) -> Option<String> {
    remote.object.lock().as_ref().map(|object| object.id().key().to_owned())
}
