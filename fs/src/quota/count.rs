//! One count of a prefix: the sum of a listing that takes its time, while the mount goes on changing what is listed.
//!
//! Invariant: what this mount changes counts once, whether the page that shows it was asked for before or after. Only
//! a change that the server has made, and whose answer is still under way when the page comes, counts twice until the next
//! count.

use super::Usage;
use crate::name::Key;
use crate::store::ListPage;
use std::collections::BTreeMap;
use std::ops::Bound;

/// Changed keys that a count keeps apart until it comes to them.
const AHEAD_MAX: usize = 100_000;

/// A count under way.
#[derive(Debug, Default)]
pub(super) struct Count {
    sum: Usage,
    /// The last key that was listed: listings are in the order of the keys' bytes.
    cursor: Option<Key>,
    /// Sizes that this mount gave to keys behind the cursor; `None` is removed.
    ahead: BTreeMap<Key, Option<u64>>,
}

impl Count {
    /// What was listed so far.
    pub(super) fn sum(&self) -> Usage {
        self.sum
    }

    /// This mount has changed an object. False if the count cannot follow any more.
    pub(super) fn change(&mut self, key: &Key, old: Option<u64>, new: Option<u64>) -> bool {
        if self.cursor.as_ref().is_some_and(|cursor| key <= cursor) {
            self.sum.change(key, old, new);
        } else {
            self.ahead.insert(key.clone(), new);
        }
        self.ahead.len() <= AHEAD_MAX
    }

    /// Takes a page. What it says of a key that was changed meanwhile may be older than that change, and does not count.
    pub(super) fn page(&mut self, page: &ListPage) {
        for object in &page.objects {
            if !self.ahead.contains_key(&object.key) {
                self.sum.change(&object.key, None, Some(object.version.size));
            }
        }
        if let Some(last) = page.objects.last() {
            self.cursor = Some(last.key.clone());
        }
        let passed = match (&page.next, &self.cursor) {
            (None, _) => std::mem::take(&mut self.ahead),
            (Some(_), None) => return,
            (Some(_), Some(cursor)) => {
                let later = self.ahead.range((Bound::Excluded(cursor), Bound::Unbounded)).next();
                let later = later.map(|(key, _)| key.clone());
                let rest = later.map(|key| self.ahead.split_off(&key)).unwrap_or_default();
                std::mem::replace(&mut self.ahead, rest)
            }
        };
        for (key, size) in passed {
            self.sum.change(&key, None, size);
        }
    }
}
