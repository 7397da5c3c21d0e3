//! What programs do on a node, and what the reference hears of it.

mod names;

use super::node::{Open, World};
use super::reference::{Asked, Gone, Reference, Told, show};
use crate::clock::{self, simulated};
use crate::config::Commit;
use crate::error::{Error, Result};
use crate::inode::Ino;
use crate::store::ErrorKind;
use crate::vfs::tests::{CALLER, READ, WRITE};
use crate::vfs::{OpenFlags, RenameMode, SetAttr, Vfs};
use bytes::Bytes;
use parking_lot::MutexGuard;
use std::ffi::OsStr;
use std::sync::Arc;
use std::time::Duration;

/// More than any file has.
const ALL: usize = 4 << 20;

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    Read,
    Write,
    Truncate,
    Exclusive,
}

/// What a program does with an open file.
#[derive(Debug)]
pub(super) enum Act {
    Write((usize, Vec<u8>)),
    Read { offset: usize, length: usize },
    Flush,
    Fsync,
    Truncate(usize),
    Close,
}

/// What a program does. Paths of directories end in `/` where files could be meant.
#[derive(Debug)]
pub(super) enum Operation {
    Open(&'static str, How),
    /// A file is opened, written and closed.
    Save {
        path: &'static str,
        how: How,
        data: (usize, Vec<u8>),
        fsync: bool,
    },
    On(Open, Act),
    Rename(&'static str, &'static str, RenameMode),
    Unlink(&'static str),
    Chmod(&'static str, u32),
    Mkdir(&'static str),
    Rmdir(&'static str),
    /// A directory, and the files that may be in it.
    List(&'static str, &'static [&'static str]),
}

impl Operation {
    /// The names that nobody else may change meanwhile.
    pub(super) fn names(&self) -> Vec<&'static str> {
        match self {
            Self::Open(path, _) | Self::Save { path, .. } | Self::Unlink(path) | Self::Chmod(path, _) => {
                vec![path]
            }
            Self::Rename(from, to, _) => vec![from, to],
            Self::Mkdir("d") | Self::Rmdir("d") => vec!["d/"],
            Self::Mkdir(_) | Self::Rmdir(_) => vec!["e/"],
            Self::On(..) | Self::List(..) => Vec::new(),
        }
    }
}

/// A program on a node, for one operation.
pub(super) struct Client {
    world: Arc<World>,
    node: usize,
}

impl Client {
    pub(super) fn new(world: &Arc<World>, node: usize) -> Self {
        Self { world: Arc::clone(world), node }
    }

    async fn call<T>(&self, op: &'static str, work: impl AsyncFn(&Arc<Vfs>) -> T) -> T {
        self.world.call(self.node, op, work).await
    }

    pub(super) async fn run(&self, operation: Operation) {
        match operation {
            Operation::Open(path, how) => {
                self.open(path, how).await;
            }
            Operation::Save { path, how, data, fsync } => {
                let Some(open) = self.open(path, how).await else { return };
                self.act(&open, Act::Write(data)).await;
                if fsync {
                    self.act(&open, Act::Fsync).await;
                }
                self.act(&open, Act::Close).await;
            }
            Operation::On(open, act) => self.act(&open, act).await,
            Operation::Rename(from, to, mode) => self.rename(from, to, mode).await,
            Operation::Unlink(path) => self.unlink(path).await,
            Operation::Chmod(path, mode) => self.chmod(path, mode).await,
            Operation::Mkdir(path) => self.mkdir(path).await,
            Operation::Rmdir(path) => self.rmdir(path).await,
            Operation::List(path, known) => self.readdir(path, known).await,
        }
    }

    async fn act(&self, open: &Open, act: Act) {
        let closing = matches!(act, Act::Close);
        let used = |change: fn(&mut Open, bool)| {
            let mut node = self.world.nodes[self.node].lock();
            node.open.iter_mut().filter(|other| other.fh == open.fh).for_each(|open| change(open, closing));
        };
        used(|open, closing| (open.uses, open.closing) = (open.uses + 1, open.closing || closing));
        if matches!(act, Act::Write(_) | Act::Truncate(_)) {
            self.turn(|_| vec![open.image]).await;
        }
        match act {
            Act::Write((offset, data)) => self.write(open, offset, &data).await,
            Act::Read { offset, length } => self.read(open, offset, length).await,
            Act::Flush => self.keep(open, false).await,
            Act::Fsync => self.keep(open, true).await,
            Act::Truncate(size) => self.truncate(open, size).await,
            Act::Close => self.close(open).await,
        }
        used(|open, _| open.uses -= 1);
    }

    fn reference(&self) -> MutexGuard<'_, Reference> {
        self.world.bucket.reference.lock()
    }

    fn trace(&self, line: impl FnOnce() -> String) {
        self.reference().trace(|| format!("{} {}", self.node, line()));
    }

    fn asked(&self) -> Asked {
        let at = simulated::elapsed();
        // Twice: a directory that is made here counts as empty then, by what was known before.
        Asked { since: at.saturating_sub(2 * self.world.plan.ttl), at }
    }

    /// Notes how an operation has ended. An error needs a reason.
    fn ended<T>(&self, what: &str, result: &Result<T>) {
        let Err(error) = result else { return self.trace(|| format!("{what}: ok")) };
        self.trace(|| format!("{what}: {error}"));
        if !self.is_explained(error) {
            self.reference().told(&Told::Failed { what: format!("{what}: {error}") });
        }
    }

    fn is_explained(&self, error: &Error) -> bool {
        let alone = self.world.plan.nodes == 1 && self.world.plan.foreign == 0.0;
        match (error, error.store_kind()) {
            (Error::Internal(_) | Error::BadHandle | Error::Disk(_) | Error::Cache(_), _) => false,
            (Error::Stale(_), _) | (_, Some(ErrorKind::Precondition)) => !alone || !self.world.is_calm(),
            (_, Some(ErrorKind::NotFound)) => true,
            (_, Some(_)) => !self.world.is_calm(),
            (_, None) => true,
        }
    }

    /// The directory and the last component of a path. The kernel may forget it soon.
    async fn split<'a>(&self, path: &'a str) -> Result<(Ino, &'a OsStr)> {
        let Some((directory, name)) = path.rsplit_once('/') else { return Ok((Ino::ROOT, OsStr::new(path))) };
        Ok((self.lookup(Ino::ROOT, OsStr::new(directory)).await?, OsStr::new(name)))
    }

    async fn lookup(&self, parent: Ino, name: &OsStr) -> Result<Ino> {
        Ok(self.call("lookup", async |vfs| vfs.lookup(parent, name).await).await?.attr.ino)
    }

    async fn find(&self, path: &str) -> Result<Ino> {
        let (parent, name) = self.split(path).await?;
        self.lookup(parent, name).await
    }

    /// What a name that is not there tells the reference.
    fn missing<T>(&self, path: &str, asked: Asked, result: &Result<T>) {
        if matches!(result, Err(error) if error.is_not_found()) {
            let key = path.to_owned();
            self.reference().told(&Told::Shows { node: self.node, key, content: None, asked });
        }
    }

    /// Waits while something is being truncated, for the kernel lets nobody else write or truncate it, and while no
    /// worker is there.
    async fn turn(&self, images: impl Fn(&Reference) -> Vec<usize>) {
        let has_to_wait = || {
            let reference = self.reference();
            let is_locked = images(&reference).into_iter().any(|image| reference.images[image].locked > 0);
            drop(reference);
            is_locked || !self.world.nodes[self.node].lock().ready
        };
        while has_to_wait() {
            clock::sleep(Duration::from_millis(1)).await;
        }
    }

    pub(super) async fn open(&self, path: &str, how: How) -> Option<Open> {
        if how == How::Truncate {
            self.turn(|reference| reference.named(self.node, path)).await;
        }
        let (what, asked) = (format!("open {path} {how:?}"), self.asked());
        self.trace(|| what.clone());
        let emptied = if how == How::Truncate { self.truncating(path, 0) } else { Vec::new() };
        let rounds: Vec<usize> = self.reference().images.iter().map(|image| image.round()).collect();
        let name = (self.node, path.to_owned());
        self.reference().opening.push(name.clone());
        let opened = self.open_and_read(path, how).await;
        self.reference().opening.retain(|other| *other != name);
        self.ended(&what, &opened);
        for image in &emptied {
            self.end_on(*image);
            self.reference().images[*image].locked -= 1;
        }
        if how == How::Read {
            self.missing(path, asked, &opened);
        }
        let (fh, ino, content) = opened.ok()?;
        self.trace(|| format!("{path} shows {}", show(&Some(content.clone()))));
        let known = self.world.nodes[self.node].lock().images.get(&ino).copied();
        let mut reference = self.reference();
        let pinned =
            known.filter(|image| reference.images[*image].handles > 0 && reference.images[*image].local);
        match (how, pinned) {
            (How::Truncate | How::Exclusive, _) if !content.is_empty() => {
                reference
                    .complain(format!("{path} was to be empty, and is {}", show(&Some(content.clone()))));
            }
            (How::Truncate, Some(image)) => reference.images[image].truncated(0),
            (How::Truncate, None) | (How::Exclusive, _) => {}
            (How::Read | How::Write, Some(image)) => {
                let (round, bytes) = (rounds[image], content.clone());
                reference.told(&Told::Read { image, round, offset: 0, length: ALL, bytes });
            }
            (How::Read | How::Write, None) => {
                let (node, key) = (self.node, path.to_owned());
                // A file that was made just now is empty, and was not there.
                let made = how == How::Write && content.is_empty();
                let free = made && reference.may_be_free(node, path, asked);
                if !free {
                    reference.told(&Told::Shows { node, key, content: Some(content.clone()), asked });
                }
            }
        }
        let image = reference.opened((self.node, path), known, &content, asked);
        let writes = how != How::Read;
        reference.images[image].handles += 1;
        reference.images[image].writers += usize::from(writes);
        // Who writes has a copy of its own, which shows until it is closed.
        reference.images[image].local |= writes;
        drop(reference);
        let open = Open { fh, ino, image, writes, uses: 0, closing: false };
        let mut node = self.world.nodes[self.node].lock();
        node.images.insert(ino, image);
        node.open.push(open.clone());
        Some(open)
    }

    /// As the kernel does it: what is stale is looked up once more.
    async fn open_and_read(&self, path: &str, how: How) -> Result<(u64, Ino, Bytes)> {
        match self.open_and_read_once(path, how).await {
            Err(Error::Stale(_)) => self.open_and_read_once(path, how).await,
            opened => opened,
        }
    }

    async fn open_and_read_once(&self, path: &str, how: How) -> Result<(u64, Ino, Bytes)> {
        let (parent, name) = self.split(path).await?;
        let (fh, ino) = if how == How::Read {
            let ino = self.lookup(parent, name).await?;
            (self.call("open", async |vfs| vfs.open(ino, READ, false).await).await?.fh, ino)
        } else {
            let (truncate, exclusive) = (how == How::Truncate, how == How::Exclusive);
            let flags = OpenFlags { truncate, exclusive, ..WRITE };
            let create = async |vfs: &Arc<Vfs>| vfs.create(parent, name, 0o644, CALLER, flags, false).await;
            let (entry, opened) = self.call("create", create).await?;
            (opened.fh, entry.attr.ino)
        };
        match self.call("read", async |vfs| vfs.read(fh, 0, ALL).await).await {
            Ok(content) => Ok((fh, ino, content)),
            Err(error) => {
                // Whatever becomes of it: nobody has written to it.
                let released = self.call("release", async |vfs| vfs.release(fh).await).await;
                self.trace(|| format!("given up: {released:?}"));
                Err(error)
            }
        }
    }

    /// The images of a name, which get shorter or longer from now on.
    fn truncating(&self, path: &str, size: usize) -> Vec<usize> {
        let mut reference = self.reference();
        let mut images = reference.named(self.node, path);
        images.retain(|image| reference.images[*image].local || reference.images[*image].handles > 0);
        for image in &images {
            reference.images[*image].truncating(size);
            reference.images[*image].busy += 1;
            reference.images[*image].locked += 1;
        }
        images
    }

    /// Nothing waits in a write, and no worker is killed in it.
    async fn write(&self, open: &Open, offset: usize, data: &[u8]) {
        let what = format!("write {} bytes {:02x} at {offset} through {}", data.len(), data[0], open.fh);
        let written = self.world.call_now(self.node, |vfs| vfs.write(open.fh, offset as u64, data)).await;
        self.ended(&what, &written);
        if written.is_ok() {
            self.reference().images[open.image].change(|bytes| {
                let mut bytes = bytes.to_vec();
                bytes.resize(bytes.len().max(offset + data.len()), 0);
                bytes[offset..offset + data.len()].copy_from_slice(data);
                bytes.into()
            });
        }
    }

    async fn read(&self, open: &Open, offset: usize, length: usize) {
        let what = format!("read {length} at {offset} through {}", open.fh);
        let image = open.image;
        let round = self.begin_on(image);
        let read = self.call("read", async |vfs| vfs.read(open.fh, offset as u64, length).await).await;
        self.end_on(image);
        self.ended(&what, &read);
        if let Ok(bytes) = read {
            self.reference().told(&Told::Read { image, round, offset, length, bytes });
        }
    }

    /// The round in which an operation on an image begins.
    fn begin_on(&self, image: usize) -> usize {
        let mut reference = self.reference();
        reference.images[image].busy += 1;
        reference.images[image].round()
    }

    fn end_on(&self, image: usize) {
        self.reference().images[image].busy -= 1;
    }

    /// `close` of one of several descriptors, or fsync.
    async fn keep(&self, open: &Open, fsync: bool) {
        let (what, image) = (format!("{} {}", if fsync { "fsync" } else { "flush" }, open.fh), open.image);
        self.trace(|| what.clone());
        let round = self.begin_on(image);
        let kept = if fsync {
            self.call("fsync", async |vfs| vfs.fsync(open.fh).await).await
        } else {
            self.call("flush", async |vfs| vfs.flush(open.fh).await).await
        };
        self.end_on(image);
        self.ended(&what, &kept);
        if kept.is_ok() && open.writes {
            let durable = fsync || self.world.plan.commit == Commit::Close;
            self.reference().told(&Told::Kept { image, round, durable });
        }
    }

    async fn close(&self, open: &Open) {
        self.keep(open, false).await;
        // The kernel has one for all that use it, and releases it behind the last.
        let is_used = || {
            let node = self.world.nodes[self.node].lock();
            node.open.iter().any(|other| other.fh == open.fh && other.uses > 1)
        };
        while is_used() {
            clock::sleep(Duration::from_millis(1)).await;
        }
        self.trace(|| format!("release {}", open.fh));
        let released = self.call("release", async |vfs| vfs.release(open.fh).await).await;
        self.ended(&format!("release {}", open.fh), &released);
        self.world.nodes[self.node].lock().open.retain(|other| other.fh != open.fh);
        let mut reference = self.reference();
        let image = &mut reference.images[open.image];
        image.handles -= 1;
        image.writers -= usize::from(open.writes);
        let last = open.writes && image.writers == 0 && image.busy == 0;
        if last && released.is_ok() && self.world.plan.commit == Commit::Close {
            image.local = false;
        }
    }

    /// `ftruncate`, or `truncate` of a file that is open.
    async fn truncate(&self, open: &Open, size: usize) {
        let (what, image) = (format!("truncate {} to {size}", open.fh), open.image);
        self.trace(|| what.clone());
        {
            let mut reference = self.reference();
            reference.images[image].truncating(size);
            reference.images[image].busy += 1;
            reference.images[image].locked += 1;
        }
        let set = SetAttr { size: Some(size as u64), ..SetAttr::default() };
        let set = self.call("setattr", async |vfs| vfs.setattr(open.ino, set).await).await;
        self.end_on(image);
        self.reference().images[image].locked -= 1;
        if matches!(set, Err(Error::Stale(_)))
            && !open.writes
            && self.reference().images[image].gone != Gone::No
        {
            // By a path that has gone meanwhile.
            return self.trace(|| what);
        }
        self.ended(&what, &set);
        if set.is_err() {
            return;
        }
        // Who is opening it may be counted already.
        let opening = self.world.nodes[self.node].lock().names.clone();
        let mut reference = self.reference();
        let known = &mut reference.images[image];
        known.truncated(size);
        let alone = known.writers == 0 && known.names.is_disjoint(&opening);
        if alone && self.world.plan.commit == Commit::Close {
            let round = known.round();
            reference.told(&Told::Kept { image, round, durable: true });
        }
    }
}
