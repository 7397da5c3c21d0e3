//! Requests by kind, and what they cost. Pure.

use serde::Serialize;
use std::ops::{Add, Sub};

/// What a request asks for, as stores put it on the bill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An object or a range of it.
    Get,
    /// What an object is.
    Head,
    /// An object, a part of one or a copy.
    Put,
    /// A page of a listing.
    List,
    /// The begin or the end of an upload.
    Post,
    /// A delete of one object or of many.
    Delete,
}

/// How many requests of each kind there were, and the bytes of their bodies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Objects and ranges.
    pub get: u64,
    /// Questions for headers.
    pub head: u64,
    /// Objects, parts and copies.
    pub put: u64,
    /// Pages of listings.
    pub list: u64,
    /// Begins and ends of uploads.
    pub post: u64,
    /// Deletes, of one object or of many.
    pub delete: u64,
    /// Bytes to the store.
    pub up_bytes: u64,
    /// Bytes from the store.
    pub down_bytes: u64,
}

/// US dollars for a million requests in the standard class of the largest store: those that list or change, and those
/// that read. Deletes are free.
const CHANGE_DOLLARS: f64 = 5.0;
const READ_DOLLARS: f64 = 0.4;

impl Counts {
    /// Counts one more.
    pub fn note(&mut self, kind: Kind) {
        *match kind {
            Kind::Get => &mut self.get,
            Kind::Head => &mut self.head,
            Kind::Put => &mut self.put,
            Kind::List => &mut self.list,
            Kind::Post => &mut self.post,
            Kind::Delete => &mut self.delete,
        } += 1;
    }

    /// The kinds by name.
    pub fn by_kind(&self) -> [(&'static str, u64); 6] {
        [
            ("GET", self.get),
            ("HEAD", self.head),
            ("PUT", self.put),
            ("LIST", self.list),
            ("POST", self.post),
            ("DELETE", self.delete),
        ]
    }

    /// What a million times these requests cost, in US dollars.
    pub fn dollars_per_million(&self) -> f64 {
        (self.put + self.list + self.post) as f64 * CHANGE_DOLLARS
            + (self.get + self.head) as f64 * READ_DOLLARS
    }
}

impl Counts {
    /// Each count with that of `other`.
    fn with(self, other: Self, join: fn(u64, u64) -> u64) -> Self {
        Self {
            get: join(self.get, other.get),
            head: join(self.head, other.head),
            put: join(self.put, other.put),
            list: join(self.list, other.list),
            post: join(self.post, other.post),
            delete: join(self.delete, other.delete),
            up_bytes: join(self.up_bytes, other.up_bytes),
            down_bytes: join(self.down_bytes, other.down_bytes),
        }
    }
}

impl Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        self.with(other, |a, b| a + b)
    }
}

impl Sub for Counts {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        self.with(earlier, |a, b| a - b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delete_costs_nothing_and_a_listing_as_much_as_a_put() {
        let mut counts = Counts::default();
        [Kind::Delete, Kind::List, Kind::Put, Kind::Get].into_iter().for_each(|kind| counts.note(kind));
        assert!((counts.dollars_per_million() - 10.4).abs() < 1e-9);
        assert_eq!((counts + counts).by_kind()[0], ("GET", 2));
        assert_eq!((counts + counts) - counts, counts);
    }
}
