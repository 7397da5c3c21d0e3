//! Who is measured: tarn, its peers, and the limits beside them. Where each one's program is, of which version, and
//! with which options it mounts a bucket: those that its own documents recommend for speed.
//!
//! Credentials are in the environment of the program only.

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde::Serialize;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tarn_tests::server::{ACCESS_KEY, SECRET_KEY};
use tarn_tests::{paths, run};

/// Everything that is measured, in the order of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// tarn: a close waits until the file is in the bucket.
    Tarn,
    /// tarn, with closes that wait until the file is in the journal.
    TarnAsync,
    /// s3fs-fuse.
    S3fs,
    /// rclone mount.
    Rclone,
    /// GeeseFS.
    Geesefs,
    /// Mountpoint for Amazon S3.
    Mountpoint,
    /// A folder on the local disk: a limit.
    Disk,
    /// curl with signed URLs: a limit.
    Raw,
}

/// One that can be measured.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Which.
    pub kind: Kind,
    /// What it says of its version.
    pub version: String,
    program: PathBuf,
}

/// What a peer mounts, and where.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The server's URL.
    pub endpoint: &'a str,
    /// The bucket.
    pub bucket: &'a str,
    /// The mount point.
    pub root: &'a Path,
    /// Its cache.
    pub cache: &'a Path,
    /// How large the cache may become.
    pub cache_mib: u64,
}

const VERSION_LIMIT: Duration = Duration::from_secs(20);

impl Kind {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tarn => "tarn",
            Self::TarnAsync => "tarn-async",
            Self::S3fs => "s3fs",
            Self::Rclone => "rclone",
            Self::Geesefs => "geesefs",
            Self::Mountpoint => "mountpoint",
            Self::Disk => "disk",
            Self::Raw => "raw",
        }
    }

    /// Whether it is tarn.
    pub fn is_ours(self) -> bool {
        matches!(self, Self::Tarn | Self::TarnAsync)
    }

    /// Whether it is no file system on the bucket but shows what is possible.
    pub fn is_limit(self) -> bool {
        matches!(self, Self::Disk | Self::Raw)
    }

    /// Its program and the argument that makes it say its version; none for the disk.
    fn program(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Tarn | Self::TarnAsync => Some(("tarn", "--version")),
            Self::S3fs => Some(("s3fs", "--version")),
            Self::Rclone => Some(("rclone", "version")),
            Self::Geesefs => Some(("geesefs", "--version")),
            Self::Mountpoint => Some(("mount-s3", "--version")),
            Self::Disk => None,
            Self::Raw => Some(("curl", "--version")),
        }
    }
}

impl Peer {
    /// Looks for its program: tarn's as tests do, others in `.tools/bin` and on the path.
    pub fn find(kind: Kind) -> Result<Self> {
        let Some((name, version)) = kind.program() else {
            return Ok(Self { kind, version: "a folder beside the caches".into(), program: PathBuf::new() });
        };
        let program = if kind.is_ours() { paths::tarn()? } else { on_path(name)? };
        let text = run::must(run::command(&program).arg(version), VERSION_LIMIT)?;
        let line = text.lines().find(|line| !line.trim().is_empty()).context("it says no version")?;
        // What it was built with is of no interest here.
        let version = line.split(" (").next().unwrap_or(line).trim().to_owned();
        Ok(Self { kind, version, program })
    }

    /// The command that mounts and stays in the foreground; `None` for a limit, which is no mount.
    pub fn command(&self, place: Place<'_>) -> Option<Command> {
        let mut command = run::command(&self.program);
        match self.kind {
            Kind::Disk | Kind::Raw => return None,
            Kind::Tarn => tarn(&mut command, place),
            Kind::TarnAsync => {
                tarn(&mut command, place);
                command.args(["--commit", "async"]);
            }
            Kind::S3fs => s3fs(&mut command, place),
            Kind::Rclone => rclone(&mut command, place),
            Kind::Geesefs => geesefs(&mut command, place),
            Kind::Mountpoint => mountpoint(&mut command, place),
        }
        command
            .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
            .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
            .env("AWS_REGION", "us-east-1")
            .env("AWS_CONFIG_FILE", "/dev/null")
            .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
            .env("AWS_EC2_METADATA_DISABLED", "true");
        Some(command)
    }

    /// The same for people: with names in place of the folders of a run.
    pub fn command_line(&self) -> Option<String> {
        let place = Place {
            endpoint: "URL",
            bucket: "BUCKET",
            root: Path::new("MOUNT"),
            cache: Path::new("CACHE"),
            cache_mib: 0,
        };
        let command = self.command(place)?;
        let mut words = vec![self.kind.program()?.0.to_owned()];
        words.extend(command.get_args().map(|word| word.to_string_lossy().replace("0MiB", "SIZE")));
        Some(words.join(" "))
    }
}

fn on_path(name: &str) -> Result<PathBuf> {
    let tools = paths::root().join(".tools/bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(tools).chain(std::env::split_paths(&path));
    folders
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
        .with_context(|| format!("there is no {name} in .tools/bin or on the path"))
}

fn tarn(command: &mut Command, place: Place<'_>) {
    command.arg("mount").arg(format!("s3://{}", place.bucket)).arg(place.root);
    command.args(["--endpoint", place.endpoint, "--cache-dir"]).arg(place.cache);
    command.args(["--cache-size", &format!("{}MiB", place.cache_mib), "--cache-min-free", "1%"]);
    command.arg("--foreground");
}

/// Parallel transfers and requests raised, names that are not there remembered, pages kept by the kernel, and no
/// requests for the directory objects of other programs, which this bucket does not have.
fn s3fs(command: &mut Command, place: Place<'_>) {
    command.arg(place.bucket).arg(place.root).arg("-f");
    command.args(["-o", &format!("url={},use_path_request_style", place.endpoint)]);
    command.arg("-o").arg(pair("use_cache", place.cache)).arg("-o").arg(pair("tmpdir", place.cache));
    command
        .args(["-o", "parallel_count=16,multireq_max=100,kernel_cache,enable_noobj_cache,notsup_compat_dir"]);
}

fn pair(name: &str, value: &Path) -> std::ffi::OsString {
    [OsStr::new(name), OsStr::new("="), value.as_os_str()].into_iter().collect()
}

/// The full cache, uploads that begin with the close, and no request for the time that other clients of rclone noted.
fn rclone(command: &mut Command, place: Place<'_>) {
    command
        .arg("mount")
        .arg(format!("peer:{}", place.bucket))
        .arg(place.root)
        .arg("--cache-dir")
        .arg(place.cache);
    command.args(["--vfs-cache-mode", "full", "--vfs-cache-max-size", &format!("{}MiB", place.cache_mib)]);
    command.args(["--vfs-write-back", "0s", "--vfs-fast-fingerprint", "--use-server-modtime"]);
    command.args(["--dir-cache-time", "1h", "--transfers", "16", "--s3-upload-concurrency", "8"]);
    command.args(["--s3-chunk-size", "8M"]);
    command
        .env("RCLONE_CONFIG", "/dev/null")
        .env("RCLONE_CONFIG_PEER_TYPE", "s3")
        .env("RCLONE_CONFIG_PEER_PROVIDER", "Minio")
        .env("RCLONE_CONFIG_PEER_ENV_AUTH", "true")
        .env("RCLONE_CONFIG_PEER_ENDPOINT", place.endpoint);
}

fn geesefs(command: &mut Command, place: Place<'_>) {
    command.args(["-f", "--endpoint", place.endpoint, "--no-expire-multipart", "--memory-limit", "1000"]);
    command.arg("--cache").arg(place.cache).arg(place.bucket).arg(place.root);
}

fn mountpoint(command: &mut Command, place: Place<'_>) {
    command.arg(place.bucket).arg(place.root);
    command.args([
        "--foreground",
        "--endpoint-url",
        place.endpoint,
        "--force-path-style",
        "--region",
        "us-east-1",
    ]);
    command.arg("--cache").arg(place.cache).args(["--metadata-ttl", "60"]);
    command.args(["--allow-delete", "--allow-overwrite"]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_command_line_holds_a_secret() {
        for &kind in Kind::value_variants() {
            let peer = Peer { kind, version: String::new(), program: PathBuf::from("program") };
            let line = peer.command_line();
            assert_eq!(line.is_none(), kind.is_limit());
            let line = line.unwrap_or_default();
            assert!(!line.contains(SECRET_KEY) && !line.contains(ACCESS_KEY), "{line}");
        }
    }

    #[test]
    fn the_names_are_those_of_the_command_line() {
        for &kind in Kind::value_variants() {
            assert_eq!(kind.to_possible_value().unwrap().get_name(), kind.name());
        }
    }
}
