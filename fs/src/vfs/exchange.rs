//! `RENAME_EXCHANGE`: two names swap what they stand for.
//!
//! S3 has no such operation. One side is set aside under a key of its own, `<name>.exchange-<host>-<time>`, until
//! the other has taken its place. Between files every step is a conditional copy over the old object, so that both
//! names always have one; a directory moves key by key, and other clients see its name missing meanwhile. A step
//! that fails is undone. If tarn itself ends in between, nothing is lost: what was set aside stays under that key.

use super::Vfs;
use super::namespace::Use;
use super::rename::RenameMode;
use crate::clock;
use crate::error::{Error, Result};
use crate::inode::{Inode, Node, Place};
use crate::name::{Key, Name, Role};
use crate::store::{Condition, CopyRequest, Version};
use std::ffi::OsStr;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

impl Vfs {
    /// Swaps what stands at two places.
    pub(super) async fn exchange(&self, from: &Place, to: &Place) -> Result<()> {
        if [from, to].iter().any(|place| place.name.role() == Role::Own) {
            return Err(Error::Invalid("a directory keeps its own object"));
        }
        let places = [Use::from(from), Use::from(to)];
        let (first, second) = {
            let _held = self.hold(&places).await;
            (self.resolve(from.parent, &from.name).await?, self.resolve(to.parent, &to.name).await?)
        };
        let _held = self.hold_trees(&places, &[first.ino, second.ino]).await;
        if [(&first, from), (&second, to)]
            .iter()
            .any(|(inode, place)| self.table.place(inode.ino).as_ref() != Some(*place))
        {
            return Err(Error::Stale("replaced meanwhile".into()));
        }
        if self.table.is_below(to.parent, first.ino) || self.table.is_below(from.parent, second.ino) {
            return Err(Error::Invalid("a directory cannot move into itself"));
        }
        match (&first.node, &second.node) {
            (Node::File(_), Node::File(_)) => self.exchange_files(&first, &second).await?,
            (Node::Directory(_), _) | (_, Node::Directory(_)) => {
                self.exchange_trees((&first, from), (&second, to)).await?;
            }
        }
        // Done a second time it would be undone.
        self.intend();
        self.touch_directory(from.parent);
        self.touch_directory(to.parent);
        Ok(())
    }

    async fn exchange_files(&self, first: &Arc<Inode>, second: &Arc<Inode>) -> Result<()> {
        let (first_key, first_version) = self.committed_object(first).await?;
        let (second_key, second_version) = self.committed_object(second).await?;
        let aside = Key::parse(&format!("{}{}", first_key.as_str(), self.aside_suffix()))?;
        let kept = self.copy_over((&first_key, &first_version), (&aside, None)).await?;
        let second_moved =
            match self.replace((&second_key, &second_version), (&first_key, &first_version)).await {
                Ok(version) => version,
                Err(error) => {
                    self.drop_aside(&aside, &kept).await;
                    return Err(error);
                }
            };
        let first_moved = match self.replace((&aside, &kept), (&second_key, &second_version)).await {
            Ok(version) => version,
            Err(error) => {
                match self.replace((&aside, &kept), (&first_key, &second_moved)).await {
                    Ok(version) => {
                        self.rests_on(first, &version);
                        self.drop_aside(&aside, &kept).await;
                    }
                    Err(undo) => tracing::error!(%first_key, %aside, error = %undo, "exchange half done"),
                }
                return Err(error);
            }
        };
        self.drop_aside(&aside, &kept).await;
        self.table.exchange(first.ino, second.ino);
        self.rests_on(first, &first_moved);
        self.rests_on(second, &second_moved);
        Ok(())
    }

    /// The object of a file, after a commit of what was written to it.
    async fn committed_object(&self, inode: &Inode) -> Result<(Key, Version)> {
        let file = inode.file().ok_or(Error::IsDirectory)?;
        self.describe(inode.ino, file).await?;
        self.commit(inode).await?;
        let version = file.state.lock().version().cloned();
        Ok((self.table.key(inode.ino)?, version.ok_or(Error::Internal("a committed file has an object"))?))
    }

    /// Copies one object over another, both in the versions that are known.
    async fn replace(&self, from: (&Key, &Version), over: (&Key, &Version)) -> Result<Version> {
        self.copy_over(from, (over.0, Some(over.1))).await
    }

    /// Copies an object over another, or to a free key.
    async fn copy_over(&self, from: (&Key, &Version), to: (&Key, Option<&Version>)) -> Result<Version> {
        let request = CopyRequest {
            from: from.0.clone(),
            if_match: from.1.etag.clone(),
            size: from.1.size,
            to: to.0.clone(),
            condition: to.1.map_or(Condition::Absent, |over| Condition::Matches(over.etag.clone())),
            headers: None,
        };
        let copy = self.store.copy(request).await?;
        self.count_change(to.0, to.1.map(|over| over.size), Some(copy.size));
        Ok(copy)
    }

    /// The exchange is decided; a second copy that stays is untidy, not wrong.
    async fn drop_aside(&self, aside: &Key, kept: &Version) {
        match self.delete_one(aside).await {
            Ok(()) => self.count_change(aside, Some(kept.size), None),
            Err(error) => tracing::warn!(%aside, %error, "what an exchange set aside stays in the bucket"),
        }
    }

    /// The file is the object at its new place from now on.
    fn rests_on(&self, inode: &Inode, version: &Version) {
        self.follow_copy(inode, version);
        if let Some(file) = inode.file() {
            file.state.lock().posix.ctime = clock::now();
        }
        self.relabel(inode);
        self.published(inode.ino, version);
    }

    /// At least one of the two is a directory: three moves.
    async fn exchange_trees(
        &self,
        first: (&Arc<Inode>, &Place),
        second: (&Arc<Inode>, &Place),
    ) -> Result<()> {
        if [first, second].iter().any(|(_, place)| place.name.role() == Role::Beside) {
            return Err(Error::Invalid("%= is no name for a directory"));
        }
        let mut name = AsRef::<OsStr>::as_ref(&first.1.name).to_owned();
        name.push(self.aside_suffix());
        let aside = Place { parent: first.1.parent, name: Name::parse(&name)? };
        self.relocate(first.0, first.1, &aside).await?;
        let mut moved = self.relocate(second.0, second.1, first.1).await;
        if moved.is_ok() {
            moved = self.relocate(first.0, &aside, second.1).await;
            if moved.is_err() {
                self.undo(second.0, first.1, second.1).await;
            }
        }
        if moved.is_err() {
            self.undo(first.0, &aside, first.1).await;
        }
        moved
    }

    async fn undo(&self, inode: &Arc<Inode>, from: &Place, to: &Place) {
        if let Err(error) = self.relocate(inode, from, to).await {
            tracing::error!(name = %from.name, meant = %to.name, %error, "exchange half done");
        }
    }

    /// Moves a file or a directory to a free name.
    async fn relocate(&self, inode: &Arc<Inode>, from: &Place, to: &Place) -> Result<()> {
        match &inode.node {
            Node::File(_) => self.rename_file(inode, from, to, None, RenameMode::NoReplace).await?,
            Node::Directory(_) => self.rename_directory(inode, from, to).await?,
        }
        self.entry_changed(from.parent, &from.name, None);
        Ok(())
    }

    fn aside_suffix(&self) -> String {
        let time = clock::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        format!(".exchange-{}-{time}", self.options.host)
    }
}
