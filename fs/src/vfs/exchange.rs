//! `RENAME_EXCHANGE`: two names swap what they stand for.
//!
//! S3 has no such operation. One side is set aside under a key of its own, `<name>.exchange-<host>-<time>`, until
//! the other has taken its place. Between files every step is a conditional copy over the old object, so that both
//! names always have one; a directory moves key by key, and other clients see its name missing meanwhile. A step
//! that fails is undone.
//!
//! The journal says what is exchanged until that is decided. A process that is killed in between leaves an exchange
//! that the next worker or mount finishes, from wherever it stands in the bucket.

use super::Vfs;
use super::namespace::Use;
use super::recover::Missing;
use super::rename::RenameMode;
use crate::clock;
use crate::error::{Error, Result};
use crate::inode::{Inode, Node, Place};
use crate::journal::{self, Entry, Exchange, Record, Swap};
use crate::meta::{self, Kind, Posix};
use crate::name::{Key, Name, Prefix, Role};
use crate::store::{Condition, CopyRequest, ObjectInfo, Version};
use std::ffi::OsStr;
use std::sync::Arc;
use tarn_cache::OrphanStaged;

/// The objects of two files that have been exchanged.
struct Swapped {
    /// What has the first name now.
    first: ObjectInfo,
    /// What has the second.
    second: ObjectInfo,
}

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
        self.touch_directory(from.parent);
        self.touch_directory(to.parent);
        Ok(())
    }

    async fn exchange_files(&self, first: &Arc<Inode>, second: &Arc<Inode>) -> Result<()> {
        let (first_key, first_version) = self.committed_object(first).await?;
        let (second_key, second_version) = self.committed_object(second).await?;
        let (first_tag, second_tag) = (first_version.etag, second_version.etag);
        let swap = Swap { first: first_tag, second: second_tag, at: journal::now() };
        let of = Exchange {
            first: first_key.as_str().to_owned(),
            second: second_key.as_str().to_owned(),
            aside: format!("{}{}", first_key.as_str(), self.aside_suffix(swap.at)),
            objects: Some(swap.clone()),
            request: self.request(),
            owner: Some(self.options.owner),
        };
        let _under_way = self.begin(&Entry::Exchange(of.clone()));
        match self.swap_objects(&of, &swap).await {
            Ok(swapped) => {
                self.table.exchange(first.ino, second.ino);
                self.rests_on(first, &swapped.second);
                self.rests_on(second, &swapped.first);
                // Done a second time it would be undone.
                self.intend();
                self.drop_aside(&of).await;
                Ok(())
            }
            Err(error) => {
                match self.swap_back(&of, &swap).await {
                    Ok(Some(back)) => self.rests_on(first, &back),
                    Ok(None) => {}
                    Err(undo) => tracing::error!(aside = of.aside, error = %undo, "exchange half done"),
                }
                for file in [first, second].into_iter().filter_map(|inode| inode.file()) {
                    file.state.lock().doubted = Some(clock::instant());
                }
                Err(error)
            }
        }
    }

    /// The object of a file, after a commit of what was written to it.
    async fn committed_object(&self, inode: &Inode) -> Result<(Key, Version)> {
        let file = inode.file().ok_or(Error::IsDirectory)?;
        self.describe(inode.ino, file).await?;
        self.commit(inode).await?;
        let version = file.state.lock().version().cloned();
        Ok((self.table.key(inode.ino)?, version.ok_or(Error::Internal("a committed file has an object"))?))
    }

    /// Swaps two objects, from wherever that stands. An error if another client has changed one meanwhile.
    async fn swap_objects(&self, of: &Exchange, swap: &Swap) -> Result<Swapped> {
        let [first_key, second_key, aside] = keys(of)?;
        let changed = || Error::Stale("another client changed what was to be exchanged".into());
        let mut first = self.head_if_any(&first_key).await?.ok_or_else(changed)?;
        let mut second = self.head_if_any(&second_key).await?.ok_or_else(changed)?;
        let (mut at_first, mut at_second) = (swap.made(&first), swap.made(&second));
        let kept = match self.head_if_any(&aside).await? {
            None if swap.is_first(&first) && swap.is_second(&second) => {
                Some(self.copy_marked((&first_key, &first), (&aside, None), swap).await?)
            }
            kept => kept,
        };
        if let Some(kept) = &kept
            && swap.is_second(&second)
        {
            if swap.is_first(&first) {
                let over = (&first_key, Some(&first));
                first = self.copy_marked((&second_key, &second), over, swap).await?;
                at_first = true;
            }
            if at_first {
                second = self.copy_marked((&aside, kept), (&second_key, Some(&second)), swap).await?;
                at_second = true;
            }
        }
        if at_first && at_second { Ok(Swapped { first, second }) } else { Err(changed()) }
    }

    /// Undoes what was swapped of two objects. Says what the first file is then, if that was copied back. An error if
    /// another client has changed one: what was set aside stays then.
    async fn swap_back(&self, of: &Exchange, swap: &Swap) -> Result<Option<ObjectInfo>> {
        let [first_key, second_key, aside] = keys(of)?;
        let Some(kept) = self.head_if_any(&aside).await? else { return Ok(None) };
        let (first, second) = (self.head_if_any(&first_key).await?, self.head_if_any(&second_key).await?);
        let back = match (first, second) {
            (Some(first), _) if swap.is_first(&first) => None,
            (Some(first), Some(second)) if swap.made(&first) && swap.is_second(&second) => {
                Some(self.copy_marked((&aside, &kept), (&first_key, Some(&first)), swap).await?)
            }
            _ => {
                let why = format!("another client changed {first_key} or {second_key}, see {aside}");
                return Err(Error::Stale(why));
            }
        };
        self.drop_aside(of).await;
        Ok(back)
    }

    /// Copies an object over another, or to a free key, with the mark of the exchange if there is room for it.
    async fn copy_marked(
        &self,
        from: (&Key, &ObjectInfo),
        to: (&Key, Option<&ObjectInfo>),
        swap: &Swap,
    ) -> Result<ObjectInfo> {
        let mut headers = from.1.headers.clone();
        let defaults = &self.options.defaults;
        let posix = meta::read(&headers, &from.1.version, Kind::File, defaults);
        let posix = Posix { ctime: swap.time(), ..posix };
        let marked = meta::write(&posix, &mut headers, defaults.attributes).is_ok();
        let over = to.1.map(|over| &over.version);
        let request = CopyRequest {
            from: from.0.clone(),
            if_match: from.1.version.etag.clone(),
            size: from.1.version.size,
            to: to.0.clone(),
            condition: over.map_or(Condition::Absent, |over| Condition::Matches(over.etag.clone())),
            headers: marked.then(|| headers.clone()),
            log: None,
        };
        let version = self.copy(request).await?;
        self.count_change(to.0, over.map(|over| over.size), Some(version.size));
        Ok(ObjectInfo { version, headers, ..from.1.clone() })
    }

    /// The exchange is decided; a second copy that stays is untidy, not wrong.
    async fn drop_aside(&self, of: &Exchange) {
        let dropped = async {
            let aside = Key::parse(&of.aside)?;
            let Some(kept) = self.head_if_any(&aside).await? else { return Ok(()) };
            self.delete_one(&aside).await?;
            self.count_change(&aside, Some(kept.version.size), None);
            Ok::<(), Error>(())
        };
        if let Err(error) = dropped.await {
            tracing::warn!(aside = of.aside, %error, "what an exchange set aside stays in the bucket");
        }
    }

    /// The file is the object at its new place from now on.
    fn rests_on(&self, inode: &Inode, copied: &ObjectInfo) {
        self.follow_copy(inode, &copied.version);
        if let Some(file) = inode.file() {
            let mut state = file.state.lock();
            state.posix.ctime =
                meta::read(&copied.headers, &copied.version, state.posix.kind, &self.options.defaults).ctime;
        }
        self.relabel(inode);
        self.published(inode.ino, &copied.version);
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
        name.push(self.aside_suffix(journal::now()));
        let aside = Place { parent: first.1.parent, name: Name::parse(&name)? };
        let path = |inode: &Inode, place: &Place| -> Result<String> {
            let prefix = self.table.prefix(place.parent)?;
            Ok(match &inode.node {
                Node::File(_) => prefix.key(&place.name)?.as_str().to_owned(),
                Node::Directory(_) => prefix.dir(&place.name)?.as_str().to_owned(),
            })
        };
        let of = Exchange {
            first: path(first.0, first.1)?,
            second: path(second.0, second.1)?,
            aside: path(first.0, &aside)?,
            objects: None,
            request: self.request(),
            owner: Some(self.options.owner),
        };
        let _under_way = self.begin(&Entry::Exchange(of));
        let steps = [(first.0, first.1, &aside), (second.0, second.1, first.1), (first.0, &aside, second.1)];
        for (number, (inode, from, to)) in steps.into_iter().enumerate() {
            if number == 2 {
                // From here on it is done, whoever does it. Done a second time it would be undone.
                self.intend();
            }
            if let Err(error) = self.relocate(inode, from, to).await {
                for (inode, from, to) in steps[..number].iter().rev() {
                    self.undo(inode, to, from).await;
                }
                return Err(error);
            }
        }
        Ok(())
    }

    async fn undo(&self, inode: &Arc<Inode>, from: &Place, to: &Place) {
        if let Err(error) = self.relocate(inode, from, to).await {
            tracing::error!(name = %from.name, meant = %to.name, %error, "exchange half done");
        }
    }

    /// Moves a file or a directory to a free name.
    async fn relocate(&self, inode: &Arc<Inode>, from: &Place, to: &Place) -> Result<()> {
        match &inode.node {
            Node::File(_) => self.rename_file(inode, from, to, None, RenameMode::Exchange).await?,
            Node::Directory(_) => self.rename_directory(inode, from, to).await?,
        }
        self.entry_changed(from.parent, &from.name, None);
        Ok(())
    }

    /// Finishes an exchange that a killed process had begun: nothing is set aside before it begins, and when it is done.
    /// What another client has changed meanwhile stays as it is.
    pub(super) async fn resume_exchange(
        &self,
        of: &Exchange,
        files: &mut [(OrphanStaged, Record)],
    ) -> Result<()> {
        if !self.is_there(&of.aside).await? {
            return Ok(());
        }
        let Some(swap) = &of.objects else { return self.resume_trees(of, files).await };
        // Else the inodes have followed, and the answer is known.
        if of.request.and_then(|request| self.begun_as(request)).is_none() {
            match self.swap_objects(of, swap).await {
                Ok(swapped) => self.follow_exchange(of, &swapped)?,
                Err(Error::Stale(why)) => {
                    tracing::warn!(first = of.first, second = of.second, why, "an exchange is given up");
                    if let Err(stays) = self.swap_back(of, swap).await {
                        tracing::warn!(aside = of.aside, %stays, "what an exchange set aside stays in the bucket");
                    }
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
            self.done_already(of);
        }
        self.drop_aside(of).await;
        Ok(())
    }

    /// What a killed worker of this mount knew under the two names goes along. The kernel sends the exchange again, and
    /// it is only answered.
    fn follow_exchange(&self, of: &Exchange, swapped: &Swapped) -> Result<()> {
        let known = |path: &str| -> Result<Option<Arc<Inode>>> {
            let place = self.place_at(path, Missing::End)?;
            Ok(place
                .and_then(|at| self.table.child(at.parent, &at.name))
                .filter(|inode| inode.file().is_some()))
        };
        if let (Some(first), Some(second)) = (known(&of.first)?, known(&of.second)?) {
            self.table.exchange(first.ino, second.ino);
            self.rests_on(&first, &swapped.second);
            self.rests_on(&second, &swapped.first);
        }
        Ok(())
    }

    fn done_already(&self, of: &Exchange) {
        if let Some(request) = of.request {
            self.done_for(request);
        }
    }

    /// The moves that are left of an exchange, from what stands where.
    async fn resume_trees(&self, of: &Exchange, files: &mut [(OrphanStaged, Record)]) -> Result<()> {
        let steps = of.steps();
        let left = match (self.is_there(&steps[1].from).await?, self.is_there(&steps[1].to).await?) {
            (true, false) => &steps[1..],
            (false, true) => &steps[2..],
            (true, true) | (false, false) => {
                let (first, second, aside) = (&of.first, &of.second, &of.aside);
                tracing::warn!(
                    first,
                    second,
                    aside,
                    "an exchange is given up: other clients changed the names"
                );
                return Ok(());
            }
        };
        for (number, step) in left.iter().enumerate() {
            let under_way = self.begin(&Entry::Move(step.clone()));
            if number + 1 == left.len() {
                self.done_already(of);
            }
            if let Err(error) = self.resume_with_files(step, true, files).await {
                under_way.leave();
                return Err(error);
            }
            self.log.flush();
        }
        Ok(())
    }

    /// Whether the bucket has an object with this key, or any below this prefix.
    async fn is_there(&self, path: &str) -> Result<bool> {
        if path.ends_with('/') {
            return Ok(self.has_keys(&Prefix::parse(path)?).await?);
        }
        Ok(self.head_if_any(&Key::parse(path)?).await?.is_some())
    }

    fn aside_suffix(&self, at: u64) -> String {
        format!(".exchange-{}-{at}", self.options.host)
    }
}

/// The keys of an exchange of objects: the first, the second, and where the first is set aside.
fn keys(of: &Exchange) -> Result<[Key; 3]> {
    Ok([Key::parse(&of.first)?, Key::parse(&of.second)?, Key::parse(&of.aside)?])
}
