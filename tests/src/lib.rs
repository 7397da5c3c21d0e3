//! The test harness of tarn.
//!
//! - [`contract`] holds suites that every implementation of a seam must pass.

pub mod contract;
