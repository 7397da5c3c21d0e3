//! Looks at this machine: kernel, device, helper, cache disk.

use super::judge::{self, Line, Status};
use crate::config::Config;
use crate::mount::checks::{self, CheckError};
use std::path::Path;

/// One line for each thing tarn needs of the machine.
pub(super) fn check(config: &Config) -> Vec<Line> {
    let release = rustix::system::uname();
    vec![judge::kernel(&release.release().to_string_lossy()), device(), rights(config), cache(config)]
}

fn device() -> Line {
    const CHECK: &str = "/dev/fuse";
    let bad = |finding: String, advice| Line::bad(Status::Fail, CHECK, finding, advice);
    match checks::device() {
        Ok(()) => Line::ok(CHECK, "there"),
        Err(CheckError::NoRights) => {
            bad("not for this user".into(), "chmod 666 /dev/fuse; in a container pass --device /dev/fuse")
        }
        Err(error) => bad(
            error.to_string(),
            "load the module with modprobe fuse; in a container pass --device /dev/fuse",
        ),
    }
}

fn rights(config: &Config) -> Line {
    const CHECK: &str = "right to mount";
    if rustix::process::geteuid().is_root() {
        return Line::ok(CHECK, "root");
    }
    match checks::find_helper() {
        None => Line::bad(Status::Fail, CHECK, "no fusermount3", "install the package fuse3"),
        Some(_) if config.files.allow_other && !checks::others_allowed(&checks::read_fuse_conf()) => {
            Line::bad(
                Status::Fail,
                CHECK,
                "allow-other is forbidden",
                "write user_allow_other into /etc/fuse.conf",
            )
        }
        Some(helper) => {
            let advice = "without root files go through tarn instead of past it";
            Line::bad(Status::Degraded, CHECK, format!("{}, no passthrough", helper.display()), advice)
        }
    }
}

/// The disk of the first directory above that exists: the cache is made by the first mount.
fn cache(config: &Config) -> Line {
    let magic = config.cache.dir.ancestors().filter(|dir| dir.exists()).find_map(magic);
    magic.map_or_else(
        || Line::bad(Status::Fail, "cache disk", "cannot be read", "name another cache-dir"),
        judge::cache_disk,
    )
}

fn magic(dir: &Path) -> Option<u64> {
    u64::try_from(rustix::fs::statfs(dir).ok()?.f_type).ok()
}
