//! A set of byte ranges: sorted, disjoint, never touching. Pure.

use std::collections::BTreeMap;
use std::ops::Range;

/// A set of byte offsets kept as ranges.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Extents(BTreeMap<u64, u64>);

impl Extents {
    /// Adds a range; joins it with those it touches.
    pub fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let (mut start, mut end) = (range.start, range.end);
        let touching: Vec<u64> =
            self.0.range(..=end).rev().take_while(|(_, e)| **e >= start).map(|(s, _)| *s).collect();
        for key in touching {
            if let Some(other_end) = self.0.remove(&key) {
                start = start.min(key);
                end = end.max(other_end);
            }
        }
        self.0.insert(start, end);
    }

    /// Takes everything from `offset` on out.
    pub fn truncate(&mut self, offset: u64) {
        self.0.split_off(&offset);
        if let Some((_, end)) = self.0.range_mut(..offset).next_back() {
            *end = (*end).min(offset);
        }
    }

    /// The parts of `range` that are in the set (`true`) and that are not (`false`), in order.
    pub fn split(&self, range: Range<u64>) -> Vec<(Range<u64>, bool)> {
        let mut pieces = Vec::new();
        let mut at = range.start;
        let first = self.0.range(..=range.start).next_back().filter(|(_, end)| **end > range.start);
        let rest = self.0.range(range.start.saturating_add(1)..range.end.max(range.start.saturating_add(1)));
        for (start, end) in first.into_iter().chain(rest) {
            let (start, end) = ((*start).max(at), (*end).min(range.end));
            if start >= end {
                continue;
            }
            if start > at {
                pieces.push((at..start, false));
            }
            pieces.push((start..end, true));
            at = end;
        }
        if at < range.end {
            pieces.push((at..range.end, false));
        }
        pieces
    }

    /// Whether any byte of `range` is in the set.
    pub fn touches(&self, range: Range<u64>) -> bool {
        self.split(range).iter().any(|(_, inside)| *inside)
    }

    /// The ranges, in order.
    pub fn iter(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.0.iter().map(|(start, end)| *start..*end)
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn behaves_like_a_set_of_offsets(
            inserts in prop::collection::vec((0u64..64, 0u64..20), 0..12), cut in 0u64..90, window in (0u64..80, 0u64..40),
        ) {
            let mut extents = Extents::default();
            let mut model = [false; 128];
            for (start, len) in inserts {
                extents.insert(start..start + len);
                model[start as usize..(start + len) as usize].fill(true);
            }
            extents.truncate(cut);
            model[cut as usize..].fill(false);
            let ranges: Vec<_> = extents.iter().collect();
            prop_assert!(ranges.windows(2).all(|pair| pair[0].end < pair[1].start));
            let range = window.0..window.0 + window.1;
            let mut at = range.start;
            for (piece, inside) in extents.split(range.clone()) {
                prop_assert_eq!(piece.start, at);
                prop_assert!(piece.clone().all(|offset| model[offset as usize] == inside));
                at = piece.end;
            }
            prop_assert_eq!(at, range.end);
        }
    }
}
