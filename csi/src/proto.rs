//! The messages and services of the protocols, generated from `proto/` by the build.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::use_self,
    clippy::too_many_lines,
    clippy::wildcard_enum_match_arm,
    clippy::missing_trait_methods,
    reason = "generated code"
)]

pub use csi::*;

mod csi {
    tonic::include_proto!("csi.v1");
}

/// How a plugin registers with the kubelet.
pub mod registration {
    tonic::include_proto!("pluginregistration");
}
