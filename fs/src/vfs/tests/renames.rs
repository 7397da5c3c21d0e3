//! Renames beside other work: uploads, releases, and the last request of a worker that was killed.

use super::faulty::{Fault, FaultyStore};
use super::*;
use crate::clock;
use crate::journal::Source;
use crate::session_log::time::Time;
use crate::session_log::{Record, State};
use crate::store::{Depth, ListRequest, Op};
use crate::vfs::call::{Call, Earlier};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rename_during_an_upload_leaves_the_file_under_its_new_name_alone() {
    let world = World::new();
    for round in 0..500 {
        let (old, new) = (format!("old{round}"), format!("new{round}"));
        let made = world.vfs.create(Ino::ROOT, OsStr::new(&old), 0o644, CALLER, WRITE, true).await;
        let (_, opened) = made.expect("create");
        world.vfs.write(opened.fh, 0, &[7; 256 << 10]).expect("write");
        let vfs = Arc::clone(&world.vfs);
        let closed = tokio::spawn(async move { vfs.flush(opened.fh).await });
        let (from, to) = ((Ino::ROOT, OsStr::new(&old)), (Ino::ROOT, OsStr::new(&new)));
        world.vfs.rename(from, to, RenameMode::Replace).await.expect("rename");
        closed.await.expect("no panic").expect("flush");
        world.vfs.release(opened.fh).await.expect("release");
        assert_eq!(world.object(&new).await.map(|body| body.len()), Some(256 << 10), "{round}");
        assert_eq!(world.object(&old).await, None, "{round}");
    }
}

#[tokio::test]
async fn a_file_replaced_while_it_is_settled_is_let_go() {
    let world = World::new();
    let made = world.vfs.create(Ino::ROOT, OsStr::new("target"), 0o644, CALLER, WRITE, true).await;
    let (target, opened) = made.expect("create");
    world.vfs.write(opened.fh, 0, b"old").expect("write");
    world.vfs.flush(opened.fh).await.expect("flush");
    let source = world.write_file("source", b"new").await;
    let (from, to) = ((Ino::ROOT, OsStr::new("source")), (Ino::ROOT, OsStr::new("target")));
    let source = world.vfs.table.inode(source).expect("known");
    let held = source.file().expect("a file").commit.lock().await;
    // The rename has the target's commit lock and waits for the source's; the release waits for the target's.
    let mut rename = std::pin::pin!(world.vfs.rename(from, to, RenameMode::Replace));
    assert!(futures::poll!(&mut rename).is_pending());
    let mut release = std::pin::pin!(world.vfs.release(opened.fh));
    assert!(futures::poll!(&mut release).is_pending());
    drop(held);
    let (renamed, released) = tokio::join!(rename, release);
    renamed.expect("rename");
    released.expect("release");
    assert_eq!(world.object("target").await.as_deref(), Some(&b"new"[..]));
    world.vfs.forget(target.attr.ino, 1);
    world.vfs.table.inode(target.attr.ino).expect_err("nothing holds what was replaced");
}

/// The killed worker's last request, the removal of the old object, reaches the server before each request of the
/// next worker in turn.
#[tokio::test]
async fn a_rename_sent_again_is_overtaken_by_the_killed_workers_last_request() {
    for at in 0.. {
        let home = tempfile::tempdir().expect("a folder");
        let store = FaultyStore::new(Arc::new(MemoryStore::new()), home.path());
        let put = |key| {
            let inner = Arc::clone(&store.inner);
            async move {
                let (body, headers) = (Bytes::from_static(b"body"), Headers::default());
                inner.put(&parse(key), body, &headers, Condition::Always).await.expect("put");
            }
        };
        for key in ["file", "renamed", "tree/a", "moved/a", "tree/b", "moved/b"] {
            put(key).await;
        }
        let vfs =
            mount_with(Arc::clone(&store) as Arc<dyn ObjectStore>, &home.path().join("cache"), None, |_| {});
        let mut state = State::default();
        state.apply(Record::Intent { unique: 7, at: Time(clock::now()) });
        vfs.earlier.set(Earlier::of(&state)).expect("once");
        for name in ["file", "tree"] {
            lookup(&vfs, name).await.expect("the kernel knows it");
        }
        let again = |from: &'static str, to: &'static str| {
            let (from, to) = ((Ino::ROOT, OsStr::new(from)), (Ino::ROOT, OsStr::new(to)));
            Call { op: "rename", unique: 7, resent: true, thread: 0 }.during(vfs.rename(
                from,
                to,
                RenameMode::Replace,
            ))
        };
        store.plan(at, Fault::Overtaken(&["file"]));
        again("file", "renamed").await.unwrap_or_else(|error| panic!("file, request {at}: {error}"));
        let in_file = store.is_hit();
        store.plan(at, Fault::Overtaken(&["tree/a"]));
        again("tree", "moved").await.unwrap_or_else(|error| panic!("tree, request {at}: {error}"));
        assert_eq!(names(&vfs, "").await, ["moved", "renamed"]);
        assert_eq!(names(&vfs, "moved").await, ["a", "b"]);
        for path in ["renamed", "moved/a", "moved/b"] {
            assert_eq!(read_file(&vfs, path).await.expect("read"), b"body");
        }
        if !in_file && !store.is_hit() {
            assert!(at > 4, "requests were met");
            return;
        }
    }
}

/// All keys of a bucket.
async fn keys(bucket: &MemoryStore) -> Vec<String> {
    let request = ListRequest::new(Prefix::default(), Depth::Subtree, 1000);
    let page = bucket.list(request).await.expect("list");
    page.objects.iter().map(|listed| listed.key.as_str().to_owned()).collect()
}

/// A rename of `old` by a process that is killed after a request. Says whether there was such a request.
async fn dies_while_renaming(number: usize, old: &[&str], new: &[&str]) -> bool {
    let home = tempfile::tempdir().expect("a folder");
    let bucket = Arc::new(MemoryStore::new());
    for key in old {
        bucket.put(&parse(key), "body".into(), &Headers::default(), Condition::Always).await.expect("put");
    }
    let dying = FaultyStore::new(Arc::clone(&bucket), home.path());
    let mounted = |store: &Arc<FaultyStore>, cache| {
        mount_with(Arc::clone(store) as Arc<dyn ObjectStore>, &home.path().join(cache), None, |_| {})
    };
    let vfs = mounted(&dying, "cache");
    lookup(&vfs, "old").await.expect("there");
    dying.plan(number, Fault::DieAfter);
    let (from, to) = ((Ino::ROOT, OsStr::new("old")), (Ino::ROOT, OsStr::new("new")));
    let said = vfs.rename(from, to, RenameMode::Replace).await;
    if !dying.is_hit() {
        said.expect("nothing happened");
        return false;
    }
    let left = keys(&bucket).await;
    let has_all = |names: &[&str]| names.iter().all(|name| left.iter().any(|key| key == name));
    assert!(has_all(old) || has_all(new), "request {number}: the new names are there before the old ones go");
    let next = mounted(&FaultyStore::new(Arc::clone(&bucket), home.path()), "image");
    next.recover().await.expect("recovery");
    let begun = left.iter().any(|key| new.contains(&&**key));
    assert_eq!(keys(&bucket).await, if begun { new } else { old }, "request {number}");
    true
}

/// SEMANTICS: "Other nodes see the new name before the old one goes; local processes see one step."
/// SEMANTICS: "If tarn is killed in between, the next mount finishes the rename."
/// SEMANTICS: "A directory is copied key by key, and nothing is deleted before all copies are made."
#[tokio::test]
async fn a_rename_that_is_cut_short_is_finished_by_the_next_mount() {
    for (old, new, least) in
        [(&["old"][..], &["new"][..], 3), (&["old/a", "old/b/c"], &["new/a", "new/b/c"], 4)]
    {
        let mut number = 0;
        while dies_while_renaming(number, old, new).await {
            number += 1;
        }
        assert!(number >= least, "{old:?}: {number} requests were met");
    }
}

/// SEMANTICS: "For a directory the target is looked at before the move."
#[tokio::test]
async fn a_directory_that_must_not_replace_looks_before_it_moves() {
    let world = World::new();
    world.put("from/f", "f").await;
    world.put("to/", "").await;
    let rename = async |to: &str, mode| {
        let (from, to) = ((Ino::ROOT, OsStr::new("from")), (Ino::ROOT, OsStr::new(to)));
        world.vfs.rename(from, to, mode).await
    };
    let before = world.counts();
    assert!(matches!(rename("to", RenameMode::NoReplace).await, Err(Error::Exists)));
    assert_eq!(world.counts().of(Op::Copy), before.of(Op::Copy));
    rename("free", RenameMode::NoReplace).await.expect("nobody has the name");
    assert_eq!(world.object("free/f").await.as_deref(), Some(&b"f"[..]));
}

#[tokio::test]
async fn a_renamed_directory_takes_no_other_clients_object_for_what_its_files_were_made_from() {
    for before in [None, Some("before")] {
        let world = World::new();
        world.put("old/other", "x").await;
        if let Some(body) = before {
            world.put("old/f", body).await;
        }
        let (_, fh) = world.write_open("old/f", b"ours").await;
        world.put("old/f", "theirs").await;
        let (from, to) = ((Ino::ROOT, OsStr::new("old")), (Ino::ROOT, OsStr::new("new")));
        world.vfs.rename(from, to, RenameMode::Replace).await.expect("rename");
        let lost = world.vfs.flush(fh).await.expect_err("another client was first");
        assert_eq!(lost.errno(), rustix::io::Errno::STALE);
        world.vfs.release(fh).await.expect("release");
        assert_eq!(world.object("new/f").await.as_deref(), Some(&b"theirs"[..]), "{before:?}");
        let kept = names(&world.elsewhere(), "new").await;
        assert!(kept.iter().any(|name| name.starts_with("f.conflict-here-")), "{before:?}: {kept:?}");
    }
}

#[tokio::test]
async fn a_renamed_directory_shows_what_was_moved_and_not_what_is_open() {
    let world = World::new();
    world.put("old/f", "opened").await;
    let ino = world.lookup("old/f").await.expect("there");
    let reader = world.vfs.open(ino, READ, false).await.expect("open");
    world.put("old/f", "theirs").await;
    let (from, to) = ((Ino::ROOT, OsStr::new("old")), (Ino::ROOT, OsStr::new("new")));
    world.vfs.rename(from, to, RenameMode::Replace).await.expect("rename");
    assert_eq!(world.read_file("new/f").await.expect("read"), b"theirs");
    assert_eq!(world.vfs.read(reader.fh, 0, 10).await.expect("read")[..], b"opened"[..]);
    world.vfs.release(reader.fh).await.expect("release");
}

#[tokio::test]
async fn a_directory_is_not_moved_over_one_that_another_client_has_just_made() {
    let world = World::new();
    world.put("from/f", "ours").await;
    assert_eq!(names(&world.vfs, "").await, ["from"]);
    world.put("to/f", "theirs").await;
    let (from, to) = ((Ino::ROOT, OsStr::new("from")), (Ino::ROOT, OsStr::new("to")));
    let refused = world.vfs.rename(from, to, RenameMode::Replace).await;
    assert!(matches!(refused, Err(Error::NotEmpty)), "{refused:?}");
    assert_eq!(world.object("to/f").await.as_deref(), Some(&b"theirs"[..]));
    assert_eq!(world.object("from/f").await.as_deref(), Some(&b"ours"[..]));
}

/// After a loss of power the record of a rename that was done long ago may be in the journal again.
#[tokio::test]
async fn interrupted_renames_are_finished_in_their_order() {
    let home = tempfile::tempdir().expect("a folder");
    let bucket = Arc::new(MemoryStore::new());
    let mounted = || {
        let store = Arc::clone(&bucket) as Arc<dyn ObjectStore>;
        mount_with(store, &home.path().join("cache"), None, |_| {})
    };
    let vfs = mounted();
    // The journal's files have random names: one pair may be read in its order by chance.
    for number in 0..8 {
        let (first, second, third) =
            (format!("{number}/first"), format!("{number}/second"), format!("{number}/third"));
        let (old, new) = (put(&bucket, &first, "old").await, put(&bucket, &third, "new").await);
        vfs.begin_move(&first, &second, Source::Tag(old.etag), None).leave();
        vfs.begin_move(&third, &first, Source::Tag(new.etag), None).leave();
    }
    drop(vfs);
    let next = mounted();
    assert_eq!(next.recover().await.expect("recovery").renames, 16);
    for number in 0..8 {
        assert_eq!(read_file(&next, &format!("{number}/first")).await.expect("read"), b"new", "{number}");
        assert_eq!(read_file(&next, &format!("{number}/second")).await.expect("read"), b"old", "{number}");
    }
}

#[tokio::test]
async fn the_record_of_a_rename_that_was_done_before_moves_nothing_younger() {
    let home = tempfile::tempdir().expect("a folder");
    let bucket = Arc::new(MemoryStore::new());
    let mounted = || {
        let store = Arc::clone(&bucket) as Arc<dyn ObjectStore>;
        mount_with(store, &home.path().join("cache"), None, |_| {})
    };
    let vfs = mounted();
    let (file, below) = (put(&bucket, "temporary", "first").await, put(&bucket, "old/a", "first").await);
    vfs.begin_move("temporary", "saved", Source::Tag(file.etag), None).leave();
    vfs.begin_move("old/", "new/", Source::of([&below]), None).leave();
    drop(vfs);
    put(&bucket, "temporary", "second").await;
    put(&bucket, "old/b", "second").await;
    let next = mounted();
    assert_eq!(next.recover().await.expect("recovery").renames, 2);
    assert_eq!(keys(&bucket).await, ["new/a", "old/b", "temporary"]);
}

async fn put(bucket: &MemoryStore, key: &str, body: &'static str) -> Version {
    bucket.put(&parse(key), body.into(), &Headers::default(), Condition::Always).await.expect("put")
}
