//! Directory streams across workers: what a handle has shown keeps its positions, and everything else comes after.

use super::DirStream;
use crate::error::Result;
use crate::inode::{Child, Inode};
use crate::name::Name;
use crate::session_log::Record;
use crate::vfs::Vfs;
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// What one request was shown, for the log.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) fh: u64,
    /// Position of the first.
    pub(super) at: u64,
    /// The stream began anew.
    pub(super) anew: bool,
    /// A position that showed nothing has no bytes.
    pub(super) names: Vec<Vec<u8>>,
}

impl Shown {
    pub(super) fn record(self) -> Record {
        let Self { fh, at, anew, names } = self;
        Record::Shown { fh, at, anew, names }
    }
}

impl DirStream {
    /// The stream of a handle that has shown these names, by position.
    pub(in crate::vfs) fn resumed(shown: &BTreeMap<u64, Vec<u8>>) -> Self {
        Self { resumed: shown.clone(), ..Self::default() }
    }
}

impl Vfs {
    /// Lists the directory for a stream that an earlier worker began.
    pub(super) async fn relist(&self, inode: &Inode, stream: &mut DirStream) -> Result<()> {
        if stream.resumed.is_empty() {
            return Ok(());
        }
        let mut whole = DirStream::default();
        while self.next_page(inode, &mut whole).await? {}
        let (base, entries) = arrange(&stream.resumed, whole.entries);
        *stream = DirStream { entries, base, source: whole.source, ..DirStream::default() };
        Ok(())
    }
}

type Entries = Vec<(Name, Option<Child>)>;

/// What was shown at its positions, then the rest of what is listed now, in its order.
fn arrange(shown: &BTreeMap<u64, Vec<u8>>, listed: Entries) -> (u64, Entries) {
    let order: Vec<Name> = listed.iter().map(|(name, _)| name.clone()).collect();
    let mut now: HashMap<Name, Option<Child>> = listed.into_iter().collect();
    let first = shown.first_key_value().map_or(0, |(at, _)| *at);
    let end = shown.last_key_value().map_or(0, |(at, _)| *at + 1);
    let mut entries: Entries = (first..end)
        .map(|at| {
            let name = shown.get(&at).and_then(|name| Name::parse(OsStr::from_bytes(name)).ok());
            // The name only holds the place.
            name.map_or_else(|| (Name::own(), None), |name| (name.clone(), now.remove(&name).flatten()))
        })
        .collect();
    entries.extend(order.into_iter().filter_map(|name| now.remove(&name).map(|child| (name, child))));
    (first, entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(names: &[&str]) -> Entries {
        names
            .iter()
            .map(|name| (Name::parse(OsStr::new(name)).expect("plain"), Some(Child::Directory)))
            .collect()
    }

    #[test]
    fn what_was_shown_keeps_its_place_and_the_rest_follows_once() {
        let shown = BTreeMap::from([(2, b"b".to_vec()), (3, Vec::new()), (4, b"gone".to_vec())]);
        let (base, entries) = arrange(&shown, listed(&["a", "b", "c"]));
        let text: Vec<_> = entries.iter().map(|(name, child)| (name.to_string(), child.is_some())).collect();
        assert_eq!(base, 2);
        let expected = [("b", true), ("%=", false), ("gone", false), ("a", true), ("c", true)];
        assert_eq!(text, expected.map(|(name, there)| (name.to_owned(), there)));
    }
}
