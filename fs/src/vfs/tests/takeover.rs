//! A worker dies in the middle of a change of names; the next one has its session log, and the kernel sends the request
//! again.

use super::faulty::{Fault, FaultyStore, copy_dir};
use super::*;
use crate::clock;
use crate::meta::Kind;
use crate::session_log::time::Time;
use crate::session_log::{Record, State};
use crate::store::CopyRequest;

pub(super) const RENAME: Call = Call { op: "rename", unique: 7, resent: false, thread: 0 };
pub(super) const EXCLUSIVE: OpenFlags = OpenFlags { exclusive: true, ..WRITE };

pub(super) struct Workers {
    pub(super) store: Arc<FaultyStore>,
    pub(super) home: tempfile::TempDir,
    log: std::fs::File,
}

impl Workers {
    pub(super) fn new() -> Self {
        let home = tempfile::tempdir().expect("a folder");
        let store = FaultyStore::new(Arc::new(MemoryStore::new()), home.path());
        Self { store, home, log: tempfile::tempfile().expect("a file") }
    }

    /// Copies an object with all that it says, as another client does.
    pub(super) async fn copy(&self, from: &str, to: &str) {
        let found = self.store.inner.head(&parse(from)).await.expect("there");
        let (if_match, size) = (found.version.etag, found.version.size);
        let (from, to, condition) = (parse(from), parse(to), Condition::Absent);
        let request = CopyRequest { from, if_match, size, to, condition, headers: None, log: None };
        self.store.inner.copy(request).await.expect("copied");
    }

    pub(super) fn open_log(&self) -> (SessionLog, State) {
        SessionLog::open(self.log.try_clone().expect("a copy")).expect("a log")
    }

    pub(super) fn worker(&self, store: Arc<FaultyStore>, cache: &str) -> Arc<Vfs> {
        let set = |options: &mut Options| {
            options.attr_ttl = Duration::from_secs(3600);
            options.commit = Commit::Async { max_bytes: 1 << 30, max_age: Duration::from_secs(3600) };
        };
        mount_logged(store, &self.home.path().join(cache), None, set, self.open_log().0)
    }

    pub(super) fn first(&self) -> Arc<Vfs> {
        self.worker(Arc::clone(&self.store), "cache")
    }

    /// Another client puts an object that holds its own key.
    pub(super) async fn put(&self, key: &str) {
        let (body, headers) = (key.to_owned().into(), Headers::default());
        self.store.inner.put(&parse(key), body, &headers, Condition::Always).await.expect("put");
    }

    /// The kernel asks for the rename of `old` to `new`, for the first time or again.
    pub(super) async fn rename(vfs: &Vfs, mode: RenameMode, resent: bool) -> Result<()> {
        let (from, to) = ((Ino::ROOT, OsStr::new("old")), (Ino::ROOT, OsStr::new("new")));
        Call { resent, ..RENAME }.during(vfs.rename(from, to, mode)).await
    }

    /// Renames and dies after a request. Says whether there was such a request.
    pub(super) async fn dies_while_renaming(&self, vfs: &Vfs, mode: RenameMode, number: usize) -> bool {
        self.store.plan(number, Fault::DieAfter);
        let said = Self::rename(vfs, mode, false).await;
        if !self.store.is_hit() {
            said.expect("nothing happened");
        }
        self.store.is_hit()
    }

    /// Takes over with what the log came to.
    pub(super) async fn next(&self, state: &State) -> Arc<Vfs> {
        self.next_on(self.another_store(), state).await
    }

    /// The bucket, without the faults that the killed worker met.
    pub(super) fn another_store(&self) -> Arc<FaultyStore> {
        FaultyStore::new(Arc::clone(&self.store.inner), self.home.path())
    }

    /// The same on a store with faults of its own.
    pub(super) async fn next_on(&self, store: Arc<FaultyStore>, state: &State) -> Arc<Vfs> {
        let next = self.worker(store, "image");
        next.restore(state).expect("restore");
        next.recover().await.expect("recovery");
        next.go_on();
        next
    }

    pub(super) async fn rename_again(next: &Vfs) {
        Self::rename(next, RenameMode::Replace, true).await.expect("rename");
        assert!(next.drain().await.failed.is_empty());
    }

    /// What stands in the bucket.
    pub(super) async fn object(&self, key: &str) -> Option<Vec<u8>> {
        object(&*self.store.inner, key).await
    }
}

#[tokio::test]
async fn a_file_closed_below_a_directory_whose_rename_is_cut_short_is_moved_with_it() {
    for number in 0.. {
        let workers = Workers::new();
        let vfs = workers.first();
        let old = vfs.mkdir(Ino::ROOT, OsStr::new("old"), 0o755, CALLER).await.expect("mkdir").attr.ino;
        let mut open = Vec::new();
        for name in ["a", "b"] {
            let made = vfs.create(old, OsStr::new(name), 0o644, CALLER, EXCLUSIVE, false).await;
            open.push(made.expect("create").1.fh);
        }
        // The bucket has them, without a byte.
        workers.store.set_down(true);
        for fh in open {
            vfs.write(fh, 0, b"closed").expect("write");
            vfs.flush(fh).await.expect("flush");
            vfs.release(fh).await.expect("release");
        }
        vfs.log.flush();
        workers.store.set_down(false);
        if !workers.dies_while_renaming(&vfs, RenameMode::Replace, number).await {
            assert!(number > 4, "{number} requests were met");
            return;
        }
        let next = workers.next(&workers.open_log().1).await;
        // What is uploaded in the background may be first.
        assert!(next.drain().await.failed.is_empty(), "request {number}");
        Workers::rename_again(&next).await;
        assert_eq!(names(&next, "").await, ["new"], "request {number}");
        assert_eq!(names(&next, "new").await, ["a", "b"], "request {number}");
        for key in ["new/a", "new/b"] {
            assert_eq!(workers.object(key).await.as_deref(), Some(&b"closed"[..]), "request {number}: {key}");
        }
    }
}

/// The upload under the old name has ended after the session log was written last.
#[tokio::test]
async fn the_old_name_of_a_file_goes_though_only_the_journal_knows_its_object() {
    for number in 0.. {
        let workers = Workers::new();
        let vfs = workers.first();
        let fh = write_new(&vfs, (Ino::ROOT, "old"), EXCLUSIVE, b"body").await;
        vfs.log.flush();
        let mut state = workers.open_log().1;
        state.apply(Record::Intent { unique: RENAME.unique, at: Time(clock::now()) });
        vfs.fsync(fh).await.expect("fsync");
        if !workers.dies_while_renaming(&vfs, RenameMode::Replace, number).await {
            assert!(number > 2, "{number} requests were met");
            return;
        }
        let next = workers.next(&state).await;
        Workers::rename_again(&next).await;
        next.release(fh).await.expect("release");
        assert_eq!(names(&next, "").await, ["new"], "request {number}");
        assert_eq!(workers.object("new").await.as_deref(), Some(&b"body"[..]), "request {number}");
        assert_eq!(workers.object("old").await, None, "request {number}");
    }
}

/// The kernel sends the last close of a file again beside its rename.
#[tokio::test]
async fn a_file_that_was_renamed_is_not_committed_under_its_old_name() {
    for number in 0.. {
        let workers = Workers::new();
        let vfs = workers.first();
        let fh = write_new(&vfs, (Ino::ROOT, "old"), EXCLUSIVE, b"body").await;
        vfs.flush(fh).await.expect("flush");
        vfs.log.flush();
        if !workers.dies_while_renaming(&vfs, RenameMode::Replace, number).await {
            assert!(number > 2, "{number} requests were met");
            return;
        }
        let next = workers.next(&workers.open_log().1).await;
        next.release(fh).await.expect("release");
        assert!(next.drain().await.failed.is_empty(), "request {number}");
        Workers::rename_again(&next).await;
        assert_eq!(names(&next, "").await, ["new"], "request {number}");
        assert_eq!(workers.object("new").await.as_deref(), Some(&b"body"[..]), "request {number}");
    }
}

/// A worker notes a new file and its handle one after the other, and may be killed in between.
#[tokio::test]
async fn an_exclusive_create_of_one_node_goes_on_with_what_its_killed_worker_has_made() {
    const CREATE: Call = Call { op: "create", unique: 8, resent: false, thread: 0 };
    let workers = Workers::new();
    let worker = |cache| {
        let set = |options: &mut Options| options.exclusive = Exclusive::Node;
        mount_logged(
            workers.another_store(),
            &workers.home.path().join(cache),
            None,
            set,
            workers.open_log().0,
        )
    };
    let create = async |vfs: &Vfs, call: Call| {
        call.during(vfs.create(Ino::ROOT, OsStr::new("new"), 0o644, CALLER, EXCLUSIVE, false)).await
    };
    let first = worker("cache");
    create(&first, CREATE).await.expect("create");
    first.log.flush();
    let mut state = workers.open_log().1;
    copy_dir(&workers.home.path().join("cache"), &workers.home.path().join("image"));
    state.handles.clear();
    let next = worker("image");
    next.restore(&state).expect("restore");
    assert!(matches!(create(&next, CREATE).await, Err(Error::Exists)));
    let (_, opened) = create(&next, Call { resent: true, ..CREATE }).await.expect("its own");
    let another = Call { resent: true, unique: 9, ..CREATE };
    assert!(matches!(create(&next, another).await, Err(Error::Exists)), "it is open by now");
    next.write(opened.fh, 0, b"body").expect("write");
    next.flush(opened.fh).await.expect("flush");
    assert_eq!(workers.object("new").await.as_deref(), Some(&b"body"[..]));
}

/// Makes a file with these bytes, which stays open.
pub(super) async fn write_new(vfs: &Vfs, (parent, name): (Ino, &str), flags: OpenFlags, body: &[u8]) -> u64 {
    let made = vfs.create(parent, OsStr::new(name), 0o644, CALLER, flags, false).await;
    let fh = made.expect("create").1.fh;
    vfs.write(fh, 0, body).expect("write");
    fh
}

/// Writes the key's own name into a file that stays open.
async fn write_open(vfs: &Vfs, key: &str) {
    let (parent, name) = match key.split_once('/') {
        Some((dir, name)) => {
            let made = vfs.mkdir(Ino::ROOT, OsStr::new(dir), 0o755, CALLER).await;
            (made.expect("mkdir").attr.ino, name)
        }
        None => (Ino::ROOT, key),
    };
    let fh = write_new(vfs, (parent, name), WRITE, key.as_bytes()).await;
    vfs.fsync(fh).await.expect("fsync");
}

/// What a worker that died while it exchanged two names leaves to the next: the kernel's inodes, and what they hold.
async fn dies_while_exchanging(number: usize, keys: [&str; 2], open: bool) -> bool {
    let workers = Workers::new();
    let vfs = workers.first();
    for key in keys {
        if open {
            write_open(&vfs, key).await;
        } else {
            workers.put(key).await;
        }
    }
    let known = [lookup(&vfs, keys[0]).await.expect("there"), lookup(&vfs, keys[1]).await.expect("there")];
    vfs.log.flush();
    if !workers.dies_while_renaming(&vfs, RenameMode::Exchange, number).await {
        return false;
    }
    let next = workers.next(&workers.open_log().1).await;
    Workers::rename(&next, RenameMode::Exchange, true)
        .await
        .unwrap_or_else(|error| panic!("{keys:?}, request {number}: {error}"));
    assert_eq!(names(&next, "").await, ["new", "old"], "{keys:?}, request {number}");
    for (key, ino) in keys.iter().zip(known) {
        let other =
            if key.starts_with("old") { key.replace("old", "new") } else { key.replace("new", "old") };
        let body = workers.object(&other).await;
        assert_eq!(body.as_deref(), Some(key.as_bytes()), "{keys:?}, request {number}: {other}");
        if let Some((dir, _)) = other.split_once('/') {
            // MinIO shows nothing of a directory that has an object's name.
            assert_eq!(workers.object(dir).await, None, "{keys:?}, request {number}: {dir}");
        }
        assert_eq!(lookup(&next, &other).await.expect("there"), ino, "{keys:?}, request {number}: {other}");
        assert_eq!(read_file(&next, &other).await.expect("read"), key.as_bytes());
    }
    true
}

/// SEMANTICS: "It may be killed at any moment (Linux 6.9 or later): no system call fails; open files, locks and
/// positions in directories stay."
#[tokio::test]
async fn an_exchange_sent_again_is_done_once() {
    let sides = [["old", "new"], ["old/f", "new/g"], ["old", "new/g"], ["old/f", "new"]];
    for (keys, open) in sides.into_iter().flat_map(|keys| [(keys, false), (keys, true)]) {
        let mut number = 0;
        while dies_while_exchanging(number, keys, open).await {
            number += 1;
        }
        assert!(number >= 6, "{keys:?}: {number} requests were met");
    }
}

/// What the kernel asks to be made, by name.
async fn make(vfs: &Vfs, what: &str, resent: bool) -> Result<Ino> {
    let (name, call) = (OsStr::new(what), Call { resent, ..RENAME });
    let entry = match what {
        "directory" => call.during(vfs.mkdir(Ino::ROOT, name, 0o755, CALLER)).await?,
        "link" => call.during(vfs.symlink(Ino::ROOT, name, OsStr::new("target"), CALLER)).await?,
        "file" => call.during(vfs.create(Ino::ROOT, name, 0o644, CALLER, EXCLUSIVE, false)).await?.0,
        _ => call.during(vfs.mknod(Ino::ROOT, name, Kind::File, 0o644, CALLER)).await?,
    };
    Ok(entry.attr.ino)
}

/// SEMANTICS: "It may be killed at any moment (Linux 6.9 or later): no system call fails; open files, locks and
/// positions in directories stay."
#[tokio::test]
async fn what_is_made_again_is_known_and_what_another_client_made_is_not_taken_for_it() {
    for what in ["directory", "link", "file", "node"] {
        for (number, arrives) in (0..).flat_map(|number| [(number, true), (number, false)]) {
            let workers = Workers::new();
            let vfs = workers.first();
            workers.store.plan(number, if arrives { Fault::DieAfter } else { Fault::DieBefore });
            drop(make(&vfs, what, false).await);
            if !workers.store.is_hit() {
                assert!(number >= 1, "{what}: {number} requests were met");
                break;
            }
            let key = if what == "directory" { "directory/" } else { what };
            let ours = workers.object(key).await.is_some();
            let next = workers.next(&workers.open_log().1).await;
            if !ours {
                let (body, headers) = (Bytes::new(), Headers::default());
                workers.store.inner.put(&parse(key), body, &headers, Condition::Always).await.expect("put");
            }
            let made = make(&next, what, true).await;
            if ours {
                made.unwrap_or_else(|error| panic!("{what}, request {number}: {error}"));
            } else {
                assert!(matches!(made, Err(Error::Exists)), "{what}, request {number}: {made:?}");
            }
        }
    }
}
