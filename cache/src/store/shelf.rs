//! The clean objects on disk: two files each, `<name>.map` and `<name>.data`, in 256 sub-directories (shards).
//!
//! Invariants:
//! - Files appear and vanish, and holes are punched, only under the exclusive lock of their shard. It is held
//!   for a few calls; no data is read or written under it, and removed files are freed after it.
//! - The map comes last and goes first: a data file without a map belongs to nobody.
//! - Whoever uses an object holds a shared lock on its map file (the pin), taken under the shard's lock.
//!
//! Lock order: shard, then map file.

use super::dirs::Dirs;
use crate::error::{Error, Result};
use crate::files::{self, Dir};
use crate::key::{BlockIndex, ByteRange, ObjectId, ObjectName};
use crate::object::map::{BlockState, Boot, Map};
use rustix::fs::{FallocateFlags, FlockOperation, OFlags};
use std::cell::RefCell;
use std::fs::File;
use std::path::PathBuf;

/// The files of one object, pinned.
#[derive(Debug)]
pub(crate) struct Place {
    /// The map.
    pub(crate) map: Map,
    /// The map file, which carries the pin.
    map_file: File,
    /// The data file.
    pub(crate) data: File,
    /// Where the data file is.
    pub(crate) path: PathBuf,
}

/// What was found under an object's name.
#[derive(Debug)]
pub(crate) enum Found {
    /// The object.
    Object(Place),
    /// Nothing.
    Nothing,
    /// Files that cannot be used and were removed.
    Damaged,
    /// Files that cannot be used and are in use by another object of the same name.
    Taken,
}

/// How a removal ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removal {
    /// It is gone and gave back so many bytes.
    Freed(u64),
    /// Somebody has it open.
    Pinned,
    /// It is held.
    Held,
    /// It was not there.
    Absent,
}

/// One shard under its lock.
#[derive(Debug)]
pub(crate) struct Shard<'a> {
    dir: Dir,
    dirs: &'a Dirs,
    boot: Boot,
    trash: RefCell<Vec<String>>,
}

impl<'a> Shard<'a> {
    /// Waits for the lock of the shard of `name`.
    pub(crate) fn lock(dirs: &'a Dirs, name: ObjectName, boot: Boot) -> Result<Self> {
        let dir = dirs.shard(name)?;
        dir.lock()?;
        Ok(Self { dir, dirs, boot, trash: RefCell::default() })
    }

    /// Opens and pins the object `id`.
    pub(crate) fn find(&self, id: &ObjectId) -> Result<Found> {
        let Some(map_file) = self.dir.open(&map_name(id.name()), OFlags::RDWR)? else {
            return Ok(Found::Nothing);
        };
        self.pin(&map_file)?;
        let path = self.dir.path().join(data_name(id.name()));
        let map = Map::open(&map_file, id, self.boot).map_err(|error| Error::io("read map of", &path, error));
        let data = self.dir.open(&data_name(id.name()), OFlags::RDWR)?;
        if let (Ok(Some(map)), Some(data)) = (map, data)
            && data.metadata().is_ok_and(|data| data.is_file() && data.len() == id.size())
        {
            return Ok(Found::Object(Place { map, map_file, data, path }));
        }
        if !files::try_lock(&map_file).map_err(|error| Error::io("lock", &path, error))? {
            return Ok(Found::Taken);
        }
        self.discard(id.name())?;
        Ok(Found::Damaged)
    }

    /// Creates the object `id`, of which there must be no map, without a block.
    pub(crate) fn create(&self, id: &ObjectId) -> Result<Place> {
        let path = self.dir.path().join(data_name(id.name()));
        self.discard(id.name())?;
        let data = self.dir.create(&data_name(id.name()))?;
        let place = data
            .set_len(id.size())
            .map_err(|error| Error::io("extend", &path, error))
            .and_then(|()| self.publish(id, data, &[]));
        if place.is_err() {
            self.discard(id.name())?;
        }
        place
    }

    /// Makes the staged data file `staged` the object `id`, of which there must be no map. `crcs` are those of
    /// the blocks that it holds. Returns the staged file to its place on failure.
    pub(crate) fn adopt(&self, id: &ObjectId, staged: &str, crcs: &[(BlockIndex, u64)]) -> Result<Place> {
        let name = data_name(id.name());
        self.discard(id.name())?;
        self.dirs.staged.rename(staged, &self.dir, &name)?;
        let place = match self.dir.open(&name, OFlags::RDWR)? {
            Some(data) => self.publish(id, data, crcs),
            None => Err(Error::io("open", self.dir.path().join(&name), std::io::ErrorKind::NotFound)),
        };
        if place.is_err() {
            self.dir.rename(&name, &self.dirs.staged, staged)?;
        }
        place
    }

    /// Moves the data file of `place` to the staged file `staged` and drops its map, if nobody else pins it.
    pub(crate) fn withdraw(&self, name: ObjectName, place: &Place, staged: &str) -> Result<Removal> {
        let failed = |error| Error::io("lock", &place.path, error);
        if !files::try_lock(&place.map_file).map_err(failed)? {
            // A failed upgrade may have lost the pin. Nobody can have taken it: that needs the shard's lock.
            self.pin(&place.map_file)?;
            return Ok(Removal::Pinned);
        }
        let freed = self.allocated(name)?;
        self.trash(&map_name(name))?;
        self.dir.rename(&data_name(name), &self.dirs.staged, staged)?;
        Ok(Removal::Freed(freed))
    }

    /// Removes the object unless it is pinned or held.
    pub(crate) fn remove(&self, name: ObjectName) -> Result<Removal> {
        if self.is_held(name)? {
            return Ok(Removal::Held);
        }
        let freed = self.allocated(name)?;
        let Some(map) = self.dir.open(&map_name(name), OFlags::RDWR)? else {
            self.discard(name)?;
            return Ok(if freed > 0 { Removal::Freed(freed) } else { Removal::Absent });
        };
        if !files::try_lock(&map).map_err(|error| Error::io("lock", self.dir.path(), error))? {
            return Ok(Removal::Pinned);
        }
        self.discard(name)?;
        Ok(Removal::Freed(freed))
    }

    /// Removes a data file that has no map.
    pub(crate) fn remove_without_map(&self, name: ObjectName) -> Result<()> {
        match self.dir.stat(&map_name(name))? {
            Some(_) => Ok(()),
            None => self.discard(name),
        }
    }

    /// Punches about `wanted` bytes of blocks out of the object's end, unless it is pinned or held. `None` if it
    /// must be removed whole: its file was handed out, and whoever has it must not see holes.
    pub(crate) fn thin(&self, name: ObjectName, wanted: u64) -> Result<Option<Removal>> {
        if self.is_held(name)? {
            return Ok(Some(Removal::Held));
        }
        let Some(map_file) = self.dir.open(&map_name(name), OFlags::RDWR)? else { return Ok(None) };
        let Some(data) = self.dir.open(&data_name(name), OFlags::RDWR)? else { return Ok(None) };
        let path = self.dir.path().join(data_name(name));
        if !files::try_lock(&map_file).map_err(|error| Error::io("lock", &path, error))? {
            return Ok(Some(Removal::Pinned));
        }
        let map =
            Map::open_any(&map_file, self.boot).map_err(|error| Error::io("read map of", &path, error))?;
        let Some(map) = map.filter(|map| !map.handed_out()) else { return Ok(None) };
        let before = self.allocated(name)?;
        let mut freed = 0;
        for block in ByteRange::at(0, map.size()).blocks().rev() {
            let tag = match map.state(block) {
                BlockState::Absent => continue,
                BlockState::Unverified(tag) => tag,
                BlockState::Verified => map.current_tag(),
            };
            if freed >= wanted {
                break;
            }
            let range = block.range(map.size());
            // The bit first: a hole behind a set bit would be zeros for bytes.
            map.withdraw(block, tag);
            let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            if rustix::fs::fallocate(&data, mode, range.start(), range.len()).is_err() {
                // A file system without holes: removing the object is what is left.
                return Ok(None);
            }
            freed += range.len();
        }
        let left = self.allocated(name)?;
        Ok((freed > 0).then_some(Removal::Freed(before.saturating_sub(left))))
    }

    /// Whether the object is not to be evicted.
    pub(crate) fn is_held(&self, name: ObjectName) -> Result<bool> {
        Ok(self.dirs.holds.stat(&name.to_string())?.is_some())
    }

    /// Says that the object is not to be evicted.
    pub(crate) fn hold(&self, name: ObjectName) -> Result<()> {
        self.dirs.holds.open_or_create(&name.to_string()).map(drop)
    }

    /// Takes that back; says whether it was so.
    pub(crate) fn release(&self, name: ObjectName) -> Result<bool> {
        self.dirs.holds.remove_if_there(&name.to_string())
    }

    /// Size of the object; `None` if there is none.
    pub(crate) fn len(&self, name: ObjectName) -> Result<Option<u64>> {
        Ok(self.dir.stat(&data_name(name))?.map(|data| data.len))
    }

    /// Bytes on disk of both files.
    pub(crate) fn allocated(&self, name: ObjectName) -> Result<u64> {
        let map = self.dir.stat(&map_name(name))?.map_or(0, |stat| stat.allocated);
        Ok(map + self.dir.stat(&data_name(name))?.map_or(0, |stat| stat.allocated))
    }

    /// Writes the map of `id` beside its data file, pins it and lets it appear.
    fn publish(&self, id: &ObjectId, data: File, crcs: &[(BlockIndex, u64)]) -> Result<Place> {
        let path = self.dir.path().join(data_name(id.name()));
        let temporary = self.dirs.unique();
        let map_file = self.dirs.tmp.create(&temporary)?;
        let place = Map::create(&map_file, id, self.boot)
            .map_err(|error| Error::io("write map of", &path, error))
            .and_then(|map| {
                for &(block, crc) in crcs {
                    map.publish(block, crc);
                }
                self.pin(&map_file)?;
                self.dirs.tmp.rename(&temporary, &self.dir, &map_name(id.name()))?;
                Ok(Place { map, map_file, data, path })
            });
        if place.is_err() {
            self.dirs.tmp.remove(&temporary)?;
        }
        place
    }

    /// Takes the pin. It is free at once: an exclusive lock is only ever held under the shard's lock.
    fn pin(&self, map_file: &File) -> Result<()> {
        files::wait_for_lock(map_file, FlockOperation::LockShared)
            .map_err(|error| Error::io("pin an object in", self.dir.path(), error))
    }

    /// Takes both files away, the map first; they are freed when the shard is unlocked.
    fn discard(&self, name: ObjectName) -> Result<()> {
        self.trash(&map_name(name))?;
        self.trash(&data_name(name))
    }

    fn trash(&self, name: &str) -> Result<()> {
        if self.dir.stat(name)?.is_none() {
            return Ok(());
        }
        let temporary = self.dirs.unique();
        self.dir.rename(name, &self.dirs.tmp, &temporary)?;
        self.trash.borrow_mut().push(temporary);
        Ok(())
    }
}

impl Drop for Shard<'_> {
    fn drop(&mut self) {
        self.dir.unlock();
        for name in self.trash.take() {
            if let Err(error) = self.dirs.tmp.remove(&name) {
                tracing::warn!(%error, "a removed file of the local store stays until its next start");
            }
        }
    }
}

/// The map file of an object.
pub(crate) fn map_name(name: ObjectName) -> String {
    format!("{name}.map")
}

/// The data file of an object.
pub(crate) fn data_name(name: ObjectName) -> String {
    format!("{name}.data")
}
