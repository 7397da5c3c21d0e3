//! Keys that no plain file name shows, and file names that are no plain keys.

use super::*;
use std::os::unix::ffi::OsStrExt;

/// Finds every file below a directory by reading directories, and reads it.
fn tree(vfs: &Arc<Vfs>, path: String) -> futures::future::BoxFuture<'_, Vec<(String, Vec<u8>)>> {
    Box::pin(async move {
        let mut files = Vec::new();
        for name in names(vfs, &path).await {
            let below = format!("{path}/{name}");
            let ino = lookup(vfs, &below).await.expect("what readdir shows");
            if vfs.getattr(ino).await.expect("attributes").posix.kind == crate::meta::Kind::Directory {
                files.extend(tree(vfs, below).await);
            } else {
                let body = read_file(vfs, &below).await.expect("what readdir shows");
                files.push((below, body));
            }
        }
        files
    })
}

async fn errno_of<T>(work: impl Future<Output = Result<T>>) -> Option<rustix::io::Errno> {
    work.await.err().map(|error| error.errno())
}

async fn move_it(world: &World, from: &str, to: &str) -> Result<()> {
    let (from, to) = (world.split(from).await, world.split(to).await);
    world.vfs.rename(from, to, RenameMode::Replace).await
}

const ODD: &[(&str, &str)] = &[
    ("/lead", "/%:/lead"),
    ("//", "/%:/%:/%="),
    ("a", "/%=a"),
    ("a/", "/a/%="),
    ("a//b", "/a/%:/b"),
    ("a/../b", "/a/%:../b"),
    ("a/./b", "/a/%:./b"),
    ("a/b", "/a/b"),
    ("a/b c%20\u{e9}", "/a/b c%20\u{e9}"),
    ("d/.", "/d/%=%:."),
    ("e/.", "/e/%:."),
    ("d/../x", "/d/%:../x"),
    ("d/./c", "/d/%:./c"),
    ("nul\0", "/%:nul%00"),
    ("new\nline", "/new\nline"),
    ("one\u{1}", "/one\u{1}"),
    ("%:..", "/%:%25:.."),
    ("%:plain", "/%:plain"),
    ("%=x", "/%:%25=x"),
    ("%:caf\u{e9}", "/%:caf\u{e9}"),
];

async fn odd_world() -> World {
    let world = World::with_ttl(Duration::ZERO);
    for (key, _) in ODD {
        world.put(key, (*key).to_owned()).await;
    }
    world
}

fn expected() -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<_> =
        ODD.iter().map(|(key, path)| ((*path).to_owned(), key.as_bytes().to_vec())).collect();
    all.sort();
    all
}

/// SEMANTICS: "`a/b c%20é` | `a/b c%20é` | legal on both sides: the same text"
/// SEMANTICS: "`a//b` | `a/%:/b` | an empty component"
/// SEMANTICS: "`/lead` | `%:/lead` | a leading slash is an empty first component"
/// SEMANTICS: "`a/../b`, `a/./b` | `a/%:../b`, `a/%:./b` | components that mean something else in a path"
/// SEMANTICS: "`a` beside `a/b` | `%=a` beside `a/` | the directory has the name, the object gets a mark"
/// SEMANTICS: "`a/` with bytes in it | `a/%=` | the directory's own object; an empty one is only a marker"
#[tokio::test]
async fn every_key_is_found_by_reading_directories() {
    let world = odd_world().await;
    let mut found = tree(&world.vfs, String::new()).await;
    found.sort();
    assert_eq!(found, expected());
}

/// SEMANTICS: "What only one side can hold is encoded behind a mark, reversibly: every key that can be asked
/// for has one path, and no two keys have the same."
#[tokio::test]
async fn every_key_is_found_by_its_path_alone() {
    let world = odd_world().await;
    for (path, body) in expected() {
        let vfs =
            mount(&world.store, &world.dir.path().join("cold"), Duration::from_secs(3600), Attributes::Keep);
        assert_eq!(read_file(&vfs, &path).await.expect(&path), body, "{path}");
    }
}

/// SEMANTICS: "`%=name` is read, written, renamed and removed like any file."
#[tokio::test]
async fn odd_files_are_changed_in_place_and_removed() {
    let world = odd_world().await;
    for (key, path) in ODD {
        let ino = world.lookup(path).await.expect("there");
        let opened = world.vfs.open(ino, WRITE, false).await.expect("open");
        world.vfs.write(opened.fh, 0, b"NEW").expect("write");
        world.close(opened.fh).await;
        assert_eq!(&world.object(key).await.expect("object")[..1], b"N", "{path}");
        let (parent, name) = world.split(path).await;
        world.vfs.unlink(parent, name).await.expect(path);
        assert!(matches!(world.lookup(path).await, Err(Error::NotFound)), "{path}");
        let left = world.object(key).await.unwrap_or_default();
        assert!(left.is_empty(), "{path}: only an empty marker may stay");
    }
}

/// SEMANTICS: "Renaming a directory copies all keys below it, whatever their names; nothing is copied if one
/// of them would get too long."
#[tokio::test]
async fn a_renamed_directory_carries_odd_keys_along_and_a_removed_one_takes_them() {
    let world = World::with_ttl(Duration::ZERO);
    let below = ["", "/b", "./c", "../c", "f", "f/g", "nul\0", "%:.."];
    for rest in below {
        world.put(&format!("old/{rest}"), format!("<{rest}>")).await;
    }
    move_it(&world, "old", "new").await.expect("rename");
    for rest in below {
        assert_eq!(world.object(&format!("new/{rest}")).await, Some(format!("<{rest}>").into_bytes()));
        assert_eq!(world.object(&format!("old/{rest}")).await, None);
    }
    let directory = world.lookup("new").await.expect("there");
    assert_eq!(
        errno_of(world.vfs.rmdir(Ino::ROOT, OsStr::new("new"))).await,
        Some(rustix::io::Errno::NOTEMPTY)
    );
    for (path, _) in tree(&world.vfs, "/new".into()).await {
        let (parent, name) = world.split(&path).await;
        world.vfs.unlink(parent, name).await.expect(&path);
    }
    for inner in ["%:", "%:.", "%:..", "f"] {
        world.vfs.rmdir(directory, OsStr::new(inner)).await.expect(inner);
    }
    world.vfs.rmdir(Ino::ROOT, OsStr::new("new")).await.expect("empty now");
    assert_eq!(names(&world.elsewhere(), "").await, [""; 0]);
}

/// SEMANTICS: "It exists only beside a directory `name`; when that is removed or renamed the file shows as
/// `name` again."
#[tokio::test]
async fn an_object_beside_a_directory_follows_its_end() {
    for ttl in [Duration::ZERO, Duration::from_secs(3600)] {
        let world = World::with_ttl(ttl);
        world.put("a", "object").await;
        world.put("a/b", "below").await;
        let beside = world.lookup("%=a").await.expect("the object");
        let directory = world.lookup("a").await.expect("the directory");
        world.vfs.unlink(directory, OsStr::new("b")).await.expect("unlink");
        world.vfs.rmdir(Ino::ROOT, OsStr::new("a")).await.expect("rmdir");
        assert_eq!(names(&world.vfs, "").await, ["a"]);
        assert_eq!(world.lookup("a").await.expect("the object has the name"), beside);
        assert!(matches!(world.lookup("%=a").await, Err(Error::NotFound)));
    }
}

/// SEMANTICS: "It exists only beside a directory `name`; when that is removed or renamed the file shows as
/// `name` again."
#[tokio::test]
async fn an_object_beside_a_directory_stays_when_that_is_renamed() {
    let world = World::new();
    world.put("a", "object").await;
    world.put("a/b", "below").await;
    assert_eq!(names(&world.vfs, "").await, ["%=a", "a"]);
    move_it(&world, "a", "z").await.expect("rename");
    assert_eq!(names(&world.vfs, "").await, ["a", "z"]);
    assert_eq!(world.read_file("a").await.expect("read"), b"object");
    assert_eq!(world.read_file("z/b").await.expect("read"), b"below");
}

#[tokio::test]
async fn an_open_file_moves_aside_when_others_make_a_directory_of_its_name() {
    let world = World::with_ttl(Duration::ZERO);
    world.write_file("a", b"old").await;
    let ino = world.lookup("a").await.expect("a file");
    let opened = world.vfs.open(ino, WRITE, false).await.expect("open");
    world.vfs.write(opened.fh, 0, b"new").expect("write");
    world.put("a/b", "below").await;
    assert_eq!(names(&world.vfs, "").await, ["%=a", "a"]);
    assert_eq!(world.lookup("%=a").await.expect("the same file"), ino);
    assert_eq!(world.read_file("a/b").await.expect("read"), b"below");
    world.close(opened.fh).await;
    assert_eq!(world.object("a").await.as_deref(), Some(&b"new"[..]));
    assert_eq!(names(&world.vfs, "").await, ["%=a", "a"]);
}

#[tokio::test]
async fn an_open_file_moves_aside_when_a_listing_shows_a_directory_of_its_name() {
    let world = World::new();
    world.put("a", "object").await;
    let ino = world.lookup("a").await.expect("a file");
    let opened = world.vfs.open(ino, READ, false).await.expect("open");
    world.put("a/b", "below").await;
    world.vfs.forget_listing(Ino::ROOT);
    drop(world.lookup("missing").await.expect_err("this lists the directory"));
    let inode = world.vfs.table.inode(ino).expect("open");
    inode.file().expect("a file").state.lock().doubted = Some(clock::instant());
    assert_eq!(world.read_file("a/b").await.expect("the directory"), b"below");
    assert_eq!(world.vfs.table.key(ino).expect("it has a name").as_str(), "a");
    assert_eq!(world.lookup("%=a").await.expect("the same file"), ino);
    world.vfs.release(opened.fh).await.expect("release");
}

/// SEMANTICS: "Making it without such a directory is refused with EINVAL."
/// SEMANTICS: "`%=` and `%=name` are never directories, and `%=.`, `%=..` and `%=%=...` are no names:
/// EINVAL."
/// SEMANTICS: "Removing it empties the marker and keeps the directory with its mode and owner; making it, or
/// renaming a file to it, is refused with EINVAL."
#[tokio::test]
async fn files_are_made_and_moved_beside_a_directory_and_nowhere_else() {
    let invalid = Some(rustix::io::Errno::INVAL);
    let world = World::with_ttl(Duration::ZERO);
    world.put("a/b", "below").await;
    world.write_file("%=a", b"object").await;
    assert_eq!(world.object("a").await.as_deref(), Some(&b"object"[..]));
    move_it(&world, "%=a", "plain").await.expect("away");
    assert_eq!(
        (world.object("a").await, world.read_file("plain").await.ok()),
        (None, Some(b"object".to_vec()))
    );
    move_it(&world, "plain", "%=a").await.expect("back");
    assert_eq!(world.object("a").await.as_deref(), Some(&b"object"[..]));
    world.put("f", "f").await;
    for name in ["%=none", "%=f", "%=", "a/%=", "%:", "%=.", "%=..", "%=%=a"] {
        let (parent, last) = world.split(name).await;
        let made = world.vfs.create(parent, last, 0o644, CALLER, WRITE, false);
        assert_eq!(errno_of(made).await, invalid, "create {name}");
        assert_eq!(
            errno_of(world.vfs.symlink(parent, last, OsStr::new("to"), CALLER)).await,
            invalid,
            "{name}"
        );
        assert_eq!(errno_of(move_it(&world, "f", name)).await, invalid, "rename {name}");
    }
    for name in ["%=a2", "%=", "a/%="] {
        let (parent, last) = world.split(name).await;
        assert_eq!(errno_of(world.vfs.mkdir(parent, last, 0o755, CALLER)).await, invalid, "mkdir {name}");
        assert_eq!(errno_of(move_it(&world, "a", "%=a2")).await, invalid, "rename");
    }
}

/// SEMANTICS: "`%=` exists while the marker has bytes."
/// SEMANTICS: "Removing it empties the marker and keeps the directory with its mode and owner; making it, or
/// renaming a file to it, is refused with EINVAL."
/// SEMANTICS: "A directory with bytes in its marker is not empty."
#[tokio::test]
async fn the_bytes_of_a_marker_survive_a_change_of_the_directory() {
    let world = World::with_ttl(Duration::ZERO);
    world.put("d/", "bytes").await;
    let ino = world.lookup("d").await.expect("a directory");
    let set = SetAttr { mode: Some(0o700), uid: Some(7), ..SetAttr::default() };
    assert_eq!(world.vfs.setattr(ino, set).await.expect("chmod").posix.mode, 0o700);
    assert_eq!(world.read_file("d/%=").await.expect("read"), b"bytes");
    let full = world.vfs.rmdir(Ino::ROOT, OsStr::new("d"));
    assert_eq!(errno_of(full).await, Some(rustix::io::Errno::NOTEMPTY));
    world.vfs.unlink(ino, OsStr::new("%=")).await.expect("unlink");
    assert_eq!(world.object("d/").await.as_deref(), Some(&b""[..]));
    assert!(matches!(world.lookup("d/%=").await, Err(Error::NotFound)));
    let attr = world.elsewhere().lookup(Ino::ROOT, OsStr::new("d")).await.expect("still there").attr;
    assert_eq!((attr.posix.mode, attr.posix.uid), (0o700, 7));
}

#[tokio::test]
async fn any_bytes_are_a_name() {
    let world = World::with_ttl(Duration::ZERO);
    let latin = OsStr::from_bytes(b"latin-\xe9");
    let made = world.vfs.mkdir(Ino::ROOT, latin, 0o755, CALLER).await.expect("mkdir");
    let link = world.vfs.symlink(made.attr.ino, latin, OsStr::new("to"), CALLER).await.expect("symlink");
    assert_eq!(world.object("%:latin-%E9/%:latin-%E9").await.as_deref(), Some(&b"to"[..]));
    let other = world.elsewhere();
    let directory = other.lookup(Ino::ROOT, latin).await.expect("there").attr.ino;
    let attr = other.lookup(directory, latin).await.expect("there").attr;
    assert_eq!(attr.posix.kind, link.attr.posix.kind);
}

/// SEMANTICS: "Renaming a directory copies all keys below it, whatever their names; nothing is copied if one
/// of them would get too long."
#[tokio::test]
async fn a_directory_moves_only_where_all_its_keys_fit() {
    let world = World::new();
    let (short, long) = ("s", "l".repeat(200));
    let deep = vec!["k".repeat(200); 4].join("/");
    world.put(&format!("{short}/{deep}"), "deep").await;
    world.put(&format!("{short}/a"), "shallow").await;
    world.vfs.mkdir(Ino::ROOT, OsStr::new(&long), 0o755, CALLER).await.expect("mkdir");
    let to = format!("{long}/{}", "m".repeat(30));
    assert_eq!(errno_of(move_it(&world, short, &to)).await, Some(rustix::io::Errno::NAMETOOLONG));
    assert_eq!(world.object(&format!("{to}/a")).await, None, "nothing was copied");
    assert_eq!(names(&world.vfs, "s").await.len(), 2);
}

#[tokio::test]
async fn pages_of_one_entry_show_an_object_beside_its_directory() {
    let memory = MemoryStore::with_options(MemoryOptions { page_size: 1, ..MemoryOptions::default() });
    let world = World::on(memory, Duration::ZERO);
    for key in ["a", "a ", "a b", "a/x", "b"] {
        world.put(key, key.to_owned()).await;
    }
    assert_eq!(names(&world.vfs, "").await, ["%=a", "a", "a ", "a b", "b"]);
    assert_eq!(world.read_file("a/x").await.expect("read"), b"a/x");
    assert_eq!(world.read_file("%=a").await.expect("read"), b"a");
}

/// SEMANTICS: "An object of a directory with over 1,000 entries, or below which another client puts a key
/// after this mount has listed the directory, shows as `name` until the directory is listed (again): opening
/// a file never asks for more than the file."
#[tokio::test]
async fn an_object_keeps_its_name_until_its_directory_is_listed_again() {
    let world = World::with_ttl(Duration::ZERO);
    for index in 0..1001 {
        world.put(&format!("large/{index:04}"), "object").await;
    }
    world.put("large/0500/below", "below").await;
    world.put("small/0500", "object").await;
    assert_eq!(names(&world.vfs, "small").await, ["0500"]);
    world.put("small/0500/below", "below").await;
    for directory in ["large", "small"] {
        let path = format!("{directory}/0500");
        assert_eq!(world.read_file(&path).await.expect("a file"), b"object");
        assert!(names(&world.vfs, directory).await.contains(&"%=0500".to_owned()));
        assert_eq!(world.read_file(&format!("{directory}/%=0500")).await.expect("the object"), b"object");
        assert_eq!(world.read_file(&format!("{path}/below")).await.expect("a directory"), b"below");
    }
}

/// SEMANTICS: "What cannot be shown is left out, counted, and logged once for each directory; it hides
/// nothing else, and a directory that holds such a key is not empty."
#[tokio::test]
async fn what_no_name_can_show_is_left_out_and_logged_once() {
    let world = World::with_ttl(Duration::ZERO);
    let log = Log::start();
    let unshown = "\0".repeat(400);
    for directory in ["d", "e"] {
        world.put(&format!("{directory}/{unshown}"), "x").await;
        world.put(&format!("{directory}/shown"), "x").await;
        for _ in 0..3 {
            assert_eq!(names(&world.vfs, directory).await, ["shown"]);
        }
        assert_eq!(log.lines(&format!("left out prefix={directory}/ count=1")).len(), 1);
        let inner = world.lookup(directory).await.expect("a directory");
        world.vfs.unlink(inner, OsStr::new("shown")).await.expect("unlink");
        let full = world.vfs.rmdir(Ino::ROOT, OsStr::new(directory));
        assert_eq!(errno_of(full).await, Some(rustix::io::Errno::NOTEMPTY));
    }
    assert_eq!(log.lines("left out").len(), 2);
}
