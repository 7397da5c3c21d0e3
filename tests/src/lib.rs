//! The test harness of tarn: servers, mounts, another S3 client, and the suites that tests are written in.
//!
//! - [`contract`] holds suites that every implementation of a seam must pass.
//! - [`faulty`] is a proxy before an S3 server that breaks its answers by rule; [`proxy`] relays bytes, and its connections
//!   are taken by an [`acceptor`].
//! - [`http`] answers requests by rule; [`hostile`] is an S3 server whose listings hold what no honest one has.
//! - [`issuer`] gives out credentials as the services of AWS do.
//! - [`suite`] runs behaviours on every kind of [`subject`]: a plain local directory as the control, a mount with
//!   passthrough, and a mount without it. What holds on the local directory must hold on the mounts.
//! - [`server`] is a MinIO of this test run; [`foreign`] is a second, unrelated client of it (boto3).
//! - [`collector`] collects traces.
//! - [`csi`] runs the `tarn-csi` binary.
//! - [`manager`] is a service manager that keeps descriptors, as systemd does.
//! - [`systemd`] is a real one, booted in a container.
//! - [`mount`] runs the `tarn` binary, with an [`alarm`] for what hangs; [`tree`] compares what a mount shows with what the bucket holds.
//! - [`stuck`] finds who hangs in FUSE.
//! - [`semantics`] reads SEMANTICS.md, and the quotes of it in the sources of tests.
//! - [`run`] and [`wait`] start programs and wait for events. Everything has a deadline; nothing sleeps.
//!
//! Outside of [`contract`] it uses tarn only through its command line, its protocols and the kernel, never as a library.

pub mod acceptor;
pub mod alarm;
pub mod collector;
pub mod contract;
pub mod csi;
pub mod data;
pub mod disk;
pub mod faulty;
pub mod foreign;
pub mod hostile;
pub mod http;
pub mod issuer;
pub mod manager;
pub mod mapping;
pub mod mount;
pub mod paths;
pub mod proxy;
pub mod run;
pub mod semantics;
pub mod server;
pub mod stuck;
pub mod subject;
pub mod suite;
pub mod systemd;
pub mod tree;
pub mod wait;
