//! Looks at the mount point and the machine before anything is started, so that a mistake is named in words
//! instead of an errno of mount(2).

use crate::config::Config;
use crate::fuse::session::mountinfo::{self, is_below};
use std::io;
use std::path::{Path, PathBuf};

/// What stands in the way of a mount.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// There is no directory.
    #[error("{0} does not exist; make it with: mkdir -p {0}")]
    Missing(String),
    /// It is a file.
    #[error("{0} is not a directory")]
    NotDirectory(String),
    /// A mount of tarn stands there.
    #[error("{dir} already shows {source_name}; unmount it with: tarn umount {dir}")]
    AlreadyMounted {
        /// The mount point.
        dir: String,
        /// What is mounted.
        source_name: String,
    },
    /// A mount whose process is gone.
    #[error(
        "{0} is a dead mount, its process is gone; clean it up with: umount -l {0} (or fusermount3 -uz {0})"
    )]
    Dead(String),
    /// The cache would be inside the mount, or the other way round.
    #[error(
        "the cache directory {cache} and the mount point {dir} lie inside each other; name another cache-dir"
    )]
    Nested {
        /// The cache directory.
        cache: String,
        /// The mount point.
        dir: String,
    },
    /// There is no FUSE.
    #[error(
        "/dev/fuse is not there; load the module with: modprobe fuse (in a container: --device /dev/fuse)"
    )]
    NoDevice,
    /// There is, but not for this user.
    #[error(
        "this user may not open /dev/fuse; as root: chmod 666 /dev/fuse (in a container: --device /dev/fuse)"
    )]
    NoRights,
    /// A user needs the helper.
    #[error("fusermount3 is not installed; install the package fuse3, or mount as root")]
    NoHelper,
    /// fuse.conf says no.
    #[error("allow-other needs the line user_allow_other in /etc/fuse.conf, or root")]
    AllowOther,
    /// Anything else.
    #[error("{path}: {source}")]
    Io {
        /// The path.
        path: String,
        /// The reason.
        source: io::Error,
    },
}

/// A mount point that can be used.
#[derive(Debug, PartialEq, Eq)]
pub struct MountPoint {
    /// Its canonical path.
    pub dir: PathBuf,
    /// What the user should know.
    pub warning: Option<String>,
}

/// Checks the mount point and the machine.
pub fn check(dir: &Path, config: &Config) -> Result<MountPoint, CheckError> {
    let point = mount_point(dir)?;
    let cache = existing_form(&config.cache.dir);
    if is_below(&cache, &point.dir) || is_below(&point.dir, &cache) {
        return Err(CheckError::Nested { cache: show(&cache), dir: show(&point.dir) });
    }
    device()?;
    if !rustix::process::geteuid().is_root() {
        if find_helper().is_none() {
            return Err(CheckError::NoHelper);
        }
        if config.files.allow_other && !others_allowed(&read_fuse_conf()) {
            return Err(CheckError::AllowOther);
        }
    }
    Ok(point)
}

/// Checks that FUSE is there for this user.
pub fn device() -> Result<(), CheckError> {
    let opened = std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse");
    match opened {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(CheckError::NoDevice),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(CheckError::NoRights),
        Err(source) => Err(CheckError::Io { path: "/dev/fuse".into(), source }),
    }
}

/// Checks the mount point alone.
pub fn mount_point(dir: &Path) -> Result<MountPoint, CheckError> {
    let wrong = |source: io::Error| CheckError::Io { path: show(dir), source };
    let dir = match std::fs::canonicalize(dir) {
        Ok(dir) => dir,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(CheckError::Missing(show(dir))),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            return Err(CheckError::NotDirectory(show(dir)));
        }
        Err(error) if is_dead(&error) => return Err(CheckError::Dead(show(dir))),
        Err(error) => return Err(wrong(error)),
    };
    if let Some(entry) = mountinfo::find_last(&dir).map_err(wrong)?.filter(mountinfo::Entry::is_tarn) {
        if is_dead_mount(&dir) {
            return Err(CheckError::Dead(show(&dir)));
        }
        return Err(CheckError::AlreadyMounted { dir: show(&dir), source_name: entry.source });
    }
    let mut entries = match std::fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            return Err(CheckError::NotDirectory(show(&dir)));
        }
        Err(error) if is_dead(&error) => return Err(CheckError::Dead(show(&dir))),
        Err(error) => return Err(wrong(error)),
    };
    let warning = entries
        .next()
        .map(|_| format!("{} is not empty; its files are hidden while the bucket is mounted", show(&dir)));
    Ok(MountPoint { dir, warning })
}

/// Whether an error means that a FUSE mount has lost its process: ENOTCONN, "Transport endpoint is not connected".
pub fn is_dead(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOTCONN | libc::ECONNABORTED))
}

/// Whether the mount at `dir` has lost its process. Asks the mount: resolving the path alone does not.
pub fn is_dead_mount(dir: &Path) -> bool {
    std::fs::read_dir(dir).is_err_and(|error| is_dead(&error))
}

/// Where fusermount3 is.
pub fn find_helper() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join("fusermount3")).find(|file| file.is_file())
}

/// What fuse.conf says; an absent file says nothing.
pub fn read_fuse_conf() -> String {
    std::fs::read_to_string("/etc/fuse.conf").unwrap_or_default()
}

/// Whether fuse.conf lets users share their mounts.
pub fn others_allowed(fuse_conf: &str) -> bool {
    fuse_conf.lines().any(|line| line.trim() == "user_allow_other")
}

/// The canonical form of a path of which only the first part may exist.
fn existing_form(path: &Path) -> PathBuf {
    let found = path.ancestors().find_map(|dir| Some((dir, std::fs::canonicalize(dir).ok()?)));
    match found {
        Some((dir, canonical)) => match path.strip_prefix(dir) {
            Ok(rest) if rest.as_os_str().is_empty() => canonical,
            Ok(rest) => canonical.join(rest),
            Err(_) => canonical,
        },
        None => path.to_owned(),
    }
}

fn show(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Caller, Input, Layers, World};

    fn config(cache: &Path) -> Config {
        let input = Input { flags: vec![("cache-dir", show(cache))], ..Input::default() };
        let layers = Layers::merge(&input, &World { variable: &|_| None, read: &|_| Ok(String::new()) })
            .expect("valid");
        Config::build("s3://data", &layers, &Caller { uid: 0, gid: 0, xdg_cache_home: None, home: None })
            .expect("valid")
    }

    #[test]
    fn a_directory_passes_and_a_full_one_warns() {
        let temp = tempfile::tempdir().expect("temp dir");
        assert_eq!(mount_point(temp.path()).expect("empty").warning, None);
        std::fs::write(temp.path().join("x"), "").expect("write");
        assert!(mount_point(temp.path()).expect("full").warning.is_some());
    }

    #[test]
    fn what_is_no_directory_is_named() {
        let temp = tempfile::tempdir().expect("temp dir");
        let file = temp.path().join("file");
        std::fs::write(&file, "").expect("write");
        assert!(matches!(mount_point(&temp.path().join("none")), Err(CheckError::Missing(_))));
        assert!(matches!(mount_point(&file), Err(CheckError::NotDirectory(_))));
        assert!(matches!(mount_point(&file.join("below")), Err(CheckError::NotDirectory(_))));
    }

    #[test]
    fn the_cache_and_the_mount_lie_apart() {
        let temp = tempfile::tempdir().expect("temp dir");
        let mount = temp.path().join("mnt");
        std::fs::create_dir(&mount).expect("mkdir");
        for cache in [mount.join("cache"), temp.path().to_owned(), mount.clone(), mount.join("a/b/c")] {
            let result = check(&mount, &config(&cache));
            assert!(matches!(result, Err(CheckError::Nested { .. })), "{}", cache.display());
        }
        assert!(!matches!(check(&mount, &config(&temp.path().join("mnt2"))), Err(CheckError::Nested { .. })));
    }

    #[test]
    fn fuse_conf_counts_only_without_a_hash() {
        assert!(others_allowed("# text\n user_allow_other \n"));
        assert!(!others_allowed("#user_allow_other\n"));
    }
}
