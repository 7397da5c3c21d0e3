//! What operations cost in requests.

use super::faulty::FaultyStore;
use super::*;
use crate::store::Op;

/// The requests made by `work`, as `(operation, count)`.
async fn cost(world: &World, work: impl Future<Output = ()>) -> Vec<(Op, u64)> {
    let before = world.counts();
    work.await;
    let after = world.counts();
    Op::ALL.into_iter().map(|op| (op, after.of(op) - before.of(op))).filter(|(_, count)| *count > 0).collect()
}

#[tokio::test]
async fn reading_a_known_small_file_is_one_get() {
    let world = World::new();
    world.put("f", "x".repeat(4096)).await;
    world.lookup("f").await.expect("known");
    let read = async { drop(world.read_file("f").await.expect("read")) };
    assert_eq!(cost(&world, read).await, [(Op::Get, 1)]);
    let again = async { drop(world.read_file("f").await.expect("read")) };
    assert_eq!(cost(&world, again).await, []);
}

#[tokio::test]
async fn unknown_files_of_a_directory_cost_one_listing_beside_their_heads() {
    let world = World::new();
    for name in ["f", "g", "h"] {
        world.put(name, "x").await;
    }
    let read = async { drop(world.read_file("f").await.expect("read")) };
    assert_eq!(cost(&world, read).await, [(Op::Head, 1), (Op::Get, 1), (Op::List, 1)]);
    let others = async {
        for name in ["g", "h"] {
            world.read_file(name).await.expect("read");
        }
    };
    assert_eq!(cost(&world, others).await, [(Op::Head, 2), (Op::Get, 2)]);
}

#[tokio::test]
async fn many_first_lookups_at_once_share_one_listing() {
    let world = World::new();
    let lookups = async {
        let root = world.vfs.table.inode(Ino::ROOT).expect("the root");
        let turn = root.directory().expect("a directory").listing_turn.lock().await;
        let names: Vec<String> = (0..20).map(|index| format!("missing-{index}")).collect();
        let lookups = names.iter().map(|name| world.vfs.lookup(Ino::ROOT, OsStr::new(name)));
        let mut lookups = std::pin::pin!(futures::future::join_all(lookups));
        assert!(futures::poll!(&mut lookups).is_pending(), "each asks for the listing");
        drop(turn);
        assert!(lookups.await.iter().all(Result::is_err));
    };
    assert_eq!(cost(&world, lookups).await, [(Op::Head, 20), (Op::List, 1)]);
}

#[tokio::test]
async fn a_new_file_in_a_directory_made_here_is_one_put() {
    let world = World::new();
    world.vfs.mkdir(Ino::ROOT, OsStr::new("d"), 0o755, CALLER).await.expect("mkdir");
    let write = async {
        world.write_file("d/f", b"data").await;
    };
    assert_eq!(cost(&world, write).await, [(Op::Put, 1)]);
}

/// SEMANTICS: "`open(O_CREAT|O_EXCL)`, `mkdir`, `mknod` and `symlink` put the object on the condition that
/// the key is free, before they return: of all nodes one succeeds, the others get EEXIST."
#[tokio::test]
async fn an_exclusive_create_is_one_put_at_once() {
    let world = World::new();
    let flags = OpenFlags { exclusive: true, ..WRITE };
    let create = |name| world.vfs.create(Ino::ROOT, OsStr::new(name), 0o644, CALLER, flags, false);
    assert!(matches!(world.lookup("f").await, Err(Error::NotFound)));
    let made = async {
        let (_, opened) = create("f").await.expect("free");
        assert_eq!(world.object("f").await.as_deref(), Some(&b""[..]));
        world.close(opened.fh).await;
    };
    assert_eq!(cost(&world, made).await, [(Op::Get, 1), (Op::Put, 1)], "one GET is the test's own");
    world.put("theirs", "x").await;
    assert!(matches!(create("theirs").await, Err(Error::Exists)), "whatever is remembered here");
    assert_eq!(world.read_file("theirs").await.expect("it is there"), b"x");
}

#[tokio::test]
async fn a_written_file_is_read_without_a_request() {
    let world = World::new();
    world.write_file("f", b"data").await;
    let read = async { drop(world.read_file("f").await.expect("read")) };
    assert_eq!(cost(&world, read).await, []);
}

#[tokio::test]
async fn many_misses_in_a_directory_cost_one_listing() {
    let world = World::new();
    world.put("d/there", "x").await;
    let directory = world.lookup("d").await.expect("there");
    let misses = async {
        for index in 0..50 {
            let name = format!("missing-{index}");
            assert!(matches!(world.vfs.lookup(directory, OsStr::new(&name)).await, Err(Error::NotFound)));
        }
    };
    assert_eq!(cost(&world, misses).await, [(Op::Head, 1), (Op::List, 1)]);
}

#[tokio::test]
async fn a_large_sequential_read_takes_large_ranges() {
    let world = World::new();
    world.put("big", vec![3; 64 << 20]).await;
    let ino = world.lookup("big").await.expect("there");
    let opened = world.vfs.open(ino, READ, false).await.expect("open");
    let read = async {
        for at in 0..512u64 {
            world.vfs.read(opened.fh, at << 17, 1 << 17).await.expect("read");
        }
    };
    let gets = cost(&world, read).await;
    assert!(matches!(gets[..], [(Op::Get, 8..=24)]), "{gets:?}");
}

#[tokio::test]
async fn a_random_read_fetches_one_block() {
    let world = World::new();
    world.put("big", vec![3; 64 << 20]).await;
    let ino = world.lookup("big").await.expect("there");
    let opened = world.vfs.open(ino, READ, false).await.expect("open");
    let before = world.counts();
    world.vfs.read(opened.fh, 40 << 20, 4096).await.expect("read");
    assert_eq!(world.counts().of(Op::Get) - before.of(Op::Get), 1);
    assert_eq!(world.counts().received - before.received, tarn_cache::BLOCK_SIZE);
}

#[tokio::test]
async fn what_came_before_an_answer_broke_off_is_not_asked_for_again() {
    let home = tempfile::tempdir().expect("a folder");
    let bucket = Arc::new(MemoryStore::new());
    let body: Vec<u8> = (0..4 * tarn_cache::BLOCK_SIZE).map(|at| (at / 1000) as u8).collect();
    bucket.put(&parse("f"), body.clone().into(), &Headers::default(), Condition::Always).await.expect("put");
    let store = FaultyStore::new(bucket, home.path());
    let observed = Arc::new(ObserveStore::new(Arc::clone(&store) as Arc<dyn ObjectStore>));
    let vfs =
        mount_with(Arc::clone(&observed) as Arc<dyn ObjectStore>, &home.path().join("cache"), None, |_| {});
    store.break_off_after(3 * tarn_cache::BLOCK_SIZE as usize + 5);
    assert!(read_file(&vfs, "f").await.expect("read") == body);
    assert_eq!(observed.counts().of(Op::Get), 2);
    assert_eq!(observed.counts().received, 4 * tarn_cache::BLOCK_SIZE + 5);
}

#[tokio::test]
async fn a_copy_of_a_large_object_is_made_by_the_server() {
    let world = World::new();
    world.put("big", vec![5; 12 << 20]).await;
    let source = world.lookup("big").await.expect("there");
    let from = world.vfs.open(source, READ, false).await.expect("open");
    let made = world.vfs.create(Ino::ROOT, OsStr::new("copy"), 0o644, CALLER, WRITE, false).await;
    let (_, to) = made.expect("create");
    assert_eq!(world.vfs.copy_file_range((from.fh, 0), (to.fh, 0), u64::MAX).await.expect("copy"), 12 << 20);
    let close = world.close(to.fh);
    assert_eq!(cost(&world, close).await, [(Op::Copy, 1)]);
    assert!(world.object("copy").await == Some(vec![5; 12 << 20]));
}

#[tokio::test]
async fn a_new_file_in_a_large_directory_asks_for_its_name_alone() {
    let world = World::with_ttl(Duration::from_secs(3600));
    for index in 0..1001 {
        world.put(&format!("d/{index}"), "x").await;
    }
    let directory = world.lookup("d").await.expect("there");
    let missing = world.vfs.lookup(directory, OsStr::new("learn-that-it-is-large")).await;
    assert!(matches!(missing, Err(Error::NotFound)));
    let create = async {
        assert!(matches!(world.vfs.lookup(directory, OsStr::new("new")).await, Err(Error::NotFound)));
        world.write_file("d/new", b"x").await;
    };
    assert_eq!(cost(&world, create).await, [(Op::Head, 2), (Op::Put, 1), (Op::List, 1)]);
}

#[tokio::test]
async fn looking_at_one_listed_file_after_the_other_describes_them_in_sweeps() {
    let world = World::new();
    for index in 0..200 {
        world.put(&format!("{index:03}"), vec![1; 5000]).await;
    }
    assert_eq!(names(&world.vfs, "").await.len(), 200);
    let before = world.counts();
    for index in 0..200 {
        world.lookup(&format!("{index:03}")).await.expect("there");
    }
    assert_eq!(world.counts().of(Op::Head) - before.of(Op::Head), 200, "each is asked for once");
}

/// A bucket whose listings tell headers, with files that another mount has made, and a directory.
async fn told() -> World {
    let options = MemoryOptions { lists_headers: true, ..MemoryOptions::default() };
    let world = World::on(MemoryStore::with_options(options), Duration::from_secs(3600));
    let other = world.elsewhere();
    for name in ["a", "b"] {
        let made = other.create(Ino::ROOT, OsStr::new(name), 0o640, CALLER, WRITE, false).await;
        other.release(made.expect("create").1.fh).await.expect("release");
    }
    other.symlink(Ino::ROOT, OsStr::new("link"), OsStr::new("a"), CALLER).await.expect("symlink");
    world.put("large", vec![1; 5000]).await;
    world
}

#[tokio::test]
async fn a_listing_that_tells_headers_needs_no_heads() {
    let world = told().await;
    let look = async {
        assert_eq!(names(&world.vfs, "").await, ["a", "b", "large", "link"]);
        for name in ["a", "b", "large", "link"] {
            world.lookup(name).await.expect("there");
        }
    };
    assert_eq!(cost(&world, look).await, [(Op::List, 1)]);
    let stat = async |name| world.vfs.getattr(world.lookup(name).await.expect("there")).await.expect("stat");
    assert_eq!(stat("a").await.posix.mode, 0o640);
    assert_eq!(stat("link").await.posix.kind, crate::meta::Kind::Symlink);
    let read = async { assert_eq!(world.read_file("large").await.expect("read").len(), 5000) };
    assert_eq!(cost(&world, read).await, [(Op::Get, 1)]);
}

#[tokio::test]
async fn the_listing_behind_a_first_look_up_tells_headers_too() {
    let world = told().await;
    assert_eq!(cost(&world, async { drop(world.lookup("b").await) }).await, [(Op::Head, 1), (Op::List, 1)]);
    let others = async {
        for name in ["a", "large", "link"] {
            world.lookup(name).await.expect("there");
        }
    };
    assert_eq!(cost(&world, others).await, []);
}

/// Who may not read tags is not told that there are some.
#[tokio::test]
async fn what_a_listing_told_is_asked_for_before_a_change() {
    let world = told().await;
    names(&world.vfs, "").await;
    let set = SetAttr { mode: Some(0o600), ..SetAttr::default() };
    let ino = world.lookup("a").await.expect("there");
    for expected in [&[(Op::Head, 1), (Op::Copy, 1)][..], &[(Op::Copy, 1)]] {
        let chmod = async {
            world.vfs.setattr(ino, set).await.expect("chmod");
        };
        assert_eq!(cost(&world, chmod).await, expected);
    }
    let write = async {
        world.write_file("large", b"changed").await;
    };
    assert_eq!(cost(&world, write).await, [(Op::Head, 1), (Op::Get, 1), (Op::Put, 1)]);
}

#[tokio::test]
async fn attributes_seen_before_a_remount_are_listed_without_asking_again() {
    let world = World::new();
    for index in 0..20 {
        world.put(&format!("d/{index:02}"), "small enough to be a link").await;
    }
    world
        .vfs
        .symlink(world.lookup("d").await.expect("there"), OsStr::new("link"), OsStr::new("to"), CALLER)
        .await
        .expect("link");
    assert_eq!(names(&world.vfs, "d").await.len(), 21);
    world.put("d/07", "replaced by somebody else").await;
    let again = world.again().await;
    let before = world.counts();
    assert_eq!(names(&again, "d").await.len(), 21);
    let described = world.counts().of(Op::Head) - before.of(Op::Head);
    assert!(described <= 3, "the directory itself and what was replaced, not {described}");
    let link = lookup(&again, "d/link").await.expect("there");
    assert_eq!(again.getattr(link).await.expect("stat").posix.kind, crate::meta::Kind::Symlink);
}

/// SEMANTICS: "An object of a directory with over 1,000 entries, or below which another client puts a key
/// after this mount has listed the directory, shows as `name` until the directory is listed (again): opening
/// a file never asks for more than the file."
#[tokio::test]
async fn a_file_of_a_large_directory_is_one_head_away() {
    let world = World::with_ttl(Duration::ZERO);
    for index in 0..1001 {
        world.put(&format!("d/{index:04}"), "x").await;
    }
    world.read_file("d/0000").await.expect("the first look-up learns that the directory is large");
    let directory = world.lookup("d").await.expect("there");
    let read = async { assert!(world.vfs.lookup(directory, OsStr::new("0500")).await.is_ok()) };
    assert_eq!(cost(&world, read).await, [(Op::Head, 1)]);
}

/// SEMANTICS: "That is one PUT more for an exclusive `open` than for a plain one."
/// SEMANTICS: "With `--exclusive=node` it saves that PUT, and holds among the programs of one mount."
#[tokio::test]
async fn an_exclusive_open_costs_one_put_more() {
    let world = World::new();
    let node = mount_with(world.store.clone(), &world.dir.path().join("node"), None, |options| {
        options.attr_ttl = Duration::from_secs(3600);
        options.exclusive = Exclusive::Node;
    });
    for (vfs, name, exclusive, puts) in
        [(&world.vfs, "plain", false, 1), (&world.vfs, "of all nodes", true, 2), (&node, "of one", true, 1)]
    {
        names(vfs, "").await;
        let flags = OpenFlags { exclusive, ..WRITE };
        let create = async || vfs.create(Ino::ROOT, OsStr::new(name), 0o644, CALLER, flags, false).await;
        let write = async {
            let (_, opened) = create().await.expect("free");
            assert_eq!(matches!(create().await, Err(Error::Exists)), exclusive);
            vfs.write(opened.fh, 0, b"x").expect("write");
            vfs.flush(opened.fh).await.expect("flush");
        };
        assert_eq!(cost(&world, write).await, [(Op::Put, puts)], "{name}");
    }
}

/// SEMANTICS: "A change of attributes is a copy of the object onto itself on the server, under the condition
/// that it is still the same version; that of an open written file goes with its upload."
#[tokio::test]
async fn a_change_of_attributes_is_a_copy_of_the_known_version() {
    let world = World::new();
    world.put("f", "ours").await;
    let ino = world.lookup("f").await.expect("there");
    let set = SetAttr { mode: Some(0o600), ..SetAttr::default() };
    let chmod = async {
        world.vfs.setattr(ino, set).await.expect("chmod");
    };
    assert_eq!(cost(&world, chmod).await, [(Op::Copy, 1)]);
    world.put("f", "theirs").await;
    let refused = world.vfs.setattr(ino, set).await.expect_err("another version");
    assert_eq!(refused.errno(), rustix::io::Errno::STALE);
    let theirs = world.store.head(&parse("f")).await.expect("head");
    assert!(theirs.headers.user.is_empty() && theirs.version.size == 6);
}

/// SEMANTICS: "One object is copied on the server under the version that is known here, then the old key is
/// deleted."
#[tokio::test]
async fn a_rename_is_a_copy_of_the_known_version_and_a_delete() {
    let world = World::new();
    for name in ["a", "b"] {
        world.put(name, "ours").await;
    }
    for name in ["a", "b"] {
        world.lookup(name).await.expect("there");
    }
    let rename = async |from: &str, to: &str| {
        let (from, to) = ((Ino::ROOT, OsStr::new(from)), (Ino::ROOT, OsStr::new(to)));
        world.vfs.rename(from, to, RenameMode::Replace).await
    };
    let moved = async { rename("a", "c").await.expect("rename") };
    assert_eq!(cost(&world, moved).await, [(Op::Copy, 1), (Op::Delete, 1)]);
    world.put("b", "theirs").await;
    let refused = rename("b", "d").await.expect_err("another version");
    assert_eq!(refused.errno(), rustix::io::Errno::STALE);
    assert_eq!(world.object("b").await.as_deref(), Some(&b"theirs"[..]));
    assert_eq!(world.object("d").await, None);
}
