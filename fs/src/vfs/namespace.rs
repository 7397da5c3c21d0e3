//! Who works where: an operation holds the names it is about, the move of a directory everything below. What a move
//! does not touch goes on meanwhile, and the move waits for nothing elsewhere.
//!
//! Invariant: while a move has its trees, no operation is under way on an inode in them, so that their keys can change.

use super::Vfs;
use crate::inode::{Ino, Place};
use crate::name::Name;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Notify;

/// What an operation is about.
#[derive(Debug, Clone, Copy)]
pub(super) enum Use<'a> {
    /// An inode.
    Inode(Ino),
    /// A name in a directory, and what has it.
    Name(Ino, &'a Name),
}

impl Use<'_> {
    fn place(&self) -> Option<Place> {
        match *self {
            Self::Inode(_) => None,
            Self::Name(parent, name) => Some(Place { parent, name: name.clone() }),
        }
    }

    fn is(&self, place: &Place) -> bool {
        matches!(self, Self::Name(parent, name) if *parent == place.parent && **name == place.name)
    }
}

impl<'a> From<&'a Place> for Use<'a> {
    fn from(place: &'a Place) -> Self {
        Self::Name(place.parent, &place.name)
    }
}

/// Operations and moves that are under way.
#[derive(Debug, Default)]
pub(super) struct Namespace {
    state: Mutex<State>,
    /// Something has ended.
    ended: Notify,
}

#[derive(Debug, Default)]
struct State {
    count: u64,
    /// The inodes that operations are about, moves among them.
    operations: BTreeMap<u64, Vec<Ino>>,
    moves: BTreeMap<u64, Move>,
}

/// What a move changes.
#[derive(Debug)]
struct Move {
    roots: Vec<Ino>,
    names: Vec<Place>,
}

/// Holds what an operation or a move is about, until it is dropped.
#[derive(Debug)]
#[must_use]
pub(super) struct Held {
    namespace: Arc<Namespace>,
    number: u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.namespace.state.lock();
        state.operations.remove(&self.number);
        let was_move = state.moves.remove(&self.number).is_some();
        // Only moves are waited for, and only they wait for anything else.
        if was_move || !state.moves.is_empty() {
            self.namespace.ended.notify_waiters();
        }
    }
}

impl Vfs {
    /// Waits while any of these is being moved; from then on none is, until the answer is dropped. To be asked once for
    /// all that an operation needs.
    pub(super) async fn hold(&self, uses: &[Use<'_>]) -> Held {
        self.hold_with(uses, &[]).await
    }

    /// The same for a move of these inodes, each with everything below: no operation is under way there then, and
    /// all others wait.
    pub(super) async fn hold_trees(&self, uses: &[Use<'_>], roots: &[Ino]) -> Held {
        let held = self.hold_with(uses, roots).await;
        loop {
            let ended = self.namespace.ended.notified();
            let is_busy = self
                .namespace
                .state
                .lock()
                .operations
                .iter()
                .any(|(number, inodes)| *number != held.number && self.meets(inodes, roots));
            if !is_busy {
                return held;
            }
            ended.await;
        }
    }

    async fn hold_with(&self, uses: &[Use<'_>], roots: &[Ino]) -> Held {
        loop {
            let ended = self.namespace.ended.notified();
            if let Some(held) = self.try_hold(uses, roots) {
                return held;
            }
            ended.await;
        }
    }

    /// The same at once, or not at all.
    pub(super) fn try_hold(&self, uses: &[Use<'_>], roots: &[Ino]) -> Option<Held> {
        let mut state = self.namespace.state.lock();
        let mut inodes = Vec::with_capacity(uses.len() * 2);
        for used in uses {
            match *used {
                Use::Inode(ino) => inodes.push(ino),
                Use::Name(parent, name) => {
                    inodes.push(parent);
                    inodes.extend(self.table.child(parent, name).map(|inode| inode.ino));
                }
            }
        }
        let is_moved = |other: &Move| {
            let named = |place: &Place| uses.iter().any(|used| used.is(place));
            self.meets(&inodes, &other.roots)
                || self.meets(roots, &other.roots)
                || self.meets(&other.roots, roots)
                || other.names.iter().any(named)
        };
        if state.moves.values().any(is_moved) {
            return None;
        }
        state.count += 1;
        let number = state.count;
        state.operations.insert(number, inodes);
        if !roots.is_empty() {
            let names = uses.iter().filter_map(Use::place).collect();
            state.moves.insert(number, Move { roots: roots.to_vec(), names });
        }
        Some(Held { namespace: Arc::clone(&self.namespace), number })
    }

    /// Whether one of the inodes is one of the roots or below it.
    fn meets(&self, inodes: &[Ino], roots: &[Ino]) -> bool {
        inodes.iter().any(|ino| roots.iter().any(|root| self.table.is_below(*ino, *root)))
    }
}
