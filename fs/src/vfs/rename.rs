//! Renaming. S3 has no rename: a file is copied on the server under the version it is known by, then deleted.

use super::Vfs;
use super::conflict::must_have_its_name;
use super::moves::MoveUnderWay;
use super::namespace::Use;
use super::open::doubt_outdated;
use super::remove::may_have_arrived;
use crate::clock;
use crate::config::Commit;
use crate::error::{Error, Result};
use crate::inode::{Child, Content, File, Ino, Inode, Node, Place, RemoteFile};
use crate::journal::{Base, Source};
use crate::meta::{self, Posix};
use crate::name::{Key, Name};
use crate::store::{Condition, CopyRequest, ErrorKind, Headers, Version};
use std::ffi::OsStr;
use std::sync::Arc;
use tokio::sync::MutexGuard;

/// Times a rename that is sent again starts anew: the killed worker's last request may reach the server late.
const OVERTAKEN_TRIES: usize = 5;

/// What `renameat2` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenameMode {
    /// An existing target is replaced.
    Replace,
    /// An existing target is an error (`RENAME_NOREPLACE`).
    NoReplace,
    /// Both must exist and swap places (`RENAME_EXCHANGE`).
    Exchange,
}

impl Vfs {
    /// Renames a file or a directory.
    pub async fn rename(&self, from: (Ino, &OsStr), to: (Ino, &OsStr), mode: RenameMode) -> Result<()> {
        self.writable()?;
        let from = Place { parent: from.0, name: Name::parse(from.1)? };
        let to = Place { parent: to.0, name: Name::to_make(to.1)? };
        if !self.may_be_done() {
            return self.rename_once(&from, &to, mode).await;
        }
        let known = {
            // A rename that is being finished comes first.
            let _held = self.hold(&[Use::from(&from), Use::from(&to)]).await;
            self.table.child(from.parent, &from.name)
        };
        let mut tries = OVERTAKEN_TRIES;
        loop {
            tries -= 1;
            if mode != RenameMode::Exchange && self.was_renamed(known.as_ref(), &from, &to).await? {
                return self.renamed(&from, &to).await;
            }
            match self.rename_once(&from, &to, mode).await {
                Err(error) if error.is_not_found() && tries > 0 => {
                    tracing::debug!(%error, "an earlier worker's request was under way");
                }
                result => return result,
            }
        }
    }

    async fn rename_once(&self, from: &Place, to: &Place, mode: RenameMode) -> Result<()> {
        let places = [Use::from(from), Use::from(to)];
        let inode = {
            let _held = self.hold(&places).await;
            self.resolve(from.parent, &from.name).await?
        };
        if from == to {
            return if mode == RenameMode::NoReplace { Err(Error::Exists) } else { Ok(()) };
        }
        if mode == RenameMode::Exchange {
            return if self.may_be_done() { Ok(()) } else { self.exchange(from, to).await };
        }
        match &inode.node {
            Node::File(_) => {
                let _held = self.hold(&places).await;
                self.must_suit_a_file(to.parent, &to.name).await?;
                let (target, mode) = self.rename_target(&inode, to, mode).await?;
                self.intend();
                self.rename_file(&inode, from, to, target, mode).await?;
                self.renamed(from, to).await
            }
            Node::Directory(_) => {
                let replaced = self.table.child(to.parent, &to.name).map(|target| target.ino);
                let roots: Vec<Ino> = [inode.ino].into_iter().chain(replaced).collect();
                let _held = self.hold_trees(&places, &roots).await;
                if self.table.is_below(to.parent, inode.ino) {
                    return Err(Error::Invalid("a directory cannot move into itself"));
                }
                let (target, _) = self.rename_target(&inode, to, mode).await?;
                let new = self.table.prefix(to.parent)?.dir(&to.name)?;
                if target.is_none() && !self.may_be_done() && self.has_keys(&new).await? {
                    // Another client has made it since somebody looked.
                    self.forget_listing(to.parent);
                    self.rename_target(&inode, to, mode).await?;
                }
                self.intend();
                self.rename_directory(&inode, from, to).await?;
                self.renamed(from, to).await
            }
        }
    }

    /// Whether an earlier worker has moved everything and only the answer is missing; the inode that was `known`
    /// under the old name then follows.
    async fn was_renamed(&self, known: Option<&Arc<Inode>>, from: &Place, to: &Place) -> Result<bool> {
        let _held = self.hold(&[Use::from(from), Use::from(to)]).await;
        let (old, new) = (self.table.prefix(from.parent)?, self.table.prefix(to.parent)?);
        let Some(inode) = known else {
            let moved = self.table.child(to.parent, &to.name);
            let file = moved.as_ref().filter(|moved| moved.file().is_some());
            if let (Some(moved), Ok(key)) = (file, old.key(&from.name)) {
                // A staged file moves before its old object goes.
                self.commit(moved).await?;
                self.delete_one(&key).await?;
            }
            return Ok(moved.is_some());
        };
        match &inode.node {
            Node::Directory(_) => {
                if self.has_keys(&old.dir(&from.name)?).await? || !self.has_keys(&new.dir(&to.name)?).await? {
                    return Ok(false);
                }
            }
            Node::File(file) => {
                let Content::Remote(remote) = file.state.lock().content.clone() else { return Ok(false) };
                if self.head_if_any(&old.key(&from.name)?).await?.is_some() {
                    return Ok(false);
                }
                let Some(info) = self.head_if_any(&new.key(&to.name)?).await? else { return Ok(false) };
                self.moved_copy(inode, &remote, info.version);
            }
        }
        self.table.rename(inode.ino, to.clone());
        for moved in self.files_below(inode) {
            self.catch_up(&moved);
        }
        self.forget_listing(to.parent);
        self.note(inode);
        Ok(true)
    }

    /// What is at the target now, if it may be replaced, and whether the copy must find it free. What an earlier
    /// worker has copied there for the same request is replaced in any case.
    async fn rename_target(
        &self,
        inode: &Inode,
        to: &Place,
        mode: RenameMode,
    ) -> Result<(Option<Arc<Inode>>, RenameMode)> {
        let target = match self.resolve(to.parent, &to.name).await {
            Ok(target) => target,
            Err(Error::NotFound) => return Ok((None, mode)),
            Err(error) => return Err(error),
        };
        let ours = self.may_be_done();
        if mode == RenameMode::NoReplace && !ours {
            return Err(Error::Exists);
        }
        match (&inode.node, &target.node) {
            (Node::File(_), Node::Directory(_)) => Err(Error::IsDirectory),
            (Node::Directory(_), Node::File(_)) => Err(Error::NotDirectory),
            (Node::Directory(_), Node::Directory(_)) => {
                if !ours {
                    self.must_be_empty(&target).await?;
                }
                Ok((Some(target), RenameMode::Replace))
            }
            (Node::File(_), Node::File(_)) => {
                self.keep_readable(&target).await?;
                self.note(&target);
                Ok((Some(target), RenameMode::Replace))
            }
        }
    }

    /// Copies for a rename. Where the target must be free, another client may have been first.
    async fn copy_to_new_name(&self, request: CopyRequest, parent: Ino) -> Result<Version> {
        let (to, must_be_free) = (request.to.clone(), request.condition == Condition::Absent);
        match self.copy(request).await {
            Ok(version) => Ok(version),
            Err(error) if must_be_free && error.kind == ErrorKind::Precondition => {
                Err(if self.store.head(&to).await.is_ok() { self.lost_name(parent) } else { error.into() })
            }
            Err(error) => {
                // It may have arrived.
                self.forget_listing(parent);
                Err(error.into())
            }
        }
    }

    pub(super) async fn rename_file(
        &self,
        inode: &Arc<Inode>,
        from: &Place,
        to: &Place,
        target: Option<Arc<Inode>>,
        mode: RenameMode,
    ) -> Result<()> {
        let file = inode.file().ok_or(Error::IsDirectory)?;
        self.describe(inode.ino, file).await?;
        let _op = file.op.lock().await;
        let keys =
            (self.table.prefix(from.parent)?.key(&from.name)?, self.table.prefix(to.parent)?.key(&to.name)?);
        // Uploads under way end first: ours under the old name, and the one of what is replaced, whose version must
        // be known.
        let _commits = lock_commits(inode, target.as_deref()).await;
        must_have_its_name(&file.state.lock())?;
        if let Some(target) = target.as_ref().filter(|target| may_have_arrived(target))
            && let Some(file) = target.file()
        {
            // Only its own commit finds out whether an object there is its own.
            self.commit_locked(target, file).await?;
        }
        let replaced = target.as_ref().and_then(|target| current_version(target));
        let (content, tagged) = {
            let state = file.state.lock();
            (state.content.clone(), state.headers.tagged)
        };
        match content {
            Content::Remote(remote) => {
                let (posix, headers, kept) = self.renamed_attributes(file);
                let headers_sent = kept.then(|| headers.clone());
                let renamed = self.rename_object(
                    inode,
                    (from, to),
                    &keys,
                    &remote.version,
                    (replaced, mode),
                    headers_sent,
                );
                let (version, under_way) = renamed.await.inspect_err(|error| doubt_outdated(file, error))?;
                self.moved_copy(inode, &remote, version.clone());
                {
                    let mut state = file.state.lock();
                    (state.posix, state.headers) = (posix, headers);
                }
                self.table.rename(inode.ino, to.clone());
                self.entry_changed(to.parent, &to.name, Some(Child::Object(version)));
                self.note(inode);
                self.log.flush();
                drop(under_way);
            }
            Content::Staged(stage)
                if stage.overlay.is_some()
                    || (tagged && stage.base.is_some())
                    || mode == RenameMode::Exchange =>
            {
                self.rename_committed(inode, file, (from, to), &keys, (replaced, mode)).await?;
            }
            Content::Staged(_) => {
                let renamed = self.rename_staged(inode, file, to, keys, replaced).await;
                if let (Err(_), Some(target)) = (&renamed, &target)
                    && self.table.place(target.ino).is_none()
                {
                    // Its name has gone all the same: only the upload is still to be done.
                    self.give_up(target).await;
                }
                renamed?;
            }
        }
        self.note(inode);
        if let Some(target) = &target {
            tracing::debug!(replaced = target.ino.0, "renamed over");
            self.give_up(target).await;
        }
        Ok(())
    }

    /// The attributes after a rename: it changes one, ctime, and none of the others, not even those that only the
    /// object's own time says. Where the metadata has no room for them (`false`) they are left to that.
    fn renamed_attributes(&self, file: &File) -> (Posix, Headers, bool) {
        let (mut posix, mut headers) = {
            let state = file.state.lock();
            (state.posix, state.headers.clone())
        };
        posix.ctime = clock::now();
        let kept = meta::write(&posix, &mut headers, self.options.defaults.attributes).is_ok();
        (posix, headers, kept)
    }

    /// Copies the object to its new key and deletes the old one. The move is under way until it is noted here.
    async fn rename_object(
        &self,
        inode: &Inode,
        (from, to): (&Place, &Place),
        (old_key, new_key): &(Key, Key),
        version: &Version,
        (replaced, mode): (Option<Version>, RenameMode),
        headers: Option<Headers>,
    ) -> Result<(Version, MoveUnderWay)> {
        let replaced_size = replaced.as_ref().map(|version| version.size);
        let replaces = replaced.map(|version| version.etag);
        let source = Source::Tag(version.etag.clone());
        let under_way = self.begin_move(old_key.as_str(), new_key.as_str(), source, replaces);
        let condition = match mode {
            RenameMode::Replace => Condition::Always,
            RenameMode::NoReplace | RenameMode::Exchange => Condition::Absent,
        };
        let request = CopyRequest {
            from: old_key.clone(),
            if_match: version.etag.clone(),
            size: version.size,
            to: new_key.clone(),
            condition,
            headers,
            log: None,
        };
        let copy = self.copy_to_new_name(request, to.parent).await?;
        self.count_change(new_key, replaced_size, Some(copy.size));
        if self.delete_for_good(inode, &from.name, old_key, &version.etag).await? {
            self.count_change(old_key, Some(version.size), None);
        } else {
            tracing::info!(%old_key, "another client has written there since it was renamed");
            self.forget_listing(from.parent);
        }
        Ok((copy, under_way))
    }

    /// A staged file whose object moves with it, after a commit: there is what its layer lacks, and there are its tags. In
    /// an exchange the objects say how far that is.
    async fn rename_committed(
        &self,
        inode: &Arc<Inode>,
        file: &File,
        (from, to): (&Place, &Place),
        keys: &(Key, Key),
        (replaced, mode): (Option<Version>, RenameMode),
    ) -> Result<()> {
        self.commit_locked(inode, file).await?;
        let version = current_version(inode).ok_or(Error::Internal("a committed file has an object"))?;
        // Said again: MinIO leaves `Expires` out of a copy that is to keep all.
        let headers = Some(file.state.lock().headers.clone());
        let (version, under_way) =
            self.rename_object(inode, (from, to), keys, &version, (replaced, mode), headers).await?;
        self.follow_copy(inode, &version);
        self.table.rename(inode.ino, to.clone());
        self.relabel(inode);
        self.entry_changed(to.parent, &to.name, Some(Child::Object(version)));
        self.log.flush();
        drop(under_way);
        Ok(())
    }

    /// A staged file is uploaded once, under its last name; the old object goes when the new one is there.
    async fn rename_staged(
        &self,
        inode: &Arc<Inode>,
        file: &File,
        to: &Place,
        (old_key, new_key): (Key, Key),
        replaced: Option<Version>,
    ) -> Result<()> {
        if !to.name.is_plain() {
            self.must_take(&new_key).await?;
        }
        let old = current_version(inode);
        // An earlier commit may have arrived under the old name.
        let unsure = may_have_arrived(inode) && matches!(self.options.commit, Commit::Close);
        {
            let mut state = file.state.lock();
            if let Content::Staged(stage) = &mut state.content {
                stage.file.note(|record| {
                    record.moves(old_key, old.as_ref().map(|old| old.etag.clone()), new_key);
                    record.base = replaced.as_ref().map(Base::from);
                })?;
                stage.base = replaced;
                stage.committed = None;
            }
            state.posix.ctime = clock::now();
        }
        self.table.rename(inode.ino, to.clone());
        // The journal is ahead until then: a worker that takes over would commit the file under its old name.
        self.log.flush();
        if old.is_some() || unsure { self.commit_locked(inode, file).await } else { Ok(()) }
    }

    /// The file's bytes are now another object's.
    pub(super) fn moved_copy(&self, inode: &Inode, old: &RemoteFile, version: Version) {
        let Some(file) = inode.file() else { return };
        let mut state = file.state.lock();
        let object = old.object.lock().clone();
        state.made();
        state.content = Content::Remote(Arc::new(RemoteFile::with_object(version, object)));
    }

    /// Both directories have changed.
    async fn renamed(&self, from: &Place, to: &Place) -> Result<()> {
        self.entry_changed(from.parent, &from.name, None);
        self.uncover(from.parent, &from.name);
        self.touch_directory(from.parent);
        self.touch_directory(to.parent);
        self.keep_directory(from.parent).await
    }
}

/// The commit locks of both files, the smaller number's first.
async fn lock_commits<'a>(one: &'a Inode, other: Option<&'a Inode>) -> Vec<MutexGuard<'a, ()>> {
    let mut inodes: Vec<&Inode> = [Some(one), other].into_iter().flatten().collect();
    inodes.sort_by_key(|inode| inode.ino);
    inodes.dedup_by_key(|inode| inode.ino);
    let mut held = Vec::new();
    for file in inodes.into_iter().filter_map(Inode::file) {
        held.push(file.commit.lock().await);
    }
    held
}

fn current_version(inode: &Inode) -> Option<Version> {
    inode.file().and_then(|file| file.state.lock().version().cloned())
}
