//! Mounts that find their cache through a symbolic link.
//!
//! A mount that runs keeps the directory it has opened, so its volume cannot be unmounted before it has ended; the next
//! one follows the link. What is staged is counted by the names that the local store gives its files
//! (`cache/FORMAT.md`) and uploaded by a program of the user's choice.

use crate::error::{Error, Result};
use crate::id::VolumeId;
use crate::state::{Place, StagedFiles};
use crate::tenants::Tenants;
use async_trait::async_trait;
use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::process::Command;

/// A symbolic link to the cache directory in use.
#[derive(Debug)]
pub struct Link {
    path: PathBuf,
    recover: Option<PathBuf>,
}

impl Link {
    /// A link at `path`, made when the first place is known. `recover` is a program that is given a directory.
    pub fn new(path: &Path, recover: Option<PathBuf>) -> Self {
        Self { path: path.to_owned(), recover }
    }

    /// Points to `dir` if it points to nothing yet or to what is no longer there, such as a volume after a reboot.
    pub fn start(&self, dir: &Path) -> Result<()> {
        match fs::metadata(&self.path) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => self.point(dir),
            Err(error) => Err(Error::io("look at", &self.path, error)),
        }
    }

    fn point(&self, dir: &Path) -> Result<()> {
        if let Some(parent) = self.path.parent() {
            fs::create_dir_all(parent).map_err(|error| Error::io("make the directory", parent, error))?;
        }
        let mut name = OsString::from(&self.path);
        name.push(".new");
        let new = PathBuf::from(name);
        match fs::remove_file(&new) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(Error::io("remove", new, error)),
            Ok(()) | Err(_) => {}
        }
        symlink(dir, &new).map_err(|error| Error::io("link", &new, error))?;
        fs::rename(&new, &self.path).map_err(|error| Error::io("rename", &self.path, error))
    }
}

#[async_trait]
impl Tenants for Link {
    async fn place(&self) -> Result<Option<Place>> {
        match fs::read_link(&self.path) {
            Ok(dir) => Ok(Some(place_of(&dir))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("read the link", &self.path, error)),
        }
    }

    async fn serve(&self, _place: &Place, dir: &Path) -> Result<()> {
        fs::metadata(dir).map_err(|error| Error::io("look at", dir, error))?;
        self.point(dir)
    }

    async fn staged(&self, dir: &Path) -> Result<StagedFiles> {
        let mut staged = StagedFiles::default();
        for version in names(dir)? {
            for file in names(&version.join("staged"))? {
                if file.extension().is_some_and(|extension| extension == "data") {
                    staged.files += 1;
                    // One that has just been uploaded counts until the next look.
                    staged.bytes += fs::metadata(&file).map_or(0, |meta| meta.len());
                }
            }
        }
        Ok(staged)
    }

    async fn recover(&self, dir: &Path) -> Result<()> {
        let failed =
            |message: String| Error::Tenant { what: "upload what is staged", dir: dir.to_owned(), message };
        let Some(program) = &self.recover else {
            return Err(failed("no program was named to do it; see --recover".into()));
        };
        let ended = Command::new(program).arg(dir).stdin(Stdio::null()).kill_on_drop(true).status().await;
        match ended {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(failed(format!("{}: {status}", program.display()))),
            Err(error) => Err(failed(format!("{}: {error}", program.display()))),
        }
    }
}

/// The reverse of [`crate::Host::cache_dir`].
fn place_of(dir: &Path) -> Place {
    let mount = dir.parent().and_then(Path::file_name).and_then(|name| name.to_str());
    match mount.and_then(|name| VolumeId::parse(name).ok()) {
        Some(volume) => Place::Volume(volume),
        None => Place::Host,
    }
}

/// What is in a directory; nothing if there is none.
fn names(dir: &Path) -> Result<Vec<PathBuf>> {
    let listed = match fs::read_dir(dir) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        listed => listed.map_err(|error| Error::io("list", dir, error))?,
    };
    let paths =
        listed.map(|entry| entry.map(|entry| entry.path()).map_err(|error| Error::io("list", dir, error)));
    paths.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_link_follows_the_place() {
        let home = tempfile::tempdir().unwrap();
        let own = home.path().join("own");
        let volume = VolumeId::parse("vol-00000001").unwrap();
        let mounted = home.path().join("volumes/vol-00000001/cache");
        fs::create_dir_all(&own).unwrap();
        fs::create_dir_all(&mounted).unwrap();
        let link = Link::new(&home.path().join("run/cache"), None);
        assert_eq!(link.place().await.unwrap(), None);
        link.start(&own).unwrap();
        assert_eq!(link.place().await.unwrap(), Some(Place::Host));

        let place = Place::Volume(volume);
        link.serve(&place, &mounted).await.unwrap();
        link.start(&own).unwrap();
        assert_eq!(link.place().await.unwrap(), Some(place.clone()));

        // After a reboot nothing is mounted yet.
        fs::remove_dir(&mounted).unwrap();
        link.serve(&place, &mounted).await.expect_err("it is not there");
        link.start(&own).unwrap();
        assert_eq!(fs::read_link(home.path().join("run/cache")).unwrap(), own);
    }

    #[tokio::test]
    async fn staged_files_of_the_local_store_are_counted_and_only_those() {
        let home = tempfile::tempdir().unwrap();
        let link = Link::new(&home.path().join("link"), None);
        assert_eq!(link.staged(home.path()).await.unwrap(), StagedFiles::default());
        let staged = home.path().join("v1/staged");
        fs::create_dir_all(&staged).unwrap();
        for (name, length) in [("a.data", 5), ("a.label", 7), ("b.data", 6)] {
            fs::write(staged.join(name), vec![0; length]).unwrap();
        }
        fs::write(home.path().join("v1/usage"), b"12345678").unwrap();
        assert_eq!(link.staged(home.path()).await.unwrap(), StagedFiles { files: 2, bytes: 11 });
    }

    #[tokio::test]
    async fn without_a_program_what_is_staged_stays_and_is_told() {
        let home = tempfile::tempdir().unwrap();
        let told = Link::new(&home.path().join("link"), None).recover(home.path()).await.unwrap_err();
        assert!(told.to_string().contains("--recover"), "{told}");
        let failing = Link::new(&home.path().join("link"), Some("false".into()));
        assert!(failing.recover(home.path()).await.unwrap_err().to_string().contains("exit status"));
        Link::new(&home.path().join("link"), Some("true".into())).recover(home.path()).await.unwrap();
    }
}
