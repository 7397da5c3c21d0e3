//! Where attributes are kept, and which of them a change moves.

use super::*;
use crate::meta::{Kind, Posix, acl};
use std::time::{SystemTime, UNIX_EPOCH};

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::new(seconds, 987_654_321)
}

async fn posix(vfs: &Arc<Vfs>, path: &str) -> Posix {
    let ino = lookup(vfs, path).await.expect("there");
    vfs.getattr(ino).await.expect("getattr").posix
}

fn nanoseconds(time: SystemTime) -> String {
    format!("{}ns", time.duration_since(UNIX_EPOCH).expect("after 1970").as_nanos())
}

/// SEMANTICS: "Mode, owner, group, times, device numbers and extended attributes stand in the user metadata
/// of the object, those of a directory in that of its marker `dir/`."
/// SEMANTICS: "They are written in AWS's dialect: `file-permissions` (octal, with the format bits),
/// `file-owner`, `file-group`, and `file-mtime`, `file-atime`, `file-ctime`, `file-btime` in nanoseconds;
/// `file-rdev` for devices."
/// SEMANTICS: "They share one metadata entry `xattr`, in the form of s3fs."
#[tokio::test]
async fn attributes_stand_in_the_metadata_as_aws_writes_them() {
    let world = World::new();
    world.write_file("f", b"x").await;
    world.vfs.mkdir(Ino::ROOT, OsStr::new("d"), 0o755, CALLER).await.expect("mkdir");
    let device = Kind::CharDevice { rdev: 259 };
    world.vfs.mknod(Ino::ROOT, OsStr::new("dev"), device, 0o600, CALLER).await.expect("mknod");
    let set = SetAttr {
        mode: Some(0o640),
        uid: Some(11),
        gid: Some(12),
        atime: Some(at(5)),
        mtime: Some(at(6)),
        ..SetAttr::default()
    };
    for (path, key, mode) in [("f", "f", "0100640"), ("d", "d/", "0040640"), ("dev", "dev", "0020640")] {
        let ino = world.lookup(path).await.expect("there");
        world.vfs.setattr(ino, set).await.expect("setattr");
        for (name, value) in [("user.a", b"1"), ("trusted.b", b"2")] {
            world.vfs.setxattr(ino, OsStr::new(name), value, XattrMode::Any, CALLER).await.expect("set");
        }
        let shown = world.vfs.getattr(ino).await.expect("getattr").posix;
        let mut kept = world.store.head(&parse(key)).await.expect("head").headers.user;
        let xattrs = kept.remove("xattr").expect("one entry for all");
        let json = percent_encoding::percent_decode_str(&xattrs).decode_utf8().expect("utf-8");
        let json: serde_json::Value = serde_json::from_str(&json).expect("the form of s3fs");
        assert_eq!(json, serde_json::json!({"user.a": "MQ==", "trusted.b": "Mg=="}));
        let mut expected = vec![
            ("file-atime", "5987654321ns".to_owned()),
            ("file-btime", nanoseconds(shown.btime)),
            ("file-ctime", nanoseconds(shown.ctime)),
            ("file-group", "12".to_owned()),
            ("file-mtime", "6987654321ns".to_owned()),
            ("file-owner", "11".to_owned()),
            ("file-permissions", mode.to_owned()),
        ];
        if path == "dev" {
            expected.push(("file-rdev", "259".to_owned()));
        }
        let kept: Vec<_> = kept.iter().map(|(name, value)| (&**name, value.clone())).collect();
        assert_eq!(kept, expected, "{path}");
    }
}

/// SEMANTICS: "Names of `user.`, `trusted.` and `security.` are kept, and POSIX access control lists; others
/// answer EOPNOTSUPP."
#[tokio::test]
async fn names_of_three_kinds_and_lists_are_kept() {
    /// `u::rw,u:7:r,g::-,m::r,o::-` as the kernel takes it.
    const LIST: [u8; 44] =
        *b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff\x02\0\x04\0\x07\0\0\0\x04\0\0\0\xff\xff\xff\xff\
        \x10\0\x04\0\xff\xff\xff\xff\x20\0\0\0\xff\xff\xff\xff";
    let world = World::new();
    let ino = world.write_file("f", b"x").await;
    let kept = [("user.a", &b"1"[..]), ("trusted.a", b"2"), ("security.a", b"3"), (acl::ACCESS, &LIST)];
    for (name, value) in kept {
        world.vfs.setxattr(ino, OsStr::new(name), value, XattrMode::Any, CALLER).await.expect(name);
    }
    let other = world.elsewhere();
    let there = lookup(&other, "f").await.expect("there");
    for (name, value) in kept {
        assert_eq!(other.getxattr(there, OsStr::new(name)).await.expect(name), value);
    }
    for name in ["odd.a", "system.a", "user"] {
        let refused = world.vfs.setxattr(ino, OsStr::new(name), b"1", XattrMode::Any, CALLER).await;
        assert_eq!(refused.expect_err(name).errno(), rustix::io::Errno::OPNOTSUPP);
    }
}

/// SEMANTICS: "A write, a truncation and an allocation move mtime and ctime; a change of attributes and a
/// rename move ctime."
#[tokio::test]
async fn content_moves_two_times_and_attributes_one() {
    const OLD: &str = "1000000000000000000ns";
    let world = World::new();
    let times = ["file-mtime", "file-ctime"].map(|name| (name.to_owned(), OLD.to_owned()));
    let headers = Headers { user: times.into(), ..Headers::default() };
    for name in ["written", "cut", "allocated", "changed", "renamed", "left"] {
        world.store.put(&parse(name), "bytes".into(), &headers, Condition::Always).await.expect("put");
    }
    for name in ["written", "allocated", "left"] {
        let opened = world.vfs.open(world.lookup(name).await.expect("there"), WRITE, false).await;
        let fh = opened.expect("open").fh;
        match name {
            "written" => world.vfs.write(fh, 0, b"other").expect("write"),
            "allocated" => {
                world.vfs.fallocate(fh, 0, 10, Allocate::Reserve { keep_size: false }).expect("allocate");
            }
            _ => {}
        }
        world.close(fh).await;
    }
    let changes = [
        ("cut", SetAttr { size: Some(2), ..SetAttr::default() }),
        ("changed", SetAttr { mode: Some(0o600), ..SetAttr::default() }),
    ];
    for (name, set) in changes {
        world.vfs.setattr(world.lookup(name).await.expect("there"), set).await.expect(name);
    }
    let (from, to) = ((Ino::ROOT, OsStr::new("renamed")), (Ino::ROOT, OsStr::new("moved")));
    world.vfs.rename(from, to, RenameMode::Replace).await.expect("rename");
    let other = world.elsewhere();
    let expected = [
        ("written", (true, true)),
        ("cut", (true, true)),
        ("allocated", (true, true)),
        ("changed", (false, true)),
        ("moved", (false, true)),
        ("left", (false, false)),
    ];
    let old = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    for (name, moved) in expected {
        let shown = posix(&other, name).await;
        assert_eq!((shown.mtime > old, shown.ctime > old), moved, "{name}");
    }
}

/// SEMANTICS: "Reading does not move atime: it is what utimensat said last, at first the time of creation."
#[tokio::test]
async fn reading_moves_no_access_time() {
    let world = World::new();
    let ino = world.write_file("f", b"x").await;
    let made = world.vfs.getattr(ino).await.expect("getattr").posix;
    assert_eq!(made.atime, made.btime);
    assert_eq!(world.read_file("f").await.expect("read"), b"x");
    assert_eq!(posix(&world.vfs, "f").await.atime, made.btime);
    let set = SetAttr { atime: Some(at(5)), ..SetAttr::default() };
    world.vfs.setattr(ino, set).await.expect("utimensat");
    let other = world.elsewhere();
    for vfs in [&world.vfs, &other] {
        assert_eq!(read_file(vfs, "f").await.expect("read"), b"x");
        assert_eq!(posix(vfs, "f").await.atime, at(5));
    }
}

/// SEMANTICS: "The root of a whole bucket has no object: what is set on it lasts until it is unmounted."
/// SEMANTICS: "That of a mounted prefix has the marker of the prefix, which is read when it is mounted."
#[tokio::test]
async fn a_bucket_keeps_nothing_of_its_root_and_a_prefix_has_its_marker() {
    let world = World::new();
    let set = |mode| SetAttr { mode: Some(mode), ..SetAttr::default() };
    let mode = async |vfs: &Arc<Vfs>| vfs.getattr(Ino::ROOT).await.expect("getattr").posix.mode;
    world.vfs.setattr(Ino::ROOT, set(0o700)).await.expect("chmod");
    assert_eq!((mode(&world.vfs).await, mode(&world.elsewhere()).await), (0o700, 0o755));
    assert_eq!(names(&world.elsewhere(), "").await, [""; 0], "nothing is written");
    let below = |name: &str| {
        let store = Arc::clone(&world.store) as Arc<dyn ObjectStore>;
        mount_with(store, &world.dir.path().join(name), None, |options| {
            options.prefix = Prefix::parse("p").expect("a prefix");
        })
    };
    let first = below("first");
    first.setattr(Ino::ROOT, set(0o711)).await.expect("chmod");
    assert_eq!(world.object("p/").await.as_deref(), Some(&b""[..]));
    let second = below("second");
    assert_eq!(mode(&second).await, 0o711);
    first.setattr(Ino::ROOT, set(0o700)).await.expect("chmod");
    assert_eq!((mode(&second).await, mode(&below("third")).await), (0o711, 0o700));
}

/// SEMANTICS: "A new file gets the content type that its name's extension stands for, as with other clients; one
/// that has a type keeps it."
#[tokio::test]
async fn a_new_file_has_the_content_type_of_its_extension() {
    let world = World::new();
    let typed = Headers { content_type: Some("application/odd".into()), ..Headers::default() };
    world.store.put(&parse("typed.html"), "a".into(), &typed, Condition::Always).await.expect("put");
    let fh = world.vfs.open(world.lookup("typed.html").await.expect("there"), WRITE, false).await;
    let fh = fh.expect("open").fh;
    world.vfs.write(fh, 0, b"b").expect("write");
    world.close(fh).await;
    for name in ["a.html", "c.unknown", "d"] {
        world.write_file(name, b"x").await;
    }
    let (from, to) = ((Ino::ROOT, OsStr::new("a.html")), (Ino::ROOT, OsStr::new("a")));
    world.vfs.rename(from, to, RenameMode::Replace).await.expect("rename");
    let expected =
        [("typed.html", Some("application/odd")), ("a", Some("text/html")), ("c.unknown", None), ("d", None)];
    for (name, content_type) in expected {
        let found = world.store.head(&parse(name)).await.expect("there").headers;
        assert_eq!(found.content_type.as_deref(), content_type, "{name}");
    }
}
