//! The command line: clap structs and no logic. Options of a mount come from the table ([`flags`]); forms that
//! mount(8) uses are brought into the usual one first ([`argv`]).

pub mod argv;
mod flags;
mod run;

pub use run::run;

use clap::{Parser, Subcommand};
use flags::{MountFlags, ReachFlags};
use std::path::PathBuf;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  tarn mount s3://data /mnt/data
      Show a bucket of AWS as a folder, with the credentials of the environment or ~/.aws
  tarn mount s3://data/logs ~/logs --endpoint http://127.0.0.1:9000 --region us-east-1
      Show the keys below logs/ of a MinIO bucket
  tarn umount /mnt/data
      Unmount, and wait until everything is in the bucket
  tarn status
      Say how every mount is doing: what is not in the bucket yet, cache, requests, conflicts
  tarn doctor s3://data --endpoint https://s3.example.org
      Try what this store and this machine can do, and say what to change
  tarn demo
      See it work, without any account: server, bucket, mount and a tour

Credentials come from the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN), a profile,
web identity, a container or an instance role. There is no option for them: arguments are public.";

const MOUNT_EXAMPLES: &str = "\
Examples:
  tarn mount s3://data /mnt/data --cache-dir /ssd/tarn --cache-size 200GiB
  tarn mount s3://public-set /mnt/set --anonymous --read-only
  tarn mount s3://data /mnt/data -o ro,allow_other,uid=1000
  tarn mount s3://data /mnt/data --config /etc/tarn.toml      # part-size = \"16MiB\"

fstab:
  s3://data  /mnt/data  fuse.tarn  _netdev,nofail,allow_other,cache-dir=/ssd/tarn  0 0

An option given twice counts in this order: --option, -o, environment, TOML file, default.
Sizes count in 1024: 512k, 8MiB, 1.5g. Times: 500ms, 1s, 1m. Exit codes: 0 mounted, 1 failed, 2 wrong usage.";

const CACHE_EXAMPLES: &str = "\
Examples:
  tarn cache warm /mnt/data/train      Fetch all files below train/, before a job needs them
  tarn cache stat /mnt/data            Say how much of them is on the local disk
  tarn cache drop /mnt/data/old        Give their room back; what is open, pinned or not in the bucket yet stays
  tarn cache pin /mnt/data/model       Fetch them, and keep them whatever room is needed; a file that changes is pinned anew
  tarn cache unpin /mnt/data/model     Let them go when room is needed
  tarn cache verify /mnt/data          Read the local copies and compare their checksums";

/// Show S3 and MinIO buckets as real files
#[derive(Debug, Parser)]
#[command(name = "tarn", version, after_help = EXAMPLES, subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show a bucket, or a part of it, as a folder
    #[command(after_help = MOUNT_EXAMPLES)]
    Mount(MountArgs),
    /// Unmount, and wait until everything is in the bucket
    Umount(UmountArgs),
    /// Say how a mount is doing: what is not in the bucket yet, cache, requests, conflicts
    Status(StatusArgs),
    /// Put everything that was written into the bucket, and wait until it is there
    Flush(FlushArgs),
    /// Fetch, pin, drop, check or count the local copies of files
    #[command(after_help = CACHE_EXAMPLES)]
    Cache(CacheArgs),
    /// Say or change what a mount logs, until it ends
    LogLevel(LogLevelArgs),
    /// Let another version of tarn serve a mount from now on; nobody notices
    Upgrade(UpgradeArgs),
    /// Try tarn without any account: with DIR serve until Ctrl-C, without make a tour
    Demo(DemoArgs),
    /// Try what the store and this machine can do, and say what to change
    Doctor(DoctorArgs),
}

/// `tarn mount`
#[derive(Debug, clap::Args)]
pub struct MountArgs {
    /// Show this bucket: s3://BUCKET or s3://BUCKET/PREFIX
    pub source: String,
    /// Show it here, in an existing directory
    pub dir: PathBuf,
    /// Set options the way of fstab; repeatable, takes every long option and mount(8)'s words
    #[arg(short = 'o', value_name = "OPT[=VALUE],...", help_heading = "Mount")]
    pub dash_o: Vec<String>,
    /// Pass over unknown words in -o (mount -s)
    #[arg(long, hide = true)]
    pub sloppy: bool,
    /// Check everything that needs no bucket, and mount nothing (mount -f)
    #[arg(long, hide = true)]
    pub fake: bool,
    #[command(flatten)]
    flags: MountFlags,
}

/// `tarn umount`
#[derive(Debug, clap::Args)]
pub struct UmountArgs {
    /// Unmount this directory
    pub dir: PathBuf,
    /// Commit and detach also while files are open
    #[arg(short, long)]
    pub force: bool,
    /// Wait at most this long for the last commit [default: 5m]
    #[arg(long, value_name = "TIME", default_value = "5m", hide_default_value = true, value_parser = parse_time)]
    pub timeout: Duration,
}

/// `tarn status`
#[derive(Debug, clap::Args)]
pub struct StatusArgs {
    /// Only this mount, named by its directory or any path below it [default: all mounts of this user]
    pub dir: Option<PathBuf>,
    /// Print JSON: a list of mounts, sizes in bytes
    #[arg(long)]
    pub json: bool,
}

/// `tarn flush`
#[derive(Debug, clap::Args)]
pub struct FlushArgs {
    /// The mount, named by its directory or any path below it
    pub dir: PathBuf,
}

/// `tarn cache`
#[derive(Debug, clap::Args)]
pub struct CacheArgs {
    /// What to do with the local copies
    #[arg(value_enum)]
    pub action: CacheAction,
    /// Files, and directories with all that is below them
    #[arg(required = true)]
    pub paths: Vec<PathBuf>,
}

/// What to do with local copies.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum CacheAction {
    /// Say how much is there
    Stat,
    /// Fetch what is missing
    Warm,
    /// Let them go
    Drop,
    /// Read them and compare their checksums
    Verify,
    /// Fetch what is missing, and keep them whatever room is needed
    Pin,
    /// Let them go when room is needed
    Unpin,
}

/// `tarn log-level`
#[derive(Debug, clap::Args)]
pub struct LogLevelArgs {
    /// The mount, named by its directory or any path below it
    pub dir: PathBuf,
    /// Log this much from now on [default: say how much it is]
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(crate::config::table::LOG_LEVELS))]
    pub level: Option<String>,
}

/// `tarn upgrade`
#[derive(Debug, clap::Args)]
pub struct UpgradeArgs {
    /// Upgrade this mount
    pub dir: PathBuf,
    /// Serve it with this program [default: the tarn that runs this command]
    #[arg(long, value_name = "PATH")]
    pub binary: Option<PathBuf>,
}

/// `tarn demo`
#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    /// Mount an empty bucket of an embedded server here and stay until Ctrl-C
    pub dir: Option<PathBuf>,
}

/// `tarn doctor`
#[derive(Debug, clap::Args)]
pub struct DoctorArgs {
    /// Try this bucket: s3://BUCKET or s3://BUCKET/PREFIX; small test objects are written and removed, no other is touched
    pub source: String,
    /// Set options the way of fstab
    #[arg(short = 'o', value_name = "OPT[=VALUE],...", help_heading = "Mount")]
    pub dash_o: Vec<String>,
    #[command(flatten)]
    flags: ReachFlags,
}

fn parse_time(text: &str) -> Result<Duration, String> {
    crate::config::time(text).map_err(|expected| format!("not {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn clap_accepts_its_definition() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_lists_every_option_of_the_table_under_its_heading() {
        let mut command = Cli::command();
        let mount = command.find_subcommand_mut("mount").expect("mount");
        for option in crate::config::table::OPTIONS {
            let arg =
                mount.get_arguments().find(|arg| arg.get_long() == Some(option.name)).expect(option.name);
            assert_eq!(arg.get_help_heading(), Some(option.heading.title()), "{}", option.name);
        }
        let help = mount.render_long_help().to_string();
        assert!(help.contains("--cache-min-free <SIZE|%>"), "{help}");
    }

    #[test]
    fn flags_are_read_by_the_tables_names() {
        let cli = Cli::try_parse_from([
            "tarn",
            "mount",
            "s3://b",
            "/m",
            "--read-only",
            "--part-size",
            "9MiB",
            "--allow-other=false",
            "-o",
            "ro",
        ])
        .expect("valid");
        let Command::Mount(mount) = cli.command else { panic!("mount") };
        let mut flags = mount.flags.0.clone();
        flags.sort();
        let expected = [("allow-other", "false"), ("part-size", "9MiB"), ("read-only", "true")];
        assert_eq!(flags, expected.map(|(name, value)| (name, value.to_owned())));
        assert_eq!(mount.dash_o, ["ro"]);
    }

    #[test]
    fn wrong_usage_exits_with_2_and_names_the_nearest() {
        let error =
            Cli::try_parse_from(["tarn", "mount", "s3://b", "/m", "--cachesize", "1g"]).expect_err("unknown");
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("--cache-size"), "{error}");
        assert!(Cli::try_parse_from(["tarn", "mount", "s3://b", "/m", "--uid", "1", "--uid", "2"]).is_err());
    }
}
