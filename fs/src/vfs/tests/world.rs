//! A mounted bucket on the memory store, and what tests ask of it.

use super::*;

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
        // A message that is met first where nobody listens would be left out everywhere from then on.
        static ALL_ARE_HEARD: std::sync::Once = std::sync::Once::new();
        ALL_ARE_HEARD.call_once(|| {
            tracing::subscriber::set_global_default(tracing_subscriber::registry()).expect("the first");
        });
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
    pub(super) dir: tempfile::TempDir,
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
        object(&*self.store, key).await
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

pub(super) fn mount(
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
pub(super) fn mount_with(
    store: Arc<dyn ObjectStore>,
    cache: &std::path::Path,
    boot_id: Option<&str>,
    set: impl FnOnce(&mut Options),
) -> Arc<Vfs> {
    mount_logged(store, cache, boot_id, set, SessionLog::none())
}

/// The same with a session log, for a next worker.
pub(super) fn mount_logged(
    store: Arc<dyn ObjectStore>,
    cache: &std::path::Path,
    boot_id: Option<&str>,
    set: impl FnOnce(&mut Options),
    log: SessionLog,
) -> Arc<Vfs> {
    let boot_id = boot_id.map(str::to_owned);
    let cache = StoreOptions { dir: cache.to_owned(), max_bytes: 1 << 30, min_free_bytes: 0, boot_id };
    let attributes = Attributes::Keep;
    let mut options = Options {
        prefix: Prefix::default(),
        defaults: Defaults { uid: 0, gid: 0, file_mode: 0o644, dir_mode: 0o755, attributes },
        read_only: false,
        whole_max: 8 << 20,
        attr_ttl: Duration::ZERO,
        part_size: 5 << 20,
        always_checked: false,
        memory_limit: 64 << 20,
        max_requests: 8,
        note_after: Duration::ZERO,
        commit: Commit::Close,
        exclusive: Exclusive::Bucket,
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
        log,
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

pub(super) fn parse(key: &str) -> Key {
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

/// What a client reads; `None` if there is no object.
pub(super) async fn object(bucket: &dyn ObjectStore, key: &str) -> Option<Vec<u8>> {
    let got = bucket.get(&parse(key), GetRequest::default()).await.ok()?;
    let chunks: Vec<Bytes> = got.body.try_collect().await.expect("body");
    Some(chunks.concat())
}
