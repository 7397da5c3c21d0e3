//! What xfstests needs around it: its users, a way for mount(8) to find the tarn under test, two mount points.
//!
//! Nothing of the machine is changed. In the mount namespace of this test program a copy of `/etc/passwd` and
//! `/etc/group` with lines for the users lies over them, and the folder of the helpers of mount(8) shows one more: tarn.

use anyhow::{Context, Result};
use std::fmt::Write;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tarn_tests::mount::{CHANGE_LIMIT, MountPlan, is_mounted};
use tarn_tests::{paths, run, wait};
use tempfile::TempDir;

/// The users that the suite acts as, each with a group of the same name.
const USERS: &[&str] = &["fsgqa", "fsgqa2", "123456-fsgqa"];
const FIRST_ID: u32 = 7001;

/// The suite knows file systems of FUSE as `fuse`, whatever follows the dot.
const DF: &str = "#!/bin/bash\nset -o pipefail\n/bin/df \"$@\" | sed 's/ fuse\\.tarn / fuse /'\n";

/// A prepared place; dropped, it leaves nothing. The suite compares the sources it names with the mount table, so they
/// end as tarn shows them.
pub(crate) struct Stage {
    plan: MountPlan,
    covered: Vec<PathBuf>,
    // Last: what is mounted in it must be gone first.
    home: TempDir,
}

impl Stage {
    /// Sets it up for mounts of prefixes of the bucket of `plan`, with its options.
    pub(crate) fn new(plan: &MountPlan) -> Result<Self> {
        let home =
            tempfile::Builder::new().prefix("tarn-xfstests-").tempdir().context("folder for a stage")?;
        fs::set_permissions(home.path(), Permissions::from_mode(0o755))?;
        let mut stage = Self { plan: plan.clone(), covered: Vec::new(), home };
        for folder in ["bin", "helpers", "test", "scratch", "results", "state", "user"] {
            fs::create_dir(stage.path(folder))?;
        }
        stage.help()?;
        fs::write(stage.path("bin/df"), DF)?;
        fs::set_permissions(stage.path("bin/df"), Permissions::from_mode(0o755))?;
        let home = stage.path("user").display().to_string();
        stage.add("/etc/passwd", |name, id| format!("{name}:*:{id}:{id}::{home}:/bin/bash"))?;
        stage.add("/etc/group", |name, id| format!("{name}:*:{id}:"))?;
        Ok(stage)
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.home.path().join(relative)
    }

    /// Lets mount(8) find tarn where `make install` would put it.
    fn help(&mut self) -> Result<()> {
        symlink(paths::tarn()?, self.path("helpers/mount.fuse.tarn")).context("a helper of mount(8)")?;
        let folder = fs::canonicalize("/sbin").context("the folder of the helpers")?;
        let layers = format!("lowerdir={}:{}", self.path("helpers").display(), folder.display());
        let mut command = Command::new("mount");
        run::must(command.args(["-t", "overlay", "-o", &layers, "overlay"]).arg(&folder), CHANGE_LIMIT)?;
        self.covered.push(folder);
        Ok(())
    }

    /// Shows a file with a line more for each user, in this mount namespace.
    fn add(&mut self, file: &str, line: impl Fn(&str, u32) -> String) -> Result<()> {
        let mut text = fs::read_to_string(file).with_context(|| format!("read {file}"))?;
        for (id, name) in (FIRST_ID..).zip(USERS) {
            writeln!(text, "{}", line(name, id))?;
        }
        let copy = self.path(Path::new(file).file_name().and_then(|name| name.to_str()).context("its name")?);
        fs::write(&copy, text)?;
        run::must(Command::new("mount").arg("--bind").arg(&copy).arg(file), CHANGE_LIMIT)?;
        self.covered.push(file.into());
        Ok(())
    }

    /// The suite's program with all that it wants to know.
    pub(crate) fn check(&self, suite: &Path) -> Command {
        let options = format!("-o {}", self.plan.words());
        let search = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap_or_default());
        let mut command = run::command(suite.join("check"));
        command
            .current_dir(suite)
            .env("PATH", search)
            .envs([("FSTYP", "fuse"), ("FUSE_SUBTYP", ".tarn")])
            .env("TEST_DEV", format!("s3://{}/test/", self.plan.source))
            .env("TEST_DIR", self.path("test"))
            .env("SCRATCH_DEV", format!("s3://{}/scratch/", self.plan.source))
            .env("SCRATCH_MNT", self.path("scratch"))
            .env("TEST_FS_MOUNT_OPTS", &options)
            .env("MOUNT_OPTIONS", &options)
            .env("RESULT_BASE", self.path("results"))
            // Logs of mounts in the background.
            .env("XDG_STATE_HOME", self.path("state"))
            .envs(self.plan.credentials());
        command
    }

    /// Takes away what a test left mounted, and waits until whoever served it has ended.
    pub(crate) fn clear(&self) -> Result<()> {
        for folder in ["test", "scratch"] {
            let dir = self.path(folder);
            while is_mounted(&dir)? {
                run::must(Command::new("umount").arg("-l").arg(&dir), CHANGE_LIMIT)?;
            }
        }
        wait::eventually(CHANGE_LIMIT * 4, "the mounts of the suite have ended", || {
            Ok(self.servers()?.is_empty().then_some(()))
        })
    }

    /// The processes that serve mounts with this cache.
    fn servers(&self) -> Result<Vec<i32>> {
        let cache = self.plan.cache.display().to_string();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            // A process that has ended meanwhile has no command line.
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            if pid != std::process::id() as i32 && String::from_utf8_lossy(&line).contains(&cache) {
                found.push(pid);
            }
        }
        Ok(found)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for file in &self.covered {
            let mut command = Command::new("umount");
            if let Err(error) = run::must(command.arg(file), Duration::from_secs(10)) {
                eprintln!("a file stays covered: {error:#}");
            }
        }
    }
}
