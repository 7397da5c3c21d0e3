//! The kernel's side of a mount.

pub mod session;
