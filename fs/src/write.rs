//! Getting bytes into the bucket: which parts an object is made of (`plan`, pure), sending them (`upload`), and how
//! far that is (`progress`, pure).

mod extents;
mod plan;
mod progress;
mod upload;

pub use extents::Extents;
pub use plan::{MULTIPART_MIN, PartPlan, Piece, plan_overlay, plan_whole};
pub use progress::{DonePart, Progress};
pub use upload::{Job, Source, Uploader};
