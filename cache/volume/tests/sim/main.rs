//! The whole life of cache volumes on a cloud, a host and mounts in memory, with time that the tests own: every call
//! made to fail, every crash, every mischief, and arbitrary states to begin with.

#![allow(clippy::unwrap_used, reason = "in a test, whatever fails fails the test")]

mod faults;
mod lifecycle;
mod nodes;
mod random;
mod running;
mod trouble;
mod world;
