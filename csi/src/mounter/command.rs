//! Mounts with the `tarn` program. What it is told stands in files of a private folder (0700): options as TOML, keys as a
//! folder that `tarn-csi credentials` reads. Its arguments are the bucket, the directory and that file's name;
//! its environment is built from nothing.

use super::caches::Cache;
use super::look::{ask, in_table, look};
use super::{Access, Caches, Keys, MountPlan, Mounter, Seen, Space};
use crate::credentials::write_private;
use crate::error::{Error, Kind, Result};
use crate::parameters::Options;
use crate::web_identity::Site;
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount_bind, mount_remount, unmount};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tarn_fs::fuse::session::mountinfo;
use tokio::process::Command;

/// How long a mount may take to appear.
const MOUNT_TIME: Duration = Duration::from_secs(90);
/// Variables that tell the SDK where credentials are and how the network is reached. None of them is a key.
const KEPT: &[&str] = &[
    "PATH",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NO_PROXY",
];

/// What the mount is told, in its private folder.
const CONFIG: &str = "mount.toml";
const CACHE_DIR: &str = "cache-dir";

/// The real mounter.
#[derive(Debug, Clone)]
pub struct Tarn {
    /// The `tarn` program.
    pub program: PathBuf,
    /// This program, which mounts ask for their keys.
    pub own_program: PathBuf,
    /// The caches that the mounts of the node share.
    pub caches: Caches,
    /// The driver's own keys, a folder of files; `None` is the SDK's chain.
    pub credentials: Option<PathBuf>,
    /// Options that every mount has unless its volume says otherwise: endpoint, region, certificates.
    pub defaults: Options,
    /// How long the last commit of a mount may take before the call is given up, to be asked again.
    pub commit_time: Duration,
}

impl Tarn {
    /// Writes what the mount reads, and gives the command.
    fn prepare(&self, plan: &MountPlan, cache: &Cache) -> io::Result<Command> {
        DirBuilder::new().recursive(true).mode(0o700).create(&plan.home)?;
        let mut table = toml::Table::new();
        let text = |value: &str| toml::Value::String(value.to_owned());
        for (name, value) in self.defaults.iter().chain(&plan.options) {
            table.insert((*name).to_owned(), text(value));
        }
        table.insert(CACHE_DIR.to_owned(), text(&shown(&cache.dir)?));
        if let Some(size) = cache.size {
            table.entry("cache-size").or_insert(text(size));
        }
        // The users of a pod are not the user who mounts.
        table.insert("allow-other".to_owned(), text("true"));
        let config = plan.home.join(CONFIG);
        write_private(&config, &table.to_string())?;
        let mut command = Command::new(&self.program);
        command.arg("mount").arg(&plan.source).arg(&plan.dir).arg("--config").arg(&config);
        command.env_clear().stdin(Stdio::null()).kill_on_drop(true);
        let own = plan.home.join("keys");
        let keys = match &plan.keys {
            Keys::Own(keys) => {
                keys.write(&own)?;
                Some(own)
            }
            Keys::Pod(role, token) => {
                let of = |name: &str| table.get(name).and_then(|value| value.as_str()).map(str::to_owned);
                let site =
                    Site { endpoint: of("endpoint"), region: of("region"), ca_bundle: of("ca-bundle") };
                role.write(&own, &site)?;
                token.write(&own)?;
                Some(own)
            }
            Keys::Kept if own.exists() => Some(own),
            Keys::Kept | Keys::Driver => self.credentials.clone(),
        };
        match keys {
            Some(keys) => {
                let profile = plan.home.join("aws.config");
                write_private(&profile, &self.profile(&keys)?)?;
                command.env("AWS_CONFIG_FILE", profile).env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
                command.env("AWS_EC2_METADATA_DISABLED", "true");
                command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
            }
            None => {
                command.envs(KEPT.iter().filter_map(|name| Some((*name, std::env::var_os(name)?))));
            }
        }
        Ok(command)
    }

    /// Removes a mount's private folder with its keys; an absent one is removed.
    pub fn forget(home: &Path) -> io::Result<()> {
        match fs::remove_dir_all(home) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// An AWS configuration whose only content is where to ask for keys.
    fn profile(&self, keys: &Path) -> io::Result<String> {
        let program = shown(&self.own_program)?;
        Ok(format!("[default]\ncredential_process = \"{program}\" credentials \"{}\"\n", shown(keys)?))
    }
}

/// Where the mount of a private folder has cached before, if there was one.
fn earlier_cache(home: &Path) -> Option<PathBuf> {
    let table: toml::Table = fs::read_to_string(home.join(CONFIG)).ok()?.parse().ok()?;
    table.get(CACHE_DIR)?.as_str().map(PathBuf::from)
}

/// A path for a file that a shell reads: these are the driver's own, and plain.
fn shown(path: &Path) -> io::Result<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@:~".contains(c);
    let text = path.to_str().filter(|text| text.starts_with('/') && text.chars().all(plain));
    text.map(str::to_owned).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("{} is no plain absolute path", path.display()))
    })
}

/// Ends a mount that neither answers nor ends: whoever waits for it gets an error, and it leaves the tree. What it had
/// not committed stays in the cache, and the next mount names it.
fn abort(dir: &Path) -> io::Result<()> {
    let entry = mountinfo::find_last(&in_table(dir)?)?.filter(mountinfo::Entry::is_tarn);
    let Some(entry) = entry else { return Ok(()) };
    // Connections are numbered by their device (kernel documentation, filesystems/fuse, "Control filesystem").
    let connection = entry.device.rsplit(':').next().unwrap_or_default();
    let cut = fs::write(format!("/sys/fs/fuse/connections/{connection}/abort"), "1");
    if let Err(error) = cut {
        tracing::warn!(%error, connection, "the connection cannot be cut; the mount is only taken out of the tree");
    }
    Ok(unmount(dir, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?)
}

/// Runs a program; what it wrote to its standard error is the error.
async fn run(mut command: Command, limit: Duration) -> Result<()> {
    let output = match tokio::time::timeout(limit, command.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(Error::local("start tarn", &error)),
        Err(_) => {
            return Err(Error::new(
                Kind::Unavailable,
                format!("tarn did not end within {} s", limit.as_secs()),
            ));
        }
    };
    if output.status.success() {
        return Ok(());
    }
    /// As much as an Event shows.
    const MOST: usize = 900;
    let text = String::from_utf8_lossy(&output.stderr);
    let text: String = text.trim().trim_start_matches("tarn: ").chars().take(MOST).collect();
    // 2 is wrong usage: options that the driver let through and tarn does not.
    let kind = if output.status.code() == Some(2) { Kind::Invalid } else { Kind::Internal };
    Err(Error::new(kind, if text.is_empty() { output.status.to_string() } else { text }))
}

#[async_trait::async_trait]
impl Mounter for Tarn {
    async fn mount(&self, plan: &MountPlan) -> Result<()> {
        let cache = self.caches.choose(plan.tier, earlier_cache(&plan.home)).await;
        let command = self.prepare(plan, &cache);
        let command = command.map_err(|error| Error::local("prepare the mount", &error))?;
        run(command, MOUNT_TIME).await?;
        match look(&plan.dir).await? {
            Seen::Live { .. } => Ok(()),
            other @ (Seen::Nothing | Seen::Bare | Seen::Other | Seen::Dead | Seen::Foreign(_)) => {
                let text = format!("tarn has mounted and {} is {other:?}", plan.dir.display());
                Err(Error::new(Kind::Internal, text))
            }
        }
    }

    async fn renew(&self, home: &Path, keys: &Keys) -> Result<()> {
        let folder = home.join("keys");
        let renewed = match keys {
            Keys::Own(keys) if folder.exists() => keys.write(&folder),
            // It was mounted with the driver's keys and does not look here.
            Keys::Own(_) => {
                tracing::warn!(home = %home.display(), "new keys for a mount that has none of its own; stage it with a secret");
                Ok(())
            }
            Keys::Pod(_, token) => token.write(&folder),
            // These are read where they are.
            Keys::Driver | Keys::Kept => Ok(()),
        };
        renewed.map_err(|error| Error::local("renew the keys of a mount", &error))
    }

    async fn set_quota(&self, dir: &Path, bytes: u64) -> Result<()> {
        let mut command = Command::new(&self.program);
        // The bucket of a mount that stands is not asked for again, but mount(8)'s form has it.
        command.args(["mount", "s3://mounted"]).arg(dir).arg("-o").arg(format!("remount,quota={bytes}"));
        command.env_clear().stdin(Stdio::null()).kill_on_drop(true);
        run(command, MOUNT_TIME).await
    }

    async fn unmount(&self, dir: &Path) -> Result<()> {
        /// What `tarn umount` needs beside the time for the commit.
        const MARGIN: Duration = Duration::from_secs(10);
        let mut command = Command::new(&self.program);
        command.arg("umount").arg(dir).arg("--timeout").arg(format!("{}s", self.commit_time.as_secs()));
        command.env_clear().stdin(Stdio::null()).kill_on_drop(true);
        match run(command, self.commit_time + MARGIN).await {
            Err(error) if matches!(look(dir).await, Err(hangs) if hangs.kind == Kind::Unavailable) => {
                tracing::error!(%error, dir = %dir.display(), "the mount hangs; its connection is cut");
                abort(dir).map_err(|error| Error::local(format_args!("cut off {}", dir.display()), &error))
            }
            result => result,
        }
    }

    async fn bind(&self, from: &Path, to: &Path, access: Access) -> Result<()> {
        let failed = |errno: Errno| Error::local(format_args!("bind to {}", to.display()), &errno.into());
        mount_bind(from, to).map_err(failed)?;
        if access == Access::ReadOnly {
            // What a mount of tarn has anyway must be said again, or this would take it away.
            let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
            if let Err(errno) = mount_remount(to, flags, c"") {
                unmount(to, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).map_err(failed)?;
                return Err(failed(errno));
            }
        }
        Ok(())
    }

    async fn unbind(&self, dir: &Path) -> Result<()> {
        let dir = dir.to_owned();
        let unbound = tokio::task::spawn_blocking(move || {
            match unmount(&dir, UnmountFlags::NOFOLLOW) {
                // The mount itself stays where it is staged, so nothing is lost by letting go of this view of it.
                Err(Errno::BUSY) => unmount(&dir, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH),
                result => result,
            }
        });
        let unbound = unbound.await.map_err(|error| Error::new(Kind::Internal, error.to_string()))?;
        unbound.map_err(|errno| Error::local("take a bind away", &errno.into()))
    }

    async fn look(&self, path: &Path) -> Result<Seen> {
        look(path).await
    }

    async fn shown_at(&self, device: &str) -> Result<Vec<PathBuf>> {
        let table = mountinfo::read().map_err(|error| Error::local("read the mount table", &error))?;
        let same = table.into_iter().filter(|entry| entry.is_tarn() && entry.device == device);
        Ok(same.map(|entry| entry.dir).collect())
    }

    async fn space(&self, dir: &Path) -> Result<Space> {
        let listed = in_table(dir).map_err(|error| Error::local("look at a mount", &error))?;
        let stat = ask(&listed, |dir| rustix::fs::statvfs(dir)).await?;
        let stat = stat.map_err(|errno| Error::local("ask a mount for its size", &errno.into()))?;
        Ok(Space {
            total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
            available_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
            total_files: stat.f_files,
            available_files: stat.f_favail,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::Credentials;
    use crate::parameters::CacheTier;
    use std::collections::HashMap;

    fn tarn(credentials: Option<PathBuf>) -> Tarn {
        Tarn {
            program: "/usr/bin/tarn".into(),
            own_program: "/usr/bin/tarn-csi".into(),
            caches: Caches { standard: "/var/cache/tarn".into(), hot: None },
            credentials,
            defaults: Options::from([
                ("region", "eu-west-1".to_owned()),
                ("endpoint", "http://a".to_owned()),
            ]),
            commit_time: Duration::from_secs(1),
        }
    }

    fn own() -> Cache {
        Cache { dir: "/var/cache/tarn".into(), size: None }
    }

    fn secret() -> Credentials {
        let pairs = [("accessKeyId", "THEKEY"), ("secretAccessKey", "THESECRET")];
        let pairs: HashMap<_, _> = pairs.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        Credentials::from_secret(&pairs).expect("valid").expect("some")
    }

    #[test]
    fn no_secret_is_an_argument_a_variable_or_in_a_file_that_others_read() {
        let temp = tempfile::tempdir().expect("temp dir");
        let plan = MountPlan {
            source: "s3://b/p/".into(),
            dir: "/mnt".into(),
            options: Options::from([("endpoint", "http://b".to_owned())]),
            tier: CacheTier::Standard,
            keys: Keys::Own(secret()),
            home: temp.path().join("home"),
        };
        let command = tarn(None).prepare(&plan, &own()).expect("prepared");
        let seen = format!("{:?} {:?}", command.as_std().get_args(), command.as_std().get_envs());
        assert!(!seen.contains("THEKEY") && !seen.contains("THESECRET"), "{seen}");
        let config = fs::read_to_string(plan.home.join("mount.toml")).expect("written");
        assert!(config.contains("endpoint = \"http://b\"") && config.contains("allow-other"), "{config}");
        assert!(!config.contains("THE"), "{config}");
        let profile = fs::read_to_string(plan.home.join("aws.config")).expect("written");
        assert!(profile.contains("credentials \"") && !profile.contains("THE"), "{profile}");
    }

    #[test]
    fn without_keys_the_environment_is_what_the_sdk_needs_and_no_more() {
        let temp = tempfile::tempdir().expect("temp dir");
        let plan = MountPlan {
            source: "s3://b/".into(),
            dir: "/mnt".into(),
            options: Options::new(),
            tier: CacheTier::Standard,
            keys: Keys::Driver,
            home: temp.path().join("home"),
        };
        let command = tarn(None).prepare(&plan, &own()).expect("prepared");
        for (name, _) in command.as_std().get_envs() {
            assert!(KEPT.iter().any(|kept| name == *kept), "{name:?}");
        }
    }

    #[test]
    fn the_cache_is_what_was_chosen_and_its_size_what_the_volume_says() {
        let temp = tempfile::tempdir().expect("temp dir");
        let plan = |size: Option<&str>| MountPlan {
            source: "s3://b/".into(),
            dir: "/mnt".into(),
            options: size.map(|size| ("cache-size", size.to_owned())).into_iter().collect(),
            tier: CacheTier::Hot,
            keys: Keys::Driver,
            home: temp.path().join("home"),
        };
        assert_eq!(earlier_cache(&temp.path().join("home")), None);
        for (cache, wanted, size) in [
            (Cache { dir: "/volume".into(), size: Some("64TiB") }, None, Some("64TiB")),
            (Cache { dir: "/volume".into(), size: Some("64TiB") }, Some("1GiB"), Some("1GiB")),
            (own(), None, None),
        ] {
            let plan = plan(wanted);
            tarn(None).prepare(&plan, &cache).expect("prepared");
            let told: toml::Table =
                fs::read_to_string(plan.home.join(CONFIG)).expect("written").parse().expect("TOML");
            assert_eq!(told.get("cache-size").and_then(|value| value.as_str()), size);
            assert_eq!(earlier_cache(&plan.home), Some(cache.dir));
        }
    }

    #[test]
    fn a_path_that_a_shell_would_read_differently_is_refused() {
        for bad in ["relative", "/a b", "/a\"b", "/a$(b)", "/a\nb"] {
            assert!(shown(Path::new(bad)).is_err(), "{bad}");
        }
    }
}
