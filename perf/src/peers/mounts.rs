//! How long a mount takes to give its first answer, with an empty cache and again, and the memory that it has then.

use super::site::Cache;
use super::trial::{Quantity, Trial, Unit};
use anyhow::Result;

const FIRST: Quantity = Quantity::new("first mount, to the first answer", Unit::Seconds);
const AGAIN: Quantity = Quantity::new("mount again, to the first answer", Unit::Seconds);

/// What [`run`] measures.
pub const ALL: &[Quantity] = &[FIRST, AGAIN];

/// See the module.
pub fn run(trial: &mut Trial<'_>) -> Result<()> {
    trial.measure_mount(FIRST, Cache::Empty)?;
    trial.measure_mount(AGAIN, Cache::Kept)
}
