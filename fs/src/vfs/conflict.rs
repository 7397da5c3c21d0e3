//! A commit that the store refused: it was our own earlier one whose answer was lost, or somebody else was first.

use super::Vfs;
use super::commit::Snapshot;
use crate::clock;
use crate::error::{Error, Result};
use crate::inode::{Content, File, FileState, Ino, Stamp};
use crate::journal::{Base, Record, StagedFile, State};
use crate::meta;
use crate::name::Key;
use crate::store::{ErrorKind, Headers, ObjectInfo, Version};
use std::ops::ControlFlow;

impl Vfs {
    /// What the bucket has if the refused commit had been done before, by an attempt whose answer was lost or by a
    /// process that was killed. If that was done when the file had other bytes, it rests on those from now on and is
    /// to be sent again. Otherwise theirs stays, ours is kept beside it, and the caller is told.
    pub(super) async fn refused(
        &self,
        (ino, file): (Ino, &File),
        snapshot: &Snapshot,
        crc64nvme: Option<u64>,
        refusal: Error,
    ) -> Result<ControlFlow<Version>> {
        let kind = refusal.store_kind();
        if !matches!(kind, Some(ErrorKind::Precondition | ErrorKind::NotFound)) {
            return Err(refusal);
        }
        let ours = Ours { size: snapshot.stamp.size, crc64nvme, headers: &snapshot.headers };
        let found = self.head_if_any(&snapshot.key).await?;
        let (there, base) = (found.as_ref().map(|found| &found.version), snapshot.stage.base.as_ref());
        if kind == Some(ErrorKind::Precondition) && there.map(|v| &v.etag) == base.map(|v| &v.etag) {
            // Nobody was first: another request for the key was under way (409 ConditionalRequestConflict).
            tracing::info!(key = %snapshot.key, %refusal, "refused, and the object is as it was: once more");
            return Ok(ControlFlow::Continue(()));
        }
        if let Some(found) = &found {
            if ours.is(found) {
                tracing::info!(key = %snapshot.key, %refusal, "an earlier attempt had arrived");
                return Ok(ControlFlow::Break(found.version.clone()));
            }
            if meta::commit_time(&found.headers).is_some_and(|time| snapshot.attempted(time)) {
                tracing::info!(key = %snapshot.key, %refusal, "an earlier attempt had arrived, with older bytes");
                let old = snapshot.stage.base.as_ref().map(|base| base.size);
                self.count_change(&snapshot.key, old, Some(found.version.size));
                rest_on(file, found.version.clone())?;
                return Ok(ControlFlow::Continue(()));
            }
        }
        let is_removed = there.is_none() && base.is_some();
        if kind == Some(ErrorKind::NotFound) && !is_removed {
            return Err(refusal);
        }
        Err(self.conflict(ino, file, snapshot).await)
    }

    /// Somebody else changed the object: theirs stays, ours is kept beside it, and the caller is told.
    async fn conflict(&self, ino: Ino, file: &File, snapshot: &Snapshot) -> Error {
        let key = &snapshot.key;
        let kept = match self.conflict_key(key) {
            Ok(kept) => kept,
            Err(error) => return error,
        };
        let mut ours = snapshot.stage.clone();
        ours.base = None;
        ours.copied = None;
        let stamp = match Stamp::of(ours.file.staged.file()) {
            Ok(stamp) => stamp,
            Err(error) => return error.into(),
        };
        match self.upload(ino, &kept, &ours, &stamp, &snapshot.headers).await.0 {
            Ok(version) => {
                self.count_change(&kept, None, Some(version.size));
                ours.claim.give_up();
                tracing::warn!(%key, %kept, "conflict: another client changed the object; local bytes kept");
                self.note_conflict(key.to_string(), kept.to_string());
            }
            Err(error) => {
                // The staged file stays, and so does the inode: the next flush tries again.
                tracing::error!(%key, %error, "conflict: local bytes could not be kept in the bucket yet");
                return error;
            }
        }
        if !self.is_let_go(snapshot) {
            return Error::Stale(format!(
                "another client changed {key}; these bytes are kept as {kept}, what was closed since is not yet"
            ));
        }
        file.state.lock().superseded = true;
        if let Some(place) = self.table.place(ino) {
            self.forget_listing(place.parent);
        }
        self.table.remove(ino);
        Error::Stale(format!("another client changed {key}; these bytes are kept as {kept}"))
    }

    /// Lets the staged file go with what the snapshot has of it, unless it was closed again since: who did that was
    /// told that it is kept, and it needs a copy of its own.
    fn is_let_go(&self, snapshot: &Snapshot) -> bool {
        let file = &snapshot.stage.file;
        let is_last = |record: &Record| record.closes == snapshot.closes;
        self.unrecord_if(file, is_last);
        file.get(|record| record.state == State::Removed || is_last(record))
    }

    /// Nothing of the staged file belongs into the bucket any more.
    pub(super) fn unrecord(&self, file: &StagedFile) {
        self.unrecord_if(file, |_| true);
    }

    fn unrecord_if(&self, file: &StagedFile, is_done: impl FnOnce(&Record) -> bool) {
        let noted = file.note(|record| {
            if is_done(record) {
                record.state = State::Removed;
            }
        });
        if let Err(error) = noted {
            let path = file.staged.path();
            tracing::error!(path = %path.display(), %error, "the next mount may bring this file back; remove it");
        }
    }

    fn conflict_key(&self, key: &Key) -> Result<Key> {
        let seconds = clock::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let count = self.conflicts.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let suffix = format!(".conflict-{}-{seconds}-{count}", self.options.host);
        Ok(Key::parse(&format!("{}{suffix}", key.as_str()))?)
    }
}

/// Refuses what needs the name of a file that lost it to another client: the kernel looks again and finds theirs.
pub(super) fn must_have_its_name(state: &FileState) -> Result<()> {
    if state.superseded {
        Err(Error::Stale("another client's object has the name now".into()))
    } else {
        Ok(())
    }
}

/// What a commit of ours leaves in the bucket.
struct Ours<'a> {
    size: u64,
    crc64nvme: Option<u64>,
    headers: &'a Headers,
}

impl Ours<'_> {
    /// Whether the object is that. Where one side has no checksum of all bytes, the metadata tells: no two commits
    /// have the same times in nanoseconds.
    fn is(&self, found: &ObjectInfo) -> bool {
        let same = match (self.crc64nvme, found.crc64nvme) {
            (Some(ours), Some(theirs)) => ours == theirs,
            (None, _) | (_, None) => {
                meta::commit_time(self.headers).is_some() && self.headers.user == found.headers.user
            }
        };
        same && self.size == found.version.size
    }
}

/// The staged file replaces `version` from now on, which holds what its layer does not.
fn rest_on(file: &File, version: Version) -> Result<()> {
    if let Content::Staged(stage) = &mut file.state.lock().content {
        stage.file.note(|record| record.base = Some(Base::from(&version)))?;
        stage.copied = None;
        stage.rest_on(version, false);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::ETag;
    use std::time::SystemTime;

    fn headers(ctime: &str) -> Headers {
        let user = [("file-ctime".to_owned(), ctime.to_owned())].into();
        Headers { user, ..Headers::default() }
    }

    #[test]
    fn an_object_is_ours_by_its_checksum_or_else_by_its_times() {
        let found = |size, crc64nvme, ctime| ObjectInfo {
            version: Version {
                etag: ETag::new("e"),
                size,
                last_modified: SystemTime::UNIX_EPOCH,
                version_id: None,
            },
            headers: headers(ctime),
            crc64nvme,
        };
        let (mine, other) = (headers("1ns"), headers("2ns"));
        let whole = Ours { size: 5, crc64nvme: Some(7), headers: &mine };
        assert!(whole.is(&found(5, Some(7), "2ns")));
        assert!(!whole.is(&found(5, Some(8), "1ns")));
        assert!(!whole.is(&found(6, Some(7), "1ns")));
        let layer = Ours { size: 5, crc64nvme: None, headers: &mine };
        assert!(layer.is(&found(5, None, "1ns")));
        assert!(!layer.is(&found(5, None, "2ns")));
        let bare = Headers::default();
        assert!(
            !Ours { headers: &bare, ..layer }.is(&ObjectInfo { headers: bare.clone(), ..found(5, None, "") })
        );
        assert!(!Ours { headers: &other, ..layer }.is(&found(5, None, "1ns")));
    }
}
