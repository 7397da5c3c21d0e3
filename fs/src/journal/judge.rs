//! What is to become of a staged file whose owner is gone. Pure.

use super::{Record, State, Sum};

/// What was found of the file itself.
#[derive(Debug, Clone, Copy)]
pub struct Found {
    /// Its length in bytes.
    pub size: u64,
    /// Whether it holds any byte: a layer that nothing was written to is one hole.
    pub has_data: bool,
    /// Its modification time in nanoseconds since 1970.
    pub modified: Option<i64>,
    /// Whether the record was written in this boot: then the file has all that was written before.
    pub of_this_boot: bool,
    /// What it holds now, if the record says what it held.
    pub sum: Option<Sum>,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Put it into the bucket.
    Upload,
    /// Remove it: nothing of it is missing in the bucket.
    Remove,
    /// Leave it where it is and say so, for this reason.
    Leave(&'static str),
}

/// Decides. Bytes that somebody was told are kept are uploaded; others are left where they are and named, never removed.
pub fn judge(record: &Record, found: &Found) -> Verdict {
    let is_as_noted = record.sum.is_some() && record.sum == found.sum;
    match record.state {
        State::Removed => Verdict::Remove,
        State::Closed if found.of_this_boot || is_as_noted => Verdict::Upload,
        State::Closed => Verdict::Leave("the power was lost and the bytes cannot be told from damaged ones"),
        State::Open | State::Committed if is_as_noted => Verdict::Remove,
        State::Open if found.size == 0 || (record.layer.is_some() && !found.has_data) => Verdict::Remove,
        State::Committed if record.layer.is_some() && record.modified == found.modified => Verdict::Remove,
        State::Open => Verdict::Leave("it was never closed"),
        State::Committed => Verdict::Leave("it was written to after its last close or fsync"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Layer;
    use crate::name::Key;

    const SUM: Option<Sum> = Some(Sum { size: 5, crc64nvme: 9 });
    const FOUND: Found = Found { size: 5, has_data: true, modified: Some(3), of_this_boot: true, sum: None };

    fn record(state: State) -> Record {
        Record { state, modified: Some(3), ..Record::open(Key::parse("k").unwrap(), None) }
    }

    #[test]
    fn what_was_closed_is_uploaded_unless_power_loss_may_have_damaged_it() {
        let closed = record(State::Closed);
        assert_eq!(judge(&closed, &FOUND), Verdict::Upload);
        let later = Found { of_this_boot: false, ..FOUND };
        assert!(matches!(judge(&closed, &later), Verdict::Leave(_)));
        let closed = Record { sum: SUM, ..closed };
        assert!(matches!(judge(&closed, &later), Verdict::Leave(_)), "other bytes");
        assert_eq!(judge(&closed, &Found { sum: SUM, ..later }), Verdict::Upload);
    }

    #[test]
    fn what_the_bucket_has_is_removed_and_all_else_is_left() {
        for state in [State::Open, State::Committed] {
            assert!(matches!(judge(&record(state), &FOUND), Verdict::Leave(_)));
            let noted = Record { sum: SUM, ..record(state) };
            assert!(matches!(judge(&noted, &FOUND), Verdict::Leave(_)));
            assert_eq!(judge(&noted, &Found { sum: SUM, ..FOUND }), Verdict::Remove);
        }
        assert_eq!(judge(&record(State::Open), &Found { size: 0, ..FOUND }), Verdict::Remove);
        assert_eq!(judge(&record(State::Removed), &FOUND), Verdict::Remove);
    }

    #[test]
    fn a_layer_is_judged_by_its_holes_and_its_time() {
        let layer = Some(Layer { base_len: 5, dirty: Vec::new() });
        let open = Record { layer: layer.clone(), ..record(State::Open) };
        assert!(matches!(judge(&open, &FOUND), Verdict::Leave(_)));
        assert_eq!(judge(&open, &Found { has_data: false, ..FOUND }), Verdict::Remove);
        let committed = Record { layer, ..record(State::Committed) };
        assert_eq!(judge(&committed, &FOUND), Verdict::Remove);
        assert!(matches!(judge(&committed, &Found { modified: Some(4), ..FOUND }), Verdict::Leave(_)));
    }
}
