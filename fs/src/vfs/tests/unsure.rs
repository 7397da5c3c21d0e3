//! What becomes of a file when answers are lost or late, or when another client takes the object away.

use super::faulty::{Fault, FaultyStore, copy_dir};
use super::*;
use crate::clock::simulated;
use crate::meta::Kind;
use std::path::Path;

const LATER: Commit = Commit::Async { max_bytes: 1 << 30, max_age: Duration::from_secs(3600) };

/// A mount that as a rule believes for long, on a store with faults.
struct Unsure {
    vfs: Arc<Vfs>,
    store: Arc<FaultyStore>,
    home: tempfile::TempDir,
}

impl Unsure {
    fn new(commit: Commit) -> Self {
        Self::believing(commit, Duration::from_secs(3600))
    }

    fn believing(commit: Commit, attr_ttl: Duration) -> Self {
        let home = tempfile::tempdir().expect("a folder");
        let store = FaultyStore::new(small_parts(), home.path());
        let vfs = mounted_for(&store, &home.path().join("cache"), commit, attr_ttl);
        Self { vfs, store, home }
    }

    /// Makes a file, writes, and leaves it open.
    async fn write_open(&self, name: &str, body: &[u8]) -> (Ino, u64) {
        let made = self.vfs.create(Ino::ROOT, OsStr::new(name), 0o644, CALLER, WRITE, false).await;
        let (entry, opened) = made.expect("a file");
        self.vfs.write(opened.fh, 0, body).expect("write");
        (entry.attr.ino, opened.fh)
    }

    /// Another client puts an object.
    async fn put(&self, key: &str, body: &'static str, headers: &Headers) {
        let put = self.store.inner.put(&parse(key), body.into(), headers, Condition::Always).await;
        put.expect("put");
    }

    async fn remove(&self, key: &str) {
        self.store.inner.delete(&[parse(key)]).await.expect("delete");
    }

    async fn object(&self, key: &str) -> Option<Vec<u8>> {
        object(&*self.store.inner, key).await
    }

    /// What is kept beside another client's object, the first copy first.
    async fn kept(&self, key: &str) -> Vec<Vec<u8>> {
        let mut kept = Vec::new();
        for name in names(&self.vfs, "").await {
            if name.starts_with(&format!("{key}.conflict-here-")) {
                kept.extend(self.object(&name).await);
            }
        }
        kept
    }
}

fn small_parts() -> Arc<MemoryStore> {
    let options = MemoryOptions { min_part_size: tarn_cache::BLOCK_SIZE, ..MemoryOptions::default() };
    Arc::new(MemoryStore::with_options(options))
}

fn mounted(store: &Arc<FaultyStore>, cache: &Path, commit: Commit) -> Arc<Vfs> {
    mounted_for(store, cache, commit, Duration::from_secs(3600))
}

fn mounted_for(store: &Arc<FaultyStore>, cache: &Path, commit: Commit, attr_ttl: Duration) -> Arc<Vfs> {
    mount_with(Arc::clone(store) as Arc<dyn ObjectStore>, cache, None, |options| {
        options.commit = commit;
        options.attr_ttl = attr_ttl;
        options.part_size = tarn_cache::BLOCK_SIZE;
    })
}

#[test]
fn a_directory_that_is_looked_up_twice_at_once_stays_the_same() {
    simulated::run(1, async {
        let unsure = Unsure::new(Commit::Close);
        unsure.put("d/f", "x", &Headers::default()).await;
        unsure.store.plan(0, Fault::Late);
        let look = || unsure.vfs.lookup(Ino::ROOT, OsStr::new("d"));
        let (late, early) = tokio::join!(look(), look());
        let (late, early) = (late.expect("there").attr.ino, early.expect("there").attr.ino);
        assert!(unsure.store.is_hit());
        for ino in [early, late] {
            unsure.vfs.lookup(ino, OsStr::new("f")).await.expect("it is in the directory");
        }
    });
}

#[tokio::test]
async fn a_note_of_an_older_object_does_not_take_the_name_of_an_open_file() {
    let unsure = Unsure::new(Commit::Close);
    unsure.put("f", "older", &Headers::default()).await;
    unsure.put("g", "older", &Headers::default()).await;
    for key in ["f", "g"] {
        unsure.vfs.lookup(Ino::ROOT, OsStr::new(key)).await.expect("there");
    }
    assert!(unsure.vfs.drain().await.failed.is_empty());
    let vfs = mounted(&unsure.store, &unsure.home.path().join("cache"), Commit::Close);
    // Brings a listing along.
    vfs.lookup(Ino::ROOT, OsStr::new("g")).await.expect("there");
    unsure.put("f", "newer", &Headers::default()).await;
    let opened = vfs.create(Ino::ROOT, OsStr::new("f"), 0o644, CALLER, WRITE, false).await.expect("open").1;
    vfs.write(opened.fh, 0, b"newest").expect("write");
    assert_eq!(names(&vfs, "").await, ["f", "g"]);
    vfs.flush(opened.fh).await.expect("flush");
    vfs.release(opened.fh).await.expect("release");
    assert_eq!(unsure.object("f").await.as_deref(), Some(&b"newest"[..]));
}

/// Files that two mounts of one machine write at once may have the same times to the nanosecond.
#[tokio::test]
async fn an_object_with_the_times_of_a_file_that_was_never_sent_is_another_clients() {
    let unsure = Unsure::new(LATER);
    let (ino, fh) = unsure.write_open("f", b"ours").await;
    unsure.store.set_down(true);
    unsure.vfs.flush(fh).await.expect("the journal has it");
    let (posix, mut headers) = (unsure.vfs.getattr(ino).await.expect("attributes").posix, Headers::default());
    crate::meta::write(&posix, &mut headers, Attributes::Keep).expect("room");
    unsure.put("f", "theirs", &headers).await;
    unsure.store.set_down(false);
    unsure.vfs.fsync(fh).await.expect_err("another client was first");
    unsure.vfs.release(fh).await.expect("release");
    assert_eq!(unsure.object("f").await.as_deref(), Some(&b"theirs"[..]));
    assert_eq!(unsure.kept("f").await, [b"ours"]);
}

#[tokio::test]
async fn a_file_whose_object_is_removed_under_a_change_of_its_mode_is_kept_beside() {
    let unsure = Unsure::new(Commit::Close);
    let (ino, fh) = unsure.write_open("f", b"ours").await;
    unsure.vfs.flush(fh).await.expect("flush");
    let mode = SetAttr { mode: Some(0o600), ..SetAttr::default() };
    unsure.vfs.setattr(ino, mode).await.expect("chmod");
    unsure.remove("f").await;
    let lost = unsure.vfs.flush(fh).await.expect_err("another client has removed it");
    assert_eq!(lost.errno(), rustix::io::Errno::STALE, "{lost}");
    unsure.vfs.release(fh).await.expect("release");
    assert!(unsure.vfs.drain().await.failed.is_empty());
    assert_eq!(unsure.object("f").await, None);
    assert_eq!(unsure.kept("f").await, [b"ours"]);
}

#[test]
fn what_is_closed_while_its_conflict_is_kept_gets_a_copy_of_its_own() {
    simulated::run(1, async {
        let unsure = Unsure::new(LATER);
        let (_, fh) = unsure.write_open("f", b"ours").await;
        unsure.put("f", "theirs", &Headers::default()).await;
        // After the refused commit and the look at what is there.
        unsure.store.plan(2, Fault::Late);
        let close_again = async {
            unsure.store.hit().await;
            unsure.vfs.write(fh, 0, b"more").expect("write");
            unsure.vfs.flush(fh).await
        };
        let (synced, closed) = tokio::join!(unsure.vfs.fsync(fh), close_again);
        synced.expect_err("another client was first");
        closed.expect("the journal has it");
        unsure.vfs.release(fh).await.expect("release");
        unsure.vfs.drain().await;
        assert_eq!(unsure.object("f").await.as_deref(), Some(&b"theirs"[..]));
        assert_eq!(unsure.kept("f").await, [b"ours", b"more"]);
    });
}

#[tokio::test]
async fn a_name_whose_answer_was_lost_is_asked_for_again() {
    let unsure = Unsure::new(Commit::Close);
    unsure.put("old", "x", &Headers::default()).await;
    assert_eq!(names(&unsure.vfs, "").await, ["old"]);
    unsure.store.plan(0, Fault::LoseReply);
    let made = unsure.vfs.mknod(Ino::ROOT, OsStr::new("f"), Kind::File, 0o644, CALLER).await;
    made.expect_err("the answer is lost");
    unsure.vfs.lookup(Ino::ROOT, OsStr::new("f")).await.expect("it is there");
    unsure.store.plan(0, Fault::LoseReply);
    let made = unsure.vfs.mkdir(Ino::ROOT, OsStr::new("d"), 0o755, CALLER).await;
    made.expect_err("the answer is lost");
    unsure.vfs.lookup(Ino::ROOT, OsStr::new("d")).await.expect("it is there");
    let (old, new) = ((Ino::ROOT, OsStr::new("old")), (Ino::ROOT, OsStr::new("new")));
    unsure.vfs.lookup(old.0, old.1).await.expect("it is there");
    unsure.vfs.lookup(new.0, new.1).await.expect_err("it is free");
    unsure.store.plan(0, Fault::LoseReply);
    unsure.vfs.rename(old, new, RenameMode::Replace).await.expect_err("the answer is lost");
    unsure.vfs.lookup(new.0, new.1).await.expect("the copy is there");
}

#[test]
fn a_file_that_loses_its_name_to_another_client_takes_no_other() {
    simulated::run(1, async {
        let unsure = Unsure::new(Commit::Close);
        let (_, fh) = unsure.write_open("f", b"ours").await;
        unsure.put("f", "theirs", &Headers::default()).await;
        let (from, to) = ((Ino::ROOT, OsStr::new("f")), (Ino::ROOT, OsStr::new("g")));
        unsure.store.plan(2, Fault::Late);
        let (closed, renamed) =
            tokio::join!(unsure.vfs.flush(fh), unsure.vfs.rename(from, to, RenameMode::Replace));
        closed.expect_err("another client was first");
        let lost = renamed.expect_err("the name is another client's");
        assert_eq!(lost.errno(), rustix::io::Errno::STALE, "{lost}");
        unsure.vfs.release(fh).await.expect("release");
        unsure.vfs.lookup(to.0, to.1).await.expect_err("nobody has that name");
        // The kernel looks again and asks once more.
        unsure.vfs.lookup(from.0, from.1).await.expect("theirs");
        unsure.vfs.rename(from, to, RenameMode::Replace).await.expect("rename");
        assert_eq!(unsure.object("g").await.as_deref(), Some(&b"theirs"[..]));
    });
}

#[tokio::test]
async fn a_file_that_lost_its_name_to_another_client_is_truncated_no_more() {
    let unsure = Unsure::new(Commit::Close);
    unsure.put("f", "before", &Headers::default()).await;
    let ino = unsure.vfs.lookup(Ino::ROOT, OsStr::new("f")).await.expect("there").attr.ino;
    let reader = unsure.vfs.open(ino, READ, false).await.expect("open");
    unsure.put("f", "theirs", &Headers::default()).await;
    for size in [2, 4] {
        let set = SetAttr { size: Some(size), ..SetAttr::default() };
        let lost = unsure.vfs.setattr(ino, set).await.expect_err("another client was first");
        assert_eq!(lost.errno(), rustix::io::Errno::STALE, "{lost}");
    }
    unsure.vfs.release(reader.fh).await.expect("release");
    assert_eq!(unsure.object("f").await.as_deref(), Some(&b"theirs"[..]));
}

#[tokio::test]
async fn an_upload_that_could_not_be_dropped_is_dropped_at_the_end() {
    let unsure = Unsure::new(Commit::Close);
    let body = vec![7; 2 * usize::try_from(tarn_cache::BLOCK_SIZE).expect("small")];
    let (ino, fh) = unsure.write_open("f", &body).await;
    // After the upload has been begun and its parts.
    unsure.store.plan(3, Fault::Refuse);
    unsure.vfs.flush(fh).await.expect_err("its completion is refused");
    // The file is shorter now: one request will do, and the upload comes to nothing.
    let set = SetAttr { size: Some(3), ..SetAttr::default() };
    unsure.store.plan(0, Fault::Refuse);
    unsure.vfs.setattr(ino, set).await.expect("truncate");
    unsure.vfs.flush(fh).await.expect("flush");
    assert!(unsure.store.is_hit());
    assert_eq!(unsure.store.inner.pending_uploads(), 1, "the abort was refused");
    unsure.vfs.release(fh).await.expect("release");
    assert!(unsure.vfs.drain().await.failed.is_empty());
    assert_eq!(unsure.store.inner.pending_uploads(), 0);
}

#[tokio::test]
async fn an_upload_that_could_not_be_dropped_is_dropped_by_the_next_mount_after_a_kill() {
    let unsure = Unsure::new(Commit::Close);
    let mut body = vec![7; 2 * usize::try_from(tarn_cache::BLOCK_SIZE).expect("small")];
    let (_, fh) = unsure.write_open("f", &body).await;
    // After the upload has been begun and its parts.
    unsure.store.plan(3, Fault::Refuse);
    unsure.vfs.flush(fh).await.expect_err("its completion is refused");
    // Later times belong to another upload, before which this one is to be dropped.
    unsure.vfs.write(fh, 0, b"new").expect("write");
    body[..3].copy_from_slice(b"new");
    unsure.store.plan(0, Fault::Refuse);
    unsure.vfs.flush(fh).await.expect_err("so is the abort");
    assert!(unsure.store.is_hit());
    let image = unsure.home.path().join("image");
    copy_dir(&unsure.home.path().join("cache"), &image);
    let next = mounted(&unsure.store, &image, Commit::Close);
    assert_eq!(next.recover().await.expect("recovery").uploading, 1);
    assert!(next.drain().await.failed.is_empty());
    assert_eq!(unsure.object("f").await, Some(body));
    assert_eq!(unsure.store.inner.pending_uploads(), 0);
}

#[tokio::test]
async fn a_file_whose_name_went_to_another_is_let_go_though_the_upload_of_that_failed() {
    let unsure = Unsure::new(Commit::Close);
    let (_, moved) = unsure.write_open("a", b"moved").await;
    let (_, replaced) = unsure.write_open("b", b"replaced").await;
    for fh in [moved, replaced] {
        unsure.vfs.fsync(fh).await.expect("fsync");
        unsure.vfs.write(fh, 0, b"M").expect("write");
    }
    let (from, to) = ((Ino::ROOT, OsStr::new("a")), (Ino::ROOT, OsStr::new("b")));
    unsure.store.plan(0, Fault::Refuse);
    unsure.vfs.rename(from, to, RenameMode::Replace).await.expect_err("the upload fails");
    let image = unsure.home.path().join("image");
    copy_dir(&unsure.home.path().join("cache"), &image);
    let next = mounted(&unsure.store, &image, Commit::Close);
    let recovered = next.recover().await.expect("recovery");
    assert_eq!((recovered.uploading, recovered.left), (1, 0), "as after a kill");
    assert!(next.drain().await.failed.is_empty());
    assert_eq!(unsure.object("a").await, None);
    assert_eq!(unsure.object("b").await.as_deref(), Some(&b"Moved"[..]));
}

#[test]
fn an_open_that_waits_for_a_conflict_gets_the_other_clients_object() {
    simulated::run(1, async {
        let unsure = Unsure::new(Commit::Close);
        let (ino, fh) = unsure.write_open("f", b"ours").await;
        unsure.put("f", "theirs", &Headers::default()).await;
        // After the refused commit and the look at what is there.
        unsure.store.plan(2, Fault::Late);
        let (closed, opened) = tokio::join!(unsure.vfs.release(fh), unsure.vfs.open(ino, WRITE, false));
        closed.expect_err("another client was first");
        let lost = opened.expect_err("the name is another client's");
        assert_eq!(lost.errno(), rustix::io::Errno::STALE, "{lost}");
        assert_eq!(read_file(&unsure.vfs, "f").await.expect("read"), b"theirs");
    });
}

/// A file with a cached listing around it, an object and bytes that this does not have yet.
async fn written_again(unsure: &Unsure) -> u64 {
    let (_, fh) = unsure.write_open("f", b"once").await;
    unsure.vfs.fsync(fh).await.expect("fsync");
    unsure.vfs.write(fh, 0, b"again").expect("write");
    assert_eq!(names(&unsure.vfs, "").await, ["f"]);
    fh
}

const F_TO_G: [(Ino, &str); 2] = [(Ino::ROOT, "f"), (Ino::ROOT, "g")];

#[test]
fn an_old_name_that_is_seen_while_its_object_goes_is_free_then() {
    simulated::run(1, async {
        let unsure = Unsure::new(Commit::Close);
        let fh = written_again(&unsure).await;
        let [from, to] = F_TO_G.map(|(ino, name)| (ino, OsStr::new(name)));
        // The look at what has the old name, after the upload to the new one.
        unsure.store.plan(1, Fault::Late);
        let look = async {
            unsure.store.hit().await;
            unsure.vfs.lookup(from.0, from.1).await
        };
        let (renamed, seen) = tokio::join!(unsure.vfs.rename(from, to, RenameMode::Replace), look);
        renamed.expect("rename");
        seen.expect("the bucket has it still");
        unsure.vfs.lookup(from.0, from.1).await.expect_err("it has gone");
        assert_eq!(names(&unsure.vfs, "").await, ["g"]);
        unsure.vfs.release(fh).await.expect("release");
    });
}

#[tokio::test]
async fn an_old_name_that_another_client_has_taken_shows_its_object() {
    let unsure = Unsure::new(Commit::Close);
    let fh = written_again(&unsure).await;
    unsure.put("f", "theirs", &Headers::default()).await;
    let [from, to] = F_TO_G.map(|(ino, name)| (ino, OsStr::new(name)));
    unsure.vfs.rename(from, to, RenameMode::Replace).await.expect("rename");
    unsure.vfs.release(fh).await.expect("release");
    assert_eq!(read_file(&unsure.vfs, "f").await.expect("read"), b"theirs");
    assert_eq!(read_file(&unsure.vfs, "g").await.expect("read"), b"again");
    assert_eq!(names(&unsure.vfs, "").await, ["f", "g"]);
}

#[tokio::test]
async fn an_upload_that_arrived_unheard_does_not_outlive_its_name() {
    let unsure = Unsure::new(Commit::Close);
    let (_, fh) = unsure.write_open("f", b"body").await;
    unsure.store.plan(0, Fault::LoseReply);
    unsure.vfs.flush(fh).await.expect_err("the answer is lost");
    let [from, to] = F_TO_G.map(|(ino, name)| (ino, OsStr::new(name)));
    unsure.vfs.rename(from, to, RenameMode::Replace).await.expect("rename");
    assert_eq!(unsure.object("f").await, None);
    assert_eq!(unsure.object("g").await.as_deref(), Some(&b"body"[..]));
    unsure.vfs.release(fh).await.expect("release");
}

#[tokio::test]
async fn what_another_client_has_made_anew_is_changed_at_the_second_look() {
    let unsure = Unsure::new(Commit::Close);
    let [from, to] = F_TO_G.map(|(ino, name)| (ino, OsStr::new(name)));
    let look = async || Ok::<Ino, Error>(unsure.vfs.lookup(from.0, from.1).await?.attr.ino);
    let chmod = SetAttr { mode: Some(0o600), ..SetAttr::default() };
    unsure.put("f", "older", &Headers::default()).await;
    let old = look().await.expect("there");
    unsure.put("f", "newer", &Headers::default()).await;
    let lost = unsure.vfs.setattr(old, chmod).await.expect_err("it is another object");
    assert_eq!(lost.errno(), rustix::io::Errno::STALE, "the kernel looks again: {lost}");
    let new = look().await.expect("there");
    unsure.vfs.setattr(new, chmod).await.expect("chmod");
    unsure.put("f", "newest", &Headers::default()).await;
    let lost = unsure.vfs.rename(from, to, RenameMode::Replace).await.expect_err("it is another object");
    assert_eq!(lost.errno(), rustix::io::Errno::STALE, "the kernel looks again: {lost}");
    look().await.expect("there");
    unsure.vfs.rename(from, to, RenameMode::Replace).await.expect("rename");
    assert_eq!(unsure.object("g").await.as_deref(), Some(&b"newest"[..]));
}

#[tokio::test]
async fn a_directory_that_another_client_empties_stays_while_a_file_in_it_waits() {
    let unsure = Unsure::believing(Commit::Close, Duration::ZERO);
    unsure.put("d/f", "theirs", &Headers::default()).await;
    let directory = unsure.vfs.lookup(Ino::ROOT, OsStr::new("d")).await.expect("there").attr.ino;
    let made = unsure.vfs.create(directory, OsStr::new("new"), 0o644, CALLER, WRITE, false).await;
    let fh = made.expect("a file").1.fh;
    unsure.vfs.write(fh, 0, b"ours").expect("write");
    unsure.remove("d/f").await;
    let again = unsure.vfs.mkdir(Ino::ROOT, OsStr::new("d"), 0o755, CALLER).await;
    assert!(matches!(again, Err(Error::Exists)), "{again:?}");
    unsure.vfs.flush(fh).await.expect("flush");
    unsure.vfs.release(fh).await.expect("release");
    assert_eq!(unsure.object("d/new").await.as_deref(), Some(&b"ours"[..]));
}

/// SEMANTICS: "What is in a directory waits while that is renamed; everything else goes on."
#[test]
fn the_rename_of_a_directory_holds_up_only_what_is_in_it() {
    simulated::run(1, async {
        let unsure = Unsure::new(Commit::Close);
        for key in ["d/f", "e/g"] {
            unsure.put(key, "body", &Headers::default()).await;
        }
        let inside = lookup(&unsure.vfs, "d/f").await.expect("there");
        let elsewhere = lookup(&unsure.vfs, "e/g").await.expect("there");
        let ended = Mutex::new(Vec::new());
        let open = async |name, ino| {
            let opened = unsure.vfs.open(ino, READ, false).await.expect("open");
            ended.lock().push(name);
            unsure.vfs.release(opened.fh).await.expect("release");
        };
        let rename = async {
            let (from, to) = ((Ino::ROOT, OsStr::new("d")), (Ino::ROOT, OsStr::new("moved")));
            unsure.vfs.rename(from, to, RenameMode::Replace).await.expect("rename");
            ended.lock().push("the rename");
        };
        // Behind the looks at what is there: a copy.
        unsure.store.plan(2, Fault::Late);
        tokio::join!(rename, open("inside", inside), open("elsewhere", elsewhere));
        assert!(unsure.store.is_hit());
        assert_eq!(*ended.lock(), ["elsewhere", "the rename", "inside"]);
    });
}

#[test]
fn an_upload_elsewhere_does_not_hold_up_the_rename_of_a_directory() {
    simulated::run(1, async {
        let unsure = Unsure::new(Commit::Close);
        unsure.put("d/f", "body", &Headers::default()).await;
        lookup(&unsure.vfs, "d/f").await.expect("there");
        let (_, fh) = unsure.write_open("elsewhere", b"body").await;
        let ended = Mutex::new(Vec::new());
        let upload = async {
            unsure.vfs.flush(fh).await.expect("flush");
            ended.lock().push("the upload");
        };
        let rename = async {
            unsure.store.hit().await;
            let (from, to) = ((Ino::ROOT, OsStr::new("d")), (Ino::ROOT, OsStr::new("moved")));
            unsure.vfs.rename(from, to, RenameMode::Replace).await.expect("rename");
            ended.lock().push("the rename");
        };
        unsure.store.plan(0, Fault::Late);
        tokio::join!(upload, rename);
        assert!(unsure.store.is_hit());
        assert_eq!(*ended.lock(), ["the rename", "the upload"]);
    });
}

#[test]
fn an_answer_from_before_a_commit_does_not_bring_the_old_version_back() {
    simulated::run(1, async {
        let unsure = Unsure::new(Commit::Close);
        unsure.put("f", "older", &Headers::default()).await;
        let commit = async {
            let (_, fh) = unsure.write_open("f", b"newer").await;
            unsure.vfs.flush(fh).await.expect("flush");
            unsure.vfs.release(fh).await.expect("release");
        };
        unsure.store.plan(0, Fault::Late);
        let (found, ()) = tokio::join!(unsure.vfs.lookup(Ino::ROOT, OsStr::new("f")), commit);
        assert!(unsure.store.is_hit());
        found.expect("there");
        assert_eq!(read_file(&unsure.vfs, "f").await.expect("read"), b"newer");
    });
}
