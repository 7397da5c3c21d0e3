//! Which parts an object is uploaded in. Pure.
//!
//! S3 multipart limits ("Amazon S3 multipart upload limits"): 1 to 10,000 parts of 5 MiB to 5 GiB, the last may
//! be smaller; an object of at most 5 TiB.

use super::Extents;
use std::ops::Range;

/// The smallest part but the last.
pub const MULTIPART_MIN: u64 = 5 << 20;
const PART_MAX: u64 = 5 << 30;
const PARTS_MAX: u64 = 10_000;

/// One part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartPlan {
    /// The bytes of the object that it holds.
    pub range: Range<u64>,
    /// Where they come from.
    pub piece: Piece,
}

/// Where a part's bytes come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// Read here and sent.
    Send,
    /// Copied by the server from the base version.
    Copy,
}

/// The parts of a file that is sent whole; empty when one PUT will do.
pub fn plan_whole(size: u64, part_size: u64) -> Vec<PartPlan> {
    if size <= part_size {
        return Vec::new();
    }
    let part = grown(size, part_size);
    let send = |start| PartPlan { range: start..size.min(start + part), piece: Piece::Send };
    (0..size.div_ceil(part)).map(|index| send(index * part)).collect()
}

/// The parts of a changed object: what is not touched is copied from the first `base_len` bytes of the base.
pub fn plan_overlay(size: u64, base_len: u64, dirty: &Extents, part_size: u64) -> Vec<PartPlan> {
    let part = grown(size, part_size);
    let mut parts: Vec<PartPlan> = Vec::new();
    for index in 0..size.div_ceil(part) {
        let range = index * part..size.min((index + 1) * part);
        let clean = range.end <= base_len && !dirty.touches(range.clone());
        let piece = if clean { Piece::Copy } else { Piece::Send };
        match parts.last_mut() {
            Some(last) if clean && last.piece == Piece::Copy && range.end - last.range.start <= PART_MAX => {
                last.range.end = range.end;
            }
            _ => parts.push(PartPlan { range, piece }),
        }
    }
    parts
}

/// The part size that keeps an object of `size` within the number of parts, a whole multiple of `part_size`.
fn grown(size: u64, part_size: u64) -> u64 {
    part_size * size.div_ceil(PARTS_MAX).div_ceil(part_size).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(parts: &[PartPlan], size: u64) {
        let mut at = 0;
        for (index, part) in parts.iter().enumerate() {
            assert_eq!(part.range.start, at);
            let len = part.range.end - part.range.start;
            assert!(len <= PART_MAX && (len >= MULTIPART_MIN || index + 1 == parts.len()), "{part:?}");
            at = part.range.end;
        }
        assert_eq!(at, size);
        assert!(parts.len() as u64 <= PARTS_MAX);
    }

    proptest! {
        #[test]
        fn parts_cover_the_object_within_the_limits(
            size in 1u64..(5 << 40), part_mib in 5u64..64, base in 0u64..(5 << 40), dirty in prop::collection::vec((0u64..(5 << 40), 1u64..(1 << 30)), 0..5),
        ) {
            let part_size = part_mib << 20;
            if size > part_size {
                check(&plan_whole(size, part_size), size);
            }
            let mut extents = Extents::default();
            for (start, len) in dirty {
                extents.insert(start..start + len);
            }
            extents.truncate(size);
            let base_len = base.min(size);
            let parts = plan_overlay(size, base_len, &extents, part_size);
            check(&parts, size);
            for part in parts.iter().filter(|part| part.piece == Piece::Copy) {
                prop_assert!(part.range.end <= base_len && !extents.touches(part.range.clone()));
            }
        }
    }

    /// SEMANTICS: "With O_SYNC or O_DSYNC every write does; each costs an upload of the changed parts, or of
    /// the whole file up to the size of one part."
    #[test]
    fn a_small_file_needs_no_parts() {
        assert!(plan_whole(8 << 20, 8 << 20).is_empty());
        assert_eq!(plan_whole((8 << 20) + 1, 8 << 20).len(), 2);
    }

    /// SEMANTICS: "With O_SYNC or O_DSYNC every write does; each costs an upload of the changed parts, or of
    /// the whole file up to the size of one part."
    #[test]
    fn one_changed_byte_of_a_large_object_sends_one_part() {
        let mut dirty = Extents::default();
        dirty.insert(3 << 30..(3 << 30) + 1);
        let parts = plan_overlay(10 << 30, 10 << 30, &dirty, 8 << 20);
        assert_eq!(parts.iter().filter(|part| part.piece == Piece::Send).count(), 1);
        assert_eq!(parts.len(), 4, "copies are joined up to 5 GiB: {parts:?}");
    }
}
