//! A worker dies in the middle of a change of names; the next one has its session log, and the kernel sends the request
//! again.

use super::faulty::{Fault, FaultyStore, copy_dir};
use super::*;
use crate::clock::{self, simulated};
use crate::meta::Kind;
use crate::session_log::time::Time;
use crate::session_log::{Record, State};
use crate::store::CopyRequest;
use crate::write::Progress;

const RENAME: Call = Call { op: "rename", unique: 7, resent: false, thread: 0 };
const EXCLUSIVE: OpenFlags = OpenFlags { exclusive: true, ..WRITE };

struct Workers {
    store: Arc<FaultyStore>,
    home: tempfile::TempDir,
    log: std::fs::File,
}

impl Workers {
    fn new() -> Self {
        let home = tempfile::tempdir().expect("a folder");
        let store = FaultyStore::new(Arc::new(MemoryStore::new()), home.path());
        Self { store, home, log: tempfile::tempfile().expect("a file") }
    }

    /// Copies an object with all that it says, as another client does.
    async fn copy(&self, from: &str, to: &str) {
        let found = self.store.inner.head(&parse(from)).await.expect("there");
        let (if_match, size) = (found.version.etag, found.version.size);
        let (from, to, condition) = (parse(from), parse(to), Condition::Absent);
        let request = CopyRequest { from, if_match, size, to, condition, headers: None, log: None };
        self.store.inner.copy(request).await.expect("copied");
    }

    fn open_log(&self) -> (SessionLog, State) {
        SessionLog::open(self.log.try_clone().expect("a copy")).expect("a log")
    }

    fn worker(&self, store: Arc<FaultyStore>, cache: &str) -> Arc<Vfs> {
        let set = |options: &mut Options| {
            options.attr_ttl = Duration::from_secs(3600);
            options.commit = Commit::Async { max_bytes: 1 << 30, max_age: Duration::from_secs(3600) };
        };
        mount_logged(store, &self.home.path().join(cache), None, set, self.open_log().0)
    }

    fn first(&self) -> Arc<Vfs> {
        self.worker(Arc::clone(&self.store), "cache")
    }

    async fn rename(vfs: &Vfs, call: Call) -> Result<()> {
        let (from, to) = ((Ino::ROOT, OsStr::new("old")), (Ino::ROOT, OsStr::new("new")));
        call.during(vfs.rename(from, to, RenameMode::Replace)).await
    }

    /// Renames and dies after a request. Says whether there was such a request.
    async fn dies_while_renaming(&self, vfs: &Vfs, number: usize) -> bool {
        self.store.plan(number, Fault::DieAfter);
        let said = Self::rename(vfs, RENAME).await;
        if !self.store.is_hit() {
            said.expect("nothing happened");
        }
        self.store.is_hit()
    }

    /// Takes over with what the log came to.
    async fn next(&self, state: &State) -> Arc<Vfs> {
        let next = self.worker(FaultyStore::new(Arc::clone(&self.store.inner), self.home.path()), "image");
        next.restore(state).expect("restore");
        next.recover().await.expect("recovery");
        next.go_on();
        next
    }

    async fn rename_again(next: &Vfs) {
        Self::rename(next, Call { resent: true, ..RENAME }).await.expect("rename");
        assert!(next.drain().await.failed.is_empty());
    }

    /// What stands in the bucket.
    async fn object(&self, key: &str) -> Option<Vec<u8>> {
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
        if !workers.dies_while_renaming(&vfs, number).await {
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
        if !workers.dies_while_renaming(&vfs, number).await {
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
        if !workers.dies_while_renaming(&vfs, number).await {
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
        let store = FaultyStore::new(Arc::clone(&workers.store.inner), workers.home.path());
        mount_logged(store, &workers.home.path().join(cache), None, set, workers.open_log().0)
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
async fn write_new(vfs: &Vfs, (parent, name): (Ino, &str), flags: OpenFlags, body: &[u8]) -> u64 {
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
    let exchange = async |vfs: &Vfs, resent| {
        let (from, to) = ((Ino::ROOT, OsStr::new("old")), (Ino::ROOT, OsStr::new("new")));
        Call { resent, ..RENAME }.during(vfs.rename(from, to, RenameMode::Exchange)).await
    };
    let workers = Workers::new();
    let vfs = workers.first();
    for key in keys {
        if open {
            write_open(&vfs, key).await;
        } else {
            let (body, headers) = (key.to_owned().into(), Headers::default());
            workers.store.inner.put(&parse(key), body, &headers, Condition::Always).await.expect("put");
        }
    }
    let known = [lookup(&vfs, keys[0]).await.expect("there"), lookup(&vfs, keys[1]).await.expect("there")];
    vfs.log.flush();
    workers.store.plan(number, Fault::DieAfter);
    let said = exchange(&vfs, false).await;
    if !workers.store.is_hit() {
        said.expect("nothing happened");
        return false;
    }
    let next = workers.next(&workers.open_log().1).await;
    exchange(&next, true).await.unwrap_or_else(|error| panic!("{keys:?}, request {number}: {error}"));
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

/// However much there is to move: what is elsewhere does not wait for it.
#[tokio::test]
async fn a_mount_is_taken_over_before_a_directorys_rename_has_ended() {
    let workers = Workers::new();
    let vfs = workers.first();
    let old = vfs.mkdir(Ino::ROOT, OsStr::new("old"), 0o755, CALLER).await.expect("mkdir").attr.ino;
    for name in ["a", "b"] {
        let fh = write_new(&vfs, (old, name), EXCLUSIVE, b"body").await;
        vfs.fsync(fh).await.expect("fsync");
        vfs.release(fh).await.expect("release");
    }
    vfs.log.flush();
    // After the looks at what is there: a copy.
    assert!(workers.dies_while_renaming(&vfs, 2).await);
    let next = workers.next(&workers.open_log().1).await;
    assert!(workers.object("old/a").await.is_some() && workers.object("old/b").await.is_some());
    Workers::rename_again(&next).await;
    assert_eq!(names(&next, "new").await, ["a", "b"]);
    for (key, body) in
        [("old/a", None), ("old/b", None), ("new/a", Some(&b"body"[..])), ("new/b", Some(b"body"))]
    {
        assert_eq!(workers.object(key).await.as_deref(), body, "{key}");
    }
}

/// Renames, dies after this request, and is taken over while the store is away. Says whether there was such a request.
async fn is_taken_over_while_the_store_is_away(number: usize, mode: RenameMode) -> bool {
    let workers = Workers::new();
    for key in ["old", "new"] {
        let (body, headers) = (key.into(), Headers::default());
        workers.store.inner.put(&parse(key), body, &headers, Condition::Always).await.expect("put");
    }
    let vfs = workers.first();
    let known = lookup(&vfs, "old").await.expect("there");
    lookup(&vfs, "new").await.expect("there");
    vfs.log.flush();
    let rename = async |vfs: &Vfs, resent| {
        let (from, to) = ((Ino::ROOT, OsStr::new("old")), (Ino::ROOT, OsStr::new("new")));
        Call { resent, ..RENAME }.during(vfs.rename(from, to, mode)).await
    };
    workers.store.plan(number, Fault::DieAfter);
    let said = rename(&vfs, false).await;
    if !workers.store.is_hit() {
        said.expect("nothing happened");
        return false;
    }
    let store = FaultyStore::new(Arc::clone(&workers.store.inner), workers.home.path());
    store.set_down(true);
    let next = workers.worker(Arc::clone(&store), "image");
    next.restore(&workers.open_log().1).expect("restore");
    next.recover().await.expect("recovery");
    next.go_on();
    clock::sleep(Duration::from_secs(10)).await;
    store.set_down(false);
    rename(&next, true).await.unwrap_or_else(|error| panic!("{mode:?}, request {number}: {error}"));
    let left = (mode == RenameMode::Exchange).then_some(&b"new"[..]);
    assert_eq!(workers.object("new").await.as_deref(), Some(&b"old"[..]), "{mode:?}, request {number}");
    assert_eq!(workers.object("old").await.as_deref(), left, "{mode:?}, request {number}");
    assert_eq!(lookup(&next, "new").await.expect("there"), known, "{mode:?}, request {number}");
    assert_eq!(names(&next, "").await.len(), 1 + left.iter().len(), "{mode:?}, request {number}");
    true
}

#[test]
fn what_is_half_renamed_while_the_store_is_away_is_finished_when_it_is_back() {
    simulated::run(1, async {
        for mode in [RenameMode::Replace, RenameMode::Exchange] {
            let mut number = 0;
            while is_taken_over_while_the_store_is_away(number, mode).await {
                number += 1;
            }
            assert!(number >= 2, "{mode:?}: {number} requests were met");
        }
    });
}

/// Exchanges two directories, dies after a request, and the next worker is refused another. Says whether there were such
/// requests.
async fn is_refused_while_it_finishes(number: usize, refused: usize) -> (bool, bool) {
    let workers = Workers::new();
    for key in ["old/f", "old/g", "new/f", "new/g"] {
        let (body, headers) = (key.into(), Headers::default());
        workers.store.inner.put(&parse(key), body, &headers, Condition::Always).await.expect("put");
    }
    let vfs = workers.first();
    for key in ["old/f", "new/f"] {
        lookup(&vfs, key).await.expect("there");
    }
    vfs.log.flush();
    let exchange = async |vfs: &Vfs, resent| {
        let (from, to) = ((Ino::ROOT, OsStr::new("old")), (Ino::ROOT, OsStr::new("new")));
        Call { resent, ..RENAME }.during(vfs.rename(from, to, RenameMode::Exchange)).await
    };
    workers.store.plan(number, Fault::DieAfter);
    let said = exchange(&vfs, false).await;
    if !workers.store.is_hit() {
        said.expect("nothing happened");
        return (false, false);
    }
    let store = FaultyStore::new(Arc::clone(&workers.store.inner), workers.home.path());
    let next = workers.worker(Arc::clone(&store), "image");
    next.restore(&workers.open_log().1).expect("restore");
    let context = format!("requests {number} and {refused}");
    store.plan(refused, Fault::Refuse);
    next.recover().await.expect("recovery");
    clock::sleep(Duration::from_secs(10)).await;
    let is_hit = store.is_hit();
    if is_hit {
        exchange(&next, true).await.unwrap_or_else(|error| panic!("{context}: {error}"));
        for (key, body) in [("old/f", "new/f"), ("old/g", "new/g"), ("new/f", "old/f"), ("new/g", "old/g")] {
            let found = workers.object(key).await;
            assert_eq!(found.as_deref(), Some(body.as_bytes()), "{context}: {key}");
        }
        let left = next.cache.orphans_where(|_| true).expect("a list");
        assert!(left.is_empty(), "{context}: {left:?}");
    }
    (true, is_hit)
}

#[test]
fn an_exchange_that_fails_while_it_is_finished_is_finished_later() {
    simulated::run(1, async {
        for number in 0.. {
            let mut refused = 0;
            let met = loop {
                match is_refused_while_it_finishes(number, refused).await {
                    (true, true) => refused += 1,
                    (met, _) => break met,
                }
            };
            if !met {
                assert!(number >= 12, "{number} requests were met");
                return;
            }
        }
    });
}

#[test]
fn nobody_waits_until_the_store_drops_what_a_killed_worker_was_uploading() {
    simulated::run(1, async {
        let workers = Workers::new();
        let vfs = workers.first();
        for name in ["a", "b"] {
            let upload = Some(Progress::asked(&parse(name), &Headers::default(), None));
            let record = journal::Record {
                state: journal::State::Removed,
                upload,
                ..journal::Record::open(parse(name), None)
            };
            vfs.cache.stage(&vfs.label(&record)).expect("a record").keep(true);
        }
        vfs.log.flush();
        copy_dir(&workers.home.path().join("cache"), &workers.home.path().join("image"));
        let mut state = workers.open_log().1;
        state.passthrough = Some(true);
        let store = FaultyStore::new(Arc::clone(&workers.store.inner), workers.home.path());
        let next = workers.worker(Arc::clone(&store), "image");
        next.restore(&state).expect("restore");
        store.plan(0, Fault::Late);
        let before = clock::instant();
        next.recover().await.expect("recovery");
        assert!(
            store.is_hit() && clock::since(before) < Duration::from_secs(2),
            "{:?}",
            clock::since(before)
        );
        assert_eq!(next.cache.orphans_where(|_| true).expect("a list").len(), 2, "for the next worker");
    });
}

/// A file in a directory, whose upload is under way when its worker is killed; the next worker, and the directory.
async fn killed_while_uploading(workers: &Workers) -> (Arc<Vfs>, Ino) {
    let vfs = workers.first();
    let dir = vfs.mkdir(Ino::ROOT, OsStr::new("d"), 0o755, CALLER).await.expect("mkdir").attr.ino;
    let fh = write_new(&vfs, (dir, "f"), WRITE, b"body").await;
    vfs.log.flush();
    workers.store.plan(0, Fault::Stray);
    vfs.fsync(fh).await.expect_err("killed");
    let next = workers.next(&workers.open_log().1).await;
    next.release(fh).await.expect("release");
    (next, dir)
}

/// MinIO carries out a PUT that it has received, also if its sender is gone.
#[tokio::test]
async fn an_upload_of_a_killed_worker_brings_no_removed_file_back() {
    for look in ["rmdir", "lookup", "create", "readdir", "another worker"] {
        let workers = Workers::new();
        let (mut vfs, dir) = killed_while_uploading(&workers).await;
        let unlink = async |vfs: &Vfs, resent| {
            Call { op: "unlink", resent, ..RENAME }.during(vfs.unlink(dir, OsStr::new("f"))).await
        };
        unlink(&vfs, false).await.expect("unlink");
        if look == "another worker" {
            // This one was killed before it could answer.
            let another = workers.worker(Arc::clone(&workers.store), "cache-of-another");
            another.restore(&workers.open_log().1).expect("restore");
            workers.store.set_down(false);
            unlink(&another, true).await.expect("it is gone");
            vfs = another;
        }
        assert_eq!(workers.store.arrive().await, [false]);
        assert!(workers.object("d/f").await.is_some(), "it has come back");
        match look {
            "lookup" => {
                let found = vfs.lookup(dir, OsStr::new("f")).await;
                assert!(matches!(found, Err(Error::NotFound)), "{found:?}");
            }
            "create" => {
                let made = vfs.mknod(dir, OsStr::new("f"), Kind::File, 0o644, CALLER).await;
                made.expect("the name is free");
                assert_eq!(workers.object("d/f").await.as_deref(), Some(&b""[..]));
                vfs.unlink(dir, OsStr::new("f")).await.expect("unlink");
            }
            "readdir" => assert_eq!(names(&vfs, "d").await, [""; 0]),
            _ => {}
        }
        vfs.rmdir(Ino::ROOT, OsStr::new("d")).await.expect("it is empty");
        assert_eq!(workers.object("d/f").await, None, "{look}");
    }
}

#[tokio::test]
async fn what_is_put_under_a_removed_name_stays() {
    for who in ["another client", "one that moves it back", "this mount", "a rename"] {
        let workers = Workers::new();
        let (vfs, dir) = killed_while_uploading(&workers).await;
        let f = OsStr::new("f");
        let other = "moved";
        if who == "one that moves it back" {
            assert!(vfs.drain().await.failed.is_empty());
            vfs.rename((dir, f), (Ino::ROOT, OsStr::new(other)), RenameMode::Replace).await.expect("rename");
        } else if who == "a rename" {
            assert!(vfs.drain().await.failed.is_empty());
            let there_and_back = [((dir, f), (Ino::ROOT, f)), ((Ino::ROOT, f), (dir, f))];
            for (from, to) in there_and_back {
                vfs.rename(from, to, RenameMode::Replace).await.expect("rename");
            }
        } else {
            vfs.unlink(dir, f).await.expect("unlink");
        }
        match who {
            "another client" => {
                let (key, body, headers) = (parse("d/f"), Bytes::from_static(b"body"), Headers::default());
                workers.store.inner.put(&key, body, &headers, Condition::Absent).await.expect("put");
            }
            "one that moves it back" => workers.copy(other, "d/f").await,
            "this mount" => {
                let fh = write_new(&vfs, (dir, "f"), WRITE, b"body").await;
                vfs.fsync(fh).await.expect("fsync");
                vfs.release(fh).await.expect("release");
            }
            _ => {}
        }
        assert_eq!(workers.store.arrive().await, [true], "{who}: it is refused");
        assert_eq!(names(&vfs, "d").await, ["f"]);
        let removed = vfs.rmdir(Ino::ROOT, OsStr::new("d")).await;
        assert!(matches!(removed, Err(Error::NotEmpty)), "{who}: {removed:?}");
        assert_eq!(workers.object("d/f").await.as_deref(), Some(&b"body"[..]), "{who}");
    }
}
