//! Renaming a directory: every object below it is copied and deleted, in parallel. Nothing is deleted before
//! all copies are made, so a failure leaves the old tree whole.

use super::Vfs;
use crate::clock;
use crate::error::{Error, Result};
use crate::inode::{Child, Content, Ino, Inode, Listing, Node, Place};
use crate::journal::{Base, Source};
use crate::meta::{self, Posix};
use crate::name::{Key, Name, Prefix};
use crate::store::{Condition, CopyRequest, Depth, ListRequest, Listed, Version};
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

/// New attributes of a directory, on their way into its marker.
struct Revised {
    inode: Arc<Inode>,
    /// When its entries had changed last.
    touched: Option<SystemTime>,
    posix: Posix,
}

impl Revised {
    /// The marker has them now. What changed since counts more.
    fn written(self) {
        let Some(directory) = self.inode.directory() else { return };
        let mut state = directory.state.lock();
        let since = state.touched.take().filter(|at| Some(*at) != self.touched);
        state.posix = self.posix;
        if let Some(at) = since {
            state.touch(at);
        }
    }
}

/// An object that has been copied.
struct Copied {
    /// The version that was there.
    from: Version,
    /// What it is under its new key.
    to: Version,
}

impl Vfs {
    /// Moves all keys below `from` to `to`. The caller holds both trees.
    pub(super) async fn rename_directory(&self, inode: &Arc<Inode>, from: &Place, to: &Place) -> Result<()> {
        let old = self.table.prefix(from.parent)?.dir(&from.name)?;
        let new = self.table.prefix(to.parent)?.dir(&to.name)?;
        let listed = self.subtree(&old).await?;
        let parallel = self.options.max_requests.max(1);
        // A key that gets too long is found before anything is copied.
        let targets = listed.iter().map(|object| moved(&object.key, &old, &new));
        let targets = targets.collect::<Result<Vec<Key>>>()?;
        let markers = self.markers_below(inode, inode.ino);
        let source = Source::of(listed.iter().map(|object| &object.version));
        let under_way = self.begin_move(old.as_str(), new.as_str(), source, None);
        let pairs = listed.iter().zip(targets);
        let copies: Vec<_> =
            pairs.map(|(object, to)| self.copy_below(object, to, markers.get(&object.key))).collect();
        let copies: HashMap<Key, Copied> =
            stream::iter(copies).buffer_unordered(parallel).try_collect().await?;
        let keys: Vec<Key> = listed.iter().map(|object| object.key.clone()).collect();
        self.delete_all(&keys).await?;
        for object in &listed {
            self.count_change(&object.key, Some(object.version.size), None);
        }
        // The inodes below still give their old keys here.
        self.follow(inode.ino, &copies);
        for marker in markers.into_values() {
            marker.written();
        }
        self.table.rename(inode.ino, to.clone());
        self.entry_changed(to.parent, &to.name, Some(Child::Directory));
        self.files_below(inode).iter().for_each(|file| self.relabel(file));
        self.log.flush();
        drop(under_way);
        Ok(())
    }

    pub(super) async fn subtree(&self, prefix: &Prefix) -> Result<Vec<Listed>> {
        let mut objects = Vec::new();
        let mut after = None;
        loop {
            let request =
                ListRequest { after: after.take(), ..ListRequest::new(prefix.clone(), Depth::Subtree, 1000) };
            let page = self.store.list(request).await?;
            if page.unusable > 0 {
                return Err(Error::NotPermitted("the directory holds keys that cannot be copied"));
            }
            objects.extend(page.objects);
            after = page.next;
            if after.is_none() {
                return Ok(objects);
            }
        }
    }

    /// What the move writes into the markers of `inode` and the directories below, by their keys: a rename moves the
    /// ctime of what is renamed, and times that were only shown so far are kept with it.
    fn markers_below(&self, inode: &Arc<Inode>, renamed: Ino) -> HashMap<Key, Revised> {
        let mut markers = HashMap::new();
        let Some(directory) = inode.directory() else { return markers };
        for (_, child) in self.table.children(inode.ino) {
            markers.extend(self.markers_below(&child, renamed));
        }
        let state = directory.state.lock();
        let revised = state.touched.is_some() || inode.ino == renamed;
        let key = self.table.prefix(inode.ino).ok().and_then(|prefix| prefix.marker());
        if let Some(key) = key.filter(|_| revised && state.described) {
            let ctime = if inode.ino == renamed { clock::now() } else { state.posix.ctime };
            let posix = Posix { ctime, ..state.posix };
            markers.insert(key, Revised { inode: Arc::clone(inode), touched: state.touched, posix });
        }
        markers
    }

    async fn copy_below(&self, object: &Listed, to: Key, revised: Option<&Revised>) -> Result<(Key, Copied)> {
        let mut headers = None;
        if let Some(Revised { posix, .. }) = revised {
            let mut found = self.store.head(&object.key).await?.headers;
            // Without room for them the directory is moved as it is.
            headers = meta::write(posix, &mut found, self.options.defaults.attributes).ok().map(|()| found);
        }
        let request = CopyRequest {
            from: object.key.clone(),
            if_match: object.version.etag.clone(),
            size: object.version.size,
            to: to.clone(),
            condition: Condition::Always,
            headers,
            log: None,
        };
        let copied = Copied { from: object.version.clone(), to: self.copy(request).await? };
        self.count_change(&to, None, Some(copied.to.size));
        Ok((object.key.clone(), copied))
    }

    /// Gives the files below `ino` the versions of their copies. One whose object another client has changed keeps
    /// its own: what was copied is not what it was made from.
    fn follow(&self, ino: Ino, copies: &HashMap<Key, Copied>) {
        for (_, inode) in self.table.children(ino) {
            match &inode.node {
                Node::Directory(_) => self.follow(inode.ino, copies),
                Node::File(file) => {
                    let copied = self.table.key(inode.ino).ok().and_then(|key| copies.get(&key));
                    let Some(Copied { from, to }) = copied else { continue };
                    let known = file.state.lock().version().is_some_and(|known| known.same_bytes(from));
                    if known {
                        self.follow_copy(&inode, to);
                    } else {
                        file.state.lock().doubted = Some(clock::instant());
                    }
                }
            }
        }
        if let Ok(inode) = self.table.inode(ino)
            && let Some(directory) = inode.directory()
        {
            let mut slot = directory.listing.lock();
            *slot = slot.take().and_then(|listing| self.copied_listing(ino, &listing, copies)).map(Arc::new);
        }
    }

    /// The listing of a directory after the move: the same names with the versions of the copies. None if it had an
    /// object that was not copied.
    fn copied_listing(&self, ino: Ino, listing: &Listing, copies: &HashMap<Key, Copied>) -> Option<Listing> {
        let prefix = self.table.prefix(ino).ok()?;
        let copied = |(name, child): (Name, Child)| {
            let child = match child {
                Child::Directory => Child::Directory,
                Child::Object(_) => Child::Object(copies.get(&prefix.key(&name).ok()?)?.to.clone()),
            };
            Some((name, child))
        };
        let entries = listing.snapshot().into_iter().map(copied).collect::<Option<_>>()?;
        Some(Listing::new(entries, listing.fetched))
    }

    /// The file's object is another one of the same bytes from now on.
    pub(super) fn follow_copy(&self, inode: &Inode, copied: &Version) {
        let Some(file) = inode.file() else { return };
        let remote = match &mut file.state.lock().content {
            Content::Remote(remote) => Some(Arc::clone(remote)),
            Content::Staged(stage) => {
                stage.rest_on(copied.clone(), true);
                None
            }
        };
        if let Some(remote) = remote {
            self.moved_copy(inode, &remote, copied.clone());
        }
        self.note(inode);
    }

    /// A staged file that outlives this process says where it belongs.
    pub(super) fn relabel(&self, inode: &Inode) {
        let (Some(file), Ok(key)) = (inode.file(), self.table.key(inode.ino)) else { return };
        if let Content::Staged(stage) = &file.state.lock().content {
            let noted = stage.file.note(|record| {
                record.key = key.clone();
                record.base = stage.base.as_ref().map(Base::from);
            });
            if let Err(error) = noted {
                tracing::warn!(%key, %error, "the journal does not learn of a staged file's new name");
            }
        }
    }
}

/// The key that an object below `old` has below `new`.
fn moved(key: &Key, old: &Prefix, new: &Prefix) -> Result<Key> {
    let rest = key.as_str().strip_prefix(old.as_str()).ok_or(Error::Internal("a key outside"))?;
    Ok(Key::parse(&format!("{}{rest}", new.as_str()))?)
}
