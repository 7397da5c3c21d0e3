//! From a name to an inode: what is remembered, what the listing says, and what the store is asked.

use super::Vfs;
use super::namespace::Use;
use super::readdir::is_local;
use crate::clock;
use crate::error::{Error, Result};
use crate::inode::{
    Attr, Child, Content, Directory, File, FileState, Ino, Inode, Marker, Node, Place, RemoteFile,
};
use crate::meta::{self, Kind, Posix};
use crate::name::{Key, Name, NameError, Prefix, Role};
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
    File(Box<ObjectInfo>),
    /// With its marker, if it has one.
    Directory(Option<Box<ObjectInfo>>),
}

impl Vfs {
    /// Finds `name` in `parent` (`FUSE_LOOKUP`) and counts it as looked up.
    pub async fn lookup(&self, parent: Ino, name: &OsStr) -> Result<Entry> {
        let name = Name::parse(name)?;
        let _held = self.hold(&[Use::Name(parent, &name)]).await;
        match self.resolve(parent, &name).await {
            Ok(inode) => Ok(self.entry(&inode, Some(Place { parent, name }))),
            // Only another client can have made it.
            Err(Error::NotFound) if name.is_long() => Err(Error::Name(NameError::TooLong)),
            Err(error) => Err(error),
        }
    }

    /// An inode for the kernel, counted as looked up.
    pub(super) fn entry(&self, inode: &Arc<Inode>, place: Option<Place>) -> Entry {
        self.table.looked_up(inode, place);
        Entry { attr: self.attr(inode), ttl: self.options.attr_ttl }
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
        if self.known_absent(directory, name) {
            return Err(Error::NotFound);
        }
        if let Some(inode) = &known
            && self.sweep(parent, directory, name, inode).await?
        {
            return Ok(Arc::clone(inode));
        }
        let (asked, changes) = (clock::instant(), directory.state.lock().changes);
        let found = self.ask(parent, directory, name, known.as_deref()).await?;
        let Some(found) = found else {
            if let Some(inode) = known
                && self.gone(&inode, asked)
            {
                return Ok(inode);
            }
            let mut state = directory.state.lock();
            if state.changes == changes {
                state.note_absent(name, asked, self.options.attr_ttl);
            }
            return Err(Error::NotFound);
        };
        Ok(self.place_found(parent, name, found, asked))
    }

    /// Whether what is remembered may be answered without asking the store.
    pub(super) fn is_fresh(&self, inode: &Inode) -> bool {
        let young = |checked: Instant| clock::since(checked) < self.options.attr_ttl;
        match &inode.node {
            Node::Directory(directory) => {
                let state = directory.state.lock();
                state.described && young(state.checked)
            }
            Node::File(file) => {
                let state = file.state.lock();
                matches!(state.content, Content::Staged(_))
                    || (state.described && young(state.checked) && state.believes(state.checked))
            }
        }
    }

    fn known_absent(&self, directory: &Directory, name: &Name) -> bool {
        let state = directory.state.lock();
        state.absent.get(name).is_some_and(|asked| clock::since(*asked) < self.options.attr_ttl)
    }

    /// Takes a listing's word for an inode that it shows unchanged.
    fn confirm(&self, inode: &Inode, child: &Child, fetched: Instant) -> bool {
        match (&inode.node, child) {
            (Node::Directory(directory), Child::Directory) => {
                let mut state = directory.state.lock();
                state.checked = state.checked.max(fetched);
                state.described
            }
            (Node::File(file), Child::Object(version)) => {
                let mut state = file.state.lock();
                let same = state.version().is_some_and(|known| known.same_bytes(version));
                let same = same && state.described && state.believes(fetched);
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
        let key = match prefix.key(name) {
            Ok(key) => Some(key),
            // Only directories have an empty component.
            Err(NameError::Invalid) => None,
            Err(error) => return Err(error.into()),
        };
        match name.role() {
            Role::Entry => {}
            Role::Own => {
                let own = self.ask_file(key.as_ref()).await?;
                return Ok(own.filter(|found| matches!(found, Found::File(info) if info.version.size > 0)));
            }
            Role::Beside => {
                let entry = prefix.dir(&name.other()?)?;
                let (file, directory) =
                    tokio::join!(self.ask_file(key.as_ref()), self.ask_directory(Some(&entry)));
                let (file, directory) = (file?, directory?);
                return Ok(file.filter(|_| directory.is_some()));
            }
        }
        // A key of full length has no room for the `/` of a directory.
        let inner = prefix.dir(name).ok();
        let listed = self.fresh_listing(directory).and_then(|listing| listing.entry(name));
        let was_directory = known.is_some_and(|inode| inode.directory().is_some());
        let likely_directory = match listed {
            Some(Child::Directory) => true,
            Some(Child::Object(_)) => false,
            // An older listing is no answer, but it says what to ask for first.
            None => was_directory || self.was_listed_as_directory(directory, name),
        };
        if likely_directory && let Some(found) = self.ask_directory(inner.as_ref()).await? {
            return Ok(Some(found));
        }
        if likely_directory || listed.is_some() || known.is_some() {
            return self.ask_file(key.as_ref()).await;
        }
        self.ask_both(parent, directory, name, key.as_ref(), inner.as_ref()).await
    }

    /// Asks for a name of which nothing is known. That there is an object says nothing of keys below it, so the
    /// first look-up in a directory asks for a page of it at once, which answers for all names if they fit on it.
    /// Later ones take an object for a file: a LIST costs ten times a HEAD.
    async fn ask_both(
        &self,
        parent: Ino,
        directory: &Directory,
        name: &Name,
        key: Option<&Key>,
        inner: Option<&Prefix>,
    ) -> Result<Option<Found>> {
        let listed_before = directory.state.lock().large || directory.listing.lock().is_some();
        let (file, listing) = if listed_before {
            if let Some(file) = self.ask_file(key).await? {
                return Ok(Some(file));
            }
            (None, self.small_listing(parent).await)
        } else {
            let (file, listing) = tokio::join!(self.ask_file(key), self.small_listing(parent));
            (file?, listing)
        };
        match (file, listing.map(|listing| listing.map(|listing| listing.entry(name)))) {
            (file, Ok(Some(Some(Child::Directory)))) => Ok(self.ask_directory(inner).await?.or(file)),
            (file, Ok(Some(None | Some(Child::Object(_))))) | (file @ Some(_), Ok(None)) => Ok(file),
            (None, Ok(None)) => self.ask_directory(inner).await,
            // Who may not list can still open what he knows.
            (Some(file), Err(error)) => {
                tracing::debug!(%error, %name, "taken for a file without a listing");
                Ok(Some(file))
            }
            (None, Err(error)) => Err(error),
        }
    }

    fn was_listed_as_directory(&self, directory: &Directory, name: &Name) -> bool {
        let listing = directory.listing.lock().clone();
        listing.is_some_and(|listing| matches!(listing.entry(name), Some(Child::Directory)))
    }

    async fn ask_file(&self, key: Option<&Key>) -> Result<Option<Found>> {
        let Some(key) = key else { return Ok(None) };
        Ok(self.head_if_any(key).await?.map(|info| Found::File(Box::new(info))))
    }

    async fn ask_directory(&self, inner: Option<&Prefix>) -> Result<Option<Found>> {
        let Some(inner) = inner else { return Ok(None) };
        if let Some(marker) = inner.marker()
            && let Some(info) = self.head_if_any(&marker).await?
        {
            return Ok(Some(Found::Directory(Some(Box::new(info)))));
        }
        if self.has_keys(inner).await? {
            return Ok(Some(Found::Directory(None)));
        }
        Ok(None)
    }

    /// What HEAD says; `None` if the store says for certain that there is no such object.
    pub(super) async fn head_if_any(&self, key: &Key) -> Result<Option<ObjectInfo>> {
        match self.store.head(key).await {
            Ok(info) => Ok(Some(info)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the bucket has any key below `prefix`, its marker included.
    pub(super) async fn has_keys(&self, prefix: &Prefix) -> store::Result<bool> {
        let request = ListRequest::new(prefix.clone(), Depth::Subtree, 1);
        match self.store.list(request).await {
            Ok(page) => Ok(!page.objects.is_empty() || page.unusable > 0),
            Err(error) if is_absent(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The store has nothing there any more. Open files live on without the name. Says whether it is still there for
    /// this mount: what waits for its upload will be in the bucket again, with the directories above it, and what was
    /// put there since the store was asked is.
    fn gone(&self, inode: &Arc<Inode>, asked: Instant) -> bool {
        let is_made = |inode: &Inode| inode.file().is_some_and(|file| file.state.lock().is_made_since(asked));
        let stays = self.files_below(inode).iter().any(|file| is_local(file) || is_made(file));
        if !stays && !self.table.has_children(inode.ino) {
            self.table.remove(inode.ino);
        }
        stays
    }

    fn place_found(&self, parent: Ino, name: &Name, found: Found, asked: Instant) -> Arc<Inode> {
        // Another look-up or a listing may have placed it while the store was asked: its inode must stay.
        let known = match &found {
            Found::File(_) => self.follow_name(parent, name),
            Found::Directory { .. } => self.table.child(parent, name),
        };
        if let Some(inode) = known {
            match (&inode.node, &found) {
                (Node::Directory(directory), Found::Directory(marker)) => {
                    self.refresh_directory(directory, marker.as_deref());
                    return inode;
                }
                (Node::File(file), Found::File(info)) if self.refresh(file, info, asked) => return inode,
                (Node::Directory(_) | Node::File(_), _) => {}
            }
        }
        let place = Place { parent, name: name.clone() };
        match found {
            Found::Directory(None) => self.insert_directory(place, Marker::Absent),
            Found::Directory(Some(info)) => {
                let inode = self.insert_directory(place, Marker::Present);
                if let Some(directory) = inode.directory() {
                    self.refresh_directory(directory, Some(&info));
                }
                inode
            }
            Found::File(info) => {
                self.learned(parent);
                let posix = self.posix(&info, Kind::File);
                let ObjectInfo { version, headers, .. } = *info;
                self.insert_file(place, version, Description::Known(posix, headers))
            }
        }
    }

    /// Takes what HEAD says, unless this mount has made another version since it was asked. False if that needs a new
    /// inode: another version while the file is open, or a symbolic link where a listing had shown a file.
    pub(super) fn refresh(&self, file: &File, info: &ObjectInfo, asked: Instant) -> bool {
        let posix = self.posix(info, Kind::File);
        let mut state = file.state.lock();
        let Content::Remote(remote) = &state.content else { return true };
        if state.is_made_since(asked) {
            return true;
        }
        if posix.kind != state.posix.kind {
            return false;
        }
        if !remote.version.same_bytes(&info.version) {
            if !state.handles.none() {
                return false;
            }
            state.content = Content::Remote(Arc::new(RemoteFile::new(info.version.clone())));
        }
        if !state.posix_changed {
            state.posix = posix;
        }
        state.headers = info.headers.clone();
        (state.described, state.listed) = (true, false);
        state.checked = clock::instant();
        true
    }

    /// Takes what the marker says, if there is one.
    pub(super) fn refresh_directory(&self, directory: &Directory, marker: Option<&ObjectInfo>) {
        let mut state = directory.state.lock();
        match marker {
            Some(info) => {
                let posix = self.posix(info, Kind::Directory);
                state.refresh(posix, info.headers.clone(), &info.version);
            }
            None => {
                state.described = true;
                state.marker = Marker::Absent;
            }
        }
        state.checked = clock::instant();
    }

    /// The attributes that an object says; `kind` tells a marker from other keys.
    pub(super) fn posix(&self, info: &ObjectInfo, kind: Kind) -> Posix {
        meta::read(&info.headers, &info.version, kind, &self.options.defaults)
    }

    /// A directory of which only its existence is known.
    pub(super) fn insert_directory(&self, place: Place, marker: Marker) -> Arc<Inode> {
        self.step_aside(&place);
        let posix = self.options.defaults.directory(clock::now());
        let directory = Directory::new(posix, Headers::default(), marker, clock::instant());
        self.table.insert(place, |ino| Inode { ino, node: Node::Directory(Box::new(directory)) })
    }

    pub(super) fn insert_file(&self, place: Place, version: Version, description: Description) -> Arc<Inode> {
        let listed = matches!(description, Description::Told(..));
        let (posix, headers, described) = match description {
            Description::Known(posix, headers) | Description::Told(posix, headers) => (posix, headers, true),
            Description::Listed => {
                (self.options.defaults.file(version.last_modified), Headers::default(), false)
            }
        };
        let content = Content::Remote(Arc::new(RemoteFile::new(version)));
        let file = File::new(FileState { listed, ..FileState::new(posix, headers, content, described) });
        self.table.insert(place, |ino| Inode { ino, node: Node::File(Box::new(file)) })
    }
}

/// Whether the store says for certain that there is nothing: it may also say that there cannot be.
fn is_absent(error: &store::Error) -> bool {
    matches!(error.kind, ErrorKind::NotFound | ErrorKind::InvalidName | ErrorKind::NameTooLong)
}

/// What is known of a file that gets an inode.
pub(super) enum Description {
    /// Its own attributes and headers.
    Known(Posix, Headers),
    /// The same, by a listing.
    Told(Posix, Headers),
    /// Only that a listing shows it.
    Listed,
}
