//! Cache volumes: EBS volumes on which a node keeps what it caches, and which outlive its pods, its restarts and the
//! node itself.
//!
//! tarn makes, attaches, formats, mounts, grows, collects and deletes them by itself. [`plan::plan`] decides, purely;
//! [`Reconciler`] looks, asks it and does one thing at a time, through three seams: [`Cloud`] (EC2, or one in memory),
//! [`Host`] (Linux) and [`Tenants`] (the mounts that use the directory).
//!
//! Invariants:
//! - What is staged on a volume and in no bucket is never lost by an act of ours. Only a blank device is formatted;
//!   only a volume whose tags say that nothing is staged on it is deleted; none is taken off another living node.
//! - State is in the tags of the volumes. Any process may be killed at any time and another one goes on.
//! - Mounts never wait for the cloud: until a volume serves, and whenever it cannot, a directory of the host does.
//!
//! What it does not do: it knows neither S3 nor FUSE nor Kubernetes, and moves no cached bytes: a cache refills.

#[cfg(feature = "ec2")]
pub mod cli;
mod clock;
pub mod cloud;
mod error;
pub mod host;
mod id;
pub mod link;
pub mod plan;
mod reconcile;
pub mod spec;
pub mod state;
mod tenants;

pub use cloud::Cloud;
pub use error::{CloudErrorKind, Error, Result};
pub use host::Host;
pub use id::{DeviceName, InstanceId, NoVolumeId, NodeName, Owner, VolumeId, Zone};
pub use reconcile::{Condition, Reconciler, Status, Turn, VolumeStatus};
pub use tenants::Tenants;
