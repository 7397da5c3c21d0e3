//! What programs do with names: they change, make, rename, remove and list what has them.

use super::super::reference::{Gone, Told};
use super::Client;
use crate::config::Commit;
use crate::error::{Error, Result};
use crate::inode::Ino;
use crate::vfs::tests::CALLER;
use crate::vfs::{DirEntry, Lookups, RenameMode, SetAttr, Vfs};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::sync::Arc;

impl Client {
    pub(super) async fn chmod(&self, path: &str, mode: u32) {
        let (what, asked) = (format!("chmod {path}"), self.asked());
        self.trace(|| what.clone());
        let changed = async {
            let ino = self.find(path).await?;
            let set = SetAttr { mode: Some(mode), ..SetAttr::default() };
            self.call("setattr", async |vfs| vfs.setattr(ino, set).await).await
        };
        let changed = changed.await;
        self.ended(&what, &changed);
        self.missing(path, asked, &changed);
    }

    pub(super) async fn unlink(&self, path: &str) {
        let (what, asked) = (format!("unlink {path}"), self.asked());
        self.trace(|| what.clone());
        let (images, intent, known) = {
            let mut reference = self.reference();
            let images = reference.named(self.node, path);
            let known = reference.remember(&images);
            for image in &images {
                let gone = &mut reference.images[*image].gone;
                *gone = (*gone).max(Gone::Maybe);
            }
            (images, reference.intend(self.node, &[path]), known)
        };
        let unlinked = async {
            let (parent, name) = self.split(path).await?;
            self.call("unlink", async |vfs| vfs.unlink(parent, name).await).await
        };
        let unlinked = unlinked.await;
        self.ended(&what, &unlinked);
        self.missing(path, asked, &unlinked);
        if is_undone(&unlinked) {
            self.reference().forget(known);
        } else if unlinked.is_ok() {
            let mut reference = self.reference();
            let never = reference.is_new(&images);
            reference.unnamed(&images, path);
            reference.done(intent);
            // Another client's object may come to light below a file that the bucket never had.
            if !never {
                reference.told(&Told::Removed { node: self.node, key: path.to_owned(), since: asked.at });
            }
        }
    }

    pub(super) async fn rename(&self, from: &str, to: &str, mode: RenameMode) {
        let (what, asked) = (format!("rename {from} to {to} {mode:?}"), self.asked());
        self.trace(|| what.clone());
        let exchange = mode == RenameMode::Exchange;
        let (intent, sources, targets, known) = {
            let mut reference = self.reference();
            let (sources, targets) = (reference.below(self.node, from), reference.below(self.node, to));
            let known = reference.remember(&[&sources[..], &targets[..]].concat());
            let pairs = [(from, to), (to, from)];
            let pairs = &pairs[..1 + usize::from(exchange)];
            reference.renaming(self.node, pairs, !exchange, asked.since);
            (reference.intend(self.node, &[from, to]), sources, targets, known)
        };
        let renamed = async {
            let old = self.split(from.trim_end_matches('/')).await?;
            let new = self.split(to.trim_end_matches('/')).await?;
            self.call("rename", async |vfs| vfs.rename(old, new, mode).await).await
        };
        let renamed = renamed.await;
        self.ended(&what, &renamed);
        if is_undone(&renamed) {
            self.reference().forget(known);
        }
        if renamed.is_err() {
            return;
        }
        let mut reference = self.reference();
        if exchange {
            reference.renamed((from, to), &sources, &[], asked.at);
            reference.renamed((to, from), &targets, &[], asked.at);
        } else {
            let replaced = if from.ends_with('/') { &[][..] } else { &targets[..] };
            reference.renamed((from, to), &sources, replaced, asked.at);
            let at_once = self.world.plan.commit == Commit::Close;
            if at_once && !from.ends_with('/') && !reference.is_new(&sources) {
                reference.told(&Told::Removed { node: self.node, key: from.to_owned(), since: asked.at });
            }
        }
        // The old object of a file that waits for its upload goes with that.
        let waits = self.world.plan.commit != Commit::Close
            && sources.iter().any(|image| reference.images[*image].local);
        if !waits {
            reference.done(intent);
        }
    }

    pub(super) async fn mkdir(&self, path: &str) {
        let what = format!("mkdir {path}");
        self.trace(|| what.clone());
        let name = OsStr::new(path);
        let made = self.call("mkdir", async |vfs| vfs.mkdir(Ino::ROOT, name, 0o755, CALLER).await).await;
        self.ended(&what, &made);
    }

    pub(super) async fn rmdir(&self, path: &str) {
        let what = format!("rmdir {path}");
        self.trace(|| what.clone());
        let name = OsStr::new(path);
        let removed = self.call("rmdir", async |vfs| vfs.rmdir(Ino::ROOT, name).await).await;
        self.ended(&what, &removed);
    }

    /// The names in a directory.
    pub(in super::super) async fn list(&self, path: &str) -> Result<BTreeSet<String>> {
        let path = path.trim_end_matches('/');
        let ino = if path.is_empty() { Ino::ROOT } else { self.find(path).await? };
        let fh = self.call("opendir", async |vfs| vfs.opendir(ino)).await?;
        let read = async |vfs: &Arc<Vfs>| {
            let mut names = BTreeSet::new();
            let take = |entry: DirEntry<'_>| {
                names.insert(entry.name.to_str().expect("utf-8").to_owned());
                false
            };
            let read = vfs.readdir(fh, 0, Lookups::NotCounted, take).await;
            read.map(|()| names)
        };
        let listed = self.call("readdir", read).await;
        self.call("releasedir", async |vfs| vfs.releasedir(fh)).await?;
        let mut names = listed?;
        names.retain(|name| name != "." && name != "..");
        Ok(names)
    }

    pub(super) async fn readdir(&self, path: &str, known: &[&str]) {
        let (what, asked) = (format!("list /{path}"), self.asked());
        self.trace(|| what.clone());
        let listed = self.list(path).await;
        self.ended(&what, &listed);
        let Ok(names) = listed else { return };
        let mut reference = self.reference();
        for key in known {
            let name = key.strip_prefix(path).unwrap_or(key);
            reference.listed(self.node, key, names.contains(name), asked);
        }
    }
}

/// Whether an operation was refused before it changed anything. Any other error may have come midway.
fn is_undone<T>(result: &Result<T>) -> bool {
    matches!(
        result,
        Err(Error::NotFound | Error::Exists | Error::NotEmpty | Error::IsDirectory | Error::NotDirectory)
    )
}
