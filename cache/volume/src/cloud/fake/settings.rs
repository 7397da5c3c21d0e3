//! How slow and how stubborn the fake is.

use std::time::Duration;

/// How long things take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delays {
    /// From CreateVolume to `available`.
    pub create: Duration,
    /// From AttachVolume to `attached`.
    pub attach: Duration,
    /// From DetachVolume to `available`.
    pub detach: Duration,
    /// So far behind are listings.
    pub lag: Duration,
    /// The least time from one modification to the next.
    pub modify_cool_down: Duration,
}

impl Delays {
    /// Nothing takes any time, but the cool-down of modifications.
    pub const NONE: Self = Self {
        create: Duration::ZERO,
        attach: Duration::ZERO,
        detach: Duration::ZERO,
        lag: Duration::ZERO,
        modify_cool_down: Duration::from_secs(6 * 3_600),
    };
    /// Much like EC2 on a slow day.
    pub const SLOW: Self = Self {
        create: Duration::from_secs(6),
        attach: Duration::from_secs(8),
        detach: Duration::from_secs(7),
        lag: Duration::from_secs(3),
        modify_cool_down: Duration::from_secs(6 * 3_600),
    };
}

/// What does not come to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stuck {
    /// Attaching.
    pub attaching: bool,
    /// Detaching.
    pub detaching: bool,
}
