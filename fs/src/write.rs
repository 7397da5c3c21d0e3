//! Getting bytes into the bucket: which parts an object is made of (`plan`, pure) and sending them (`upload`).

mod extents;
mod plan;
mod upload;

pub use extents::Extents;
pub use plan::{MULTIPART_MIN, PartPlan, Piece, plan_overlay, plan_whole};
pub use upload::{Job, Source, Uploaded, Uploader};
