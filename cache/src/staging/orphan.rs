//! Staged files of processes that are gone.

use super::slot::{Slot, data_name, label_name};
use super::{Staged, StagedLabel};
use crate::error::{Error, Result};
use crate::files;
use crate::object::Access;
use crate::store::Store;
use rustix::fs::OFlags;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

/// A staged file without an owner, locked for whoever found it. Dropping it leaves it as it was.
#[derive(Debug)]
pub struct OrphanStaged {
    slot: Slot,
    label: Option<StagedLabel>,
    /// Tag of the boot that the label was written in.
    boot: Option<u64>,
}

impl OrphanStaged {
    /// Its label; `None` if that did not survive, which takes a loss of power.
    pub fn label(&self) -> Option<&StagedLabel> {
        self.label.as_ref()
    }

    /// Whether the label was written in this boot. Then the file has every byte that was written to it before
    /// the label; after another boot it may have lost any of them.
    pub fn is_of_this_boot(&self) -> bool {
        self.boot == Some(self.slot.store().boot.tag())
    }

    /// Replaces the label, as one of the boot that it was written in.
    pub fn relabel(&self, label: &StagedLabel) -> Result<()> {
        self.slot.relabel(label, self.boot.unwrap_or_default())
    }

    /// Where the file is.
    pub fn path(&self) -> PathBuf {
        self.slot.path()
    }

    /// Opens the file, to look at it.
    pub fn open(&self) -> Result<File> {
        self.slot.open_data(Access::Read)
    }

    /// Becomes its owner. From now on it is removed when the [`Staged`] is dropped.
    pub fn adopt(self) -> Result<Staged> {
        self.slot.open()
    }
}

/// All staged files whose label nobody has locked. Labels without a file are removed. Those that are not `wanted` are
/// not even locked: whoever looks for them must not take them for owned.
pub(crate) fn list_orphans(
    store: &Arc<Store>,
    wanted: impl Fn(&StagedLabel) -> bool,
) -> Result<Vec<OrphanStaged>> {
    let dir = &store.dirs.staged;
    let names: BTreeSet<String> = dir
        .names()?
        .iter()
        .filter_map(|file| file.strip_suffix(".label").or_else(|| file.strip_suffix(".data")))
        .map(str::to_owned)
        .collect();
    let mut orphans = Vec::new();
    for name in names {
        if let Some(mut file) = dir.open(&label_name(&name), OFlags::RDONLY)?
            && read_label(&mut file).is_some_and(|(label, _)| !wanted(&label))
        {
            continue;
        }
        let Some(mut file) = lock_label(store, &name)? else { continue };
        if dir.stat(&data_name(&name))?.is_none() {
            dir.remove(&label_name(&name))?;
            continue;
        }
        let (label, boot) = read_label(&mut file).unzip();
        orphans.push(OrphanStaged { slot: Slot::inherit(store, &name, file), label, boot });
    }
    Ok(orphans)
}

/// The staged file `name` of an owner that was killed; `None` if it is gone, or somebody else's by now.
pub(crate) fn find_orphan(store: &Arc<Store>, name: &str) -> Result<Option<OrphanStaged>> {
    if store.dirs.staged.stat(&data_name(name))?.is_none() {
        return Ok(None);
    }
    let Some(mut file) = lock_label(store, name)? else { return Ok(None) };
    let (label, boot) = read_label(&mut file).unzip();
    Ok(Some(OrphanStaged { slot: Slot::inherit(store, name, file), label, boot }))
}

/// Locks the label of `name`; `None` if its owner lives or it has just been replaced or removed.
fn lock_label(store: &Store, name: &str) -> Result<Option<File>> {
    let dir = &store.dirs.staged;
    let label = label_name(name);
    let file = match dir.open(&label, OFlags::RDWR)? {
        Some(file) => file,
        // A label comes before its data and goes after it: this one was lost with the power, or all is gone.
        None if dir.stat(&data_name(name))?.is_some() => dir.open_or_create(&label)?,
        None => return Ok(None),
    };
    let failed = |error| Error::io("lock", dir.path().join(&label), error);
    if !files::try_lock(&file).map_err(failed)? {
        return Ok(None);
    }
    let inode = file.metadata().map_err(failed)?.ino();
    Ok(dir.stat(&label)?.is_some_and(|stat| stat.inode == inode).then_some(file))
}

fn read_label(file: &mut File) -> Option<(StagedLabel, u64)> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).ok()?;
    StagedLabel::decode(&bytes)
}
