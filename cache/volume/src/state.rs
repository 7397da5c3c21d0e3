//! What is seen of the cloud and of the host: plain data, from which the planner decides. Pure.
//!
//! What must outlive processes and nodes stands in the tags of the volumes and nowhere else.

mod cloud;
mod host;
mod tags;
mod unit;

pub use cloud::{
    Attachment, AttachmentState, Instance, InstanceState, Modification, ModificationState, Volume,
    VolumeState,
};
pub use host::{Content, Device, Health, HostVolume, Mount, Place, StagedFiles};
pub use tags::{OWNER, Staged, Tags};
pub use unit::{Gib, Timestamp};
