//! Mounts that stage files in `staged/` of their cache directory, and a bucket that is a directory.

use async_trait::async_trait;
use parking_lot::Mutex;
use std::fs;
use std::path::{Path, PathBuf};
use tarn_volume::state::{Place, StagedFiles};
use tarn_volume::{Error, Result, Tenants};

pub(crate) struct Folders {
    bucket: PathBuf,
    place: Mutex<Option<(Place, PathBuf)>>,
}

impl Folders {
    pub(crate) fn new(bucket: &Path) -> Self {
        Self { bucket: bucket.into(), place: Mutex::default() }
    }

    /// Where a mount would stage a file now.
    pub(crate) fn staging(&self) -> PathBuf {
        let (_, dir) = self.place.lock().clone().expect("a place");
        fs::create_dir_all(dir.join("staged")).unwrap();
        dir.join("staged")
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir.join("staged")) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[async_trait]
impl Tenants for Folders {
    async fn place(&self) -> Result<Option<Place>> {
        Ok(self.place.lock().clone().map(|(place, _)| place))
    }

    async fn serve(&self, place: &Place, dir: &Path) -> Result<()> {
        if !dir.is_dir() {
            return Err(Error::Tenant { what: "use", dir: dir.into(), message: "no such directory".into() });
        }
        *self.place.lock() = Some((place.clone(), dir.into()));
        Ok(())
    }

    async fn staged(&self, dir: &Path) -> Result<StagedFiles> {
        let files = files(dir);
        let bytes = files.iter().map(|file| fs::metadata(file).unwrap().len()).sum();
        Ok(StagedFiles { files: files.len() as u64, bytes })
    }

    async fn recover(&self, dir: &Path) -> Result<()> {
        for file in files(dir) {
            fs::copy(&file, self.bucket.join(file.file_name().unwrap())).unwrap();
            fs::remove_file(file).unwrap();
        }
        Ok(())
    }
}
