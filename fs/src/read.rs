//! Getting bytes out of the bucket: which ranges to ask for (`window`, `parts`, pure) and fetching them into the
//! local store (`fetch`).

mod fetch;
mod parts;
mod window;

pub use fetch::{Fetcher, FetcherOptions, Target};
pub use parts::PartLayout;
pub use window::{Ahead, Windows};
