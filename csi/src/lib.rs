//! The CSI driver of tarn: buckets as Kubernetes volumes.
//!
//! One binary, two services. The **controller** makes and deletes volumes (buckets, or folders of a shared bucket),
//! snapshots and clones; it talks to the object store only. The **node** mounts volumes with `tarn mount` and binds
//! them into pods; of the store it asks nothing but how large a volume has grown. Beside them, `cache-volume` tells the
//! cluster what `tarn-volume` does on a node.
//!
//! Layers, top to bottom; an item uses only what stands below it: `main, cli, run` / `supervise, server, cache_volume` /
//! `controller, node, identity, registration` / `mounter, driver, notes` / `service, kubernetes, parameters, capability, web_identity, credentials` /
//! `record, volume_id, rpc, inflight, authority, proto, error`.

pub mod authority;
pub mod cache_volume;
pub mod capability;
pub mod cli;
pub mod controller;
pub mod credentials;
pub mod driver;
pub mod error;
pub mod identity;
pub mod inflight;
pub mod kubernetes;
pub mod mounter;
pub mod node;
mod notes;
pub mod parameters;
pub mod proto;
pub mod record;
pub mod registration;
pub mod rpc;
pub mod run;
pub mod server;
pub mod service;
pub mod supervise;
pub mod volume_id;
pub mod web_identity;
