//! The benchmark of tarn: what it gives, beside what the local disk and the raw server give on the same machine in
//! the same minutes.
//!
//! - [`workload`] holds what is measured; [`bench`] the server, the bucket and the mounts it is measured on.
//! - [`raw`] is the raw client of the server (curl), [`fio`] the reader of warm files, [`files`] plain file I/O.
//! - [`process`] reads what the process of a mount has used; [`machine`] says what was measured on.
//! - [`figure`] is one quantity with its limit and its goal; [`report`] writes them down, [`page`] keeps what others
//!   wrote on the same page.
//! - [`peers`] measures tarn beside other file systems on the same bucket, behind the delays of [`proxy`].
//!
//! Figures are written by the run only. It measures; it does not fail when a goal is missed, it says so.

pub mod bench;
pub mod figure;
pub mod files;
pub mod fio;
pub mod machine;
pub mod page;
pub mod peers;
pub mod plan;
pub mod process;
pub mod proxy;
pub mod raw;
pub mod report;
pub mod workload;
