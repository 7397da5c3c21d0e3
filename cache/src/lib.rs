//! The local store.
mod error;
pub use error::Error;
