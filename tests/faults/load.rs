//! Writers that keep a manifest of what they were promised.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use tarn_tests::data;

/// A body that needs no memory: a seed and a length. `None` is no file.
type Content = Option<(u64, usize)>;

/// What holds whatever happens, once it was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Promise {
    /// Every change.
    Close,
    /// What was written before an fsync.
    Fsync,
}

/// What was acknowledged of each file, and what was under way since.
#[derive(Debug, Default)]
pub(crate) struct Manifest {
    files: Mutex<BTreeMap<String, (Content, Vec<Content>)>>,
    acknowledged: AtomicUsize,
    stopped: AtomicBool,
}

impl Manifest {
    /// How many operations were acknowledged.
    pub(crate) fn acknowledged(&self) -> usize {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// From now on nothing counts as acknowledged, and the writers end.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// Lets writers begin again, on files that were checked.
    pub(crate) fn go_on(&self) {
        self.stopped.store(false, Ordering::SeqCst);
    }

    /// Runs an operation that gives these files these contents; `kept` if its answer is a promise.
    fn change(
        &self,
        changes: &[(&str, Content)],
        kept: bool,
        work: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let lock = || self.files.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, content) in changes {
            lock().entry((*name).to_owned()).or_default().1.push(*content);
        }
        let done = work();
        if done.is_ok() && !self.is_stopped() {
            let mut files = lock();
            for (name, content) in changes.iter().filter(|_| kept) {
                files.insert((*name).to_owned(), (*content, Vec::new()));
            }
            drop(files);
            self.acknowledged.fetch_add(1, Ordering::SeqCst);
        }
        done
    }

    /// Every file is as it was acknowledged last, or as it was to become; from now on that is what it must stay. With
    /// `cut` also as far as it came: a program whose write fails may close the file all the same.
    pub(crate) fn check(&self, root: &Path, cut: bool) -> usize {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, (kept, tried)) in files.iter_mut() {
            let found = match fs::read(root.join(name)) {
                Ok(bytes) => Some(bytes),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => panic!("{name}: {error}"),
            };
            let length = found.as_ref().map(Vec::len);
            let is = |content: Content, length: Option<usize>| match (content, &found) {
                (None, None) => true,
                (Some((seed, whole)), Some(found)) => {
                    length == Some(found.len()) && data::bytes(seed, whole).starts_with(found)
                }
                (Some(_), None) | (None, Some(_)) => false,
            };
            let whole = |content: &&Content| is(**content, content.map(|(_, length)| length));
            let now = std::iter::once(&*kept).chain(&*tried).find(whole).copied();
            let part = || tried.iter().find(|content| cut && is(**content, length)).copied();
            let Some(now) = now.or_else(part) else {
                panic!("{name} has {length:?} bytes; promised {kept:?}, tried {tried:?}");
            };
            let now = now.map(|(seed, whole)| (seed, length.unwrap_or(whole)));
            (*kept, *tried) = (now, Vec::new());
        }
        files.len()
    }

    /// Writes files of many kinds until it is stopped or something fails. Each writer has names of its own.
    pub(crate) fn write(&self, root: &Path, writer: u64, round: u64, promise: Promise) {
        let kept = promise == Promise::Close;
        let mut numbers = data::numbers(writer * 1000 + round + 1, 1 << 40);
        let mut next = move |bound: u64| numbers.next().unwrap_or(0) % bound;
        for step in 0u64.. {
            if self.is_stopped() {
                return;
            }
            let length = match next(20) {
                0 => (11 << 20) + next(1 << 20),
                1..6 => next(900 << 10),
                _ => next(20 << 10),
            };
            let content = Some((round * 1_000_000 + step + 1, usize::try_from(length).unwrap()));
            let fresh = format!("w{writer}-r{round}-{step}");
            let known = format!("w{writer}-fixed-{}", next(3));
            let done = match next(6) {
                0 => self.change(&[(&known, content)], true, || write(&root.join(&known), content, true)),
                1 => self.save(root, &known, &format!("w{writer}-temporary"), (content, kept)),
                2 => self.change(&[(&known, None)], kept, || remove(&root.join(&known))),
                3 => self.change(&[(&fresh, content)], true, || write(&root.join(&fresh), content, true)),
                _ => self.change(&[(&fresh, content)], kept, || write(&root.join(&fresh), content, false)),
            };
            if done.is_err() && self.is_stopped() {
                return;
            }
        }
    }

    /// As editors save: a temporary file, and its rename over the old one.
    fn save(
        &self,
        root: &Path,
        name: &str,
        temporary: &str,
        (content, kept): (Content, bool),
    ) -> io::Result<()> {
        self.change(&[(temporary, content)], kept, || write(&root.join(temporary), content, false))?;
        self.change(&[(temporary, None), (name, content)], kept, || {
            fs::rename(root.join(temporary), root.join(name))
        })
    }
}

fn write(path: &Path, content: Content, sync: bool) -> io::Result<()> {
    let (seed, length) = content.expect("a file that is written has content");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
    file.write_all(&data::bytes(seed, length))?;
    if sync {
        file.sync_all()?;
    }
    close(file)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Closes a file and hears what comes of it: the standard library does not ask.
pub(crate) fn close(file: File) -> io::Result<()> {
    Ok(nix::unistd::close(file)?)
}
