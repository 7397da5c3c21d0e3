//! The test harness of tarn.
//!
//! - [`contract`] holds suites that every implementation of a seam must pass.
//! - [`faulty`] is a proxy before an S3 server that breaks its answers by rule.

pub mod contract;
pub mod faulty;
