//! Getting bytes out of the bucket: which ranges to ask for (`window`, `plan`, pure) and fetching them into the
//! local store (`fetch`).

mod fetch;
mod window;

pub use fetch::{Fetcher, FetcherOptions, Target};
pub use window::{Ahead, Windows};
