//! What is mounted where: one private folder for each mount, with this note and what the mount itself reads. It lets a
//! driver that was restarted, or a node that was, find what it has to heal or to clean up. It holds no key.

use crate::error::{Error, Result};
use crate::mounter::Tarn;
use crate::parameters::{CacheTier, Options};
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What was mounted.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Staged {
    /// The volume.
    pub(super) volume_id: String,
    /// Where it is mounted.
    pub(super) dir: PathBuf,
    /// `s3://BUCKET/PREFIX`.
    pub(super) source: String,
    /// Options of the mount, by the names of `tarn mount`.
    pub(super) options: BTreeMap<String, String>,
    /// Which of the node's caches it uses.
    #[serde(default)]
    pub(super) tier: CacheTier,
    /// The pods' fsGroup.
    pub(super) group: Option<u32>,
}

impl Staged {
    /// The options by the names that are known; one that is not was never written by this driver.
    pub(super) fn known_options(&self) -> Options {
        let known = |name: &String| {
            crate::parameters::PARAMETERS.iter().find_map(|spec| spec.option.filter(|o| o == name))
        };
        self.options.iter().filter_map(|(name, value)| Some((known(name)?, value.clone()))).collect()
    }
}

/// The folders.
#[derive(Debug, Clone)]
pub(super) struct Records {
    root: PathBuf,
}

const NOTE: &str = "volume.json";

impl Records {
    /// Those below `root`, which is made if it is not there.
    pub(super) fn open(root: &Path) -> Result<Self> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(root);
        made.map_err(|error| Error::local(format_args!("make {}", root.display()), &error))?;
        Ok(Self { root: root.to_owned() })
    }

    /// The private folder of the mount at `dir`.
    pub(super) fn home(&self, dir: &Path) -> PathBuf {
        self.root.join(super::paths::short(dir))
    }

    /// Notes a mount, before it is made.
    pub(super) fn write(&self, staged: &Staged) -> Result<()> {
        let home = self.home(&staged.dir);
        let write = || -> io::Result<()> {
            DirBuilder::new().recursive(true).mode(0o700).create(&home)?;
            let draft = home.join(".note");
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
            file.write_all(&serde_json::to_vec(staged)?)?;
            fs::rename(&draft, home.join(NOTE))
        };
        write().map_err(|error| Error::local("note a mount", &error))
    }

    /// The note of the mount at `dir`.
    pub(super) fn find(&self, dir: &Path) -> Result<Option<Staged>> {
        read(&self.home(dir)).map_err(|error| Error::local("read the note of a mount", &error))
    }

    /// All notes. One that cannot be read is told and passed over: it must not keep the driver from starting.
    pub(super) fn all(&self) -> Result<Vec<Staged>> {
        let entries =
            fs::read_dir(&self.root).map_err(|error| Error::local("list the notes of mounts", &error))?;
        let mut all = Vec::new();
        for home in entries.flatten().map(|entry| entry.path()) {
            match read(&home) {
                Ok(staged) => all.extend(staged),
                Err(error) => {
                    tracing::warn!(home = %home.display(), %error, "the note of a mount cannot be read")
                }
            }
        }
        Ok(all)
    }

    /// Removes the folder of the mount at `dir`, with its keys.
    pub(super) fn forget(&self, dir: &Path) -> Result<()> {
        Tarn::forget(&self.home(dir)).map_err(|error| Error::local("remove the note of a mount", &error))
    }
}

fn read(home: &Path) -> io::Result<Option<Staged>> {
    match fs::read(home.join(NOTE)) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
