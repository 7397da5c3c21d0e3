//! One large file: read in sequence and at random by mounts that know nothing and that have it in their cache, written,
//! and changed in its middle.

use super::peer::Kind;
use super::site::{Cache, LARGE};
use super::trial::{Quantity, Trial, Unit};
use crate::plan::MIB;
use crate::{files, raw};
use anyhow::{Result, ensure};
use std::cell::RefCell;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};
use tarn_tests::data;

const READ_COLD: Quantity = Quantity::new("sequential read, cold", Unit::MibPerSecond);
const READ_KEPT: Quantity = Quantity::new("sequential read after a remount", Unit::MibPerSecond);
const RANDOM_KEPT: Quantity = Quantity::new("random reads of 4 KiB after a remount", Unit::PerSecond);
const RANDOM_COLD: Quantity = Quantity::new("random reads of 4 KiB, cold", Unit::PerSecond);
const WRITE: Quantity = Quantity::new("sequential write and close", Unit::MibPerSecond);
const FSYNC: Quantity = Quantity::new("sequential write and fsync", Unit::MibPerSecond);
const UPDATE: Quantity = Quantity::new("4 KiB changed in a large file, and close", Unit::Seconds);

/// What [`read`] measures.
pub const READ: &[Quantity] = &[READ_COLD, READ_KEPT, RANDOM_KEPT];
/// What [`random`] measures.
pub const RANDOM: &[Quantity] = &[RANDOM_COLD];
/// What [`write()`] measures.
pub const WRITES: &[Quantity] = &[WRITE, WRITE.stored(), FSYNC, FSYNC.stored()];
/// What [`update`] measures.
pub const UPDATES: &[Quantity] = &[UPDATE, UPDATE.stored()];

const BLOCK: usize = 4096;
/// Random reads of a mount that has the file, and of one that knows nothing: at most so many, for at most so long.
const WARM_READS: (u64, Duration) = (u64::MAX, Duration::from_secs(2));
const COLD_READS: (u64, Duration) = (256, Duration::from_secs(10));
/// Bytes of the file that is changed, at most.
const UPDATED: u64 = 256 * MIB;

/// Reads in sequence, cold and from the cache, then at random from the cache.
pub fn read(trial: &mut Trial<'_>) -> Result<()> {
    let size = trial.site.plan.large;
    let cold = trial.mount(Cache::Empty)?;
    trial.site.warm_server()?;
    if trial.peer.kind == Kind::Raw {
        let download = raw::Download::prepare(&trial.site.raw(), LARGE, size)?;
        return trial.measure(READ_COLD, &cold, || download.run().map(|_| size));
    }
    let whole = |path: &Path| files::read(path, size).map(|_| size);
    trial.measure(READ_COLD, &cold, || whole(&cold.path(LARGE)))?;
    if trial.round == 0 {
        files::same(&cold.path(LARGE), &trial.site.local(LARGE))?;
    }
    cold.end()?;
    let kept = trial.mount(Cache::Kept)?;
    trial.measure(READ_KEPT, &kept, || whole(&kept.path(LARGE)))?;
    kept.end()?;
    let kept = trial.mount(Cache::Kept)?;
    trial.measure(RANDOM_KEPT, &kept, || random_reads(&kept.path(LARGE), size, WARM_READS))?;
    kept.end()
}

/// Reads at random from a mount that knows nothing.
pub fn random(trial: &mut Trial<'_>) -> Result<()> {
    let size = trial.site.plan.large;
    let cold = trial.mount(Cache::Empty)?;
    trial.site.warm_server()?;
    trial.measure(RANDOM_COLD, &cold, || random_reads(&cold.path(LARGE), size, COLD_READS))?;
    cold.end()
}

/// Writes a new file and closes it, and writes another one and syncs it.
pub fn write(trial: &mut Trial<'_>) -> Result<()> {
    let (site, size, seed) = (trial.site, trial.site.plan.large, 100 + trial.round as u64);
    let session = trial.mount(Cache::Empty)?;
    let key = trial.fresh("new");
    let is_stored = |key: &str| Ok(site.bucket().sizes(key)?.get(key) == Some(&size));
    if trial.peer.kind == Kind::Raw {
        let upload = raw::Upload::prepare(&site.raw(), &site.local(LARGE), &key)?;
        return trial.measure(WRITE, &session, || upload.run().map(|_| size));
    }
    let path = session.path(&key);
    let work = || files::write(&path, size, seed).map(|_| size);
    trial.measure_change(WRITE, &session, work, || is_stored(&key))?;
    fs::remove_file(&path)?;
    trial.settle(&session)?;
    let key = trial.fresh("synced");
    let path = session.path(&key);
    let file = RefCell::new(Some(File::create(&path)?));
    let work = || {
        let mut file = file.borrow_mut();
        let file = file.as_mut().expect("it is closed afterwards");
        files::fill(file, size, seed)?;
        file.sync_all()?;
        Ok(size)
    };
    // Who has not stored it after the fsync may do so after the close.
    let is_stored = || {
        let stored = is_stored(&key)?;
        drop(file.borrow_mut().take());
        Ok(stored)
    };
    trial.measure_change(FSYNC, &session, work, is_stored)?;
    drop(file.take());
    fs::remove_file(&path)?;
    session.end()
}

/// Changes a block in the middle of an object that the mount has not seen.
pub fn update(trial: &mut Trial<'_>) -> Result<()> {
    let (site, size) = (trial.site, trial.site.plan.large.min(UPDATED));
    let is_object = trial.peer.kind != Kind::Disk;
    let key = trial.fresh("update");
    let source = site.local(if is_object { "update" } else { &key });
    if !source.exists() {
        files::write(&source, size, 7)?;
    }
    if is_object {
        raw::Upload::prepare(&site.raw(), &source, &key)?.run()?;
    }
    let tag = || site.bucket().head(&key).map(|head| head.etag);
    let before = if is_object { tag()? } else { String::new() };
    let block = data::bytes(trial.round as u64, BLOCK);
    let session = trial.mount(Cache::Empty)?;
    let work = || {
        let file = File::options().read(true).write(true).open(session.path(&key))?;
        file.write_all_at(&block, size / 2)?;
        drop(file);
        Ok(1)
    };
    trial.measure_change(UPDATE, &session, work, || Ok(tag()? != before))?;
    session.end()?;
    if is_object {
        let found = site.bucket().head(&key)?.size;
        ensure!(found == size, "the changed object has {found} bytes instead of {size}");
    }
    Ok(())
}

/// Reads blocks of a file at random, at most so many and for at most so long; how many.
fn random_reads(path: &Path, size: u64, (most, limit): (u64, Duration)) -> Result<u64> {
    let end = Instant::now() + limit;
    let file = File::open(path)?;
    let mut block = [0; BLOCK];
    let mut count = 0;
    for index in data::numbers(size, size / BLOCK as u64) {
        file.read_exact_at(&mut block, index * BLOCK as u64)?;
        count += 1;
        if count == most || Instant::now() >= end {
            break;
        }
    }
    Ok(count)
}
