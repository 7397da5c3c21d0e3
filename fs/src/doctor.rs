//! x
use crate::config::Config;
/// x
pub fn run(_: &Config)->Result<(),String>{Ok(())}
