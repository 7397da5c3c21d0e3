//! The bytes of a label. Pure.

use super::StagedLabel;
use crate::key::BucketId;
use crate::object::crc;

const MAGIC: [u8; 8] = *b"tarnstg1";

impl StagedLabel {
    /// Magic, CRC64NVME of all that follows, tag of the boot, length of the bucket, bucket, record.
    pub(super) fn encode(&self, boot: u64) -> Vec<u8> {
        let bucket = self.bucket.as_str().as_bytes();
        let mut tail = Vec::with_capacity(16 + bucket.len() + self.record.len());
        tail.extend(boot.to_le_bytes());
        tail.extend((bucket.len() as u64).to_le_bytes());
        tail.extend(bucket);
        tail.extend(&self.record);
        [MAGIC.as_slice(), &crc::checksum(&tail).to_le_bytes(), &tail].concat()
    }

    /// The label and the tag of the boot that it was written in; `None` if it does not fit together.
    pub(super) fn decode(bytes: &[u8]) -> Option<(Self, u64)> {
        let rest = bytes.strip_prefix(&MAGIC)?;
        let (sum, tail) = rest.split_first_chunk::<8>()?;
        if crc::checksum(tail) != u64::from_le_bytes(*sum) {
            return None;
        }
        let (boot, tail) = tail.split_first_chunk::<8>()?;
        let (length, tail) = tail.split_first_chunk::<8>()?;
        let (bucket, record) = tail.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
        let bucket = BucketId::new(std::str::from_utf8(bucket).ok()?);
        Some((Self { bucket, record: record.to_vec() }, u64::from_le_bytes(*boot)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_that_was_cut_or_changed_is_none() {
        let label = StagedLabel { bucket: BucketId::new("http://store/bucket"), record: b"record".to_vec() };
        let good = label.encode(7);
        assert_eq!(StagedLabel::decode(&good), Some((label, 7)));
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                assert_eq!(StagedLabel::decode(&bad), None, "bit {bit} of byte {at}");
            }
            assert_eq!(StagedLabel::decode(&good[..at]), None, "cut at {at}");
        }
    }
}
