//! Contract suites: what every implementation of a seam must do, run against each of them.

pub mod object_store;
