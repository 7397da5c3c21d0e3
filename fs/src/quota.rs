//! What the mounted prefix may hold, and what it holds: the books behind `--quota`. It asks nobody; `vfs` tells it what
//! a listing shows and what the mount changes.
//!
//! Used is what the bucket has, as it was counted last and changed by this mount since, with what staged files will
//! add to it. Growth of a staged file is *granted* while it fits and *seen* when the kernel wrote it past tarn; only
//! what was granted may go into the bucket.
//!
//! Invariant: all that is granted fits at the moment of its granting. Current versions of objects count, by their
//! size; old versions and unfinished uploads do not.

mod count;

use crate::error::{Error, Result};
use crate::name::Key;
use crate::store::ListPage;
use count::Count;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// Writers are not passed through while less is left, or less than an eighth of the quota.
const NEAR: u64 = 1 << 30;
/// Keys of one page of a listing.
const PAGE: u64 = 1000;
/// A count begins so long after the last one, and so much later for each page that it takes.
const RECOUNT: (Duration, Duration) = (Duration::from_secs(300), Duration::from_secs(10));
/// The same once something was refused: another client may have made room.
const RECOUNT_FULL: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(1));

/// Bytes and files of a prefix.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Bytes of all objects.
    pub bytes: u64,
    /// Objects that are no markers of directories.
    pub files: u64,
}

impl Usage {
    /// An object has another size; `None` stands for no object.
    fn change(&mut self, key: &Key, old: Option<u64>, new: Option<u64>) {
        let file = |size: Option<u64>| u64::from(size.is_some() && !key.as_str().ends_with('/'));
        self.bytes = self.bytes.saturating_sub(old.unwrap_or(0)).saturating_add(new.unwrap_or(0));
        self.files = self.files.saturating_sub(file(old)).saturating_add(file(new));
    }
}

/// The books of one mount.
#[derive(Debug, Default)]
pub struct Quota {
    /// The most bytes; 0 is no quota. Outside of the lock for who only asks whether there is one.
    limit: AtomicU64,
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    known: Usage,
    /// When the last count ended that `known` rests on.
    counted: Option<SystemTime>,
    /// When a count was begun last.
    begun: Option<SystemTime>,
    /// The count that is under way.
    count: Option<Count>,
    claims: HashMap<u64, Held>,
    /// The sum of all claims.
    staged: u64,
    next_claim: u64,
    /// Something was refused since the last count.
    refused: bool,
    /// Something changed since it was noted.
    changed: bool,
}

/// What a staged file needs beyond the object it replaces.
#[derive(Debug, Clone, Copy, Default)]
struct Held {
    granted: u64,
    seen: u64,
}

impl Held {
    fn bytes(self) -> u64 {
        self.granted.max(self.seen)
    }
}

impl Books {
    /// What the bucket has, at least: the first count shows more and more of it.
    fn stored(&self) -> Usage {
        let counting = self.count.as_ref().map(Count::sum).unwrap_or_default();
        let Usage { bytes, files } = self.known;
        Usage { bytes: bytes.max(counting.bytes), files: files.max(counting.files) }
    }

    fn used(&self) -> u64 {
        self.stored().bytes.saturating_add(self.staged)
    }

    /// Changes a claim, unless it was given up.
    fn hold(&mut self, id: u64, change: impl FnOnce(&mut Held)) {
        let Some(held) = self.claims.get_mut(&id) else { return };
        let before = held.bytes();
        change(held);
        self.staged = self.staged.saturating_sub(before).saturating_add(held.bytes());
    }

    fn change(&mut self, key: &Key, old: Option<u64>, new: Option<u64>) {
        self.known.change(key, old, new);
        self.changed = true;
        if let Some(count) = &mut self.count
            && !count.change(key, old, new)
        {
            // Too much changes meanwhile; the next count begins anew.
            self.count = None;
        }
    }
}

/// How things stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The most bytes.
    pub limit: u64,
    /// What the bucket has.
    pub stored: Usage,
    /// What staged files will add.
    pub staged: u64,
    /// When the last count ended; `None` during the first.
    pub counted: Option<SystemTime>,
}

impl Standing {
    /// Bytes that count.
    pub fn used(&self) -> u64 {
        self.stored.bytes.saturating_add(self.staged)
    }

    /// Bytes that are left.
    pub fn room(&self) -> u64 {
        self.limit.saturating_sub(self.used())
    }
}

impl Quota {
    /// Sets the most bytes; `None` is no quota.
    pub fn set_limit(&self, limit: Option<u64>) {
        self.limit.store(limit.unwrap_or(0), Ordering::Relaxed);
    }

    /// The most bytes.
    pub fn limit(&self) -> Option<u64> {
        Some(self.limit.load(Ordering::Relaxed)).filter(|limit| *limit > 0)
    }

    /// How things stand; `None` without a quota.
    pub fn standing(&self) -> Option<Standing> {
        let limit = self.limit()?;
        let books = self.books.lock();
        Some(Standing { limit, stored: books.stored(), staged: books.staged, counted: books.counted })
    }

    /// Refuses what needs any room if there is none.
    pub fn must_have_room(&self) -> Result<()> {
        let Some(limit) = self.limit() else { return Ok(()) };
        let mut books = self.books.lock();
        if books.used() < limit {
            return Ok(());
        }
        books.refused = true;
        Err(Error::Quota(limit))
    }

    /// Whether so little is left that every write must be seen.
    pub fn is_near(&self) -> bool {
        self.standing().is_some_and(|standing| standing.room() < NEAR.max(standing.limit / 8))
    }

    /// This mount has changed an object.
    pub fn change(&self, key: &Key, old: Option<u64>, new: Option<u64>) {
        if self.limit().is_some() {
            self.books.lock().change(key, old, new);
        }
    }

    /// The claim of a new staged file.
    pub fn claim(self: &Arc<Self>) -> Claim {
        let mut books = self.books.lock();
        books.next_claim += 1;
        let id = books.next_claim;
        books.claims.insert(id, Held::default());
        Claim { quota: Arc::clone(self), id }
    }

    /// Begins with what an earlier mount knew. `counted` is when that was counted, if nothing is missing since.
    pub fn recall(&self, known: Usage, counted: Option<SystemTime>) {
        let mut books = self.books.lock();
        (books.known, books.counted) = (known, counted);
    }

    /// Something may be missing since the last count.
    pub fn doubt(&self) {
        self.books.lock().counted = None;
    }

    /// Whether it is time for a count.
    pub fn is_due(&self, now: SystemTime) -> bool {
        let books = self.books.lock();
        let pages = u32::try_from(books.known.files / PAGE).unwrap_or(u32::MAX).saturating_add(1);
        let pause = |(least, each): (Duration, Duration)| least + each.saturating_mul(pages);
        // A clock that was set back says nothing of how long ago it was.
        let ago = |time: SystemTime| now.duration_since(time).unwrap_or(Duration::MAX);
        let soon = pause(RECOUNT_FULL);
        if books.count.is_some() || books.begun.is_some_and(|begun| ago(begun) < soon) {
            return false;
        }
        books.counted.is_none_or(|counted| ago(counted) >= if books.refused { soon } else { pause(RECOUNT) })
    }

    /// Begins a count.
    pub fn begin_count(&self, now: SystemTime) {
        let mut books = self.books.lock();
        books.count = Some(Count::default());
        books.begun = Some(now);
        books.refused = false;
    }

    /// Takes the next page of the listing; whether more are wanted.
    pub fn count_page(&self, page: &ListPage, now: SystemTime) -> bool {
        let mut books = self.books.lock();
        let Some(count) = &mut books.count else { return false };
        count.page(page);
        if page.next.is_some() {
            return true;
        }
        (books.known, books.counted, books.changed) = (count.sum(), Some(now), true);
        books.count = None;
        false
    }

    /// Gives up the count that is under way.
    pub fn drop_count(&self) {
        self.books.lock().count = None;
    }

    /// What is to be noted, if it changed since it was asked for last.
    pub fn changes(&self) -> Option<Usage> {
        let mut books = self.books.lock();
        std::mem::take(&mut books.changed).then_some(books.known)
    }
}

/// What one staged file takes. Dropping it gives that back.
#[derive(Debug)]
pub struct Claim {
    quota: Arc<Quota>,
    id: u64,
}

impl Claim {
    /// Asks for `bytes` in all.
    pub fn grow(&self, bytes: u64) -> Result<()> {
        let Some(limit) = self.quota.limit() else { return Ok(()) };
        let mut books = self.quota.books.lock();
        let Some(held) = books.claims.get(&self.id).copied().filter(|held| bytes > held.granted) else {
            return Ok(());
        };
        let others = books.used().saturating_sub(held.bytes());
        if others.saturating_add(bytes) > limit {
            books.refused = true;
            return Err(Error::Quota(limit));
        }
        books.hold(self.id, |held| held.granted = bytes);
        Ok(())
    }

    /// The kernel was seen to have written so much in all.
    pub fn see(&self, bytes: u64) {
        self.change(|held| held.seen = bytes);
    }

    /// So much was acknowledged by an earlier worker.
    pub fn take_over(&self, bytes: u64) {
        self.change(|held| *held = Held { granted: bytes, seen: bytes });
    }

    /// The bucket has it, in place of an object of `old` bytes; `left` is what was written since.
    pub fn commit(&self, key: &Key, (old, new): (Option<u64>, u64), left: u64) {
        if self.quota.limit().is_none() {
            return;
        }
        let mut books = self.quota.books.lock();
        books.change(key, old, Some(new));
        books.hold(self.id, |held| *held = Held { granted: held.granted.min(left), seen: left });
    }

    /// Nothing of it will go into the bucket.
    pub fn give_up(&self) {
        let mut books = self.quota.books.lock();
        books.hold(self.id, |held| *held = Held::default());
        books.claims.remove(&self.id);
    }

    fn change(&self, change: impl FnOnce(&mut Held)) {
        self.quota.books.lock().hold(self.id, change);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.give_up();
    }
}

#[cfg(test)]
mod tests;
