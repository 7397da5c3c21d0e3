//! Attributes without one HEAD for each object of a listing: they come with the listing, where the server tells them,
//! or they outlive the mount: one note for each directory in the local store says what the bucket said of its objects.
//!
//! Invariant: what is recalled belongs to the very version that a listing shows. Metadata can change under one
//! tag (a copy of an object onto itself), so the time counts too; what changed in the last seconds is not noted.

use super::Vfs;
use super::lookup::Description;
use crate::clock;
use crate::inode::{Child, Content, Directory, Ino, Inode, Place};
use crate::meta::{self, Kind};
use crate::name::{Name, Prefix};
use crate::store::{Headers, ListPage, Listed, Version};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

/// What was known of a directory's objects, by name. Names that are no UTF-8 are not noted.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Recollection {
    objects: HashMap<String, Known>,
    /// A listing says so.
    #[serde(skip)]
    told: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct Known {
    etag: String,
    size: u64,
    /// Seconds since 1970.
    modified: u64,
    headers: Headers,
}

impl Recollection {
    /// What a page of the listing of `prefix` tells of its objects.
    pub(super) fn told(prefix: &Prefix, page: &mut ListPage) -> Self {
        let mut objects = HashMap::new();
        for Listed { key, version, headers } in &mut page.objects {
            let (name, headers) = (key.as_str().strip_prefix(prefix.as_str()), headers.take());
            if let (Some(name), Some(headers)) = (name, headers) {
                objects.insert(name.to_owned(), Known::new(version, headers));
            }
        }
        Self { objects, told: true }
    }
}

impl Known {
    fn new(version: &Version, headers: Headers) -> Self {
        let (etag, modified) = (version.etag.as_str().to_owned(), seconds(version.last_modified));
        Self { etag, size: version.size, modified: modified.unwrap_or_default(), headers }
    }

    fn describes(&self, version: &Version) -> bool {
        self.etag == version.etag.as_str()
            && self.size == version.size
            && seconds(version.last_modified) == Some(self.modified)
    }
}

impl Vfs {
    /// What an earlier look at the directory has left.
    pub(super) fn recollection(&self, ino: Ino) -> Recollection {
        let Ok(prefix) = self.table.prefix(ino) else { return Recollection::default() };
        let note = self.cache.note(&self.bucket, prefix.as_str());
        note.and_then(|note| serde_json::from_slice(&note).ok()).unwrap_or_default()
    }

    /// Describes the files of a page that are as they were. The note is used up, entry by entry.
    pub(super) fn recall<'a>(
        &self,
        parent: Ino,
        from: &mut Recollection,
        page: impl IntoIterator<Item = (&'a Name, &'a Child)>,
    ) {
        for (name, child) in page {
            let Child::Object(version) = child else { continue };
            let Some(known) = name.as_str().and_then(|name| from.objects.remove(name)) else { continue };
            // What this mount has made of the file since goes before an old listing and an older note.
            let is_newer = self.table.child(parent, name).is_some_and(|inode| self.is_fresh(&inode));
            if known.describes(version) && !is_newer && !self.is_described(parent, name, version) {
                let posix = meta::read(&known.headers, version, Kind::File, &self.options.defaults);
                let place = Place { parent, name: name.clone() };
                let description = if from.told { Description::Told } else { Description::Known };
                self.insert_file(place, version.clone(), description(posix, known.headers));
            }
        }
    }

    /// Notes what is known of the directory's objects, if enough is new to be worth writing all of it.
    pub(super) fn remember(&self, inode: &Inode, directory: &Directory, worth: Worth) {
        let learned = directory.state.lock().learned;
        if learned == 0 {
            return;
        }
        let Ok(prefix) = self.table.prefix(inode.ino) else { return };
        let latest = clock::now() - self.options.note_after;
        let children = self.table.children(inode.ino);
        let enough = |count| worth == Worth::Anyway || learned as usize >= count / 8;
        let known: HashMap<_, _> = children
            .iter()
            .filter_map(|(name, child)| Some((name.as_str()?.to_owned(), known(child, latest)?)))
            .collect();
        // The old note is large where there is much to keep: it is read only if it may be replaced.
        if !enough(known.len()) {
            return;
        }
        let mut objects = self.recollection(inode.ino).objects;
        objects.extend(known);
        if let Some(listing) = directory.listing.lock().clone() {
            objects.retain(|name, _| listing.entry(name.as_bytes()).is_some());
        }
        if !enough(objects.len()) {
            return;
        }
        match serde_json::to_vec(&Recollection { objects, told: false }) {
            Ok(note) => self.cache.put_note(&self.bucket, prefix.as_str(), &note),
            Err(error) => tracing::debug!(%error, %prefix, "attributes not noted"),
        }
        directory.state.lock().learned = 0;
    }

    /// The bucket has said something of an object in `parent` that no note has.
    pub(super) fn learned(&self, parent: Ino) {
        if let Ok(inode) = self.table.inode(parent)
            && let Some(directory) = inode.directory()
        {
            let mut state = directory.state.lock();
            state.learned = state.learned.saturating_add(1);
        }
    }
}

/// When a note is worth its writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Worth {
    /// At the end of a listing.
    IfMuchIsNew,
    /// At the end of the mount.
    Anyway,
}

/// What to note of a file, unless its object has changed after `latest`.
fn known(inode: &Inode, latest: SystemTime) -> Option<Known> {
    let state = inode.file()?.state.lock();
    let Content::Remote(remote) = &state.content else { return None };
    let knows = state.described && !state.listed && !state.posix_changed;
    (knows && remote.version.last_modified <= latest)
        .then(|| Known::new(&remote.version, state.headers.clone()))
}

fn seconds(time: SystemTime) -> Option<u64> {
    time.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs())
}
