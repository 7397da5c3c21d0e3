//! Reading directories: listings page by page, merged with what only this mount knows.

mod resume;

use super::Vfs;
use super::entries::{self, Entries};
use super::handle::{DirHandle, Handle};
use super::lookup::Description;
use super::namespace::Use;
use super::recall::{Recollection, Worth};
use crate::clock;
use crate::error::{Error, Result};
use crate::inode::{
    Attr, Child, Content, Directory, Ino, Inode, LISTING_MAX_ENTRIES, Listing, Marker, Node, Place,
};
use crate::name::{Name, Prefix};
use crate::session_log::{How, Record};
use crate::store::{Depth, ListCursor, ListPage, ListRequest, Listed, Version};
use resume::Shown;
use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Keys asked for with one LIST; the most that servers give.
const PAGE: u16 = 1000;

/// An entry of a directory.
#[derive(Debug)]
pub struct DirEntry<'a> {
    /// Its name.
    pub name: &'a OsStr,
    /// Where reading goes on after it.
    pub cookie: u64,
    /// What it is.
    pub kind: EntryKind,
}

/// What an entry stands for.
#[derive(Debug, Clone, Copy)]
pub enum EntryKind {
    /// `.` or `..`; the kernel counts no look-up for them.
    Dot(Ino),
    /// Anything else. The look-up counts once the entry is taken.
    Child {
        /// What `stat` shows.
        attr: Attr,
        /// How long to believe it; zero if the listing does not say all.
        ttl: Duration,
    },
}

/// Whether an entry that is taken counts as looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookups {
    /// It does (`FUSE_READDIRPLUS`).
    Counted,
    /// It does not (`FUSE_READDIR`).
    NotCounted,
}

/// The reader's place in a directory. Cookies are positions in the sequence this handle has shown, so they
/// stay valid while the handle lives, whatever is created or removed meanwhile.
#[derive(Debug, Default)]
pub struct DirStream {
    /// A place whose name is gone shows nothing.
    entries: Vec<(Name, Option<Child>)>,
    /// Names that an earlier worker has shown, by position: what they stand for is asked first.
    resumed: BTreeMap<u64, Vec<u8>>,
    /// Position of `entries[0]`.
    base: u64,
    source: Source,
    /// Objects that may have to stand beside a directory of the next page.
    held: Vec<Listed>,
    /// When the listing that is shown was asked for.
    started: Option<Instant>,
    changes: u64,
    /// What is left of the note on the directory.
    recollection: Option<Recollection>,
}

#[derive(Debug, Default)]
enum Source {
    #[default]
    NotStarted,
    More(ListCursor),
    Ended,
}

/// Cookies below this are `.` and `..`.
const DOTS: u64 = 2;

impl Vfs {
    /// Opens a directory.
    pub fn opendir(&self, ino: Ino) -> Result<u64> {
        let inode = self.table.inode(ino)?;
        inode.directory().ok_or(Error::NotDirectory)?;
        self.table.pin(ino);
        if let Some((fh, How::Directory)) = self.handle_opened_earlier() {
            return Ok(fh);
        }
        let handle = DirHandle { inode, stream: tokio::sync::Mutex::default() };
        let fh = self.add_handle(Handle::Directory(Arc::new(handle)));
        self.note_opened(fh, ino.0, How::Directory);
        Ok(fh)
    }

    /// Closes a directory.
    pub fn releasedir(&self, fh: u64) -> Result<()> {
        let Some(taken) = self.take_handle(fh)? else { return Ok(()) };
        self.log.note(|| Record::Closed { fh });
        match taken {
            Handle::Directory(handle) => {
                if let Some(directory) = handle.inode.directory() {
                    self.remember(&handle.inode, directory, Worth::IfMuchIsNew);
                }
                self.table.unpin(handle.inode.ino);
            }
            Handle::File(_) => return Err(Error::NotDirectory),
        }
        Ok(())
    }

    /// Gives entries from `cookie` on to `take` until it is full (`true`) or the directory ends.
    pub async fn readdir(
        &self,
        fh: u64,
        cookie: u64,
        lookups: Lookups,
        mut take: impl FnMut(DirEntry<'_>) -> bool,
    ) -> Result<()> {
        let handle = self.dir_handle(fh)?;
        let ino = handle.inode.ino;
        let parent = self.table.place(ino).map_or(Ino::ROOT, |place| place.parent);
        for (index, (name, dot)) in [(".", ino), ("..", parent)].into_iter().enumerate().skip(start(cookie)) {
            let cookie = index as u64 + 1;
            if take(DirEntry { name: OsStr::new(name), cookie, kind: EntryKind::Dot(dot) }) {
                return Ok(());
            }
        }
        let mut stream = handle.stream.lock().await;
        self.relist(&handle.inode, &mut stream).await?;
        let at = cookie.saturating_sub(DOTS);
        let mut shown = Shown { fh, at, anew: false, names: Vec::new() };
        if at < stream.base
            || (at == 0 && stream.started.is_some_and(|at| clock::since(at) >= self.options.attr_ttl))
        {
            *stream = DirStream::default();
            shown.anew = true;
        }
        let result = self.show(&handle.inode, &mut stream, lookups, take, &mut shown).await;
        if !shown.names.is_empty() {
            self.log.note(|| shown.record());
        }
        result
    }

    /// Gives entries of a stream from position `at` on to `take`.
    async fn show(
        &self,
        inode: &Inode,
        stream: &mut DirStream,
        lookups: Lookups,
        mut take: impl FnMut(DirEntry<'_>) -> bool,
        shown: &mut Shown,
    ) -> Result<()> {
        let ino = inode.ino;
        loop {
            let at = shown.at + shown.names.len() as u64;
            while at >= stream.base + stream.entries.len() as u64 {
                if !self.next_page(inode, stream).await? {
                    return Ok(());
                }
            }
            let (name, child) = &stream.entries[start(at - stream.base)];
            let child = child.as_ref().filter(|_| !self.was_removed(inode, stream, name));
            let Some(kind) = child.and_then(|child| self.entry_kind(ino, name, child)) else {
                shown.names.push(Vec::new());
                continue;
            };
            if take(DirEntry { name: name.as_ref(), cookie: at + DOTS + 1, kind }) {
                return Ok(());
            }
            if lookups == Lookups::Counted
                && let EntryKind::Child { attr, .. } = kind
                && let Ok(inode) = self.table.inode(attr.ino)
            {
                self.table.looked_up(&inode, Some(Place { parent: ino, name: name.clone() }));
            }
            shown.names.push(name.as_bytes().to_vec());
        }
    }

    /// Whether what the stream has under a name was removed here since. Without a complete listing nobody knows.
    fn was_removed(&self, inode: &Inode, stream: &DirStream, name: &Name) -> bool {
        let Some(directory) = inode.directory() else { return false };
        let unchanged = directory.state.lock().changes == stream.changes;
        if unchanged || self.table.child(inode.ino, name).is_some() {
            return false;
        }
        let listing = directory.listing.lock();
        // An older one may lack what others have made since.
        let kept = listing.as_ref().filter(|listing| Some(listing.fetched) >= stream.started);
        kept.is_some_and(|listing| listing.entry(name).is_none())
    }

    /// The entry as it is now: what is known here goes before what the listing said.
    fn entry_kind(&self, parent: Ino, name: &Name, child: &Child) -> Option<EntryKind> {
        let place = || Place { parent, name: name.clone() };
        let known = match child {
            // What this mount knows better than the listing shows under its own name.
            Child::Object(_) if self.is_known_without_mark(parent, name) => return None,
            Child::Object(_) => match self.table.child(parent, name) {
                Some(inode) if self.is_fresh(&inode) => Some(inode),
                stale => self.follow_name(parent, name).or(stale),
            },
            Child::Directory => self.table.child(parent, name),
        };
        let inode = match (known, child) {
            (Some(inode), Child::Directory) if inode.directory().is_some() => inode,
            (Some(inode), Child::Object(version)) if self.shows(&inode, version) => inode,
            (Some(inode), _) if self.is_fresh(&inode) => inode,
            (_, Child::Object(version)) => self.insert_file(place(), version.clone(), Description::Listed),
            (_, Child::Directory) => {
                let inode = self.insert_directory(place(), Marker::Unknown);
                // The listing proves that it exists, not what its marker says: a look-up asks for that.
                return Some(EntryKind::Child { attr: self.attr(&inode), ttl: Duration::ZERO });
            }
        };
        let ttl = if self.is_fresh(&inode) { self.options.attr_ttl } else { Duration::ZERO };
        Some(EntryKind::Child { attr: self.attr(&inode), ttl })
    }

    /// Whether the inode is the version that the listing shows; a described one then counts as checked.
    fn shows(&self, inode: &Inode, version: &Version) -> bool {
        let Node::File(file) = &inode.node else { return false };
        let mut state = file.state.lock();
        let same = match &state.content {
            Content::Staged(_) => return true,
            Content::Remote(remote) => remote.version.same_bytes(version),
        };
        if same && state.described && state.doubted.is_none() {
            state.checked = clock::instant();
        }
        same
    }

    /// Reads one more page into the stream; false at the end.
    async fn next_page(&self, inode: &Inode, stream: &mut DirStream) -> Result<bool> {
        let directory = inode.directory().ok_or(Error::NotDirectory)?;
        let _held = self.hold(&[Use::Inode(inode.ino)]).await;
        let after = match &stream.source {
            Source::Ended => return Ok(false),
            Source::NotStarted => {
                stream.started = Some(clock::instant());
                stream.changes = directory.state.lock().changes;
                if let Some(listing) = self.fresh_listing(directory) {
                    stream.started = Some(listing.fetched);
                    let entries = listing.snapshot();
                    self.describe_page(inode.ino, &mut stream.recollection, &entries).await?;
                    stream.entries = entries.into_iter().map(there).collect();
                    self.add_local(inode.ino, stream);
                    stream.source = Source::Ended;
                    return Ok(!stream.entries.is_empty());
                }
                None
            }
            Source::More(cursor) => Some(cursor.clone()),
        };
        let prefix = self.table.prefix(inode.ino)?;
        let request =
            ListRequest { after, headers: true, ..ListRequest::new(prefix.clone(), Depth::Directory, PAGE) };
        let mut page = self.store.list(request).await?;
        let mut told = Recollection::told(&prefix, &mut page);
        stream.source = page.next.clone().map_or(Source::Ended, Source::More);
        self.note_marker(directory, &prefix, &page);
        let page = entries::of_page(&prefix, std::mem::take(&mut stream.held), page);
        self.log_unusable(directory, &prefix, page.unusable);
        stream.held = page.held;
        let fetched: Vec<_> = page.entries.into_iter().collect();
        self.recall(inode.ino, &mut told, fetched.iter().map(|(name, child)| (name, child)));
        self.describe_page(inode.ino, &mut stream.recollection, &fetched).await?;
        stream.entries.extend(fetched.into_iter().map(there));
        if matches!(stream.source, Source::Ended) {
            self.keep_listing(inode.ino, directory, &prefix, stream);
            self.add_local(inode.ino, stream);
        }
        if stream.entries.len() > LISTING_MAX_ENTRIES {
            let old = stream.entries.len() / 2;
            stream.entries.drain(..old);
            stream.base += old as u64;
        }
        Ok(true)
    }

    /// Adds what only this mount knows: files that are not in the bucket yet.
    fn add_local(&self, ino: Ino, stream: &mut DirStream) {
        let local: Vec<_> =
            self.table.children(ino).into_iter().filter(|(_, inode)| is_local(inode)).collect();
        if local.is_empty() {
            return;
        }
        let shown: HashSet<Name> = stream.entries.iter().map(|(name, _)| name.clone()).collect();
        for (name, inode) in local.into_iter().filter(|(name, _)| !shown.contains(name)) {
            let version = inode.file().and_then(|file| file.state.lock().version().cloned());
            let known = version.unwrap_or_else(|| Version::unknown(clock::now()));
            stream.entries.push((name, Some(Child::Object(known))));
        }
    }

    /// Keeps a listing that is complete and that no change made here has overtaken. What a server without order has
    /// made an object beside a directory only on a later page is shown at the end.
    fn keep_listing(&self, ino: Ino, directory: &Directory, prefix: &Prefix, stream: &mut DirStream) {
        let Some(started) = stream.started.filter(|_| stream.base == 0) else { return };
        let mut entries = Entries::new();
        for (name, child) in stream.entries.iter().cloned() {
            let Some(child) = child else { continue };
            if entries::put(&mut entries, name, child).is_err() {
                self.log_unusable(directory, prefix, 1);
            }
        }
        let shown: HashSet<&Name> = stream.entries.iter().map(|(name, _)| name).collect();
        let late = entries.iter().filter(|(name, _)| !shown.contains(name));
        let late: Vec<_> = late.map(|(name, child)| (name.clone(), child.clone())).collect();
        if directory.state.lock().changes != stream.changes {
            return;
        }
        late.iter().for_each(|(name, _)| drop(self.follow_name(ino, name)));
        stream.entries.extend(late.into_iter().map(there));
        directory.state.lock().large = entries.len() > usize::from(PAGE);
        *directory.listing.lock() = Some(Arc::new(Listing::new(entries, started)));
    }

    fn note_marker(&self, directory: &Directory, prefix: &Prefix, page: &ListPage) {
        let marker = prefix.marker();
        if page.objects.iter().any(|listed| Some(&listed.key) == marker.as_ref()) {
            directory.state.lock().marker = Marker::Present;
        }
    }

    /// Keys that are there and cannot be shown: said once for each directory.
    fn log_unusable(&self, directory: &Directory, prefix: &Prefix, count: usize) {
        if count > 0 && !std::mem::replace(&mut directory.state.lock().unusable_logged, true) {
            tracing::warn!(%prefix, count, "keys that no file name can show are left out");
        }
    }

    /// The directory's complete listing, if it is young enough to be believed.
    pub(super) fn fresh_listing(&self, directory: &Directory) -> Option<Arc<Listing>> {
        let listing = directory.listing.lock().clone()?;
        (clock::since(listing.fetched) < self.options.attr_ttl).then_some(listing)
    }

    /// Lists the directory if it fits on one page; the listing is kept.
    pub(super) async fn small_listing(&self, ino: Ino) -> Result<Option<Arc<Listing>>> {
        let inode = self.table.inode(ino)?;
        let directory = inode.directory().ok_or(Error::NotDirectory)?;
        if let Some(listing) = self.fresh_listing(directory) {
            return Ok(Some(listing));
        }
        let _turn = directory.listing_turn.lock().await;
        if let Some(listing) = self.fresh_listing(directory) {
            return Ok(Some(listing));
        }
        let (started, changes) = (clock::instant(), directory.state.lock().changes);
        let prefix = self.table.prefix(ino)?;
        if directory.state.lock().large {
            return Ok(None);
        }
        let request =
            ListRequest { headers: true, ..ListRequest::new(prefix.clone(), Depth::Directory, PAGE) };
        let mut page = self.store.list(request).await?;
        let mut told = Recollection::told(&prefix, &mut page);
        self.note_marker(directory, &prefix, &page);
        if page.next.is_some() {
            directory.state.lock().large = true;
            return Ok(None);
        }
        let page = entries::of_page(&prefix, Vec::new(), page);
        self.log_unusable(directory, &prefix, page.unusable);
        self.recall(ino, &mut told, &page.entries);
        let listing = Arc::new(Listing::new(page.entries, started));
        if directory.state.lock().changes == changes {
            *directory.listing.lock() = Some(Arc::clone(&listing));
        }
        Ok(Some(listing))
    }

    /// Notes that `name` was made, changed or removed here, in the listing that may be cached.
    pub(super) fn entry_changed(&self, parent: Ino, name: &Name, child: Option<Child>) {
        let Ok(inode) = self.table.inode(parent) else { return };
        let Some(directory) = inode.directory() else { return };
        {
            let mut state = directory.state.lock();
            state.changes += 1;
            state.absent.remove(name);
        }
        if let Some(listing) = directory.listing.lock().as_ref() {
            match child {
                Some(child) => listing.put(name, child),
                None => listing.remove(name),
            }
        }
    }
}

/// Whether the bucket may not show the inode as it is here: a file that is new or changed. Directories made here have a
/// marker.
pub(super) fn is_local(inode: &Inode) -> bool {
    inode.file().is_some_and(|file| matches!(file.state.lock().content, Content::Staged(_)))
}

/// An entry that the directory has; a change that removes one has `None`.
fn there((name, child): (Name, Child)) -> (Name, Option<Child>) {
    (name, Some(child))
}

fn start(cookie: u64) -> usize {
    usize::try_from(cookie).unwrap_or(usize::MAX)
}
