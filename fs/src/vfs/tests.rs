//! The file system on the memory store, without a kernel.

mod attributes;
mod checked;
mod durable;
mod exchanges;
mod faulty;
mod fence;
mod later;
mod listings;
mod metadata;
mod names;
mod quota;
mod renames;
mod requests;
mod resume;
mod sim;
mod takeover;
mod unsure;
mod versions;
mod world;

use super::*;
use crate::meta::Attributes;
use crate::name::Key;
use crate::store::{Condition, Counts, GetRequest, Headers, MemoryOptions, MemoryStore, ObserveStore};
use bytes::Bytes;
use futures::TryStreamExt;
use parking_lot::Mutex;
use std::ffi::OsStr;
use tarn_cache::StoreOptions;
use world::*;

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
