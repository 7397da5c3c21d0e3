//! The command line: settings of the driver itself. What a volume may set is in [`crate::parameters`].

use crate::kubernetes::ACCOUNT;
use clap::{Args, Parser, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Make buckets Kubernetes volumes
#[derive(Debug, Parser)]
#[command(name = "tarn-csi", version, subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make and delete volumes and snapshots: the part that runs once in a cluster
    Controller(DriverArgs),
    /// Mount volumes: the part that runs on every node
    Node(NodeCommand),
    /// Serve both on one socket, for tests
    All(NodeCommand),
    /// Run the program that looks after a node's cache volume, and write its CacheVolume
    CacheVolume(CacheVolumeArgs),
    /// Print the keys in a folder for the AWS SDK (credential_process)
    Credentials {
        /// Folder with the files accessKeyId and secretAccessKey
        folder: PathBuf,
    },
}

/// `tarn-csi node`
#[derive(Debug, Args)]
pub struct NodeCommand {
    /// What every part needs
    #[command(flatten)]
    pub driver: DriverArgs,
    /// What a node needs
    #[command(flatten)]
    pub node: NodeArgs,
}

/// `tarn-csi cache-volume`
#[derive(Debug, Args)]
pub struct CacheVolumeArgs {
    /// The node's name
    #[arg(long, value_name = "NAME", env = "NODE_NAME")]
    pub node_name: String,
    /// Write to this Kubernetes API [default: that of the pod]
    #[arg(long, value_name = "URL")]
    pub kubernetes: Option<String>,
    /// Take the token and the cluster's certificate from this folder
    #[arg(long, value_name = "DIR", default_value = ACCOUNT)]
    pub service_account: PathBuf,
    /// The program and its arguments, such as -- tarn-volume run --owner shop-prod
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    pub program: Vec<OsString>,
}

/// What every part needs.
#[derive(Debug, Args)]
pub struct DriverArgs {
    /// Listen on this socket
    #[arg(long, value_name = "unix:///PATH", env = "CSI_ENDPOINT", default_value = "unix:///csi/csi.sock")]
    pub csi_endpoint: String,
    /// Call the driver so; the CSIDriver object has the same name
    #[arg(long, value_name = "NAME", default_value = "csi.tarn.dev")]
    pub driver_name: String,
    /// Begin the names of new buckets with this
    #[arg(long, value_name = "TEXT", default_value = "tarn-", value_parser = bucket_prefix)]
    pub bucket_prefix: String,
    /// Talk to this S3 endpoint where a StorageClass names none [default: AWS]
    #[arg(long, value_name = "URL")]
    pub endpoint: Option<String>,
    /// Sign for this region where a StorageClass names none [default: the SDK's]
    #[arg(long, value_name = "NAME")]
    pub region: Option<String>,
    /// Take the driver's own keys from the files accessKeyId and secretAccessKey in this folder [default: the SDK's chain]
    #[arg(long, value_name = "DIR")]
    pub credentials: Option<PathBuf>,
    /// Trust the certificates in this PEM file too
    #[arg(long, value_name = "FILE")]
    pub ca_bundle: Option<PathBuf>,
    /// Log from this level up: error, warn, info, debug, trace
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub log_level: tracing::Level,
}

/// What a node needs.
#[derive(Debug, Args)]
pub struct NodeArgs {
    /// The node's name
    #[arg(long, value_name = "NAME", env = "NODE_NAME")]
    pub node_id: String,
    /// Mount at most this many volumes; 0 sets no limit
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..))]
    pub max_volumes: i64,
    /// The kubelet's folder, below which everything is mounted
    #[arg(long, value_name = "DIR", default_value = "/var/lib/kubelet")]
    pub kubelet_dir: PathBuf,
    /// Keep notes and keys of mounts here, best in memory
    #[arg(long, value_name = "DIR", default_value = "/run/tarn-csi")]
    pub state_dir: PathBuf,
    /// Keep the cache that all mounts share here
    #[arg(long, value_name = "DIR", default_value = "/var/cache/tarn")]
    pub cache_dir: PathBuf,
    /// Keep the cache of volumes with cacheTier: hot here; a symbolic link is followed at each mount, and where nothing is
    /// there or works they use --cache-dir [default: they always do]
    #[arg(long, value_name = "DIR")]
    pub hot_cache_dir: Option<PathBuf>,
    /// Mount with this program [default: tarn beside this one]
    #[arg(long, value_name = "FILE")]
    pub tarn: Option<PathBuf>,
    /// Give a volume this long for its last commit, then have the kubelet ask again
    #[arg(long, value_name = "TIME", default_value = "100s", value_parser = time)]
    pub commit_timeout: Duration,
    /// Take the token of a pod's service account for this audience
    #[arg(long, value_name = "NAME", default_value = "sts.amazonaws.com")]
    pub token_audience: String,
    /// Let pods name buckets in their own description
    #[arg(long)]
    pub inline_volumes: bool,
    /// Say where the node is; repeatable
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    pub topology: Vec<(String, String)>,
    /// Register with the kubelet through a socket in this folder [default: a sidecar does]
    #[arg(long, value_name = "DIR")]
    pub registry_dir: Option<PathBuf>,
    /// The kubelet's path to this driver's socket [default: that of --csi-endpoint]
    #[arg(long, value_name = "PATH")]
    pub kubelet_socket: Option<String>,
}

fn bucket_prefix(text: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let good = (1..=20).contains(&text.len()) && text.bytes().all(plain) && !text.starts_with('-');
    good.then(|| text.to_owned())
        .ok_or_else(|| "1 to 20 of a-z, 0-9 and dash, not beginning with a dash".to_owned())
}

fn time(text: &str) -> Result<Duration, String> {
    tarn_fs::config::time(text).map_err(|expected| format!("not {expected}"))
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn a_program_keeps_its_own_arguments() {
        let line = ["tarn-csi", "cache-volume", "--node-name=n", "--", "tarn-volume", "run", "--node", "m"];
        let Command::CacheVolume(args) = Cli::parse_from(line).command else { panic!("cache-volume") };
        assert_eq!((args.node_name.as_str(), args.program.len()), ("n", 4));
        assert!(Cli::try_parse_from(&line[..3]).is_err(), "no program");
    }

    #[test]
    fn clap_accepts_its_definition() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_prefix_that_no_bucket_could_begin_with_is_wrong_usage() {
        for bad in ["", "-x", "Tarn-", "a.b", &"x".repeat(21)] {
            assert!(bucket_prefix(bad).is_err(), "{bad}");
        }
    }
}
