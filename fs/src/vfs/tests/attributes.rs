//! What is kept of attributes, and what it costs.

use super::*;
use crate::meta::{Kind, acl};
use crate::store::Op;
use std::time::{SystemTime, UNIX_EPOCH};

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::new(seconds, 987_654_321)
}

async fn posix(vfs: &Arc<Vfs>, path: &str) -> crate::meta::Posix {
    let ino = lookup(vfs, path).await.expect("there");
    vfs.getattr(ino).await.expect("getattr").posix
}

/// SEMANTICS: "Mode, owner, group, times, device numbers and extended attributes stand in the user metadata
/// of the object, those of a directory in that of its marker `dir/`."
#[tokio::test]
async fn every_attribute_survives_in_the_object() {
    let world = World::new();
    let ino = world.write_file("f", b"x").await;
    let set = SetAttr {
        mode: Some(0o6751),
        uid: Some(11),
        gid: Some(12),
        atime: Some(at(5)),
        mtime: Some(at(6)),
        ..SetAttr::default()
    };
    let here = world.vfs.setattr(ino, set).await.expect("setattr").posix;
    assert_eq!(posix(&world.elsewhere(), "f").await, here);
    assert_eq!((here.mode, here.uid, here.gid, here.atime, here.mtime), (0o6751, 11, 12, at(5), at(6)));
    assert!(here.ctime > here.btime && here.btime > here.mtime);
}

/// SEMANTICS: "FIFOs, sockets and device nodes are empty objects with metadata."
#[tokio::test]
async fn special_files_are_empty_objects_with_metadata() {
    let world = World::new();
    let kinds = [
        ("fifo", Kind::Fifo),
        ("socket", Kind::Socket),
        ("char", Kind::CharDevice { rdev: 0x103 }),
        ("block", Kind::BlockDevice { rdev: 7 << 8 }),
    ];
    for (name, kind) in kinds {
        let made = world.vfs.mknod(Ino::ROOT, OsStr::new(name), kind, 0o620, CALLER).await.expect("mknod");
        assert_eq!((made.attr.posix.kind, made.attr.posix.mode), (kind, 0o620));
        assert_eq!(world.object(name).await.as_deref(), Some(&b""[..]));
        assert_eq!(posix(&world.elsewhere(), name).await.kind, kind);
    }
}

#[tokio::test]
async fn an_open_for_writing_without_a_change_sends_nothing() {
    let world = World::new();
    world.put("f", "by another client").await;
    let ino = world.lookup("f").await.expect("there");
    let opened = world.vfs.open(ino, WRITE, false).await.expect("open");
    let before = world.counts();
    world.close(opened.fh).await;
    for op in [Op::Put, Op::Copy] {
        assert_eq!(world.counts().of(op), before.of(op), "{op:?}");
    }
}

/// SEMANTICS: "A change of attributes is a copy of the object onto itself on the server, under the condition
/// that it is still the same version; that of an open written file goes with its upload."
#[tokio::test]
async fn changes_of_an_open_written_file_go_with_its_upload() {
    let world = World::new();
    let made = world.vfs.create(Ino::ROOT, OsStr::new("f"), 0o644, CALLER, WRITE, false).await;
    let (entry, opened) = made.expect("create");
    let before = world.counts();
    world.vfs.write(opened.fh, 0, b"x").expect("write");
    let ino = entry.attr.ino;
    world.vfs.setattr(ino, SetAttr { mode: Some(0o600), ..SetAttr::default() }).await.expect("chmod");
    world.vfs.setattr(ino, SetAttr { mtime: Some(at(9)), ..SetAttr::default() }).await.expect("utimensat");
    world.vfs.setxattr(ino, OsStr::new("user.a"), b"b", XattrMode::Any, CALLER).await.expect("setxattr");
    world.close(opened.fh).await;
    assert_eq!(world.counts().of(Op::Put) - before.of(Op::Put), 1);
    assert_eq!(world.counts().of(Op::Copy), before.of(Op::Copy));
    let other = world.elsewhere();
    let there = posix(&other, "f").await;
    assert_eq!((there.mode, there.mtime), (0o600, at(9)));
    let ino = lookup(&other, "f").await.expect("there");
    assert_eq!(other.getxattr(ino, OsStr::new("user.a")).await.expect("kept"), b"b");
}

#[tokio::test]
async fn a_write_moves_mtime_and_ctime_and_a_chmod_only_ctime() {
    let world = World::new();
    let ino = world.write_file("f", b"x").await;
    let old = SetAttr { mtime: Some(at(9)), ..SetAttr::default() };
    let first = world.vfs.setattr(ino, old).await.expect("utimensat").posix;
    let chmod = SetAttr { mode: Some(0o600), ..SetAttr::default() };
    let second = world.vfs.setattr(ino, chmod).await.expect("chmod").posix;
    assert!(second.mtime == at(9) && second.ctime > first.ctime);
    let opened = world.vfs.open(ino, WRITE, false).await.expect("open");
    let opened_only = world.vfs.getattr(ino).await.expect("getattr").posix;
    assert_eq!(opened_only, second);
    world.vfs.write(opened.fh, 0, b"y").expect("write");
    let third = world.vfs.getattr(ino).await.expect("getattr").posix;
    assert!(third.mtime > at(9) && third.ctime >= second.ctime);
    world.close(opened.fh).await;
    assert_eq!(posix(&world.elsewhere(), "f").await, world.vfs.getattr(ino).await.expect("getattr").posix);
}

/// SEMANTICS: "The birth time is kept; Linux asks no FUSE file system through this library for it, so statx
/// does not show it."
#[tokio::test]
async fn a_rename_keeps_the_time_of_an_object_of_others() {
    let world = World::new();
    world.put("f", "x").await;
    let before = posix(&world.vfs, "f").await;
    let (from, to) = ((Ino::ROOT, OsStr::new("f")), (Ino::ROOT, OsStr::new("g")));
    world.vfs.rename(from, to, RenameMode::Replace).await.expect("rename");
    let after = posix(&world.elsewhere(), "g").await;
    assert_eq!((after.mtime, after.btime), (before.mtime, before.btime));
    assert!(after.ctime > before.ctime);
}

/// SEMANTICS: "A directory's mtime and ctime move with its entries; on this mount they are shown at once, in
/// the bucket they are kept with the next change or rename of the directory itself."
#[tokio::test]
async fn directories_show_changes_of_their_entries_and_keep_them_with_the_next_chmod() {
    let world = World::with_ttl(Duration::ZERO);
    let made = world.vfs.mkdir(Ino::ROOT, OsStr::new("d"), 0o755, CALLER).await.expect("mkdir").attr;
    world.write_file("d/f", b"x").await;
    let touched = posix(&world.vfs, "d").await;
    assert!(touched.mtime > made.posix.mtime && touched.ctime == touched.mtime);
    assert_eq!(posix(&world.elsewhere(), "d").await.mtime, made.posix.mtime, "no request for that alone");
    let ino = world.lookup("d").await.expect("there");
    world.vfs.setattr(ino, SetAttr { mode: Some(0o700), ..SetAttr::default() }).await.expect("chmod");
    let kept = posix(&world.elsewhere(), "d").await;
    assert_eq!((kept.mode, kept.mtime, kept.btime), (0o700, touched.mtime, made.posix.btime));
}

/// SEMANTICS: "A file has one link, and none once it is removed while open."
/// SEMANTICS: "A directory has two and one for each directory in it, as it was listed last, or 1 while nobody
/// has listed it."
#[tokio::test]
async fn a_directory_counts_its_subdirectories_and_a_removed_file_has_no_link() {
    let world = World::new();
    let made = world.vfs.mkdir(Ino::ROOT, OsStr::new("d"), 0o755, CALLER).await.expect("mkdir").attr;
    assert_eq!(made.links, 2);
    world.vfs.mkdir(made.ino, OsStr::new("e"), 0o755, CALLER).await.expect("mkdir");
    world.write_file("d/f", b"x").await;
    assert_eq!(world.vfs.getattr(made.ino).await.expect("getattr").links, 3);
    let other = world.remembering();
    let there = lookup(&other, "d").await.expect("there");
    assert_eq!(other.getattr(there).await.expect("not listed yet").links, 1);
    assert_eq!(names(&other, "d").await, ["e", "f"]);
    assert_eq!(other.getattr(there).await.expect("listed").links, 3);
    let ino = world.lookup("d/f").await.expect("there");
    let opened = world.vfs.open(ino, READ, false).await.expect("open");
    assert_eq!(world.vfs.getattr(ino).await.expect("getattr").links, 1);
    world.vfs.unlink(made.ino, OsStr::new("f")).await.expect("unlink");
    assert_eq!(world.vfs.getattr(ino).await.expect("fstat").links, 0);
    world.vfs.release(opened.fh).await.expect("release");
    world.vfs.rmdir(made.ino, OsStr::new("e")).await.expect("rmdir");
    assert_eq!(world.vfs.getattr(made.ino).await.expect("getattr").links, 2);
}

#[tokio::test]
async fn a_listed_directory_shows_its_own_mode() {
    let world = World::new();
    world.vfs.mkdir(Ino::ROOT, OsStr::new("d"), 0o711, CALLER).await.expect("mkdir");
    let other = world.remembering();
    assert_eq!(names(&other, "").await, ["d"]);
    assert_eq!(posix(&other, "d").await.mode, 0o711);
}

/// SEMANTICS: "S3 keeps 2 KiB of user metadata: an attribute that does not fit is refused with ENOSPC and
/// nothing is changed."
#[tokio::test]
async fn xattrs_follow_their_flags_and_their_limits() {
    let world = World::new();
    world.put("implicit/f", "x").await;
    world.vfs.mkdir(Ino::ROOT, OsStr::new("d"), 0o755, CALLER).await.expect("mkdir");
    world.write_file("f", b"x").await;
    let name = OsStr::new("user.colour");
    for path in ["f", "d", "implicit"] {
        let ino = world.lookup(path).await.expect("there");
        let vfs = &world.vfs;
        let set = async |value: &[u8], mode| vfs.setxattr(ino, name, value, mode, CALLER).await;
        assert!(matches!(set(b"red", XattrMode::Replace).await, Err(Error::NoAttribute)), "{path}");
        set(b"red", XattrMode::Create).await.expect("created");
        assert!(matches!(set(b"red", XattrMode::Create).await, Err(Error::Exists)));
        assert!(matches!(set(&[7; 2000], XattrMode::Any).await, Err(Error::NoRoom)));
        let other = world.elsewhere();
        let there = lookup(&other, path).await.expect("there");
        assert_eq!(other.getxattr(there, name).await.expect("kept"), b"red", "{path}");
        assert_eq!(other.listxattr(there, CALLER).await.expect("list"), b"user.colour\0");
        vfs.removexattr(ino, name).await.expect("removed");
        assert!(matches!(vfs.removexattr(ino, name).await, Err(Error::NoAttribute)));
        assert!(matches!(vfs.getxattr(ino, name).await, Err(Error::NoAttribute)));
    }
    let ino = world.lookup("f").await.expect("there");
    let odd = world.vfs.setxattr(ino, OsStr::new("odd.name"), b"", XattrMode::Any, CALLER).await;
    assert!(matches!(odd, Err(Error::Unsupported(_))));
}

/// SEMANTICS: "Names of `trusted.` are listed for root only."
#[tokio::test]
async fn only_root_is_shown_trusted_names() {
    let world = World::new();
    let ino = world.write_file("f", b"x").await;
    world.vfs.setxattr(ino, OsStr::new("trusted.t"), b"1", XattrMode::Any, CALLER).await.expect("set");
    let names = async |uid| world.vfs.listxattr(ino, Caller { uid, ..CALLER }).await.expect("list");
    assert_eq!((names(0).await, names(5).await), (b"trusted.t\0".to_vec(), vec![]));
}

/// SEMANTICS: "Content type, cache control, storage class, `Expires`, tags and the metadata of others stay as
/// they are, also when the bytes change."
#[tokio::test]
async fn metadata_of_others_survives_a_chmod_and_a_write() {
    let world = World::new();
    let headers = Headers {
        content_type: Some("text/x-poem".into()),
        cache_control: Some("no-store".into()),
        content_disposition: Some("inline".into()),
        content_encoding: Some("identity".into()),
        content_language: Some("la".into()),
        expires: Some("Wed, 21 Oct 2037 07:28:00 GMT".into()),
        storage_class: Some("STANDARD_IA".into()),
        user: [("team".to_owned(), "blue".to_owned())].into(),
        tagged: true,
    };
    world.store.put(&parse("f"), "x".into(), &headers, Condition::Always).await.expect("put");
    let theirs = async || {
        let mut after = world.store.head(&parse("f")).await.expect("head").headers;
        after.user.retain(|name, _| name == "team");
        after
    };
    let ino = world.lookup("f").await.expect("there");
    let chmod = SetAttr { mode: Some(0o600), ..SetAttr::default() };
    world.vfs.setattr(ino, chmod).await.expect("chmod");
    assert_eq!(theirs().await, headers);
    let opened = world.vfs.open(ino, WRITE, false).await.expect("open");
    world.vfs.write(opened.fh, 0, b"y").expect("write");
    world.close(opened.fh).await;
    assert_eq!(world.object("f").await.as_deref(), Some(&b"y"[..]));
    assert_eq!(theirs().await, headers);
}

/// SEMANTICS: "With `--attributes fixed` every file shows the mount's, chmod and chown to anything else
/// answer EPERM, and what the objects carry stays as it is."
#[tokio::test]
async fn a_mount_with_fixed_attributes_refuses_to_change_them() {
    let world = World::new();
    let ino = world.write_file("f", b"x").await;
    let chmod = SetAttr { mode: Some(0o600), uid: Some(5), ..SetAttr::default() };
    world.vfs.setattr(ino, chmod).await.expect("chmod");
    let fixed = world.fixed();
    let ino = lookup(&fixed, "f").await.expect("there");
    assert_eq!(fixed.getattr(ino).await.expect("getattr").posix.mode, 0o644);
    assert!(matches!(fixed.setattr(ino, chmod).await, Err(Error::NotPermitted(_))));
    let same = SetAttr { mode: Some(0o644), uid: Some(0), mtime: Some(at(3)), ..SetAttr::default() };
    fixed.setattr(ino, same).await.expect("what it shows anyway");
    let kept = posix(&world.elsewhere(), "f").await;
    assert_eq!((kept.mode, kept.uid, kept.mtime), (0o600, 5, at(3)));
}

/// SEMANTICS: "New files and directories take the group of a set-gid directory."
#[tokio::test]
async fn what_is_made_takes_group_and_list_of_its_directory() {
    let world = World::new();
    let caller = Caller { uid: 9, gid: 9, umask: 0o027 };
    let directory = world.vfs.mkdir(Ino::ROOT, OsStr::new("d"), 0o777, caller).await.expect("mkdir").attr;
    assert_eq!(directory.posix.mode, 0o750);
    let set = SetAttr { mode: Some(0o2770), gid: Some(44), ..SetAttr::default() };
    world.vfs.setattr(directory.ino, set).await.expect("chgrp");
    let inner = world.vfs.mkdir(directory.ino, OsStr::new("e"), 0o777, caller).await.expect("mkdir").attr;
    assert_eq!((inner.posix.gid, inner.posix.mode), (44, 0o2750));
    let made = world.vfs.create(inner.ino, OsStr::new("f"), 0o666, caller, WRITE, false).await;
    let (entry, opened) = made.expect("create");
    assert_eq!((entry.attr.posix.gid, entry.attr.posix.mode), (44, 0o640));
    let list = OsStr::new(acl::DEFAULT);
    assert!(matches!(world.vfs.getxattr(inner.ino, list).await, Err(Error::NoAttribute)));
    world.close(opened.fh).await;
}

#[tokio::test]
async fn a_listing_that_a_look_up_left_behind_tells_the_kinds() {
    let world = World::new();
    world.vfs.mknod(Ino::ROOT, OsStr::new("pipe"), Kind::Fifo, 0o600, CALLER).await.expect("mknod");
    let other = world.remembering();
    assert!(matches!(lookup(&other, "absent").await, Err(Error::NotFound)));
    let kinds = kinds(&other).await;
    assert_eq!(kinds, [Kind::Fifo]);
}

/// SEMANTICS: "Set-id bits go when the owner changes or when somebody who may not keep them writes or
/// truncates, or opens a file for writing that another handle passes through already; a program's
/// capabilities go with every such change."
#[tokio::test]
async fn a_change_of_a_program_takes_its_capabilities() {
    let world = World::new();
    let name = OsStr::new("security.capability");
    let changes: [SetAttr; 2] =
        [SetAttr { size: Some(1), ..SetAttr::default() }, SetAttr { uid: Some(5), ..SetAttr::default() }];
    let ino = world.write_file("f", b"program").await;
    for change in changes {
        world.vfs.setxattr(ino, name, b"caps", XattrMode::Any, CALLER).await.expect("setcap");
        assert_eq!(world.vfs.getxattr(ino, name).await.expect("kept"), b"caps");
        world.vfs.setattr(ino, change).await.expect("change");
        assert!(matches!(world.vfs.getxattr(ino, name).await, Err(Error::NoAttribute)), "{change:?}");
    }
    world.vfs.setxattr(ino, name, b"caps", XattrMode::Any, CALLER).await.expect("setcap");
    let opened = world.vfs.open(ino, WRITE, true).await.expect("open");
    assert!(!matches!(opened.serve, Serve::Passthrough(_)), "the kernel must tell of writes");
    world.vfs.write(opened.fh, 0, b"other").expect("write");
    world.close(opened.fh).await;
    let other = world.elsewhere();
    let there = lookup(&other, "f").await.expect("there");
    assert!(matches!(other.getxattr(there, name).await, Err(Error::NoAttribute)));
}
