//! What runs where: one small file per mount, so that `tarn umount` finds the process that serves it and can
//! wait until it has drained.
//!
//! Invariants: files are 0600 in a directory of the user (0700); the pid counts only together with the process's
//! start time; the keeper removes its file at its end, and whoever looks removes stale ones. A record whose keeper
//! was killed stays while its mount stands: the worker goes on, and its socket is found by it. Whoever writes or removes
//! a record holds the lock on the directory: what was found stale may have been replaced since.

use crate::fuse::session::mountinfo;
use crate::process::ProcessId;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Who serves a mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The process.
    #[serde(flatten)]
    pub process: ProcessId,
    /// The mount point, canonical.
    pub dir: PathBuf,
    /// What is mounted.
    pub source: String,
    /// It was mounted with `--read-only`.
    #[serde(default)]
    pub read_only: bool,
    /// Version of the program.
    pub version: String,
    /// Where it logs.
    pub log: String,
    /// How its drain ended; `None` while it serves.
    pub outcome: Option<Outcome>,
}

/// How a mount's last drain ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Files committed after the mount was gone.
    pub committed: usize,
    /// Path and reason of each file that is not in the bucket.
    pub failed: Vec<(String, String)>,
}

/// Digits of a mount point's hash in the names of its files.
const HASH_DIGITS: usize = 16;

/// The directory of the records.
#[derive(Debug, Clone)]
pub struct Registry {
    dir: PathBuf,
}

impl Registry {
    /// The user's own: `/run/tarn` for root, else `$XDG_RUNTIME_DIR/tarn`, else `/tmp/tarn-UID`.
    pub fn of_user(uid: u32, xdg_runtime_dir: Option<&Path>) -> io::Result<Self> {
        let dir = match xdg_runtime_dir.filter(|dir| dir.is_absolute()) {
            _ if uid == 0 => PathBuf::from("/run/tarn"),
            Some(dir) => dir.join("tarn"),
            None => PathBuf::from(format!("/tmp/tarn-{uid}")),
        };
        Self::open(dir, uid)
    }

    /// Opens or makes the directory; one that another user could write to is refused.
    pub fn open(dir: PathBuf, uid: u32) -> io::Result<Self> {
        match DirBuilder::new().mode(0o700).create(&dir) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        let metadata = fs::symlink_metadata(&dir)?;
        if !metadata.is_dir() || metadata.uid() != uid || metadata.mode() & 0o022 != 0 {
            let text = format!("{} is not a directory of this user only", dir.display());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        Ok(Self { dir })
    }

    /// Writes the record of a mount that has just been made.
    pub fn create(&self, record: &Record) -> io::Result<RecordFile> {
        let lock = self.lock()?;
        self.remove_stale(&lock)?;
        let path = self.path_of(&record.dir);
        // A new name, then a rename: a reader never sees half a record.
        let draft = path.with_extension(format!("{}.new", record.process.pid));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        let written = serde_json::to_writer(&mut file, record).map_err(io::Error::from);
        match written.and_then(|()| fs::rename(&draft, &path)) {
            Ok(()) => Ok(RecordFile { registry: self.clone(), path, file, record: record.clone() }),
            Err(error) => {
                fs::remove_file(&draft)?;
                Err(error)
            }
        }
    }

    /// The record of the mount at `dir`, if its keeper lives or it still stands; its open file tells the outcome later.
    pub fn find(&self, dir: &Path) -> io::Result<Option<Watched>> {
        self.remove_stale(&self.lock()?)?;
        let mut file = match File::open(self.path_of(dir)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let record = read(&mut file)?;
        Ok((record.dir == dir).then_some(Watched { record, file }))
    }

    /// The records of all mounts whose keeper lives or that still stand, by mount point.
    pub fn all(&self) -> io::Result<Vec<Record>> {
        self.remove_stale(&self.lock()?)?;
        let mut records = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if matches!(kept(&path), Some(Kept::Record)) {
                match File::open(&path).and_then(|mut file| read(&mut file)) {
                    Ok(record) => records.push(record),
                    // Its mount has just ended.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
        }
        records.sort_by(|a, b| a.dir.cmp(&b.dir));
        Ok(records)
    }

    /// Where the mount at `dir` can be asked.
    pub fn socket_of(&self, dir: &Path) -> PathBuf {
        self.path_of(dir).with_extension("sock")
    }

    /// Where the keeper of the mount at `dir` can be asked.
    pub fn door_of(&self, dir: &Path) -> PathBuf {
        self.path_of(dir).with_extension("door")
    }

    fn lock(&self) -> io::Result<Lock> {
        let dir = File::open(&self.dir)?;
        flock(&dir, FlockOperation::LockExclusive)?;
        Ok(Lock { _dir: dir })
    }

    /// Removes the records of mounts that are gone with their keepers, drafts of such, and their sockets. What else
    /// lies there is not the registry's.
    fn remove_stale(&self, _held: &Lock) -> io::Result<()> {
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            let stale = match kept(&path) {
                None => false,
                Some(Kept::Draft { writer }) => ProcessId::of(writer).is_none(),
                // A mount makes its socket after its record.
                Some(Kept::Socket) => !path.with_extension("json").exists(),
                Some(Kept::Record) => match File::open(&path).and_then(|mut file| read(&mut file)) {
                    Ok(record) => !record.process.is_alive() && !stands(&record.dir),
                    Err(error) => error.kind() != io::ErrorKind::NotFound,
                },
            };
            if stale {
                remove(&path)?;
            }
        }
        Ok(())
    }

    fn path_of(&self, dir: &Path) -> PathBuf {
        let name = dir.as_os_str().as_encoded_bytes();
        let hash = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, name);
        self.dir.join(format!("{hash:0HASH_DIGITS$x}.json"))
    }
}

/// Nobody else writes or removes records meanwhile.
#[derive(Debug)]
struct Lock {
    _dir: File,
}

/// What the registry keeps in a file.
enum Kept {
    /// `HASH.json`
    Record,
    /// `HASH.PID.new`
    Draft { writer: i32 },
    /// `HASH.sock`, `HASH.door`
    Socket,
}

/// What is in a file of the registry, by its name; `None` if it is none.
fn kept(path: &Path) -> Option<Kept> {
    let (hash, rest) = path.file_name()?.to_str()?.split_once('.')?;
    if hash.len() != HASH_DIGITS || !hash.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    match rest {
        "json" => Some(Kept::Record),
        "sock" | "door" => Some(Kept::Socket),
        draft => Some(Kept::Draft { writer: draft.strip_suffix(".new")?.parse().ok()? }),
    }
}

/// Whether a mount of tarn is there. The list says so; the mount itself, which may be stuck, is not asked.
fn stands(dir: &Path) -> bool {
    mountinfo::find_last(dir).is_ok_and(|found| found.is_some_and(|entry| entry.is_tarn()))
}

fn read(file: &mut File) -> io::Result<Record> {
    const MOST: u64 = 1 << 20;
    file.rewind()?;
    let mut text = String::new();
    file.take(MOST).read_to_string(&mut text)?;
    Ok(serde_json::from_str(&text)?)
}

/// Removes the file with this number, unless another has replaced it: that is the next mount's of the directory.
pub(crate) fn remove_own(path: &Path, inode: u64) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(there) if there.ino() == inode => remove(path),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Removes a file, if it is there.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The record of this process's mount.
#[derive(Debug)]
pub struct RecordFile {
    registry: Registry,
    path: PathBuf,
    file: File,
    record: Record,
}

impl RecordFile {
    /// Writes the outcome into the file, for whoever has it open, and removes it.
    pub fn finish(mut self, outcome: Outcome) -> io::Result<()> {
        self.record.outcome = Some(outcome);
        let text = serde_json::to_vec(&self.record)?;
        self.file.rewind()?;
        self.file.write_all(&text)?;
        self.file.set_len(text.len() as u64)
    }

    fn remove(&self) -> io::Result<()> {
        let _lock = self.registry.lock()?;
        remove_own(&self.path, self.file.metadata()?.ino())
    }
}

impl Drop for RecordFile {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            tracing::warn!(%error, path = %self.path.display(), "the mount's record stays behind");
        }
    }
}

/// A record with its file held open.
#[derive(Debug)]
pub struct Watched {
    /// As it was found.
    pub record: Record,
    file: File,
}

impl Watched {
    /// Whether its keeper lives.
    pub fn is_kept(&self) -> bool {
        self.record.process.is_alive()
    }

    /// How the drain ended; `None` if the process has not said, or died.
    pub fn outcome(&mut self) -> io::Result<Option<Outcome>> {
        Ok(read(&mut self.file)?.outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    fn registry() -> (tempfile::TempDir, Registry) {
        let temp = tempfile::tempdir().expect("temp dir");
        let uid = rustix::process::geteuid().as_raw();
        let registry = Registry::open(temp.path().join("tarn"), uid).expect("own directory");
        (temp, registry)
    }

    fn record(dir: &str) -> Record {
        Record {
            process: ProcessId::own(),
            dir: dir.into(),
            source: "s3://b".into(),
            read_only: false,
            version: "1".into(),
            log: "stderr".into(),
            outcome: None,
        }
    }

    #[test]
    fn a_watcher_learns_the_outcome_after_the_file_is_gone() {
        let (_temp, registry) = registry();
        let file = registry.create(&record("/mnt/a")).expect("created");
        let mut watched = registry.find(Path::new("/mnt/a")).expect("readable").expect("there");
        assert_eq!(watched.record, record("/mnt/a"));
        assert_eq!(watched.outcome().expect("readable"), None);
        let outcome = Outcome { committed: 2, failed: vec![("x".into(), "denied".into())] };
        file.finish(outcome.clone()).expect("finished");
        assert_eq!(watched.outcome().expect("readable"), Some(outcome));
        assert!(registry.find(Path::new("/mnt/a")).expect("readable").is_none());
        assert_eq!(fs::read_dir(&registry.dir).expect("dir").count(), 0);
    }

    #[test]
    fn records_are_private_and_one_per_directory() {
        let (_temp, registry) = registry();
        let _one = registry.create(&record("/mnt/a")).expect("created");
        let _two = registry.create(&record("/mnt/b")).expect("created");
        let modes: Vec<u32> = fs::read_dir(&registry.dir)
            .expect("dir")
            .map(|e| e.expect("entry").metadata().expect("stat").mode() & 0o777)
            .collect();
        assert_eq!(modes, [0o600, 0o600]);
        assert!(registry.find(Path::new("/mnt/c")).expect("readable").is_none());
        let all = registry.all().expect("readable");
        assert_eq!(all, [record("/mnt/a"), record("/mnt/b")]);
    }

    #[test]
    fn stale_and_broken_records_are_cleaned() {
        let (_temp, registry) = registry();
        let stale = Record { process: ProcessId { start_time: 1, ..ProcessId::own() }, ..record("/mnt/a") };
        let text = serde_json::to_string(&stale).expect("json");
        fs::write(registry.path_of(Path::new("/mnt/a")), text).expect("write");
        for name in ["0000000000000000.json", "0000000000000001.sock", "0000000000000002.0.new"] {
            fs::write(registry.dir.join(name), "{").expect("write");
        }
        fs::create_dir(registry.dir.join("v1")).expect("a folder of somebody else");
        fs::write(registry.dir.join("tarn.log"), "").expect("a file of somebody else");
        assert!(registry.find(Path::new("/mnt/a")).expect("readable").is_none());
        let mut left: Vec<_> = fs::read_dir(&registry.dir)
            .expect("dir")
            .map(|entry| entry.expect("entry").file_name())
            .collect();
        left.sort();
        assert_eq!(left, ["tarn.log", "v1"]);
    }

    #[test]
    fn the_end_of_a_mount_leaves_the_record_of_the_next_one() {
        let (_temp, registry) = registry();
        let draining = registry.create(&record("/mnt/a")).expect("created");
        let next = registry.create(&record("/mnt/a")).expect("created");
        drop(draining);
        assert!(registry.find(Path::new("/mnt/a")).expect("readable").is_some());
        drop(next);
        assert_eq!(fs::read_dir(&registry.dir).expect("dir").count(), 0);
    }

    #[test]
    fn nobody_writes_or_removes_records_while_another_does() {
        let (_temp, registry) = registry();
        let alone =
            || flock(File::open(&registry.dir).expect("dir"), FlockOperation::NonBlockingLockExclusive);
        let held = registry.lock().expect("free");
        assert_eq!(alone(), Err(Errno::WOULDBLOCK));
        drop(held);
        assert_eq!(alone(), Ok(()));
    }

    #[test]
    fn a_directory_of_others_is_refused() {
        let temp = tempfile::tempdir().expect("temp dir");
        let uid = rustix::process::geteuid().as_raw();
        assert!(Registry::open(temp.path().to_owned(), uid + 1).is_err());
        std::os::unix::fs::symlink(temp.path(), temp.path().join("link")).expect("symlink");
        assert!(Registry::open(temp.path().join("link"), uid).is_err());
    }
}
