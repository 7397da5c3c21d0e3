//! The file system on the memory store, without a kernel.

mod attributes;
mod durable;
mod exchanges;
mod faulty;
mod later;
mod listings;
mod metadata;
mod names;
mod renames;
mod requests;
mod versions;

use super::*;
use crate::meta::Attributes;
use crate::name::Key;
use crate::store::{Condition, Counts, GetRequest, Headers, MemoryOptions, MemoryStore, ObserveStore};
use bytes::Bytes;
use futures::TryStreamExt;
use parking_lot::Mutex;
use std::ffi::OsStr;
use tarn_cache::StoreOptions;

/// What this thread logs while it lives.
pub(super) struct Log {
    text: Written,
    _guard: tracing::subscriber::DefaultGuard,
}

/// Text that a log is written to.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    pub(super) fn start() -> Self {
        let text = Written::default();
        let writer = text.clone();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        Self { text, _guard: tracing::subscriber::set_default(subscriber) }
    }

    /// The lines with these words.
    pub(super) fn lines(&self, words: &str) -> Vec<String> {
        let text = String::from_utf8(self.text.0.lock().clone()).expect("utf-8");
        text.lines().filter(|line| line.contains(words)).map(str::to_owned).collect()
    }
}

/// A mounted bucket of its own.
pub(super) struct World {
    pub(super) vfs: Arc<Vfs>,
    pub(super) store: Arc<ObserveStore>,
    dir: tempfile::TempDir,
}

pub(super) const CALLER: Caller = Caller { uid: 0, gid: 0, umask: 0 };
pub(super) const WRITE: OpenFlags =
    OpenFlags { write: true, truncate: false, exclusive: false, drop_set_id: false, sync: false };
pub(super) const READ: OpenFlags = OpenFlags { write: false, ..WRITE };

impl World {
    pub(super) fn new() -> Self {
        Self::with_ttl(Duration::from_secs(3600))
    }

    /// A lifetime of zero asks the store for everything anew.
    pub(super) fn with_ttl(attr_ttl: Duration) -> Self {
        Self::on(MemoryStore::with_options(MemoryOptions::default()), attr_ttl)
    }

    /// On a store with other limits.
    pub(super) fn on(memory: MemoryStore, attr_ttl: Duration) -> Self {
        let store = Arc::new(ObserveStore::new(Arc::new(memory)));
        let dir = tempfile::tempdir().expect("a temporary directory");
        let vfs = mount(&store, &dir.path().join("cache"), attr_ttl, Attributes::Keep);
        Self { vfs, store, dir }
    }

    /// A mount of the same bucket that shows its own mode and owner.
    pub(super) fn fixed(&self) -> Arc<Vfs> {
        mount(&self.store, &self.dir.path().join("fixed"), Duration::ZERO, Attributes::Fixed)
    }

    /// The same bucket from another mount with a cache of its own.
    pub(super) fn elsewhere(&self) -> Arc<Vfs> {
        mount(&self.store, &self.dir.path().join("other"), Duration::ZERO, Attributes::Keep)
    }

    /// The same, from a mount that believes answers for long.
    pub(super) fn remembering(&self) -> Arc<Vfs> {
        let long = Duration::from_secs(3600);
        mount(&self.store, &self.dir.path().join("remembering"), long, Attributes::Keep)
    }

    /// The bucket after this mount has ended, mounted again with its cache.
    pub(super) async fn again(&self) -> Arc<Vfs> {
        assert!(self.vfs.drain().await.failed.is_empty());
        mount(&self.store, &self.dir.path().join("cache"), Duration::ZERO, Attributes::Keep)
    }

    pub(super) fn counts(&self) -> Counts {
        self.store.counts()
    }

    /// Another client puts an object.
    pub(super) async fn put(&self, key: &str, body: impl Into<Bytes>) {
        let headers = Headers::default();
        self.store.put(&parse(key), body.into(), &headers, Condition::Always).await.expect("put");
    }

    /// What another client reads; `None` if there is no object.
    pub(super) async fn object(&self, key: &str) -> Option<Vec<u8>> {
        let got = self.store.get(&parse(key), GetRequest::default()).await.ok()?;
        let chunks: Vec<Bytes> = got.body.try_collect().await.expect("body");
        Some(chunks.concat())
    }

    pub(super) async fn lookup(&self, path: &str) -> Result<Ino> {
        lookup(&self.vfs, path).await
    }

    /// Makes a file, writes, closes.
    pub(super) async fn write_file(&self, path: &str, body: &[u8]) -> Ino {
        let (ino, fh) = self.write_open(path, body).await;
        self.close(fh).await;
        ino
    }

    /// Makes a file, writes, and leaves it open.
    pub(super) async fn write_open(&self, path: &str, body: &[u8]) -> (Ino, u64) {
        let (parent, name) = self.split(path).await;
        let made = self.vfs.create(parent, name, 0o644, CALLER, WRITE, false).await;
        let (entry, opened) = made.expect("create");
        self.vfs.write(opened.fh, 0, body).expect("write");
        (entry.attr.ino, opened.fh)
    }

    pub(super) async fn close(&self, fh: u64) {
        self.vfs.flush(fh).await.expect("flush");
        self.vfs.release(fh).await.expect("release");
    }

    /// Opens, reads all, closes.
    pub(super) async fn read_file(&self, path: &str) -> Result<Vec<u8>> {
        read_file(&self.vfs, path).await
    }

    pub(super) async fn split<'a>(&self, path: &'a str) -> (Ino, &'a OsStr) {
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        (self.lookup(directory).await.expect("the directory"), OsStr::new(name))
    }
}

fn mount(
    store: &Arc<ObserveStore>,
    cache: &std::path::Path,
    attr_ttl: Duration,
    attributes: Attributes,
) -> Arc<Vfs> {
    mount_with(Arc::clone(store) as Arc<dyn ObjectStore>, cache, None, |options| {
        options.attr_ttl = attr_ttl;
        options.defaults.attributes = attributes;
    })
}

/// A mount with other settings, on a cache of some boot.
fn mount_with(
    store: Arc<dyn ObjectStore>,
    cache: &std::path::Path,
    boot_id: Option<&str>,
    set: impl FnOnce(&mut Options),
) -> Arc<Vfs> {
    let boot_id = boot_id.map(str::to_owned);
    let cache = StoreOptions { dir: cache.to_owned(), max_bytes: 1 << 30, min_free_bytes: 0, boot_id };
    let attributes = Attributes::Keep;
    let mut options = Options {
        prefix: Prefix::default(),
        defaults: Defaults { uid: 0, gid: 0, file_mode: 0o644, dir_mode: 0o755, attributes },
        read_only: false,
        attr_ttl: Duration::ZERO,
        part_size: 5 << 20,
        always_checked: false,
        memory_limit: 64 << 20,
        max_requests: 8,
        note_after: Duration::ZERO,
        commit: Commit::Close,
        host: "here".into(),
        owner: ProcessId::own(),
    };
    set(&mut options);
    Vfs::new(VfsParts {
        store,
        cache: Cache::open(cache).expect("a local store"),
        bucket: BucketId::new("test"),
        options,
        runtime: tokio::runtime::Handle::current(),
        log: SessionLog::none(),
    })
}

pub(super) async fn lookup(vfs: &Arc<Vfs>, path: &str) -> Result<Ino> {
    let mut ino = Ino::ROOT;
    for name in path.split('/').filter(|name| !name.is_empty()) {
        ino = vfs.lookup(ino, OsStr::new(name)).await?.attr.ino;
    }
    Ok(ino)
}

pub(super) async fn read_file(vfs: &Arc<Vfs>, path: &str) -> Result<Vec<u8>> {
    let ino = lookup(vfs, path).await?;
    let opened = vfs.open(ino, READ, false).await?;
    let size = usize::try_from(vfs.getattr(ino).await?.size).expect("small");
    let bytes = vfs.read(opened.fh, 0, size + 10).await?;
    vfs.flush(opened.fh).await?;
    vfs.release(opened.fh).await?;
    Ok(bytes.to_vec())
}

fn parse(key: &str) -> Key {
    Key::parse(key).expect("a plain key")
}

/// The kinds of the root's entries, in the order of their names.
pub(super) async fn kinds(vfs: &Arc<Vfs>) -> Vec<crate::meta::Kind> {
    let fh = vfs.opendir(Ino::ROOT).expect("opendir");
    let mut kinds = Vec::new();
    let take = |entry: DirEntry<'_>| {
        if let EntryKind::Child { attr, .. } = entry.kind {
            kinds.push(attr.posix.kind);
        }
        false
    };
    vfs.readdir(fh, 0, Lookups::NotCounted, take).await.expect("readdir");
    kinds
}

pub(super) async fn names(vfs: &Arc<Vfs>, path: &str) -> Vec<String> {
    let fh = vfs.opendir(lookup(vfs, path).await.expect("directory")).expect("opendir");
    let mut names = Vec::new();
    let take = |entry: DirEntry<'_>| {
        names.push(entry.name.to_str().expect("utf-8").to_owned());
        false
    };
    vfs.readdir(fh, 0, Lookups::NotCounted, take).await.expect("readdir");
    vfs.releasedir(fh).expect("releasedir");
    names.retain(|name| name != "." && name != "..");
    names.sort();
    names
}

/// SEMANTICS: "With `--commit=close`, the default, `close` answers when the bucket has the file."
#[tokio::test]
async fn a_closed_file_is_a_plain_object() {
    let world = World::new();
    world.write_file("a.txt", b"hello").await;
    assert_eq!(world.object("a.txt").await.as_deref(), Some(&b"hello"[..]));
    assert_eq!(world.read_file("a.txt").await.expect("read"), b"hello");
}

/// SEMANTICS: "A plain `open(O_CREAT)` appears with its first flush."
#[tokio::test]
async fn a_new_file_appears_with_its_first_flush() {
    let world = World::new();
    let (_, fh) = world.write_open("f", b"first").await;
    assert_eq!(world.object("f").await, None);
    world.vfs.flush(fh).await.expect("flush");
    assert_eq!(world.object("f").await.as_deref(), Some(&b"first"[..]));
    world.vfs.release(fh).await.expect("release");
}

/// SEMANTICS: "Lengths over 5 TiB, the largest object, are EFBIG, for `ftruncate`, `posix_fallocate` and every
/// `write` that does not pass through."
#[tokio::test]
async fn lengths_over_five_tebibytes_are_refused() {
    const MOST: u64 = 5 << 40;
    let world = World::new();
    let (ino, fh) = world.write_open("f", b"x").await;
    let cut = world.vfs.setattr(ino, SetAttr { size: Some(MOST + 1), ..SetAttr::default() }).await;
    let reserve = Allocate::Reserve { keep_size: false };
    let allocated = world.vfs.fallocate(fh, MOST, 1, reserve);
    let written = world.vfs.write(fh, MOST, b"x");
    for refused in [cut.map(drop), allocated, written] {
        assert_eq!(refused.expect_err("too large").errno(), rustix::io::Errno::FBIG);
    }
    assert_eq!(world.vfs.getattr(ino).await.expect("getattr").size, 1);
    world.close(fh).await;
}

#[tokio::test]
async fn an_empty_file_is_an_empty_object() {
    let world = World::new();
    world.write_file("empty", b"").await;
    assert_eq!(world.object("empty").await.as_deref(), Some(&b""[..]));
}

/// SEMANTICS: "A key is cut at its slashes, and each component is a file name of the same text."
#[tokio::test]
async fn an_object_put_by_others_is_a_file() {
    let world = World::new();
    world.put("d/e/f", "x".repeat(10)).await;
    assert_eq!(names(&world.vfs, "").await, ["d"]);
    assert_eq!(names(&world.vfs, "d").await, ["e"]);
    assert_eq!(world.read_file("d/e/f").await.expect("read"), b"xxxxxxxxxx");
}

#[tokio::test]
async fn a_large_object_is_changed_by_parts() {
    let world = World::new();
    let mut body: Vec<u8> = (0..21u32 << 20).map(|at| (at / 977) as u8).collect();
    world.put("big", body.clone()).await;
    let ino = world.lookup("big").await.expect("there");
    let opened = world.vfs.open(ino, WRITE, false).await.expect("open");
    for at in [3usize, 11 << 20, body.len() - 2] {
        world.vfs.write(opened.fh, at as u64, b"NEW").expect("write");
        body.resize(body.len().max(at + 3), 0);
        body[at..at + 3].copy_from_slice(b"NEW");
    }
    assert_eq!(world.vfs.read(opened.fh, 0, 100).await.expect("read")[..], body[..100]);
    world.close(opened.fh).await;
    assert!(world.object("big").await == Some(body.clone()), "the object has old and new bytes");
    assert!(world.read_file("big").await.expect("read") == body);
}

#[tokio::test]
async fn truncation_by_path_reaches_the_bucket() {
    let world = World::new();
    world.put("f", "0123456789").await;
    let ino = world.lookup("f").await.expect("there");
    let set = |size| SetAttr { size: Some(size), ..SetAttr::default() };
    assert_eq!(world.vfs.setattr(ino, set(4)).await.expect("shrink").size, 4);
    assert_eq!(world.object("f").await.as_deref(), Some(&b"0123"[..]));
    world.vfs.setattr(ino, set(6)).await.expect("grow");
    assert_eq!(world.object("f").await.as_deref(), Some(&b"0123\0\0"[..]));
}

#[tokio::test]
async fn mode_and_time_survive_in_the_object() {
    let world = World::new();
    let ino = world.write_file("tool", b"#!/bin/sh").await;
    let mtime = std::time::UNIX_EPOCH + Duration::new(1_234_567_890, 123);
    let set = SetAttr { mode: Some(0o755), mtime: Some(mtime), ..SetAttr::default() };
    world.vfs.setattr(ino, set).await.expect("setattr");
    let other = world.elsewhere();
    let attr = other.lookup(Ino::ROOT, OsStr::new("tool")).await.expect("lookup").attr;
    assert_eq!((attr.posix.mode, attr.posix.mtime), (0o755, mtime));
}

#[tokio::test]
async fn a_removed_open_file_stays_readable() {
    let world = World::new();
    let body = vec![7; 9 << 20];
    world.put("f", body.clone()).await;
    let ino = world.lookup("f").await.expect("there");
    let opened = world.vfs.open(ino, READ, false).await.expect("open");
    world.vfs.unlink(Ino::ROOT, OsStr::new("f")).await.expect("unlink");
    assert!(world.object("f").await.is_none());
    assert!(world.vfs.read(opened.fh, 0, body.len()).await.expect("read") == body);
    assert!(matches!(world.lookup("f").await, Err(Error::NotFound)));
    world.vfs.release(opened.fh).await.expect("release");
}

#[tokio::test]
async fn a_directory_without_marker_outlives_its_last_file() {
    let world = World::with_ttl(Duration::ZERO);
    world.put("d/f", "x").await;
    let directory = world.lookup("d").await.expect("implicit");
    world.vfs.unlink(directory, OsStr::new("f")).await.expect("unlink");
    assert_eq!(names(&world.elsewhere(), "").await, ["d"]);
    world.vfs.rmdir(Ino::ROOT, OsStr::new("d")).await.expect("rmdir");
    assert_eq!(names(&world.elsewhere(), "").await, [""; 0]);
}

#[tokio::test]
async fn a_renamed_directory_moves_every_key() {
    let world = World::new();
    for index in 0..30 {
        world.put(&format!("old/sub/{index}"), index.to_string()).await;
    }
    world
        .vfs
        .rename((Ino::ROOT, OsStr::new("old")), (Ino::ROOT, OsStr::new("new")), RenameMode::Replace)
        .await
        .expect("rename");
    assert_eq!(names(&world.elsewhere(), "").await, ["new"]);
    assert_eq!(names(&world.vfs, "new/sub").await.len(), 30);
    assert_eq!(world.read_file("new/sub/17").await.expect("read"), b"17");
}

#[tokio::test]
async fn write_temp_and_rename_over_keeps_the_reader() {
    let world = World::new();
    world.write_file("f", b"old").await;
    let ino = world.lookup("f").await.expect("there");
    let reader = world.vfs.open(ino, READ, false).await.expect("open");
    world.write_file("f.tmp", b"newer").await;
    world
        .vfs
        .rename((Ino::ROOT, OsStr::new("f.tmp")), (Ino::ROOT, OsStr::new("f")), RenameMode::Replace)
        .await
        .expect("rename");
    assert_eq!(world.vfs.read(reader.fh, 0, 10).await.expect("read")[..], b"old"[..]);
    assert_eq!(world.read_file("f").await.expect("read"), b"newer");
    assert_eq!(names(&world.vfs, "").await, ["f"]);
}

#[tokio::test]
async fn an_open_dirty_file_is_uploaded_under_its_last_name() {
    let world = World::new();
    let (_, fh) = world.write_open("a", b"data").await;
    world
        .vfs
        .rename((Ino::ROOT, OsStr::new("a")), (Ino::ROOT, OsStr::new("b")), RenameMode::Replace)
        .await
        .expect("rename");
    world.close(fh).await;
    assert_eq!(world.object("b").await.as_deref(), Some(&b"data"[..]));
    assert!(world.object("a").await.is_none());
}

#[tokio::test]
async fn symbolic_links_are_kept() {
    let world = World::new();
    let link = world.vfs.symlink(Ino::ROOT, OsStr::new("l"), OsStr::new("to/there"), CALLER).await;
    let ino = link.expect("symlink").attr.ino;
    assert_eq!(world.vfs.readlink(ino).await.expect("readlink")[..], b"to/there"[..]);
    let other = world.elsewhere();
    let attr = other.lookup(Ino::ROOT, OsStr::new("l")).await.expect("lookup").attr;
    assert_eq!(attr.posix.kind, crate::meta::Kind::Symlink);
}

/// SEMANTICS: "Set-id bits go when the owner changes or when somebody who may not keep them writes or
/// truncates, or opens a file for writing that another handle passes through already; a program's
/// capabilities go with every such change."
#[tokio::test]
async fn who_may_not_keep_set_id_bits_does_not() {
    let world = World::new();
    let program = |name: &'static str| {
        let world = &world;
        async move {
            let ino = world.write_file(name, b"program").await;
            let set = SetAttr { mode: Some(0o6755), ..SetAttr::default() };
            assert_eq!(world.vfs.setattr(ino, set).await.expect("chmod").posix.mode, 0o6755);
            ino
        }
    };
    let mode = |ino| {
        let vfs = &world.vfs;
        async move { vfs.getattr(ino).await.expect("stat").posix.mode }
    };
    let written = program("written").await;
    let opened = world.vfs.open(written, WRITE, true).await.expect("open");
    assert!(!matches!(opened.serve, Serve::Passthrough(_)), "the kernel must say who writes");
    world.vfs.drop_set_id(opened.fh).expect("dropped");
    assert_eq!(mode(written).await, 0o755);
    let emptied = program("emptied").await;
    let flags = OpenFlags { truncate: true, drop_set_id: true, ..WRITE };
    world.vfs.open(emptied, flags, true).await.expect("open");
    assert_eq!(mode(emptied).await, 0o755);
    let cut = program("cut").await;
    let set = SetAttr { size: Some(1), drop_set_id: true, ..SetAttr::default() };
    assert_eq!(world.vfs.setattr(cut, set).await.expect("truncate").posix.mode, 0o755);
    let given = program("given").await;
    let set = SetAttr { uid: Some(1), ..SetAttr::default() };
    assert_eq!(world.vfs.setattr(given, set).await.expect("chown").posix.mode, 0o755);
}

/// SEMANTICS: "Set-id bits go when the owner changes or when somebody who may not keep them writes or
/// truncates, or opens a file for writing that another handle passes through already; a program's
/// capabilities go with every such change."
#[tokio::test]
async fn a_writer_who_is_passed_through_keeps_no_set_id_bits() {
    let world = World::new();
    let ino = world.write_file("program", b"program").await;
    let earlier = world.vfs.open(ino, WRITE, true).await.expect("open");
    assert!(matches!(earlier.serve, Serve::Passthrough(_)));
    let set = SetAttr { mode: Some(0o6755), ..SetAttr::default() };
    world.vfs.setattr(ino, set).await.expect("chmod");
    world.vfs.open(ino, WRITE, true).await.expect("open by who may keep them");
    assert_eq!(world.vfs.getattr(ino).await.expect("stat").posix.mode, 0o6755);
    let flags = OpenFlags { drop_set_id: true, ..WRITE };
    let opened = world.vfs.open(ino, flags, true).await.expect("open");
    assert!(matches!(opened.serve, Serve::Passthrough(_)), "the earlier handle decides");
    assert_eq!(world.vfs.getattr(ino).await.expect("stat").posix.mode, 0o755);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_attributes_takes_nothing_from_a_writer() {
    let world = World::new();
    let ino = world.write_file("f", b"first").await;
    for round in 0..2000 {
        let (vfs, set) =
            (Arc::clone(&world.vfs), SetAttr { mode: Some(round % 0o777), ..SetAttr::default() });
        let changed = tokio::spawn(async move { vfs.setattr(ino, set).await });
        let writer = world.vfs.open(ino, WRITE, true).await.expect("open for writing");
        let written = format!("{round:05}");
        world.vfs.write(writer.fh, 0, written.as_bytes()).expect("write");
        changed.await.expect("no panic").expect("chmod");
        world.close(writer.fh).await;
        assert_eq!(world.object("f").await.as_deref(), Some(written.as_bytes()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_takes_nothing_from_an_open_under_way() {
    let world = World::new();
    let ino = world.write_file("f", b"first").await;
    for round in 0..2000 {
        let reader = world.vfs.open(ino, READ, true).await.expect("open for reading");
        let vfs = Arc::clone(&world.vfs);
        let released = tokio::spawn(async move { vfs.release(reader.fh).await });
        let flags = OpenFlags { truncate: round % 2 == 0, ..WRITE };
        let writer = world.vfs.open(ino, flags, true).await.expect("open for writing");
        released.await.expect("no panic").expect("release");
        world.close(writer.fh).await;
    }
}

#[tokio::test]
async fn a_listing_shows_symbolic_links_as_such() {
    let world = World::new();
    world.vfs.symlink(Ino::ROOT, OsStr::new("link"), OsStr::new("to"), CALLER).await.expect("symlink");
    world.put("file", "to").await;
    let other = world.elsewhere();
    let kinds = kinds(&other).await;
    assert_eq!(kinds, [crate::meta::Kind::File, crate::meta::Kind::Symlink]);
}

#[tokio::test]
async fn a_key_of_full_length_is_a_file() {
    let world = World::new();
    let directory = ["d", "e", "f", "g"].map(|letter| letter.repeat(200)).join("/");
    let path = format!("{directory}/{}", "g".repeat(1024 - directory.len() - 1));
    world.put(&path, "deep").await;
    assert_eq!(world.read_file(&path).await.expect("read"), b"deep");
}
