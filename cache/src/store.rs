//! The store: opening a directory, opening objects, turning clean objects into staged files.
//!
//! Invariants: within one process there is one [`Object`] per identity that is kept on disk. Several processes,
//! and several stores in one process, may use one directory at once.
//!
//! Lock order: registry, then shard, then map file. The registry's lock is never held during a call to the
//! file system, nor while an [`Object`] is dropped.

mod dirs;
mod hold;
mod scan;
pub(crate) mod shelf;

use crate::error::{Error, Result};
use crate::evict::Budget;
use crate::key::{ObjectId, ObjectName};
use crate::object::map::{Boot, Map};
use crate::object::{Object, on_disk};
use crate::staging::{self, OrphanStaged, Slot, Staged, StagedLabel};
use crate::stats::{Counters, Stats};
use dirs::Dirs;
pub use hold::Hold;
use parking_lot::Mutex;
use shelf::{Found, Place, Removal, Shard};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Weak};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Where a store is and how much it may use.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// The directory, created with mode 0700 if only it is missing. It must belong to this user and be closed
    /// to everybody else.
    pub dir: PathBuf,
    /// Bytes on disk that clean objects may take.
    pub max_bytes: u64,
    /// Bytes of the disk that are left free: under it clean objects are removed and no block is kept.
    pub min_free_bytes: u64,
    /// The boot that blocks are tagged with; `None` asks the kernel. It must change whenever writes that were
    /// not flushed may have been lost: a disk that can be detached by force needs its attachment in it too.
    pub boot_id: Option<String>,
}

/// A store of clean objects and staged files in one directory.
#[derive(Debug)]
pub struct Store {
    pub(crate) dirs: Dirs,
    pub(crate) boot: Boot,
    pub(crate) budget: Budget,
    pub(crate) counters: Counters,
    /// Notes written by this store.
    pub(crate) notes: AtomicU64,
    registry: Mutex<HashMap<ObjectName, Weak<Object>>>,
    unseen: Mutex<Option<Unseen>>,
}

/// What the store held when it was opened, until somebody has looked.
#[derive(Debug, Clone, Copy)]
struct Unseen {
    /// Nobody else had it open.
    alone: bool,
}

/// What became of an object that was to be changed.
#[derive(Debug)]
pub enum Taken {
    /// Its file, now staged.
    Staged(Staged),
    /// The object as it was: somebody else uses it, or it is not whole.
    Shared(Arc<Object>),
}

impl Store {
    /// Opens the store in `options.dir`, in the same time whatever it holds: see [`survey`](Self::survey).
    pub fn open(options: StoreOptions) -> Result<Arc<Self>> {
        let boot_id = match options.boot_id {
            Some(id) => id,
            None => std::fs::read_to_string(BOOT_ID).map_err(|error| Error::io("read", BOOT_ID, error))?,
        };
        let dirs = Dirs::open(&options.dir)?;
        let budget = Budget::open(&dirs.root, options.max_bytes, options.min_free_bytes)?;
        let store = Self {
            dirs,
            boot: Boot::new(&boot_id),
            budget,
            counters: Counters::default(),
            notes: AtomicU64::new(0),
            registry: Mutex::default(),
            unseen: Mutex::default(),
        };
        store.dirs.enter(|alone| {
            if alone {
                store.dirs.clear_tmp()?;
            }
            *store.unseen.lock() = Some(Unseen { alone });
            store.budget.set_holds(store.holds()?);
            Ok(())
        })?;
        Ok(Arc::new(store))
    }

    /// Opens the object `id`, creating it without blocks, and pins it. Trouble with the disk (full, failing,
    /// read-only) gives an object that keeps nothing: every read misses and every fill is dropped. The only
    /// errors are files that are not what a store makes, such as symbolic links.
    pub fn object(self: &Arc<Self>, id: &ObjectId) -> Result<Arc<Object>> {
        if let Some(object) = self.registered(id.name()) {
            if object.id() == id {
                self.budget.touch(id.name(), object.allocated());
                return Ok(object);
            }
            return Ok(Arc::new(Object::uncached(self, id)));
        }
        let place = match self.place(id) {
            Err(error) if error.is_full() && self.make_room(0, 1 << 20) => self.place(id),
            other => other,
        };
        match place {
            Ok(Some(place)) => Ok(self.register(Object::new(self, id, place))),
            Ok(None) => Ok(Arc::new(Object::uncached(self, id))),
            Err(error @ Error::Unsafe { .. }) => Err(error),
            Err(error) => {
                self.count_failure(&error);
                Ok(Arc::new(Object::uncached(self, id)))
            }
        }
    }

    /// Opens the object `id` if there is something of it, and pins it.
    pub fn find(self: &Arc<Self>, id: &ObjectId) -> Result<Option<Arc<Object>>> {
        if let Some(object) = self.registered(id.name()) {
            return Ok((object.id() == id).then_some(object));
        }
        let found = self.shard(id.name())?.find(id)?;
        Ok(match found {
            Found::Object(place) => Some(self.register(Object::new(self, id, place))),
            Found::Nothing | Found::Taken | Found::Damaged => None,
        })
    }

    /// Removes what there is of the object `id`; `false` if it is held, or somebody, here or in another process, has
    /// it open.
    pub fn forget(self: &Arc<Self>, id: &ObjectId) -> Result<bool> {
        match self.shard(id.name())?.remove(id.name())? {
            Removal::Freed(bytes) => {
                self.budget.adjust(0, bytes);
                self.budget.forget(id.name());
                Ok(true)
            }
            Removal::Absent => Ok(true),
            Removal::Pinned | Removal::Held => Ok(false),
        }
    }

    /// Bytes that clean objects may take on the disk.
    pub fn limit(&self) -> u64 {
        self.budget.limit()
    }

    /// Bytes of the disk that are left free: while fewer are, nothing more is kept.
    pub fn floor(&self) -> u64 {
        self.budget.floor()
    }

    /// Turns the whole object into a staged file without copying it. The clean object is gone afterwards; if
    /// anybody else has it open, here or in another process, or if it is not whole, it stays and comes back.
    ///
    /// The file may still be held by a kernel on behalf of a process that died: take nothing before such
    /// handles are restored.
    pub fn take(self: &Arc<Self>, object: Arc<Object>, label: &StagedLabel) -> Result<Taken> {
        if !object.verify_whole() {
            return Ok(Taken::Shared(object));
        }
        // Under the registry's lock, so that nobody finds it there while it is being unwrapped.
        let unwrapped = {
            let _registry = self.registry.lock();
            Arc::try_unwrap(object)
        };
        let object = match unwrapped {
            Ok(object) => object,
            Err(object) => return Ok(Taken::Shared(object)),
        };
        let Some(place) = object.place() else { return Ok(Taken::Shared(Arc::new(object))) };
        let slot = Slot::reserve(self, label)?;
        let name = object.id().name();
        let shard = self.shard(name)?;
        match shard.withdraw(name, place, &slot.data_name())? {
            Removal::Freed(bytes) => {
                if shard.release(name)? {
                    self.budget.unreserve(on_disk(object.id().size()));
                }
                drop(shard);
                self.budget.adjust(0, bytes);
                self.budget.forget(name);
                Ok(Taken::Staged(slot.open()?))
            }
            Removal::Pinned | Removal::Held | Removal::Absent => {
                drop(shard);
                Ok(Taken::Shared(self.register(object)))
            }
        }
    }

    /// Creates an empty staged file.
    pub fn stage(self: &Arc<Self>, label: &StagedLabel) -> Result<Staged> {
        Slot::reserve(self, label)?.create()
    }

    /// Lists the staged files whose owner is gone. Each is locked while its [`OrphanStaged`] lives, so that no
    /// two processes recover the same one. They are never removed by themselves.
    pub fn orphans(self: &Arc<Self>) -> Result<Vec<OrphanStaged>> {
        staging::list_orphans(self, |_| true)
    }

    /// The same, of those whose label is `wanted`, and those whose label cannot be read. No other is even locked.
    pub fn orphans_where(
        self: &Arc<Self>,
        wanted: impl Fn(&StagedLabel) -> bool,
    ) -> Result<Vec<OrphanStaged>> {
        staging::list_orphans(self, wanted)
    }

    /// The staged file `name` of an owner that was killed; `None` if it is not there any more.
    pub fn orphan(self: &Arc<Self>, name: &str) -> Result<Option<OrphanStaged>> {
        staging::find_orphan(self, name)
    }

    /// What happened so far.
    pub fn stats(&self) -> Stats {
        self.counters.read(self.budget.used(), self.budget.held())
    }

    /// Bytes that may still be written to the disk, the floor not taken off.
    pub fn free_bytes(&self) -> Result<u64> {
        self.dirs.root.free_bytes()
    }

    /// The directory of the store's files.
    pub fn path(&self) -> &Path {
        self.dirs.root.path()
    }

    /// Locks the shard of `name`.
    pub(crate) fn shard(&self, name: ObjectName) -> Result<Shard<'_>> {
        Shard::lock(&self.dirs, name, self.boot)
    }

    /// Opens or creates the files of `id`; `None` if another object sits on its name.
    fn place(&self, id: &ObjectId) -> Result<Option<Place>> {
        let shard = self.shard(id.name())?;
        match shard.find(id)? {
            Found::Object(place) => return Ok(Some(place)),
            Found::Taken => {
                self.counters.bad_objects.one();
                return Ok(None);
            }
            Found::Damaged => self.counters.bad_objects.one(),
            Found::Nothing => {}
        }
        let place = shard.create(id)?;
        self.budget.adjust(on_disk(Map::file_len(id)), 0);
        Ok(Some(place))
    }

    /// Makes `object` known, or returns the one that was faster.
    pub(crate) fn register(self: &Arc<Self>, object: Object) -> Arc<Object> {
        let name = object.id().name();
        let object = Arc::new(object);
        let known = {
            let mut registry = self.registry.lock();
            match registry.get(&name).and_then(Weak::upgrade) {
                Some(known) => known,
                None => {
                    registry.insert(name, Arc::downgrade(&object));
                    Arc::clone(&object)
                }
            }
        };
        self.budget.touch(name, known.allocated());
        if known.id() == object.id() { known } else { Arc::new(Object::uncached(self, object.id())) }
    }

    fn registered(&self, name: ObjectName) -> Option<Arc<Object>> {
        self.registry.lock().get(&name).and_then(Weak::upgrade)
    }

    /// Forgets a dropped object unless another has taken its place.
    pub(crate) fn unregister(&self, name: ObjectName) {
        let mut registry = self.registry.lock();
        if registry.get(&name).is_some_and(|object| object.strong_count() == 0) {
            registry.remove(&name);
        }
    }

    /// Counts a failure that is none for the caller.
    pub(crate) fn count_failure(&self, error: &Error) {
        if error.is_full() {
            self.counters.full.one();
        } else {
            self.counters.io_errors.one();
            tracing::warn!(%error, source = ?std::error::Error::source(error), "the local store keeps nothing");
        }
    }
}
