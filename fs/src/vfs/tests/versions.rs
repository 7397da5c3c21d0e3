//! What happens when somebody else changes the bucket.

use super::faulty::{Fault, FaultyStore};
use super::*;

#[tokio::test]
async fn an_open_handle_keeps_its_version() {
    let world = World::with_ttl(Duration::ZERO);
    world.put("f", "first").await;
    let old = world.lookup("f").await.expect("there");
    let reader = world.vfs.open(old, READ, false).await.expect("open");
    world.put("f", "second!").await;
    assert_eq!(world.vfs.read(reader.fh, 0, 10).await.expect("read")[..], b"first"[..]);
    let new = world.lookup("f").await.expect("there");
    assert_ne!(new, old, "a new version has a new inode while the old one is open");
    assert_eq!(world.read_file("f").await.expect("read"), b"second!");
    world.vfs.release(reader.fh).await.expect("release");
}

#[tokio::test]
async fn a_replaced_object_that_is_not_cached_is_stale_and_never_mixed() {
    let world = World::with_ttl(Duration::ZERO);
    world.put("f", vec![1; 20 << 20]).await;
    let ino = world.lookup("f").await.expect("there");
    let reader = world.vfs.open(ino, READ, false).await.expect("open");
    world.vfs.read(reader.fh, 0, 4096).await.expect("first block");
    world.put("f", vec![2; 20 << 20]).await;
    let error = world.vfs.read(reader.fh, 19 << 20, 4096).await.expect_err("another version");
    assert!(matches!(error, Error::Stale(_)), "{error}");
}

/// SEMANTICS: "A refused commit looks first whether the object there is its own, from an attempt whose answer
/// was lost; otherwise it is a conflict: theirs stays, ours is kept beside it, and the caller gets ESTALE."
#[tokio::test]
async fn a_conflict_keeps_both_sides() {
    let world = World::with_ttl(Duration::ZERO);
    world.put("f", "base").await;
    let ino = world.lookup("f").await.expect("there");
    let writer = world.vfs.open(ino, WRITE, false).await.expect("open");
    world.vfs.write(writer.fh, 0, b"OURS").expect("write");
    world.put("f", "theirs").await;
    let error = world.vfs.flush(writer.fh).await.expect_err("conflict");
    assert!(matches!(error, Error::Stale(_)), "{error}");
    assert_eq!(world.vfs.overview().dirty_files, 0);
    let drained = world.vfs.drain().await;
    assert!(drained.failed.is_empty(), "the bucket has both sides: {drained:?}");
    world.vfs.release(writer.fh).await.expect("release");
    assert_eq!(world.object("f").await.as_deref(), Some(&b"theirs"[..]));
    let all = names(&world.vfs, "").await;
    let kept = all.iter().find(|name| name.starts_with("f.conflict-here-")).expect("a kept copy");
    assert_eq!(world.object(kept).await.as_deref(), Some(&b"OURS"[..]));
}

#[tokio::test]
async fn two_creators_of_one_name_keep_both_files() {
    let world = World::new();
    let (_, fh) = world.write_open("f", b"ours").await;
    world.put("f", "theirs").await;
    assert!(matches!(world.vfs.flush(fh).await, Err(Error::Stale(_))));
    assert_eq!(world.object("f").await.as_deref(), Some(&b"theirs"[..]));
    assert_eq!(names(&world.elsewhere(), "").await.len(), 2);
}

#[tokio::test]
async fn an_unchanged_file_opened_for_writing_is_not_uploaded() {
    let world = World::new();
    world.write_file("f", b"same").await;
    let ino = world.lookup("f").await.expect("there");
    let before = world.counts();
    let opened = world.vfs.open(ino, WRITE, false).await.expect("open");
    world.close(opened.fh).await;
    assert_eq!(world.counts().total(), before.total());
}

#[tokio::test]
async fn foreign_metadata_survives_a_rewrite() {
    let world = World::new();
    let mut headers = Headers { content_type: Some("text/x-poem".into()), ..Headers::default() };
    headers.user.insert("team".into(), "blue".into());
    let key = super::parse("f");
    world.store.put(&key, Bytes::from_static(b"roses"), &headers, Condition::Always).await.expect("put");
    let ino = world.lookup("f").await.expect("there");
    let opened = world.vfs.open(ino, WRITE, false).await.expect("open");
    world.vfs.write(opened.fh, 0, b"R").expect("write");
    world.close(opened.fh).await;
    let info = world.store.head(&key).await.expect("head");
    assert_eq!(world.object("f").await.as_deref(), Some(&b"Roses"[..]));
    assert_eq!(info.headers.content_type.as_deref(), Some("text/x-poem"));
    assert_eq!(info.headers.user.get("team").map(String::as_str), Some("blue"));
}

#[tokio::test]
async fn an_open_that_finds_another_version_first_lets_the_kernel_know_its_size() {
    let world = World::with_ttl(Duration::ZERO);
    world.put("f", "short").await;
    let ino = world.lookup("f").await.expect("there");
    world.put("f", "longer than before").await;
    let stale = world.vfs.open(ino, READ, false).await;
    assert!(matches!(stale, Err(Error::Stale(_))), "{stale:?}");
    // What the kernel does then: it looks the name up again, and opens what it finds.
    assert_eq!(world.read_file("f").await.expect("read"), b"longer than before");
}

/// SEMANTICS: "RENAME_NOREPLACE is a condition of the store for a file that is in the bucket: EEXIST also
/// when another node was first."
#[tokio::test]
async fn a_rename_that_must_not_replace_loses_to_another_node() {
    let world = World::new();
    world.write_file("from", b"ours").await;
    assert!(matches!(world.lookup("to").await, Err(Error::NotFound)));
    world.put("to", "theirs").await;
    let (from, to) = ((Ino::ROOT, OsStr::new("from")), (Ino::ROOT, OsStr::new("to")));
    let lost = world.vfs.rename(from, to, RenameMode::NoReplace).await;
    assert!(matches!(lost, Err(Error::Exists)), "{lost:?}");
    assert_eq!(world.read_file("to").await.expect("what was said to exist is found"), b"theirs");
    assert_eq!(world.object("from").await.as_deref(), Some(&b"ours"[..]));
    assert_eq!(world.object("to").await.as_deref(), Some(&b"theirs"[..]));
}

#[tokio::test]
async fn a_directory_lost_to_another_node_is_found() {
    let world = World::new();
    assert!(matches!(world.lookup("d").await, Err(Error::NotFound)));
    world.put("d/", "").await;
    let lost = world.vfs.mkdir(Ino::ROOT, OsStr::new("d"), 0o755, CALLER).await;
    assert!(matches!(lost, Err(Error::Exists)), "{lost:?}");
    world.lookup("d").await.expect("what was said to exist is found");
}

/// SEMANTICS: "A node that had looked before may see ENOENT or the old file until its lifetime (`--attr-ttl`)
/// is over."
#[tokio::test]
async fn a_node_believes_what_it_has_seen_for_a_lifetime() {
    let world = World::new();
    world.put("old", "first").await;
    let (patient, curious) = (world.remembering(), world.elsewhere());
    for vfs in [&patient, &curious] {
        assert_eq!(read_file(vfs, "old").await.expect("read"), b"first");
        assert!(matches!(lookup(vfs, "new").await, Err(Error::NotFound)));
    }
    world.put("old", "second").await;
    world.put("new", "made").await;
    assert_eq!(read_file(&patient, "old").await.expect("read"), b"first");
    assert!(matches!(lookup(&patient, "new").await, Err(Error::NotFound)));
    assert_eq!(read_file(&curious, "old").await.expect("read"), b"second");
    assert_eq!(read_file(&curious, "new").await.expect("read"), b"made");
}

/// SEMANTICS: "`open(O_CREAT|O_EXCL)`, `mkdir`, `mknod` and `symlink` put the object on the condition that
/// the key is free, before they return: of all nodes one succeeds, the others get EEXIST."
#[tokio::test]
async fn what_is_made_exclusively_is_made_by_one_node() {
    async fn make(vfs: &Arc<Vfs>, name: &str) -> Result<()> {
        let os = OsStr::new(name);
        let exclusive = OpenFlags { exclusive: true, ..WRITE };
        match name {
            "file" => vfs.create(Ino::ROOT, os, 0o644, CALLER, exclusive, false).await.map(drop),
            "directory" => vfs.mkdir(Ino::ROOT, os, 0o755, CALLER).await.map(drop),
            "pipe" => vfs.mknod(Ino::ROOT, os, crate::meta::Kind::Fifo, 0o600, CALLER).await.map(drop),
            _ => vfs.symlink(Ino::ROOT, os, OsStr::new("to"), CALLER).await.map(drop),
        }
    }
    let world = World::new();
    let other = world.remembering();
    let all = [("file", "file"), ("directory", "directory/"), ("pipe", "pipe"), ("link", "link")];
    for (name, key) in all {
        for vfs in [&world.vfs, &other] {
            assert!(matches!(lookup(vfs, name).await, Err(Error::NotFound)));
        }
        make(&world.vfs, name).await.expect(name);
        assert!(world.object(key).await.is_some(), "{name} is there before the answer");
        let lost = make(&other, name).await.expect_err(name);
        assert_eq!(lost.errno(), rustix::io::Errno::EXIST, "{name}");
    }
}

/// A file `f` that is known here; another client rewrites it before the request of this number, counted from now.
async fn rewritten(at: usize) -> (Arc<FaultyStore>, Arc<Vfs>, tempfile::TempDir) {
    let home = tempfile::tempdir().expect("a folder");
    let store = FaultyStore::new(Arc::new(MemoryStore::new()), home.path());
    let (body, headers) = (Bytes::from_static(b"ours"), Headers::default());
    store.inner.put(&parse("f"), body, &headers, Condition::Always).await.expect("put");
    let vfs =
        mount_with(Arc::clone(&store) as Arc<dyn ObjectStore>, &home.path().join("cache"), None, |_| {});
    lookup(&vfs, "f").await.expect("there");
    store.plan(at, Fault::Rewritten("f"));
    (store, vfs, home)
}

/// SEMANTICS: "What another client writes under the old name meanwhile stays there, if the server keeps the condition of
/// a DELETE (AWS does, MinIO does not)."
#[tokio::test]
async fn what_another_client_writes_while_a_file_is_renamed_is_kept() {
    let mut kept_beside = 0;
    for at in 0.. {
        let (store, vfs, _home) = rewritten(at).await;
        let (from, to) = ((Ino::ROOT, OsStr::new("f")), (Ino::ROOT, OsStr::new("g")));
        let renamed = vfs.rename(from, to, RenameMode::Replace).await;
        let (f, g) = (object(&*store.inner, "f").await, object(&*store.inner, "g").await);
        if !store.is_hit() {
            assert_eq!((f.as_deref(), g.as_deref()), (None, Some(&b"ours"[..])));
            break;
        }
        let theirs = Some(&b"f"[..]);
        assert!(f.as_deref() == theirs || g.as_deref() == theirs, "request {at}: {f:?} {g:?}");
        if renamed.is_ok() && f.as_deref() == theirs {
            assert_eq!(g.as_deref(), Some(&b"ours"[..]), "request {at}");
            assert_eq!(names(&vfs, "").await, ["f", "g"], "request {at}");
            kept_beside += 1;
        }
    }
    assert_ne!(kept_beside, 0, "the copy was made when it was written");
}

#[tokio::test]
async fn a_file_that_another_client_rewrites_while_it_is_removed_is_removed() {
    for at in 0.. {
        let (store, vfs, _home) = rewritten(at).await;
        vfs.unlink(Ino::ROOT, OsStr::new("f")).await.unwrap_or_else(|error| panic!("request {at}: {error}"));
        assert_eq!(object(&*store.inner, "f").await, None, "request {at}");
        if !store.is_hit() {
            assert_ne!(at, 0, "requests were met");
            return;
        }
        assert_eq!(names(&vfs, "").await, [""; 0], "request {at}");
    }
}
