//! How long a mount with an empty cache takes to give its first answer, and the memory that it has then.

use super::trial::{Quantity, Trial, Unit};
use anyhow::Result;

const MOUNT: Quantity = Quantity::new("mount, to the first answer", Unit::Seconds);

/// What [`run`] measures.
pub const ALL: &[Quantity] = &[MOUNT];

/// See the module.
pub fn run(trial: &mut Trial<'_>) -> Result<()> {
    trial.measure_mount(MOUNT)?.end()
}
