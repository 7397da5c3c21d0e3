//! What files do. Every behaviour that is not tarn's own is also tested on a plain local directory, which proves
//! the test right; see [`tarn_tests::suite`].

#![allow(clippy::unwrap_used, reason = "in a test, whatever fails fails the test")]

mod attributes;
mod cache;
mod control;
mod dirs;
mod ends;
mod exchange;
mod foreign;
mod handles;
mod limits;
mod locks;
mod names;
mod nodes;
mod permissions;
mod quota;
mod rename;
mod size;
mod sync;
mod times;
mod traces;
mod user;
mod verify;
mod write;
mod xattrs;

use std::process::ExitCode;
use std::time::Duration;
use tarn_tests::suite;

fn main() -> ExitCode {
    suite::run(
        Duration::from_secs(120),
        &[
            attributes::ALL,
            cache::ALL,
            control::ALL,
            dirs::ALL,
            ends::ALL,
            exchange::ALL,
            exchange::TARN,
            foreign::ALL,
            handles::ALL,
            limits::TARN,
            locks::ALL,
            names::ALL,
            names::TARN,
            nodes::TARN,
            permissions::ALL,
            permissions::TARN,
            quota::TARN,
            rename::ALL,
            size::ALL,
            sync::ALL,
            sync::TARN,
            times::ALL,
            times::TARN,
            traces::TARN,
            user::ALL,
            verify::ALL,
            write::ALL,
            xattrs::ALL,
            xattrs::TARN,
        ],
    )
}
