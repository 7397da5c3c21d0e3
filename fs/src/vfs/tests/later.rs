//! `--commit=async`: a close is answered when the journal has the file.

use super::faulty::{FaultyStore, copy_dir};
use super::*;
use crate::store::Op;

struct Later {
    vfs: Arc<Vfs>,
    store: Arc<FaultyStore>,
    observed: Arc<ObserveStore>,
    home: tempfile::TempDir,
}

impl Later {
    fn new() -> Self {
        Self::bounded(1 << 30)
    }

    fn bounded(max_bytes: u64) -> Self {
        let home = tempfile::tempdir().expect("a folder");
        let store = FaultyStore::new(Arc::new(MemoryStore::new()), home.path());
        let observed = Arc::new(ObserveStore::new(Arc::clone(&store) as Arc<dyn ObjectStore>));
        let vfs = mount_later(&observed, &home.path().join("cache"), None, max_bytes);
        Self { vfs, store, observed, home }
    }

    /// Makes a file and closes it.
    async fn write(&self, name: &str, body: &[u8]) -> Result<()> {
        let flags = OpenFlags { truncate: true, ..WRITE };
        let made = self.vfs.create(Ino::ROOT, OsStr::new(name), 0o644, CALLER, flags, false).await?;
        let fh = made.1.fh;
        self.vfs.write(fh, 0, body)?;
        let closed = self.vfs.flush(fh).await;
        self.vfs.release(fh).await.expect("release");
        closed
    }

    /// What stands in the bucket by now.
    async fn object(&self, key: &str) -> Option<Vec<u8>> {
        object(&*self.store.inner, key).await
    }

    async fn rename(&self, from: &str, to: &str) -> Result<()> {
        let (from, to) = ((Ino::ROOT, OsStr::new(from)), (Ino::ROOT, OsStr::new(to)));
        self.vfs.rename(from, to, RenameMode::Replace).await
    }

    /// The mount after this one, which was killed just now: on a copy of its cache, in the same boot or another. What
    /// was killed reaches the server no more.
    fn killed(&self, boot_id: Option<&str>) -> Successor {
        let image = self.home.path().join("image");
        if !image.exists() {
            copy_dir(&self.home.path().join("cache"), &image);
        }
        self.store.set_down(true);
        let store = FaultyStore::new(Arc::clone(&self.store.inner), self.home.path());
        let observed = Arc::new(ObserveStore::new(Arc::clone(&store) as Arc<dyn ObjectStore>));
        Successor { vfs: mount_later(&observed, &image, boot_id, 1 << 20), store }
    }

    /// The server comes back, and everything goes there.
    async fn heal(&self) {
        self.store.set_down(false);
        let failed = self.vfs.drain().await.failed;
        assert!(failed.is_empty(), "{failed:?}");
    }
}

struct Successor {
    vfs: Arc<Vfs>,
    store: Arc<FaultyStore>,
}

fn mount_later(
    store: &Arc<ObserveStore>,
    cache: &std::path::Path,
    boot_id: Option<&str>,
    max_bytes: u64,
) -> Arc<Vfs> {
    mount_owned(store, cache, boot_id, max_bytes, ProcessId::own())
}

fn mount_owned(
    store: &Arc<ObserveStore>,
    cache: &std::path::Path,
    boot_id: Option<&str>,
    max_bytes: u64,
    owner: ProcessId,
) -> Arc<Vfs> {
    mount_with(Arc::clone(store) as Arc<dyn ObjectStore>, cache, boot_id, |options| {
        options.owner = owner;
        options.attr_ttl = Duration::from_secs(3600);
        options.commit = Commit::Async { max_bytes, max_age: Duration::from_secs(3600) };
    })
}

/// SEMANTICS: "With `--commit=async` it answers when the local journal has it, and the upload runs at once in
/// the background, in order for each key."
/// SEMANTICS: "`fsync` always means the bucket, also that of a directory."
#[tokio::test]
async fn a_close_does_not_wait_for_the_bucket_and_fsync_does() {
    let later = Later::new();
    names(&later.vfs, "").await;
    later.store.set_down(true);
    later.write("f", b"closed").await.expect("the journal has it");
    assert_eq!(read_file(&later.vfs, "f").await.expect("read"), b"closed");
    assert_eq!(names(&later.vfs, "").await, ["f"]);
    let opened =
        later.vfs.open(lookup(&later.vfs, "f").await.expect("known"), READ, false).await.expect("open");
    later.vfs.fsync(opened.fh).await.expect_err("the bucket has nothing");
    later.store.set_down(false);
    later.vfs.fsync(opened.fh).await.expect("fsync");
    assert_eq!(later.object("f").await.as_deref(), Some(&b"closed"[..]));
}

/// SEMANTICS: "`fsync` always means the bucket, also that of a directory."
#[tokio::test]
async fn fsync_of_a_directory_waits_for_its_files() {
    let later = Later::new();
    names(&later.vfs, "").await;
    later.store.set_down(true);
    later.write("f", b"closed").await.expect("close");
    later.vfs.fsyncdir(Ino::ROOT).await.expect_err("the bucket has nothing");
    later.store.set_down(false);
    later.vfs.fsyncdir(Ino::ROOT).await.expect("fsync");
    assert_eq!(later.object("f").await.as_deref(), Some(&b"closed"[..]));
}

#[tokio::test]
async fn a_pending_file_is_uploaded_once_under_its_last_name() {
    let later = Later::new();
    names(&later.vfs, "").await;
    later.store.set_down(true);
    later.write("a", b"data").await.expect("close");
    later.rename("a", "b").await.expect("nothing to ask the bucket for");
    later.rename("b", "c").await.expect("rename");
    let before = later.observed.counts();
    later.heal().await;
    let counts = later.observed.counts() - before;
    assert_eq!((counts.of(Op::Put), counts.of(Op::Copy), counts.of(Op::Delete)), (1, 0, 0));
    assert_eq!(later.object("c").await.as_deref(), Some(&b"data"[..]));
    assert_eq!(names(&later.vfs, "").await, ["c"]);
}

/// SEMANTICS: "With `--commit=async` it answers when the local journal has it, and the upload runs at once in
/// the background, in order for each key."
#[tokio::test]
async fn write_temporary_and_rename_over_keeps_its_order() {
    let later = Later::new();
    names(&later.vfs, "").await;
    for round in 0..20u8 {
        later.store.set_down(round % 3 == 1);
        later.write("f.tmp", &[round; 100]).await.expect("close");
        // Over an object that is in the bucket the rename has to ask; over one that is pending it has not.
        if later.rename("f.tmp", "f").await.is_err() {
            later.store.set_down(false);
            later.rename("f.tmp", "f").await.expect("rename");
        }
        assert_eq!(read_file(&later.vfs, "f").await.expect("read"), [round; 100]);
    }
    later.heal().await;
    assert_eq!(later.object("f").await, Some(vec![19; 100]));
    assert_eq!(names(&later.vfs, "").await, ["f"], "no conflict with ourselves");
}

#[tokio::test]
async fn a_removed_pending_file_comes_back_never() {
    let later = Later::new();
    names(&later.vfs, "").await;
    later.store.set_down(true);
    later.write("f", b"data").await.expect("close");
    // Its directory is the root: nothing has to be asked.
    later.vfs.unlink(Ino::ROOT, OsStr::new("f")).await.expect("unlink");
    let next = later.killed(None);
    assert_eq!(next.vfs.recover().await.expect("recovery").uploading, 0);
    assert!(next.vfs.drain().await.failed.is_empty());
    assert!(later.object("f").await.is_none());
}

/// SEMANTICS: "What waits is bounded (`--backlog-size`, `--backlog-age`): beyond, and after a failed upload,
/// a close waits for its own."
#[tokio::test]
async fn a_full_backlog_makes_a_close_wait_for_the_bucket() {
    let later = Later::bounded(1000);
    names(&later.vfs, "").await;
    later.store.set_down(true);
    later.write("a", &[1; 600]).await.expect("there is room");
    later.write("b", &[2; 600]).await.expect_err("there is none, and the bucket does not answer");
    assert_eq!(read_file(&later.vfs, "b").await.expect("nothing is lost"), [2; 600]);
    later.heal().await;
    assert_eq!(later.object("b").await, Some(vec![2; 600]));
    later.write("c", &[3; 2000]).await.expect("larger than the backlog, it goes to the bucket at once");
    assert_eq!(later.object("c").await, Some(vec![3; 2000]));
}

/// SEMANTICS: "A file whose upload is pending is uploaded before it is opened for writing again."
#[tokio::test]
async fn what_was_closed_is_in_the_bucket_before_it_is_changed_again() {
    let later = Later::new();
    names(&later.vfs, "").await;
    later.store.set_down(true);
    later.write("f", b"first").await.expect("close");
    later.write("f", b"second").await.expect_err("the first is not in the bucket yet");
    assert_eq!(read_file(&later.vfs, "f").await.expect("read"), b"first");
    later.store.set_down(false);
    later.write("f", b"second").await.expect("close");
    assert_eq!(read_file(&later.vfs, "f").await.expect("read"), b"second");
    later.heal().await;
    assert_eq!(later.object("f").await.as_deref(), Some(&b"second"[..]));
}

/// SEMANTICS: "That survives a killed process; after a loss of power the file is uploaded if it still has its
/// checksum, else left and named in the log."
#[tokio::test]
async fn a_file_closed_before_a_crash_is_seen_at_once_and_uploaded() {
    let later = Later::new();
    later.vfs.mkdir(Ino::ROOT, OsStr::new("d"), 0o755, CALLER).await.expect("mkdir");
    later.store.set_down(true);
    later.write("f", b"closed").await.expect("close");
    let Successor { vfs: next, store } = later.killed(None);
    store.set_down(true);
    assert_eq!(next.recover().await.expect("recovery").uploading, 1);
    assert_eq!(read_file(&next, "f").await.expect("its bytes are here"), b"closed");
    let again = next.recover().await.expect("recovery");
    assert_eq!(again, Recovered::default(), "what is taken over has an owner");
    store.set_down(false);
    assert!(next.drain().await.failed.is_empty());
    assert_eq!(later.object("f").await.as_deref(), Some(&b"closed"[..]));
}

/// Between two workers nobody has the lock of what is staged.
#[tokio::test]
async fn what_a_live_mount_has_staged_is_left_to_its_next_worker() {
    let elsewhere = ProcessId::of(1).expect("the first process lives");
    let ended = ProcessId { start_time: elsewhere.start_time + 1, ..elsewhere };
    for (owner, taken) in [(elsewhere, 0), (ended, 1)] {
        let mut later = Later::new();
        let cache = later.home.path().join("owned");
        later.vfs = mount_owned(&later.observed, &cache, None, 1 << 30, owner);
        names(&later.vfs, "").await;
        later.store.set_down(true);
        later.write("f", b"closed").await.expect("close");
        let image = later.home.path().join("image");
        copy_dir(&cache, &image);
        let stranger = mount_later(&later.observed, &image, None, 1 << 20);
        let recovered = stranger.recover().await.expect("recovery");
        assert_eq!((recovered.uploading, recovered.left), (taken, 0));
        let own = mount_owned(&later.observed, &image, None, 1 << 20, owner);
        assert_eq!(own.recover().await.expect("recovery").uploading, 1 - taken);
    }
}

#[tokio::test]
async fn a_recovered_file_that_lost_to_another_client_is_kept_beside_it() {
    let later = Later::new();
    names(&later.vfs, "").await;
    later.store.set_down(true);
    later.write("f", b"ours").await.expect("close");
    let inner = &later.store.inner;
    inner
        .put(&parse("f"), Bytes::from_static(b"theirs"), &Headers::default(), Condition::Always)
        .await
        .expect("put");
    let next = later.killed(None).vfs;
    next.recover().await.expect("recovery");
    next.drain().await;
    assert_eq!(later.object("f").await.as_deref(), Some(&b"theirs"[..]));
    let kept =
        names(&next, "").await.into_iter().find(|name| name.starts_with("f.conflict-")).expect("a copy");
    assert_eq!(later.object(&kept).await.as_deref(), Some(&b"ours"[..]));
}

/// After a loss of power: the first checksum is written when the bucket does not answer.
/// SEMANTICS: "That survives a killed process; after a loss of power the file is uploaded if it still has its
/// checksum, else left and named in the log."
#[tokio::test]
async fn after_a_loss_of_power_only_proven_bytes_are_uploaded() {
    let later = Later::new();
    names(&later.vfs, "").await;
    later.store.set_down(true);
    for name in ["good", "torn"] {
        later.write(name, name.as_bytes()).await.expect("close");
        let inode = later.vfs.table.inode(lookup(&later.vfs, name).await.expect("known")).expect("known");
        later.vfs.note_sum(&inode).await.expect("a checksum");
    }
    let image = later.home.path().join("image");
    copy_dir(&later.home.path().join("cache"), &image);
    for entry in std::fs::read_dir(image.join("v1/staged")).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|end| end == "data") && std::fs::read(&path).expect("read") == b"torn"
        {
            std::fs::write(&path, b"\0\0\0\0").expect("what a disk does that lost its power");
        }
    }
    let log = Log::start();
    let next = later.killed(Some("another boot")).vfs;
    let recovered = next.recover().await.expect("recovery");
    assert_eq!((recovered.uploading, recovered.left), (1, 1));
    assert!(next.drain().await.failed.is_empty());
    assert_eq!(later.object("good").await.as_deref(), Some(&b"good"[..]));
    assert!(later.object("torn").await.is_none());
    let left = log.lines("copy them from here");
    assert!(left.len() == 1 && left[0].contains("key=\"torn\""), "{left:?}");
    assert_eq!(later.vfs.cache.orphans().expect("a look").len(), 0, "those of the live mount have an owner");
}

/// One wrong bit anywhere in the journal or in what it speaks of, after a loss of power. The quick run tries some bits,
/// `TARN_FULL=1` ten thousand.
#[tokio::test]
async fn a_flipped_bit_in_the_journal_is_found_and_nothing_wrong_is_uploaded() {
    let rounds = if std::env::var_os("TARN_FULL").is_some_and(|value| value == "1") { 10_000 } else { 200 };
    let later = Later::new();
    names(&later.vfs, "").await;
    later.store.set_down(true);
    later.write("f", &[7; 5000]).await.expect("close");
    let inode = later.vfs.table.inode(lookup(&later.vfs, "f").await.expect("known")).expect("known");
    later.vfs.note_sum(&inode).await.expect("a checksum");
    let (image, good) = (later.home.path().join("image"), later.home.path().join("good"));
    copy_dir(&later.home.path().join("cache"), &good);
    for round in 0..rounds {
        if image.exists() {
            std::fs::remove_dir_all(&image).expect("the last image");
        }
        copy_dir(&good, &image);
        let staged = std::fs::read_dir(image.join("v1/staged")).expect("a folder");
        let mut files: Vec<_> = staged.map(|entry| entry.expect("an entry").path()).collect();
        files.sort();
        let path = &files[round % files.len()];
        let mut bytes = std::fs::read(path).expect("read");
        // A number that is prime to both lengths comes to all their bits.
        let bit = round / files.len() * 7919 % (8 * bytes.len());
        bytes[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(path, bytes).expect("write");
        let next = later.killed(Some("another boot"));
        let recovered = next.vfs.recover().await.expect("recovery");
        assert_eq!((recovered.uploading, recovered.left), (0, 1), "bit {bit} of {}", path.display());
        assert!(next.vfs.drain().await.failed.is_empty());
        assert!(later.object("f").await.is_none());
    }
}

/// SEMANTICS: "While the server is away a new name needs a listing younger than `--attr-ttl`, and a file
/// whose upload has failed cannot be removed (EIO): the bucket may have it all the same."
#[tokio::test]
async fn without_the_server_a_name_needs_a_listing_and_what_may_have_arrived_stays() {
    let mut later = Later::new();
    for (attr_ttl, works) in [(Duration::ZERO, false), (Duration::from_secs(3600), true)] {
        let (store, cache) = (Arc::clone(&later.observed), later.home.path().join(format!("{works}")));
        later.vfs = mount_with(store as Arc<dyn ObjectStore>, &cache, None, |options| {
            options.attr_ttl = attr_ttl;
            options.commit = Commit::Async { max_bytes: 1 << 20, max_age: Duration::from_secs(3600) };
        });
        later.store.set_down(true);
        later.write("f", b"x").await.expect_err("nobody knows whether there is one");
        later.store.set_down(false);
        assert_eq!(names(&later.vfs, "").await, [""; 0]);
        later.store.set_down(true);
        assert_eq!(later.write("f", b"x").await.is_ok(), works);
        later.store.set_down(false);
    }
    later.store.set_down(true);
    let ino = lookup(&later.vfs, "f").await.expect("known");
    let opened = later.vfs.open(ino, READ, false).await.expect("open");
    later.vfs.fsync(opened.fh).await.expect_err("the upload fails");
    let kept = later.vfs.unlink(Ino::ROOT, OsStr::new("f")).await.expect_err("it may have arrived");
    assert_eq!(kept.errno(), rustix::io::Errno::IO);
    later.vfs.release(opened.fh).await.expect("release");
    later.heal().await;
    later.vfs.unlink(Ino::ROOT, OsStr::new("f")).await.expect("unlink");
    assert_eq!(later.object("f").await, None);
}

#[tokio::test]
async fn what_a_writer_has_begun_is_not_uploaded_for_the_one_before() {
    let later = Later::new();
    let flags = OpenFlags { truncate: true, ..WRITE };
    let (entry, opened) =
        later.vfs.create(Ino::ROOT, OsStr::new("f"), 0o644, CALLER, flags, false).await.expect("create");
    later.vfs.write(opened.fh, 0, b"promised").expect("write");
    later.vfs.fsync(opened.fh).await.expect("fsync");
    later.vfs.flush(opened.fh).await.expect("flush");
    later.vfs.release(opened.fh).await.expect("release");
    let again = later.vfs.open(entry.attr.ino, flags, false).await.expect("open");
    while later.vfs.backlog.waiting().0 > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(later.object("f").await.as_deref(), Some(&b"promised"[..]));
    later.vfs.write(again.fh, 0, b"new").expect("write");
    later.vfs.flush(again.fh).await.expect("flush");
    later.vfs.release(again.fh).await.expect("release");
    later.heal().await;
    assert_eq!(later.object("f").await.as_deref(), Some(&b"new"[..]));
}
