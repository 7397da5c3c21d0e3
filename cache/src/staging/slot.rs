//! The name of a staged file, its label and the lock that says who owns it.

use super::{Staged, StagedLabel};
use crate::error::{Error, Result};
use crate::files;
use crate::object::Access;
use crate::store::Store;
use parking_lot::Mutex;
use rustix::fs::FlockOperation;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

/// A place for one staged file. Dropping it removes the files.
#[derive(Debug)]
pub(crate) struct Slot {
    store: Arc<Store>,
    name: String,
    label: Mutex<Label>,
    fate: Mutex<Fate>,
}

/// The label file, which carries the exclusive lock, and the length of its entries.
#[derive(Debug)]
struct Label {
    file: File,
    length: u64,
}

/// A label that would get longer than this is written anew.
const LABEL_MAX: u64 = 64 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Remove,
    Leave,
}

impl Slot {
    /// Takes a new name and writes its label.
    pub(crate) fn reserve(store: &Arc<Store>, label: &StagedLabel) -> Result<Self> {
        let name = store.dirs.unique();
        let label = write_label(store, &name, &label.encode(store.boot.tag()))?;
        Ok(Self { store: Arc::clone(store), name, label: Mutex::new(label), fate: Mutex::new(Fate::Remove) })
    }

    /// Takes over what a dead process left; `label` carries the exclusive lock.
    pub(crate) fn inherit(store: &Arc<Store>, name: &str, label: File) -> Self {
        // What a cut entry has left must not stand before the next one: that gets a file of its own.
        let label = Label { file: label, length: LABEL_MAX };
        Self {
            store: Arc::clone(store),
            name: name.to_owned(),
            label: Mutex::new(label),
            fate: Mutex::new(Fate::Leave),
        }
    }

    /// Creates an empty data file.
    pub(crate) fn create(self) -> Result<Staged> {
        let data = self.store.dirs.staged.create(&self.data_name())?;
        Ok(Staged::new(self, data))
    }

    /// Opens the data file that is there. From now on the files go when the slot goes.
    pub(crate) fn open(self) -> Result<Staged> {
        let data = self.open_data(Access::ReadWrite)?;
        self.remove_at_end();
        Ok(Staged::new(self, data))
    }

    /// Opens the data file anew.
    pub(crate) fn open_data(&self, access: Access) -> Result<File> {
        let file = self.store.dirs.staged.open(&self.data_name(), access.flags())?;
        file.ok_or_else(|| Error::io("open", self.path(), std::io::ErrorKind::NotFound))
    }

    /// Replaces the label, as one of the boot with this tag.
    pub(crate) fn relabel(&self, label: &StagedLabel, boot: u64) -> Result<()> {
        let mut held = self.label.lock();
        let entry = label.encode(boot);
        let length = held.length + entry.len() as u64;
        if length > LABEL_MAX {
            *held = write_label(&self.store, &self.name, &entry)?;
            return Ok(());
        }
        if let Err(error) = held.file.write_all_at(&entry, held.length) {
            // Half an entry counts as none, but the next one must not stand behind it.
            held.length = LABEL_MAX;
            let path = self.store.dirs.staged.path().join(label_name(&self.name));
            return Err(Error::io("write", path, error));
        }
        held.length = length;
        Ok(())
    }

    /// Lets the files stay when the slot goes.
    pub(crate) fn leave_at_end(&self) {
        *self.fate.lock() = Fate::Leave;
    }

    /// Lets the files go with the slot.
    pub(crate) fn remove_at_end(&self) {
        *self.fate.lock() = Fate::Remove;
    }

    /// The store it is in.
    pub(crate) fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// The name that label and data file share.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The name of the data file.
    pub(crate) fn data_name(&self) -> String {
        data_name(&self.name)
    }

    /// Where the data file is.
    pub(crate) fn path(&self) -> PathBuf {
        self.store.dirs.staged.path().join(self.data_name())
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if *self.fate.lock() == Fate::Leave {
            return;
        }
        let staged = &self.store.dirs.staged;
        let removed = staged.remove(&self.data_name()).and_then(|()| staged.remove(&label_name(&self.name)));
        if let Err(error) = removed {
            tracing::warn!(%error, "a discarded staged file stays on disk");
        }
    }
}

/// Writes the label of `name` beside the others, locked before it can be seen.
fn write_label(store: &Store, name: &str, entry: &[u8]) -> Result<Label> {
    let dirs = &store.dirs;
    let path = dirs.staged.path().join(label_name(name));
    let temporary = dirs.unique();
    let mut file = dirs.tmp.create(&temporary)?;
    let written = files::wait_for_lock(&file, FlockOperation::LockExclusive)
        .map_err(std::io::Error::from)
        .and_then(|()| file.write_all(entry))
        .map_err(|error| Error::io("write", &path, error))
        .and_then(|()| dirs.tmp.rename(&temporary, &dirs.staged, &label_name(name)));
    match written {
        Ok(()) => Ok(Label { file, length: entry.len() as u64 }),
        Err(error) => {
            dirs.tmp.remove(&temporary)?;
            Err(error)
        }
    }
}

/// The data file of a staged file.
pub(crate) fn data_name(name: &str) -> String {
    format!("{name}.data")
}

/// The label file of a staged file.
pub(crate) fn label_name(name: &str) -> String {
    format!("{name}.label")
}
