//! From a name to an inode: what is remembered, what the listing says, and what the store is asked.

use super::Vfs;
use crate::clock;
use crate::error::{Error, Result};
use crate::inode::{
    Attr, Child, Content, Directory, File, FileState, Handles, Ino, Inode, Marker, Node, Place, RemoteFile, Serving,
};
use crate::meta::{self, Kind, Posix};
use crate::name::{Name, Prefix};
use crate::store::{self, Depth, ErrorKind, Headers, ListRequest, ObjectInfo, Version};
use std::ffi::OsStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The answer to a look-up.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// What `stat` shows.
    pub attr: Attr,
    /// How long it may be believed.
    pub ttl: Duration,
}

/// What the store has under a name.
enum Found {
    File(ObjectInfo),
    Directory { posix: Posix, marker: Marker },
}

impl Vfs {
    /// Finds `name` in `parent` (`FUSE_LOOKUP`) and counts it as looked up.
    pub async fn lookup(&self, parent: Ino, name: &OsStr) -> Result<Entry> {
        let name = Name::parse(name)?;
        let _keys = self.namespace.read().await;
        let inode = self.resolve(parent, &name).await?;
        Ok(self.entry(&inode, Some(Place { parent, name })))
    }

    /// An inode for the kernel, counted as looked up.
    pub(super) fn entry(&self, inode: &Arc<Inode>, place: Option<Place>) -> Entry {
        self.table.looked_up(inode, place);
        Entry { attr: inode.attr(), ttl: self.options.attr_ttl }
    }

    /// The inode at `name`, as fresh as the attributes' lifetime demands, with its own attributes.
    pub(super) async fn resolve(&self, parent: Ino, name: &Name) -> Result<Arc<Inode>> {
        let directory_inode = self.table.inode(parent)?;
        let directory = directory_inode.directory().ok_or(Error::NotDirectory)?;
        let known = self.table.child(parent, name);
        if let Some(inode) = known.as_ref().filter(|inode| self.is_fresh(inode)) {
            return Ok(Arc::clone(inode));
        }
        if let Some(listing) = self.fresh_listing(directory) {
            match (listing.entry(name), &known) {
                (None, None) => return Err(Error::NotFound),
                (Some(child), Some(inode)) if self.confirm(inode, &child, listing.fetched) => {
                    return Ok(Arc::clone(inode));
                }
                (None, Some(_)) | (Some(_), _) => {}
            }
        }
        let found = self.ask(parent, directory, name, known.as_deref()).await?;
        let Some(found) = found else {
            if let Some(inode) = known {
                self.gone(&inode);
            }
            return Err(Error::NotFound);
        };
        Ok(self.place_found(parent, name, known, found))
    }

    /// Whether what is remembered may be answered without asking the store.
    pub(super) fn is_fresh(&self, inode: &Inode) -> bool {
        let young = |checked: Instant| checked.elapsed() < self.options.attr_ttl;
        match &inode.node {
            Node::Directory(directory) => young(directory.state.lock().checked),
            Node::File(file) => {
                let state = file.state.lock();
                matches!(state.content, Content::Staged(_)) || (state.described && young(state.checked))
            }
        }
    }

    /// Takes a listing's word for an inode that it shows unchanged.
    fn confirm(&self, inode: &Inode, child: &Child, fetched: Instant) -> bool {
        match (&inode.node, child) {
            (Node::Directory(directory), Child::Directory) => {
                let mut state = directory.state.lock();
                state.checked = state.checked.max(fetched);
                true
            }
            (Node::File(file), Child::Object(version)) => {
                let mut state = file.state.lock();
                let same = state.described && state.version().is_some_and(|known| known.same_bytes(version));
                if same {
                    state.checked = state.checked.max(fetched);
                }
                same
            }
            (Node::Directory(_), Child::Object(_)) | (Node::File(_), Child::Directory) => false,
        }
    }

    /// Asks the store what is at `name`: a directory that is known first as a directory, all else as an object.
    async fn ask(
        &self,
        parent: Ino,
        directory: &Directory,
        name: &Name,
        known: Option<&Inode>,
    ) -> Result<Option<Found>> {
        let prefix = self.table.prefix(parent)?;
        let inner = prefix.dir(name)?;
        let listed = self.fresh_listing(directory).and_then(|listing| listing.entry(name));
        let was_directory = known.is_some_and(|inode| inode.directory().is_some());
        let likely_directory = match listed {
            Some(Child::Directory) => true,
            Some(Child::Object(_)) => false,
            None => was_directory,
        };
        if likely_directory && let Some(found) = self.ask_directory(&inner).await? {
            return Ok(Some(found));
        }
        match self.store.head(&prefix.key(name)?).await {
            Ok(info) => return Ok(Some(Found::File(info))),
            Err(error) if error.kind == ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        if likely_directory {
            return Ok(None);
        }
        // One page of the parent answers for all its names, if the parent fits on a page.
        match self.small_listing(parent).await?.map(|listing| listing.entry(name)) {
            Some(None | Some(Child::Object(_))) => Ok(None),
            Some(Some(Child::Directory)) | None => self.ask_directory(&inner).await,
        }
    }

    async fn ask_directory(&self, inner: &Prefix) -> Result<Option<Found>> {
        if let Some(marker) = inner.marker() {
            match self.store.head(&marker).await {
                Ok(info) => {
                    let posix = meta::read(&info.headers, &info.version, Kind::Directory, &self.defaults());
                    return Ok(Some(Found::Directory { posix, marker: Marker::Present }));
                }
                Err(error) if error.kind == ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        if self.has_keys(inner).await? {
            let posix = self.defaults().directory(clock::now());
            return Ok(Some(Found::Directory { posix, marker: Marker::Absent }));
        }
        Ok(None)
    }

    /// Whether the bucket has any key below `prefix`, its marker included.
    pub(super) async fn has_keys(&self, prefix: &Prefix) -> store::Result<bool> {
        let request = ListRequest { prefix: prefix.clone(), depth: Depth::Subtree, after: None, limit: 1 };
        let page = self.store.list(request).await?;
        Ok(!page.objects.is_empty() || page.unusable > 0)
    }

    /// The store has nothing there any more. Open files and local changes live on without the name.
    fn gone(&self, inode: &Inode) {
        let keep = match &inode.node {
            // A directory emptied by others is still one here until it is removed here.
            Node::Directory(_) => self.table.has_children(inode.ino),
            Node::File(file) => matches!(file.state.lock().content, Content::Staged(_)),
        };
        if !keep {
            self.table.remove(inode.ino);
        }
    }

    fn place_found(&self, parent: Ino, name: &Name, known: Option<Arc<Inode>>, found: Found) -> Arc<Inode> {
        if let Some(inode) = known {
            match (&inode.node, &found) {
                (Node::Directory(directory), Found::Directory { posix, marker }) => {
                    let mut state = directory.state.lock();
                    if *marker == Marker::Present {
                        state.posix = *posix;
                    }
                    state.marker = *marker;
                    state.checked = clock::instant();
                    drop(state);
                    return inode;
                }
                (Node::File(file), Found::File(info)) if self.refresh(file, info) => return inode,
                (Node::Directory(_) | Node::File(_), _) => {}
            }
        }
        let place = Place { parent, name: name.clone() };
        match found {
            Found::Directory { posix, marker } => self.insert_directory(place, posix, marker),
            Found::File(info) => {
                let posix = meta::read(&info.headers, &info.version, Kind::File, &self.defaults());
                self.insert_file(place, info.version, Description::Known(posix, info.headers))
            }
        }
    }

    /// Takes what HEAD says. False if it is another version and the file is open: then it needs a new inode.
    pub(super) fn refresh(&self, file: &File, info: &ObjectInfo) -> bool {
        let mut state = file.state.lock();
        let Content::Remote(remote) = &state.content else { return true };
        if !remote.version.same_bytes(&info.version) {
            if !state.handles.none() {
                return false;
            }
            state.content = Content::Remote(Arc::new(RemoteFile::new(info.version.clone())));
            state.ctime = info.version.last_modified;
        }
        let posix = meta::read(&info.headers, &info.version, Kind::File, &self.defaults());
        if !state.posix_changed {
            state.posix = posix;
        }
        state.headers = info.headers.clone();
        state.described = true;
        state.checked = clock::instant();
        true
    }

    pub(super) fn insert_directory(&self, place: Place, posix: Posix, marker: Marker) -> Arc<Inode> {
        let directory = Directory::new(posix, marker, clock::instant());
        self.table.insert(place, |ino| Inode { ino, node: Node::Directory(directory) })
    }

    pub(super) fn insert_file(&self, place: Place, version: Version, description: Description) -> Arc<Inode> {
        let ctime = version.last_modified;
        let (posix, headers, described) = match description {
            Description::Known(posix, headers) => (posix, headers, true),
            Description::Listed => (self.defaults().file(ctime), Headers::default(), false),
        };
        let content = Content::Remote(Arc::new(RemoteFile::new(version)));
        let file = File::new(FileState {
            posix,
            ctime,
            described,
            headers,
            content,
            posix_changed: false,
            handles: Handles::default(),
            serving: Serving::Idle,
            checked: clock::instant(),
            kernel_pages: None,
            superseded: false,
        });
        self.table.insert(place, |ino| Inode { ino, node: Node::File(Box::new(file)) })
    }
}

/// What is known of a file that gets an inode.
pub(super) enum Description {
    /// Its own attributes and headers.
    Known(Posix, Headers),
    /// Only that a listing shows it.
    Listed,
}
