//! Many small files in one directory, by one thread: created as programs do that replace what is there (`O_TRUNC`,
//! not `O_EXCL`), listed with their attributes as `ls -l` does, described again, read and deleted.

use super::peer::Kind;
use super::site::Cache;
use super::trial::{Quantity, Trial, Unit};
use crate::files;
use anyhow::{Result, ensure};
use std::fs;
use std::path::PathBuf;
use tarn_tests::data;

const CREATE: Quantity = per_second("4 KiB files, create");
const LIST: Quantity = per_second("4 KiB files, list and stat, cold");
const STAT: Quantity = per_second("4 KiB files, stat again");
const READ: Quantity = per_second("4 KiB files, read, cold");
const DELETE: Quantity = per_second("4 KiB files, delete");

/// What [`run`] measures.
pub const ALL: &[Quantity] = &[CREATE, CREATE.stored(), LIST, STAT, READ, DELETE];

const SIZE: usize = 4096;

const fn per_second(name: &'static str) -> Quantity {
    Quantity::new(name, Unit::PerSecond)
}

/// See the module.
pub fn run(trial: &mut Trial<'_>) -> Result<()> {
    let (site, count) = (trial.site, trial.site.plan.small_files);
    let key = trial.fresh("small");
    let session = trial.mount(Cache::Empty)?;
    fs::create_dir(session.path(&key))?;
    let paths: Vec<PathBuf> = (0..count).map(|index| session.path(&format!("{key}/{index}"))).collect();
    let each = |work: &dyn Fn(usize) -> Result<()>| {
        (0..count).try_for_each(work)?;
        Ok(count as u64)
    };
    let body = data::bytes(trial.round as u64, SIZE);
    let create = || each(&|index| Ok(fs::write(&paths[index], &body)?));
    let all_stored = || {
        let sizes = site.bucket().sizes(&format!("{key}/"))?;
        Ok(sizes.values().filter(|&&size| size == SIZE as u64).count() == count)
    };
    trial.measure_change(CREATE, &session, create, all_stored)?;
    session.end()?;

    let session = trial.mount(Cache::Empty)?;
    trial.measure(LIST, &session, || {
        let mut listed = 0;
        for entry in fs::read_dir(session.path(&key))? {
            ensure!(entry?.metadata()?.len() == SIZE as u64, "a file has another size");
            listed += 1;
        }
        ensure!(listed == count, "{listed} files are listed instead of {count}");
        Ok(count as u64)
    })?;
    trial.measure(STAT, &session, || {
        each(&|index| {
            ensure!(fs::metadata(&paths[index])?.len() == SIZE as u64, "a file has another size");
            Ok(())
        })
    })?;
    session.end()?;

    let session = trial.mount(Cache::Empty)?;
    trial.measure(READ, &session, || each(&|index| files::read(&paths[index], SIZE as u64).map(drop)))?;
    trial.measure(DELETE, &session, || each(&|index| Ok(fs::remove_file(&paths[index])?)))?;
    session.end()?;
    if trial.peer.kind != Kind::Disk {
        let left = site.bucket().sizes(&format!("{key}/"))?.len();
        // The directory may be an object too.
        ensure!(left <= 1, "{left} deleted files are in the bucket");
    }
    Ok(())
}
