//! Renames of what is in the bucket. They take a copy and a delete for each object, so the journal says what is being
//! moved while that lasts: a process that is killed in between leaves a rename that the next mount finishes.

use super::Vfs;
use super::readdir::is_local;
use super::recover::Missing;
use crate::error::{Error, Result};
use crate::inode::{Content, Inode, Place};
use crate::journal::{Entry, Move, Origin, Record, Source, StagedFile, State};
use crate::meta::{self, Kind};
use crate::name::{Key, Name, Prefix};
use crate::store::{self, Condition, CopyRequest, ETag, ObjectInfo, Version};
use futures::{StreamExt, TryStreamExt, stream};
use std::sync::Arc;
use tarn_cache::Staged;

/// A rename that is under way, as the journal has it until this is dropped.
#[must_use]
pub(super) struct MoveUnderWay(Option<Staged>);

impl MoveUnderWay {
    /// The next mount is to finish it.
    pub(super) fn leave(self) {
        if let Some(entry) = &self.0 {
            entry.keep(true);
        }
    }
}

/// What stands in the way of a move.
enum Copied {
    /// The new key has the object, of this version.
    Yes(ETag),
    /// It has another one, which stays.
    No,
    /// What was to be moved is not there any more.
    Gone,
}

impl Vfs {
    /// Writes down that a rename begins. On a full disk it goes on without that.
    pub(super) fn begin_move(
        &self,
        from: &str,
        to: &str,
        source: Source,
        replaces: Option<ETag>,
    ) -> MoveUnderWay {
        let of = Move::new(from, to, Some(self.options.owner));
        self.begin(&Entry::Move(Move { source: Some(source), replaces, ..of }))
    }

    /// The same for any entry.
    pub(super) fn begin(&self, entry: &Entry) -> MoveUnderWay {
        let staged = self.cache.stage(&entry.label(&self.bucket));
        if let Err(error) = &staged {
            tracing::warn!(%error, "the journal does not learn of a rename");
        }
        MoveUnderWay(staged.ok())
    }

    /// Copies on the server. What takes an upload there is in the journal while it lasts, if the disk has room for that.
    pub(super) async fn copy(&self, request: CopyRequest) -> store::Result<Version> {
        if !request.takes_parts() {
            return self.store.copy(request).await;
        }
        let record = Record {
            state: State::Removed,
            owner: Some(self.options.owner),
            ..Record::open(request.to.clone(), None)
        };
        match self.cache.stage(&self.label(&record)) {
            Ok(staged) => {
                let file = Arc::new(StagedFile::new(staged, self.bucket.clone(), record));
                self.uploader.copy(request, &file).await
            }
            Err(error) => {
                tracing::warn!(%error, "the journal does not learn of a copy");
                self.store.copy(request).await
            }
        }
    }

    /// The file has been committed under its new name: the object of its old name goes.
    pub(super) async fn finish_rename(&self, file: &StagedFile) -> Result<()> {
        let origins = file.get(|record| record.moved_from.clone());
        for origin in &origins {
            let key = &origin.key;
            let Some(found) = self.head_if_any(key).await? else { continue };
            if origin.is(&found) && self.delete_origin(origin, &found).await? {
                self.count_change(key, Some(found.version.size), None);
                self.vanished(key, &found.version)?;
            } else if let Some((parent, _)) = self.walk(key, Missing::End)? {
                // Another client has made it: the name is not free.
                self.forget_listing(parent);
            }
        }
        if origins.is_empty() { Ok(()) } else { file.note(|record| record.moved_from.clear()) }
    }

    /// Removes the object of an old name unless another client has changed it; says whether it did.
    async fn delete_origin(&self, origin: &Origin, found: &ObjectInfo) -> Result<bool> {
        let posix = meta::read(&found.headers, &found.version, Kind::File, &self.options.defaults);
        self.fence.removing(&origin.key, Some(posix.btime), !origin.attempts.is_empty());
        let deleted = self.delete_file(&last_name(&origin.key)?, &origin.key, &found.version.etag).await;
        if !matches!(deleted, Ok(true)) {
            self.fence.spare(&origin.key);
        }
        deleted
    }

    /// The object of this key has been deleted here. Who looked at the bucket meanwhile has brought it back.
    fn vanished(&self, key: &Key, version: &Version) -> Result<()> {
        let Some(at) = self.place_of(key, Missing::End)? else { return Ok(()) };
        let seen = self.table.child(at.parent, &at.name).filter(|inode| {
            let content = inode.file().map(|file| file.state.lock().content.clone());
            matches!(content, Some(Content::Remote(remote)) if remote.version.etag == version.etag)
        });
        if let Some(seen) = seen {
            self.table.remove(seen.ino);
            self.forget_listing(at.parent);
        }
        Ok(())
    }

    /// Finishes a rename that a killed process had begun: what was not copied is copied, then what was copied is
    /// deleted. Nothing is replaced but what the rename meant to replace. Says how many objects stay where they were
    /// because something else has their new name.
    pub(super) async fn resume_move(&self, of: &Move) -> Result<usize> {
        let keys: Vec<Key> = if of.is_tree() {
            let objects = self.subtree(&Prefix::parse(&of.from)?).await?;
            objects.into_iter().filter(|object| of.has(&object.version)).map(|object| object.key).collect()
        } else {
            vec![Key::parse(&of.from)?]
        };
        let parallel = self.options.max_requests.max(1);
        let copies: Vec<_> = keys.iter().map(|key| self.copy_again(of, key)).collect();
        let copied: Vec<Copied> = stream::iter(copies).buffered(parallel).try_collect().await?;
        let mut stay = 0;
        let mut done = Vec::new();
        for (key, copied) in keys.into_iter().zip(copied) {
            match copied {
                Copied::Yes(version) => done.push((key, version)),
                Copied::No => stay += 1,
                Copied::Gone => {}
            }
        }
        if of.is_tree() {
            let keys: Vec<Key> = done.into_iter().map(|(key, _)| key).collect();
            self.delete_all(&keys).await?;
        } else if let [(key, version)] = done.as_slice() {
            self.delete_file(&last_name(key)?, key, version).await?;
        }
        Ok(stay)
    }

    /// What a killed worker of this mount knew under the old names goes where it was moved to, before anything is
    /// uploaded from there. The kernel sends the rename again, and finds it done.
    pub(super) async fn follow_move(&self, of: &Move) -> Result<()> {
        let known =
            self.place_at(&of.from, Missing::End)?.and_then(|at| self.table.child(at.parent, &at.name));
        let Some(inode) = known.filter(|inode| inode.directory().is_some() == of.is_tree()) else {
            return Ok(());
        };
        let files = self.files_below(&inode);
        let follow: Vec<_> = files.iter().map(|inode| self.follow_resumed(of, inode)).collect();
        let parallel = self.options.max_requests.max(1);
        stream::iter(follow).buffer_unordered(parallel).try_collect::<()>().await?;
        let Some(to) = self.place_at(&of.to, Missing::Made)? else { return Ok(()) };
        if let Some(replaced) = self.table.child(to.parent, &to.name) {
            self.give_up(&replaced).await;
        }
        self.table.rename(inode.ino, to);
        files.iter().for_each(|inode| self.relabel(inode));
        Ok(())
    }

    /// A file rests on the copy of its object from now on, if it is a copy of that and not of another client's.
    async fn follow_resumed(&self, of: &Move, inode: &Inode) -> Result<()> {
        let (Some(file), Ok(old)) = (inode.file(), self.table.key(inode.ino)) else { return Ok(()) };
        let (version, headers, ctime, staged) = {
            let staged = is_local(inode);
            let state = file.state.lock();
            if !staged && state.handles.none() {
                // Its first use asks the store.
                return Ok(());
            }
            (state.version().cloned(), state.headers.clone(), state.posix.ctime, staged)
        };
        let (Some(version), Some(new)) = (version, of.moved(&old)) else { return Ok(()) };
        let Some(found) = self.head_if_any(&new).await? else { return Ok(()) };
        let same_commit = || match staged {
            true => meta::commit_time(&headers) == meta::commit_time(&found.headers),
            // Its headers are not restored.
            false => {
                meta::read(&found.headers, &found.version, Kind::File, &self.options.defaults).ctime == ctime
            }
        };
        if found.version.size == version.size && (found.version.etag == version.etag || same_commit()) {
            self.follow_copy(inode, &found.version);
        }
        Ok(())
    }

    /// A key, or a directory's with `/` at its end.
    pub(super) fn place_at(&self, path: &str, missing: Missing) -> Result<Option<Place>> {
        let Some(directory) = path.strip_suffix('/') else {
            return self.place_of(&Key::parse(path)?, missing);
        };
        let key = Key::parse(directory)?;
        let Some((parent, last)) = self.walk(&key, missing)? else { return Ok(None) };
        Ok(Some(Place { parent, name: Name::of(last)? }))
    }

    /// The files below a directory that are known here, or the file itself.
    pub(super) fn files_below(&self, inode: &Arc<Inode>) -> Vec<Arc<Inode>> {
        if inode.file().is_some() {
            return vec![Arc::clone(inode)];
        }
        self.table.children(inode.ino).iter().flat_map(|(_, child)| self.files_below(child)).collect()
    }

    async fn copy_again(&self, of: &Move, from: &Key) -> Result<Copied> {
        let to = of.moved(from).ok_or(Error::Internal("a key that is not moved"))?;
        let Some(source) = self.head_if_any(from).await? else { return Ok(Copied::Gone) };
        if !of.is_tree() && !of.has(&source.version) {
            return Ok(Copied::Gone);
        }
        let condition = match self.head_if_any(&to).await? {
            Some(found) if is_copy(&source, &found) => return Ok(Copied::Yes(source.version.etag)),
            Some(found) if of.replaces.as_ref() == Some(&found.version.etag) => {
                Condition::Matches(found.version.etag)
            }
            Some(_) => return Ok(Copied::No),
            // As the rename itself does it: in one request, of which a kill leaves nothing half done.
            None if of.is_tree() => Condition::Always,
            None => Condition::Absent,
        };
        let request = CopyRequest {
            from: from.clone(),
            if_match: source.version.etag.clone(),
            size: source.version.size,
            to,
            condition,
            headers: None,
            log: None,
        };
        self.copy(request).await?;
        Ok(Copied::Yes(source.version.etag))
    }
}

/// Whether both objects hold the same bytes.
fn is_copy(one: &ObjectInfo, other: &ObjectInfo) -> bool {
    let same = match (one.crc64nvme, other.crc64nvme) {
        (Some(one), Some(other)) => one == other,
        (None, _) | (_, None) => one.version.etag == other.version.etag,
    };
    same && one.version.size == other.version.size
}

/// The name of a key's last component; that of a marker is the directory's own.
fn last_name(key: &Key) -> Result<Name> {
    match key.as_str().rsplit('/').next() {
        None | Some("") => Ok(Name::own()),
        Some(component) => Ok(Name::of(component)?),
    }
}
