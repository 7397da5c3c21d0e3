//! Where the parts of a multipart object lie, as far as its tag and size tell. Pure but for one flag.
//!
//! A part that is asked for by its number comes with its checksum, so it can be checked before it is used; a range
//! that is not a part has none. The tag of a multipart object ends in `-PARTS` on AWS and MinIO, and all parts but
//! the last have one size in every common client. That is a guess: the answer says where the part lies, and after a
//! guess that was wrong comes the next.

use crate::store::Version;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use tarn_cache::BLOCK_SIZE;

const MIB: u64 = 1 << 20;
/// Part sizes of common clients: tarn, the AWS command line, boto3 and mountpoint; mc; rclone; s3fs.
const COMMON: [u64; 4] = [8 * MIB, PartLayout::LARGEST, 5 * MIB, 10 * MIB];

const _: () = assert!(MIB.is_multiple_of(BLOCK_SIZE), "a part is whole blocks");

/// The parts of one version.
#[derive(Debug)]
pub struct PartLayout {
    /// The sizes that fit, the likeliest first.
    sizes: Vec<u64>,
    /// How many of them turned out to be wrong.
    refuted: AtomicUsize,
}

impl PartLayout {
    /// Bytes of the largest part that is fetched in one piece.
    pub const LARGEST: u64 = 16 * MIB;
    /// How often a guess can be wrong.
    pub const GUESSES_MAX: usize = COMMON.len();

    /// The likely layouts.
    pub fn guess(version: &Version) -> Self {
        let parts = version.etag.as_str().rsplit_once('-').and_then(|(_, parts)| parts.parse::<u64>().ok());
        let fits = |size: &u64| parts == Some(version.size.div_ceil(*size));
        Self { sizes: COMMON.into_iter().filter(fits).collect(), refuted: AtomicUsize::new(0) }
    }

    /// Bytes of a part, if the object seems to have parts.
    pub fn part_size(&self) -> Option<u64> {
        self.sizes.get(self.refuted.load(Ordering::Relaxed)).copied()
    }

    /// The number of the part that is exactly `range`, in an object of `size` bytes with parts of `part` bytes.
    pub fn number(part: u64, range: &Range<u64>, size: u64) -> Option<u16> {
        let exact = range.start.is_multiple_of(part) && range.end == size.min(range.start + part);
        u16::try_from(range.start / part + 1).ok().filter(|_| exact)
    }

    /// Notes that the object's parts are not of this size, however many find out at once.
    pub fn refute(&self, size: u64) {
        if let Some(at) = self.sizes.iter().position(|known| *known == size) {
            // It fails if somebody else has noted it.
            let _ = self.refuted.compare_exchange(at, at + 1, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::ETag;

    fn layout(etag: &str, size: u64) -> PartLayout {
        let last_modified = std::time::SystemTime::UNIX_EPOCH;
        PartLayout::guess(&Version { etag: ETag::new(etag), size, last_modified, version_id: None })
    }

    /// SEMANTICS: "a larger file that was uploaded in parts of 5, 8, 10 or 16 MiB (tarn, the AWS command
    /// line, boto3, mountpoint, mc, rclone, s3fs), where whole parts are read, as any sequential reader does
    /// after its first 8 to 16 MiB: with the checksum of the part."
    #[test]
    fn the_tag_and_the_size_tell_the_part_size() {
        assert_eq!(layout("abc-3", 20_000_000).part_size(), Some(8 * MIB));
        assert_eq!(layout("abc-2", 20_000_000).part_size(), Some(16 * MIB));
        assert_eq!(layout("abc-4", 20_000_000).part_size(), Some(5 * MIB));
        assert_eq!(layout("abc-7", 20_000_000).part_size(), None, "no common client");
        assert_eq!(layout("abc", 20_000_000).part_size(), None, "one PUT");
        assert_eq!(layout("abc-0", 0).part_size(), Some(8 * MIB), "nothing is asked of an empty object");
    }

    #[test]
    fn only_a_whole_part_has_a_number() {
        let number = |range| PartLayout::number(8 * MIB, &range, 20_000_000);
        assert_eq!(number(0..8 * MIB), Some(1));
        assert_eq!(number(16 * MIB..20_000_000), Some(3), "the last is shorter");
        for range in [0..8 * MIB - 1, 1..8 * MIB, 0..16 * MIB, 8 * MIB..9 * MIB] {
            assert_eq!(number(range.clone()), None, "{range:?}");
        }
    }

    #[test]
    fn after_a_wrong_guess_comes_the_next_that_fits() {
        let layout = layout("abc-2", 9_000_000);
        for size in [8 * MIB, 5 * MIB] {
            assert_eq!(layout.part_size(), Some(size));
            for _ in 0..3 {
                layout.refute(size);
            }
        }
        assert_eq!(layout.part_size(), None);
    }
}
