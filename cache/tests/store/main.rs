//! The local store through its public interface, on real directories.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

mod damage;
mod disk;
mod flips;
mod hold;
mod kill;
mod objects;
mod room;
mod staged;
mod storm;
mod support;
