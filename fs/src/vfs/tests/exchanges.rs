//! `RENAME_EXCHANGE` while requests fail and processes die: both sides are somewhere, and what fails is undone.

use super::faulty::{Fault, FaultyStore, copy_dir};
use super::*;
use crate::store::{CopyRequest, Depth, ListRequest, Op, PartKinds};
use std::collections::BTreeMap;

/// The two sides by their keys, each with its own bytes.
const SIDES: [[&str; 2]; 3] = [["one", "other"], ["one/f", "other/g"], ["one", "other/g"]];

type Objects = BTreeMap<String, String>;

async fn objects(store: &dyn ObjectStore) -> Objects {
    let request = ListRequest::new(Prefix::default(), Depth::Subtree, 1000);
    let mut objects = Objects::new();
    for listed in store.list(request).await.expect("list").objects {
        let got = store.get(&listed.key, GetRequest::default()).await.expect("get");
        let chunks: Vec<Bytes> = got.body.try_collect().await.expect("body");
        let body = String::from_utf8(chunks.concat()).expect("utf-8");
        objects.insert(listed.key.as_str().to_owned(), body);
    }
    objects
}

/// What `side` is after the exchange.
fn swapped(side: &str) -> String {
    let (name, below) = side.split_once('/').map_or((side, String::new()), |(n, b)| (n, format!("/{b}")));
    format!("{}{below}", if name == "one" { "other" } else { "one" })
}

/// A bucket with both sides, and a store before it that can fail.
struct Bench {
    home: tempfile::TempDir,
    bucket: Arc<MemoryStore>,
    store: Arc<FaultyStore>,
    vfs: Arc<Vfs>,
}

impl Bench {
    async fn new(sides: [&str; 2]) -> Self {
        let home = tempfile::tempdir().expect("a folder");
        let bucket = Arc::new(MemoryStore::new());
        for side in sides {
            let headers = Headers::default();
            bucket.put(&parse(side), side.to_owned().into(), &headers, Condition::Always).await.expect("put");
        }
        let store = FaultyStore::new(Arc::clone(&bucket), home.path());
        let vfs = mounted(&store, &home.path().join("cache"));
        Self { home, bucket, store, vfs }
    }
}

fn mounted(store: &Arc<FaultyStore>, cache: &std::path::Path) -> Arc<Vfs> {
    mount_with(Arc::clone(store) as Arc<dyn ObjectStore>, cache, None, |_| {})
}

async fn exchange(vfs: &Arc<Vfs>) -> Result<()> {
    let (one, other) = ((Ino::ROOT, OsStr::new("one")), (Ino::ROOT, OsStr::new("other")));
    vfs.rename(one, other, RenameMode::Exchange).await
}

/// Says whether there was such a request.
async fn fails(number: usize, sides: [&str; 2]) -> bool {
    let bench = Bench::new(sides).await;
    let before = objects(&*bench.bucket).await;
    bench.store.plan(number, Fault::Refuse);
    let said = exchange(&bench.vfs).await;
    let mut after = objects(&*bench.bucket).await;
    if said.is_err() {
        if sides.iter().any(|side| side.contains('/')) {
            // A copy of either side is no loss.
            after.retain(|key, body| before.contains_key(key) || !sides.contains(&&**body));
        }
        assert_eq!(after, before, "{sides:?}, request {number}: it is undone");
    } else {
        // Only the second copy of what is set aside may stay.
        after.retain(|key, _| !key.starts_with("one.exchange-here-"));
        let expected = sides.map(|side| (swapped(side), side.to_owned()));
        assert_eq!(after, expected.into(), "{sides:?}, request {number}");
    }
    assert_eq!(bench.bucket.pending_uploads(), 0, "{sides:?}, request {number}");
    bench.store.is_hit()
}

/// SEMANTICS: "A step that fails is undone, and the call fails; copies of what is in a directory may be left
/// then."
#[tokio::test]
async fn an_exchange_that_fails_is_undone() {
    for sides in SIDES {
        let mut number = 0;
        while fails(number, sides).await {
            number += 1;
        }
        assert!(number >= 6, "{sides:?}: {number} requests were met");
    }
}

/// Says whether there was such a request, and whether both names had something at that moment.
async fn dies(number: usize, fault: Fault, sides: [&str; 2]) -> (bool, bool) {
    let bench = Bench::new(sides).await;
    bench.store.plan(number, fault);
    drop(exchange(&bench.vfs).await);
    let left = objects(&*bench.bucket).await;
    let has = |name: &str| left.keys().any(|key| key == name || key.starts_with(&format!("{name}/")));
    let both = has("one") && has("other");
    if !bench.store.is_hit() {
        return (false, both);
    }
    let before: Objects = sides.map(|side| (side.to_owned(), side.to_owned())).into();
    let after: Objects = sides.map(|side| (swapped(side), side.to_owned())).into();
    let store = FaultyStore::new(Arc::clone(&bench.bucket), bench.home.path());
    let next = mounted(&store, &bench.home.path().join("image"));
    next.recover().await.expect("recovery");
    let recovered = objects(&*bench.bucket).await;
    if left == before {
        assert!([&before, &after].contains(&&recovered), "{sides:?}, request {number}: {recovered:?}");
    } else {
        assert_eq!(recovered, after, "{sides:?}, request {number}: {left:?}");
    }
    for (key, body) in &recovered {
        assert_eq!(read_file(&next, key).await.expect("a file"), body.as_bytes());
    }
    next.recover().await.expect("recovery");
    assert_eq!(objects(&*bench.bucket).await, recovered, "{sides:?}, request {number}: done once");
    assert_eq!(bench.bucket.pending_uploads(), 0, "{sides:?}, request {number}, {fault:?}");
    (true, both)
}

/// SEMANTICS: "If tarn is killed in between, the next mount finishes the exchange."
/// SEMANTICS: "One side is set aside as `<name>.exchange-<host>-<time>`."
/// SEMANTICS: "Two files swap by three conditional copies, so that both names always have an object; a
/// directory moves in three renames, and other nodes see its name missing meanwhile."
#[tokio::test]
async fn an_exchange_that_is_cut_short_is_finished() {
    for (sides, fault) in
        SIDES.into_iter().flat_map(|sides| [(sides, Fault::DieBefore), (sides, Fault::DieAfter)])
    {
        let (mut number, mut always) = (0, true);
        while let (true, both) = dies(number, fault, sides).await {
            always &= both;
            number += 1;
        }
        assert!(number >= 6, "{sides:?}: {number} requests were met");
        let files = sides.iter().all(|side| !side.contains('/'));
        assert_eq!(always, files, "{sides:?}: both names have an object at any time");
    }
}

/// SEMANTICS: "Two files swap by three conditional copies, so that both names always have an object; a
/// directory moves in three renames, and other nodes see its name missing meanwhile."
#[tokio::test]
async fn an_exchange_is_three_copies_of_known_versions() {
    for sides in SIDES {
        let world = World::new();
        for side in sides {
            world.put(side, side.to_owned()).await;
        }
        let before = world.counts();
        exchange(&world.vfs).await.expect("exchange");
        assert_eq!(world.counts().of(Op::Copy) - before.of(Op::Copy), 3, "{sides:?}");
        let expected = sides.map(|side| (swapped(side), side.to_owned()));
        assert_eq!(objects(&*world.store).await, expected.into());
    }
    for changed in ["one", "other"] {
        let world = World::new();
        for name in ["one", "other"] {
            world.put(name, name).await;
        }
        assert_eq!(names(&world.vfs, "").await, ["one", "other"]);
        world.put(changed, "theirs").await;
        let before = objects(&*world.store).await;
        let refused = exchange(&world.vfs).await.expect_err("another version");
        assert_eq!(refused.errno(), rustix::io::Errno::STALE);
        assert_eq!(objects(&*world.store).await, before);
    }
}

/// SEMANTICS: "What was set aside stays under its name only if another client has changed one of the two meanwhile."
#[tokio::test]
async fn what_another_client_changes_during_an_exchange_stays() {
    for changed in ["one", "other"] {
        for number in 0.. {
            let bench = Bench::new(["one", "other"]).await;
            bench.store.plan(number, Fault::DieBefore);
            drop(exchange(&bench.vfs).await);
            if !bench.store.is_hit() {
                assert!(number >= 6, "{number} requests were met");
                break;
            }
            let left = objects(&*bench.bucket).await;
            let (theirs, headers) = (Bytes::from_static(b"theirs"), Headers::default());
            bench.bucket.put(&parse(changed), theirs, &headers, Condition::Always).await.expect("put");
            let store = FaultyStore::new(Arc::clone(&bench.bucket), bench.home.path());
            let next = mounted(&store, &bench.home.path().join("image"));
            next.recover().await.expect("recovery");
            let recovered = objects(&*bench.bucket).await;
            assert_eq!(recovered[changed], "theirs", "{changed}, request {number}: {left:?}");
            for side in left.iter().filter(|(name, _)| *name != changed).map(|(_, body)| body) {
                let replaced = left[changed] == *side;
                let kept = recovered.values().any(|body| body == side);
                assert!(kept || replaced, "{changed}, request {number}: {left:?}, {recovered:?}");
            }
        }
    }
}

#[tokio::test]
async fn what_a_killed_worker_asked_for_is_dropped_though_it_begins_after_the_next_came_and_died() {
    let bench = Bench::new(["one", "other"]).await;
    let found = bench.bucket.head(&parse("one")).await.expect("an object");
    let (from, to, condition) = (parse("one"), parse("free"), Condition::Absent);
    let (if_match, size) = (found.version.etag, found.version.size);
    // The source is looked at first.
    bench.store.plan(1, Fault::DieBefore);
    let request = CopyRequest { from, if_match, size, to, condition, headers: None, log: None };
    bench.vfs.copy(request).await.expect_err("it has died");
    let next = |cache: &str| {
        let store = FaultyStore::new(Arc::clone(&bench.bucket), bench.home.path());
        mounted(&store, &bench.home.path().join(cache))
    };
    let second = next("image");
    second.recover().await.expect("recovery");
    bench.bucket.create_upload(&parse("free"), &Headers::default(), PartKinds::Copied).await.expect("late");
    copy_dir(&bench.home.path().join("image"), &bench.home.path().join("later"));
    let third = next("later");
    third.recover().await.expect("recovery");
    third.drain().await;
    assert_eq!(bench.bucket.pending_uploads(), 0);
    second.drain().await;
    for cache in ["image", "later"] {
        let staged = std::fs::read_dir(bench.home.path().join(cache).join("v1/staged")).expect("a folder");
        assert_eq!(staged.count(), 0, "no record outlives the mount");
    }
}
