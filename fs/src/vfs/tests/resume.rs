//! A worker that takes over serves at once: what its predecessor was renaming and uploading is finished behind it.

use super::faulty::{Fault, copy_dir};
use super::takeover::{EXCLUSIVE, Workers, write_new};
use super::*;
use crate::clock::{self, simulated};
use crate::write::Progress;

/// However much there is to move: what is elsewhere does not wait for it.
#[tokio::test]
async fn a_mount_is_taken_over_before_a_directorys_rename_has_ended() {
    let workers = Workers::new();
    let vfs = workers.first();
    let old = vfs.mkdir(Ino::ROOT, OsStr::new("old"), 0o755, CALLER).await.expect("mkdir").attr.ino;
    for name in ["a", "b"] {
        let fh = write_new(&vfs, (old, name), EXCLUSIVE, b"body").await;
        vfs.fsync(fh).await.expect("fsync");
        vfs.release(fh).await.expect("release");
    }
    vfs.log.flush();
    // After the looks at what is there: a copy.
    assert!(workers.dies_while_renaming(&vfs, RenameMode::Replace, 2).await);
    let next = workers.next(&workers.open_log().1).await;
    assert!(workers.object("old/a").await.is_some() && workers.object("old/b").await.is_some());
    Workers::rename_again(&next).await;
    assert_eq!(names(&next, "new").await, ["a", "b"]);
    for (key, body) in
        [("old/a", None), ("old/b", None), ("new/a", Some(&b"body"[..])), ("new/b", Some(b"body"))]
    {
        assert_eq!(workers.object(key).await.as_deref(), body, "{key}");
    }
}

/// Renames, dies after this request, and is taken over while the store is away. Says whether there was such a request.
async fn is_taken_over_while_the_store_is_away(number: usize, mode: RenameMode) -> bool {
    let workers = Workers::new();
    for key in ["old", "new"] {
        workers.put(key).await;
    }
    let vfs = workers.first();
    let known = lookup(&vfs, "old").await.expect("there");
    lookup(&vfs, "new").await.expect("there");
    vfs.log.flush();
    if !workers.dies_while_renaming(&vfs, mode, number).await {
        return false;
    }
    let store = workers.another_store();
    store.set_down(true);
    let next = workers.next_on(Arc::clone(&store), &workers.open_log().1).await;
    clock::sleep(Duration::from_secs(10)).await;
    store.set_down(false);
    Workers::rename(&next, mode, true)
        .await
        .unwrap_or_else(|error| panic!("{mode:?}, request {number}: {error}"));
    let left = (mode == RenameMode::Exchange).then_some(&b"new"[..]);
    assert_eq!(workers.object("new").await.as_deref(), Some(&b"old"[..]), "{mode:?}, request {number}");
    assert_eq!(workers.object("old").await.as_deref(), left, "{mode:?}, request {number}");
    assert_eq!(lookup(&next, "new").await.expect("there"), known, "{mode:?}, request {number}");
    assert_eq!(names(&next, "").await.len(), 1 + left.iter().len(), "{mode:?}, request {number}");
    true
}

#[test]
fn what_is_half_renamed_while_the_store_is_away_is_finished_when_it_is_back() {
    simulated::run(1, async {
        for mode in [RenameMode::Replace, RenameMode::Exchange] {
            let mut number = 0;
            while is_taken_over_while_the_store_is_away(number, mode).await {
                number += 1;
            }
            assert!(number >= 2, "{mode:?}: {number} requests were met");
        }
    });
}

/// Exchanges two directories, dies after a request, and the next worker is refused another. Says whether there were such
/// requests.
async fn is_refused_while_it_finishes(number: usize, refused: usize) -> (bool, bool) {
    let workers = Workers::new();
    for key in ["old/f", "old/g", "new/f", "new/g"] {
        workers.put(key).await;
    }
    let vfs = workers.first();
    for key in ["old/f", "new/f"] {
        lookup(&vfs, key).await.expect("there");
    }
    vfs.log.flush();
    if !workers.dies_while_renaming(&vfs, RenameMode::Exchange, number).await {
        return (false, false);
    }
    let store = workers.another_store();
    store.plan(refused, Fault::Refuse);
    let next = workers.next_on(Arc::clone(&store), &workers.open_log().1).await;
    let context = format!("requests {number} and {refused}");
    clock::sleep(Duration::from_secs(10)).await;
    let is_hit = store.is_hit();
    if is_hit {
        Workers::rename(&next, RenameMode::Exchange, true)
            .await
            .unwrap_or_else(|error| panic!("{context}: {error}"));
        for (key, body) in [("old/f", "new/f"), ("old/g", "new/g"), ("new/f", "old/f"), ("new/g", "old/g")] {
            let found = workers.object(key).await;
            assert_eq!(found.as_deref(), Some(body.as_bytes()), "{context}: {key}");
        }
        let left = next.cache.orphans_where(|_| true).expect("a list");
        assert!(left.is_empty(), "{context}: {left:?}");
    }
    (true, is_hit)
}

#[test]
fn an_exchange_that_fails_while_it_is_finished_is_finished_later() {
    simulated::run(1, async {
        for number in 0.. {
            let mut refused = 0;
            let met = loop {
                match is_refused_while_it_finishes(number, refused).await {
                    (true, true) => refused += 1,
                    (met, _) => break met,
                }
            };
            if !met {
                assert!(number >= 12, "{number} requests were met");
                return;
            }
        }
    });
}

#[test]
fn nobody_waits_until_the_store_drops_what_a_killed_worker_was_uploading() {
    simulated::run(1, async {
        let workers = Workers::new();
        let vfs = workers.first();
        for name in ["a", "b"] {
            let upload = Some(Progress::asked(&parse(name), &Headers::default(), None));
            let record = journal::Record {
                state: journal::State::Removed,
                upload,
                ..journal::Record::open(parse(name), None)
            };
            vfs.cache.stage(&vfs.label(&record)).expect("a record").keep(true);
        }
        vfs.log.flush();
        copy_dir(&workers.home.path().join("cache"), &workers.home.path().join("image"));
        let mut state = workers.open_log().1;
        state.passthrough = Some(true);
        let store = workers.another_store();
        store.plan(0, Fault::Late);
        let before = clock::instant();
        let next = workers.next_on(Arc::clone(&store), &state).await;
        assert!(
            store.is_hit() && clock::since(before) < Duration::from_secs(2),
            "{:?}",
            clock::since(before)
        );
        assert_eq!(next.cache.orphans_where(|_| true).expect("a list").len(), 2, "for the next worker");
    });
}
