//! Attributes that a listing does not have. LIST gives size and time; mode, owner, kept times and whether an
//! object is a symbolic link stand in its metadata, one HEAD away. What is asked for is asked for in parallel.

use super::Vfs;
use super::lookup::Description;
use super::recall::Recollection;
use crate::clock;
use crate::error::Result;
use crate::inode::{Child, Directory, Ino, Inode, Node, Place};
use crate::meta::Kind;
use crate::name::{Name, Prefix};
use crate::store::Version;
use futures::{StreamExt, TryStreamExt, stream};
use std::sync::Arc;

/// Only objects this small can be symbolic links (`PATH_MAX`) or, empty, special files, so that only they can have
/// another type than a listing suggests.
const LINK_MAX: u64 = 4095;
/// Files described by one look-up at the most, once look-ups follow each other.
const SWEEP_MAX: u32 = 64;

impl Vfs {
    /// Describes the files of a page: those that are as they were when the directory was noted, and those that
    /// might be symbolic links, so that readdir shows their true type.
    pub(super) async fn describe_page(
        &self,
        ino: Ino,
        recollection: &mut Option<Recollection>,
        page: &[(Name, Child)],
    ) -> Result<()> {
        let unknown = |(name, child): &(Name, Child)| match child {
            Child::Object(version) => !self.is_described(ino, name, version),
            Child::Directory => false,
        };
        if !page.iter().any(unknown) {
            return Ok(());
        }
        let recollection = recollection.get_or_insert_with(|| self.recollection(ino));
        self.recall(ino, recollection, page.iter().map(|(name, child)| (name, child)));
        let prefix = &self.table.prefix(ino)?;
        let small = |version: &Version| version.size <= LINK_MAX;
        let work: Vec<_> = page
            .iter()
            .filter_map(|(name, child)| match child {
                Child::Object(version) if small(version) && !self.is_described(ino, name, version) => {
                    Some(name)
                }
                Child::Object(_) | Child::Directory => None,
            })
            .map(|name| self.describe_entry(ino, prefix, name))
            .collect();
        self.in_parallel(work).await
    }

    /// Describes a file that only a listing has shown, and with it as many of its neighbours as the look-ups so
    /// far make likely to be asked for next (`ls -l`). True if the file is described now.
    pub(super) async fn sweep(
        &self,
        parent: Ino,
        directory: &Directory,
        name: &Name,
        inode: &Inode,
    ) -> Result<bool> {
        let undescribed = |inode: &Inode| match &inode.node {
            Node::File(file) => !file.state.lock().described,
            Node::Directory(directory) => !directory.state.lock().described,
        };
        if !undescribed(inode) {
            directory.state.lock().undescribed = 0;
            return Ok(false);
        }
        let count = {
            let mut state = directory.state.lock();
            state.undescribed = (state.undescribed * 2).clamp(1, SWEEP_MAX);
            state.undescribed
        };
        if count == 1 {
            return Ok(false);
        }
        let prefix = self.table.prefix(parent)?;
        let after = self.table.children_from(parent, name, count as usize * 2);
        let work: Vec<_> = after
            .iter()
            .filter(|(_, inode)| undescribed(inode))
            .take(count as usize)
            .map(|(name, _)| self.describe_entry(parent, &prefix, name))
            .collect();
        self.in_parallel(work).await?;
        let same = self.table.child(parent, name).is_some_and(|now| now.ino == inode.ino);
        Ok(same && self.is_fresh(inode))
    }

    async fn in_parallel(&self, work: Vec<impl Future<Output = Result<()>>>) -> Result<()> {
        let parallel = self.options.max_requests.max(1);
        stream::iter(work).buffer_unordered(parallel).try_collect::<Vec<()>>().await.map(drop)
    }

    /// Whether the attributes of this version are known.
    pub(super) fn is_described(&self, parent: Ino, name: &Name, version: &Version) -> bool {
        let Some(inode) = self.table.child(parent, name) else { return false };
        let Some(file) = inode.file() else { return self.is_fresh(&inode) };
        let state = file.state.lock();
        state.described && state.version().is_none_or(|known| known.same_bytes(version))
    }

    async fn describe_entry(&self, parent: Ino, prefix: &Prefix, name: &Name) -> Result<()> {
        let known: Option<Arc<Inode>> = self.table.child(parent, name);
        if let Some(directory) = known.as_ref().and_then(|inode| inode.directory()) {
            return self.describe_directory(directory, &prefix.dir(name)?).await;
        }
        // Gone since it was listed: whoever looks it up is told so.
        let asked = clock::instant();
        let Some(info) = self.head_if_any(&prefix.key(name)?).await? else { return Ok(()) };
        self.learned(parent);
        let known: Option<Arc<Inode>> = self.follow_name(parent, name);
        if known.as_ref().and_then(|inode| inode.file()).is_some_and(|file| self.refresh(file, &info, asked))
        {
            return Ok(());
        }
        let posix = self.posix(&info, Kind::File);
        let place = Place { parent, name: name.clone() };
        self.insert_file(place, info.version, Description::Known(posix, info.headers));
        Ok(())
    }

    /// Asks the marker of the mount's own directory, once.
    pub(super) async fn describe_root(&self, inode: &Inode) -> Result<()> {
        match inode.directory() {
            Some(directory) if inode.ino == Ino::ROOT && !directory.state.lock().described => {
                self.describe_directory(directory, &self.options.prefix).await
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Asks the marker of a directory of which only its existence is known.
    async fn describe_directory(&self, directory: &Directory, inner: &Prefix) -> Result<()> {
        let Some(marker) = inner.marker() else { return Ok(()) };
        let info = self.head_if_any(&marker).await?;
        self.refresh_directory(directory, info.as_ref());
        Ok(())
    }
}
