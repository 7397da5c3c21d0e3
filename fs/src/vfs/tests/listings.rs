//! What an open directory shows when its entries change meanwhile.

use super::*;

/// The names from `cookie` on, at most `count`, and where reading goes on.
async fn some_names(vfs: &Arc<Vfs>, fh: u64, cookie: u64, count: usize) -> (Vec<String>, u64) {
    let (mut names, mut next) = (Vec::new(), cookie);
    let take = |entry: DirEntry<'_>| {
        if names.len() == count {
            return true;
        }
        names.push(entry.name.to_str().expect("utf-8").to_owned());
        next = entry.cookie;
        false
    };
    vfs.readdir(fh, cookie, Lookups::NotCounted, take).await.expect("readdir");
    (names, next)
}

#[tokio::test]
async fn an_entry_removed_meanwhile_is_not_shown_again() {
    for listed_before in [false, true] {
        let world = World::new();
        for name in ["a", "b", "c", "d/e"] {
            world.put(name, "x").await;
        }
        if listed_before {
            assert_eq!(names(&world.vfs, "").await, ["a", "b", "c", "d"]);
        }
        let fh = world.vfs.opendir(Ino::ROOT).expect("opendir");
        let (first, next) = some_names(&world.vfs, fh, 0, 3).await;
        assert_eq!(first, [".", "..", "a"]);
        world.vfs.unlink(Ino::ROOT, OsStr::new("b")).await.expect("unlink");
        let (rest, _) = some_names(&world.vfs, fh, next, 10).await;
        assert_eq!(rest, ["c", "d"], "listed before: {listed_before}");
        assert!(world.lookup("b").await.is_err());
    }
}

#[tokio::test]
async fn an_entry_made_anew_meanwhile_is_shown() {
    let world = World::new();
    for name in ["a", "b"] {
        world.put(name, "x").await;
    }
    let fh = world.vfs.opendir(Ino::ROOT).expect("opendir");
    let (_, next) = some_names(&world.vfs, fh, 0, 3).await;
    world.vfs.unlink(Ino::ROOT, OsStr::new("b")).await.expect("unlink");
    world.write_file("b", b"again").await;
    let (rest, _) = some_names(&world.vfs, fh, next, 10).await;
    assert_eq!(rest, ["b"]);
}
