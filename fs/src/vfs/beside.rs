//! An object and a directory of one name. The directory has the name, the object shows as `%=name` while there is
//! one: inodes follow when a directory comes or goes, and nothing is made under a name that would not stay.

use super::Vfs;
use crate::error::{Error, Result};
use crate::inode::{Ino, Inode, Place};
use crate::name::{Key, Name, Role};
use crate::store::{Condition, ETag, ErrorKind};
use bytes::Bytes;
use std::sync::Arc;

impl Vfs {
    /// The file of this name's object, moved to this name if it is known by its other one.
    pub(super) fn follow_name(&self, parent: Ino, name: &Name) -> Option<Arc<Inode>> {
        if let Some(inode) = self.file_at(parent, name) {
            return Some(inode);
        }
        let inode = self.file_at(parent, &name.other().ok()?)?;
        self.table.rename(inode.ino, Place { parent, name: name.clone() });
        Some(inode)
    }

    /// A directory takes the place: a file that has it moves beside it.
    pub(super) fn step_aside(&self, place: &Place) {
        match place.name.other() {
            Ok(beside) => drop(self.follow_name(place.parent, &beside)),
            Err(_) => {
                if let Some(inode) = self.file_at(place.parent, &place.name) {
                    tracing::warn!(ino = inode.ino.0, name = %place.name, "no name for the object beside a directory");
                }
            }
        }
    }

    /// The directory of this name is gone: the object beside it has the name for itself.
    pub(super) fn uncover(&self, parent: Ino, name: &Name) {
        let Ok(beside) = name.other() else { return };
        self.follow_name(parent, name);
        let Ok(inode) = self.table.inode(parent) else { return };
        let listing = inode.directory().and_then(|directory| directory.listing.lock().clone());
        if let Some(child) = listing.and_then(|listing| listing.entry(&beside)) {
            self.entry_changed(parent, &beside, None);
            self.entry_changed(parent, name, Some(child));
        }
    }

    /// Whether the object of a name beside a directory is known here, and freshly, as a file without a directory.
    pub(super) fn is_known_without_mark(&self, parent: Ino, name: &Name) -> bool {
        let entry = Some(name).filter(|name| name.role() == Role::Beside).and_then(|name| name.other().ok());
        let file = entry.and_then(|entry| self.file_at(parent, &entry));
        file.is_some_and(|inode| self.is_fresh(&inode))
    }

    fn file_at(&self, parent: Ino, name: &Name) -> Option<Arc<Inode>> {
        self.table.child(parent, name).filter(|inode| inode.file().is_some())
    }

    /// Refuses a new file under a name that it could not keep: only a directory of the name makes room beside it.
    pub(super) async fn must_suit_a_file(&self, parent: Ino, name: &Name) -> Result<()> {
        match name.role() {
            Role::Entry => Ok(()),
            Role::Own => Err(Error::Invalid("only a directory's marker with bytes shows as %=")),
            Role::Beside => match self.resolve(parent, &name.other()?).await {
                Ok(inode) if inode.directory().is_some() => Ok(()),
                Ok(_) | Err(Error::NotFound) => Err(Error::Invalid("%= needs a directory of this name")),
                Err(error) => Err(error),
            },
        }
    }

    /// Whether the server takes such a key at all, asked before anything depends on it.
    pub(super) async fn must_take(&self, key: &Key) -> Result<()> {
        match self.store.head(key).await {
            Ok(_) => Ok(()),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes the object of a file unless another client has changed it; says whether it did. A directory's own object
    /// stays, empty, as the marker it is.
    pub(super) async fn delete_file(&self, name: &Name, key: &Key, version: &ETag) -> Result<bool> {
        let deleted = match name.role() {
            Role::Entry | Role::Beside => self.store.delete_version(key, version).await,
            Role::Own => {
                let marker = self.store.head(key).await?;
                let condition = Condition::Matches(version.clone());
                self.store.put(key, Bytes::new(), &marker.headers, condition).await.map(drop)
            }
        };
        match deleted {
            Ok(()) => Ok(true),
            Err(error) if error.kind == ErrorKind::Precondition => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
