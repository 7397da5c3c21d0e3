//! A small tree: unpacked by tar, copied by rsync, and a directory of many files renamed.

use super::peer::Kind;
use super::session::Session;
use super::site::{Cache, Site};
use super::trial::{Quantity, Trial, Unit};
use anyhow::{Result, ensure};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tarn_tests::{data, run};

const UNTAR: Quantity = seconds("untar of 300 files");
const COPY: Quantity = seconds("rsync of 300 files");
const RENAME: Quantity = seconds("rename of a directory of 200 files");

/// What [`untar`] measures.
pub const UNTARS: &[Quantity] = &[UNTAR, UNTAR.stored()];
/// What [`copy`] measures.
pub const COPIES: &[Quantity] = &[COPY, COPY.stored()];
/// What [`rename`] measures.
pub const RENAMES: &[Quantity] = &[RENAME, RENAME.stored()];

const DIRECTORIES: usize = 20;
const FILES_IN_EACH: usize = 15;
/// Files are not larger, nor empty.
const LARGEST: u64 = 64 << 10;
const RENAMED: usize = 200;

const fn seconds(name: &'static str) -> Quantity {
    Quantity::new(name, Unit::Seconds)
}

/// Unpacks an archive.
pub fn untar(trial: &mut Trial<'_>) -> Result<()> {
    let archive = trial.site.local("tree.tar");
    whole_tree(trial, UNTAR, |source, target| {
        if !archive.exists() {
            let mut tar = Command::new("tar");
            run::must(tar.arg("-cf").arg(&archive).arg("-C").arg(source).arg("."), Duration::from_secs(60))?;
        }
        let mut tar = Command::new("tar");
        tar.arg("--no-same-owner").arg("-xf").arg(&archive).arg("-C").arg(target);
        Ok(tar)
    })
}

/// Copies a tree from the local disk.
pub fn copy(trial: &mut Trial<'_>) -> Result<()> {
    whole_tree(trial, COPY, |source, target| {
        let mut rsync = Command::new("rsync");
        rsync.arg("-rt").arg(source.join("")).arg(target.join(""));
        Ok(rsync)
    })
}

/// Brings the tree to the mount by a program.
fn whole_tree(
    trial: &mut Trial<'_>,
    quantity: Quantity,
    program: impl Fn(&Path, &Path) -> Result<Command>,
) -> Result<()> {
    let site = trial.site;
    let source = site.local("tree");
    let expected = tree(&source)?;
    let key = trial.fresh("tree");
    let session = trial.mount(Cache::Empty)?;
    fs::create_dir(session.path(&key))?;
    let mut program = program(&source, &session.path(&key))?;
    let limit = site.plan.limit;
    let work = || run::must(&mut program, limit).map(|_| 1);
    trial.measure_change(quantity, &session, work, || {
        let sizes = site.bucket().sizes(&format!("{key}/"))?;
        Ok(expected.iter().all(|(name, size)| sizes.get(&format!("{key}/{name}")) == Some(size)))
    })?;
    session.end()
}

/// Renames a directory that the mount has not seen.
pub fn rename(trial: &mut Trial<'_>) -> Result<()> {
    let site = trial.site;
    let (old, new) = (trial.fresh("old"), trial.fresh("new"));
    fill(site, trial.peer.kind, &old)?;
    let session = trial.mount(Cache::Empty)?;
    let work = || {
        fs::rename(session.path(&old), session.path(&new))?;
        Ok(1)
    };
    let files =
        |folder: &str| -> Result<usize> { Ok(site.bucket().sizes(&format!("{folder}/{FILE}"))?.len()) };
    let moved = || Ok(files(&old)? == 0 && files(&new)? == RENAMED);
    trial.measure_change(RENAME, &session, work, moved)?;
    check(&session, &new)?;
    session.end()
}

/// What names of the renamed directory begin with.
const FILE: &str = "file-";

fn fill(site: &Site, kind: Kind, folder: &str) -> Result<()> {
    if kind == Kind::Disk {
        fs::create_dir(site.local(folder))?;
    } else {
        site.bucket().put(&format!("{folder}/"), b"")?;
    }
    for index in 0..RENAMED {
        let (name, body) = (format!("{folder}/{FILE}{index}"), data::bytes(index as u64, 1000));
        if kind == Kind::Disk {
            fs::write(site.local(&name), &body)?;
        } else {
            site.bucket().put(&name, &body)?;
        }
    }
    Ok(())
}

fn check(session: &Session, folder: &str) -> Result<()> {
    let found = fs::read_dir(session.path(folder))?.count();
    ensure!(found == RENAMED, "the renamed directory shows {found} files instead of {RENAMED}");
    Ok(())
}

/// Makes the tree once; its files with their sizes.
fn tree(root: &Path) -> Result<BTreeMap<String, u64>> {
    let mut sizes = data::numbers(1, LARGEST);
    let mut files = BTreeMap::new();
    for directory in 0..DIRECTORIES {
        let folder = root.join(format!("directory-{directory}"));
        fs::create_dir_all(&folder)?;
        for (index, size) in (0..FILES_IN_EACH).zip(&mut sizes) {
            let (name, size) = (format!("file-{index}"), size + 1);
            let path = folder.join(&name);
            if !path.exists() {
                fs::write(&path, data::bytes(size, size as usize))?;
            }
            files.insert(format!("directory-{directory}/{name}"), size);
        }
    }
    Ok(files)
}
