//! The bytes of a label: entries one behind the other, of which the last counts. Pure.
//!
//! A new entry is one write at the end of the file, which a killed process has done or not done. An entry that was cut
//! off, by a loss of power, leaves the one before it; one that is damaged leaves nothing.

use super::StagedLabel;
use crate::key::BucketId;
use crate::object::crc;

const MAGIC: [u8; 8] = *b"tarnstg1";

/// What stands at the beginning of some bytes.
enum Entry<'a> {
    Whole { boot: u64, label: StagedLabel, rest: &'a [u8] },
    Cut,
    Damaged,
}

impl StagedLabel {
    /// Magic, length of the tail, the same with all bits turned, CRC64NVME of the tail. The tail: tag of the boot,
    /// length of the bucket, bucket, record.
    pub(super) fn encode(&self, boot: u64) -> Vec<u8> {
        let bucket = self.bucket.as_str().as_bytes();
        let mut tail = Vec::with_capacity(16 + bucket.len() + self.record.len());
        tail.extend(boot.to_le_bytes());
        tail.extend((bucket.len() as u64).to_le_bytes());
        tail.extend(bucket);
        tail.extend(&self.record);
        let length = tail.len() as u64;
        let words = [length, !length, crc::checksum(&tail)].map(u64::to_le_bytes);
        [MAGIC.as_slice(), words.as_flattened(), &tail].concat()
    }

    /// The label and the tag of the boot that it was written in; `None` if there is none that can be trusted.
    pub(super) fn decode(bytes: &[u8]) -> Option<(Self, u64)> {
        let mut last = None;
        let mut rest = bytes;
        while !rest.is_empty() {
            match entry(rest) {
                Entry::Whole { boot, label, rest: behind } => (last, rest) = (Some((label, boot)), behind),
                Entry::Cut => return last,
                Entry::Damaged => return None,
            }
        }
        last
    }
}

fn entry(bytes: &[u8]) -> Entry<'_> {
    let Some((head, behind)) = bytes.split_first_chunk::<32>() else { return Entry::Cut };
    let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| head[8 * at + byte]));
    let (length, turned, sum) = (word(1), word(2), word(3));
    if !head.starts_with(&MAGIC) || turned != !length {
        return Entry::Damaged;
    }
    let tail = usize::try_from(length).ok().and_then(|length| behind.split_at_checked(length));
    let Some((tail, rest)) = tail else { return Entry::Cut };
    match parse(tail).filter(|_| crc::checksum(tail) == sum) {
        Some((boot, label)) => Entry::Whole { boot, label, rest },
        None => Entry::Damaged,
    }
}

fn parse(tail: &[u8]) -> Option<(u64, StagedLabel)> {
    let (boot, tail) = tail.split_first_chunk::<8>()?;
    let (length, tail) = tail.split_first_chunk::<8>()?;
    let (bucket, record) = tail.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    let bucket = BucketId::new(std::str::from_utf8(bucket).ok()?);
    Some((u64::from_le_bytes(*boot), StagedLabel { bucket, record: record.to_vec() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(record: &str) -> StagedLabel {
        StagedLabel { bucket: BucketId::new("http://store/bucket"), record: record.into() }
    }

    #[test]
    fn the_last_entry_counts_and_a_cut_one_does_not() {
        let (first, second) = (label("first"), label("the second"));
        let bytes = [first.encode(7), second.encode(8)].concat();
        assert_eq!(StagedLabel::decode(&bytes), Some((second, 8)));
        let whole = first.encode(7).len();
        for at in 0..bytes.len() {
            let expected = (at >= whole).then(|| (first.clone(), 7));
            assert_eq!(StagedLabel::decode(&bytes[..at]), expected, "cut at {at}");
        }
    }

    #[test]
    fn a_flipped_bit_is_found_wherever_it_is() {
        let good = [label("first").encode(7), label("the second").encode(8)].concat();
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                assert_eq!(StagedLabel::decode(&bad), None, "bit {bit} of byte {at}");
            }
        }
    }
}
