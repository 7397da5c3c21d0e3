//! The faults of the matrix, each by its name in the results.

use std::time::Duration;
use tarn_tests::faulty::{Fault, Kind, Rule};

/// A fault, and the kinds of requests whose answers it concerns; none are all.
pub(crate) struct Named {
    pub(crate) name: &'static str,
    pub(crate) fault: Fault,
    on: &'static [Kind],
}

/// Which requests of an operation it strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Strikes {
    /// This one, counted from zero.
    Once(usize),
    /// All, until the operation has ended.
    Always,
}

const DATA: &[Kind] = &[Kind::Get, Kind::GetPart];

impl Named {
    const fn of(name: &'static str, fault: Fault) -> Self {
        Self { name, fault, on: &[] }
    }

    /// The rules of a server that has this fault.
    pub(crate) fn rules(&self, strikes: Strikes) -> Vec<Rule> {
        let nth = match strikes {
            Strikes::Once(at) => at..at + 1,
            Strikes::Always => 0..usize::MAX,
        };
        let rule = |on| Rule { on, nth: nth.clone(), fault: self.fault.clone() };
        if self.on.is_empty() {
            vec![rule(None)]
        } else {
            self.on.iter().copied().map(Some).map(rule).collect()
        }
    }

    /// Whether an upload may be begun that tarn does not hear of.
    pub(crate) fn begins_twice(&self) -> bool {
        matches!(self.fault, Fault::Twice)
    }

    /// Whether what is listed may be what was listed before.
    pub(crate) fn is_stale(&self) -> bool {
        matches!(self.fault, Fault::Stale)
    }
}

/// All of them. A request gives up after a second.
pub(crate) const FAULTS: &[Named] = &[
    Named::of("500 InternalError", Fault::Status(500, "InternalError")),
    Named::of("503 SlowDown", Fault::Status(503, "SlowDown")),
    Named::of("429 TooManyRequests", Fault::Status(429, "TooManyRequests")),
    Named::of("400 RequestTimeout", Fault::Status(400, "RequestTimeout")),
    Named::of("403 AccessDenied", Fault::Status(403, "AccessDenied")),
    Named::of("400 ExpiredToken", Fault::Status(400, "ExpiredToken")),
    Named::of("409 ConditionalRequestConflict", Fault::Status(409, "ConditionalRequestConflict")),
    Named::of("507 XMinioStorageFull", Fault::Status(507, "XMinioStorageFull")),
    Named::of("503 without a body", Fault::Bare(503)),
    Named::of("502 with a page", Fault::Page(502)),
    Named::of("redirect", Fault::Redirect(307)),
    Named::of("error under 200", Fault::ErrorIn200("InternalError")),
    Named::of("reset before", Fault::Reset),
    Named::of("answer lost", Fault::LostAnswer),
    Named::of("no answer", Fault::Silence),
    Named::of("late", Fault::Late(Duration::from_millis(100))),
    Named::of("done after the client gave up", Fault::Late(Duration::from_millis(1300))),
    Named::of("done twice", Fault::Twice),
    Named::of("stale listing", Fault::Stale),
    Named::of("body cut at once", Fault::Cut(0)),
    Named::of("body cut", Fault::Cut(300)),
    Named::of("body stalls", Fault::Stall(300)),
    Named::of("body too long", Fault::Longer(1)),
    Named::of("body too short, as it says", Fault::Shorter(30)),
    Named { name: "bit flipped", fault: Fault::Flip(1234), on: DATA },
    Named::of("garbage", Fault::Garbage),
    Named::of("no body", Fault::Empty),
    Named::of("wrong ETag", Fault::WrongETag),
    Named::of("no ETag", Fault::NoETag),
    Named { name: "wrong range", fault: Fault::WrongRange, on: DATA },
    Named { name: "range ignored", fault: Fault::NoRange, on: DATA },
];
