//! The control socket of a mount: `tarn status`, `flush`, `cache` and `log-level` speak gRPC over a unix socket
//! with the process that serves it. `fs/proto/control.proto` is the protocol.
//!
//! Invariants: the socket is 0600 in the directory of the mount's record, and only the user who mounted and root
//! are answered. It tells names and figures, never file contents or credentials.

mod client;
pub mod commands;
mod metrics;
mod server;
mod text;

pub use client::{Client, Error};
pub(crate) use metrics::serve as serve_metrics;
pub use server::Mounted;
pub(crate) use server::{Desk, Facts, Server};

/// The generated protocol.
#[allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::use_self,
    clippy::wildcard_enum_match_arm,
    clippy::too_many_lines,
    unreachable_pub,
    reason = "generated from fs/proto/control.proto"
)]
pub mod proto {
    tonic::include_proto!("tarn.control.v1");
}
