//! Objects that are held stay, whatever room is needed.

use crate::support::{Bench, fill_all, id, label, misses};
use std::sync::Arc;
use tarn_cache::{Hold, Store, Taken};

const MIB: u64 = 1 << 20;

/// Fills an object and holds it.
fn held(store: &Arc<Store>, key: &str) {
    let object = store.object(&id(key, MIB)).unwrap();
    assert_eq!(store.hold(&object).unwrap(), Hold::Held);
    fill_all(&object);
}

fn press(store: &Arc<Store>, name: &str) {
    for n in 0..40 {
        for _ in 0..3 {
            fill_all(&store.object(&id(&format!("{name} {n}"), MIB)).unwrap());
        }
    }
}

fn is_whole(store: &Arc<Store>, key: &str) -> bool {
    misses(&store.object(&id(key, MIB)).unwrap()).is_empty()
}

#[test]
fn a_held_object_is_not_evicted_by_any_process_until_it_is_released() {
    let bench = Bench::with_budget(8 * MIB);
    let (store, other) = (bench.open(), bench.open());
    held(&store, "f");
    fill_all(&store.object(&id("not held", MIB)).unwrap());
    press(&store, "ours");
    press(&other, "theirs");
    assert!(is_whole(&bench.open(), "f"));
    assert!(!is_whole(&store, "not held"));
    assert!(other.stats().evictions > 0 && store.stats().used_bytes <= 8 * MIB);
    assert!(!store.forget(&id("f", MIB)).unwrap(), "nor is it dropped");
    assert!(store.release(&id("f", MIB)).unwrap());
    press(&store, "again");
    assert!(!is_whole(&store, "f"));
}

#[test]
fn holds_outlive_the_store_and_are_counted_anew() {
    let bench = Bench::with_budget(8 * MIB);
    let store = bench.open();
    held(&store, "f");
    held(&store, "gone");
    assert_eq!(store.stats().held_bytes, 2 * MIB);
    drop(store);
    std::fs::remove_file(bench.file("/usage")).unwrap();
    for end in ["map", "data"] {
        let of_gone = |path: &std::path::Path| path.to_string_lossy().contains(&file_name("gone"));
        bench
            .files(end)
            .iter()
            .filter(|path| of_gone(path))
            .for_each(|path| std::fs::remove_file(path).unwrap());
    }
    let store = bench.open();
    store.survey().unwrap();
    assert_eq!(store.stats().held_bytes, MIB);
    assert_eq!(bench.files("").iter().filter(|path| path.parent().unwrap().ends_with("holds")).count(), 1);
    press(&store, "others");
    assert!(is_whole(&store, "f") && store.is_held(&id("f", MIB)).unwrap());
}

/// The file name of an object: what its data file is called in a store that has nothing else.
fn file_name(key: &str) -> String {
    let alone = Bench::new();
    fill_all(&alone.open().object(&id(key, MIB)).unwrap());
    alone.file(".data").file_stem().unwrap().to_str().unwrap().to_owned()
}

#[test]
fn what_would_not_fit_is_not_held() {
    let bench = Bench::with_budget(4 * MIB);
    let store = bench.open();
    for n in 0..4 {
        held(&store, &n.to_string());
    }
    let more = store.object(&id("more", MIB)).unwrap();
    assert_eq!(store.hold(&more).unwrap(), Hold::Full { held: 4 * MIB });
    let again = store.object(&id("0", MIB)).unwrap();
    assert_eq!(store.hold(&again).unwrap(), Hold::Held, "once is enough");
    assert_eq!(store.stats().held_bytes, 4 * MIB);
    store.release(&id("0", MIB)).unwrap();
    assert_eq!(store.hold(&more).unwrap(), Hold::Held);
    assert!(!store.release(&id("0", MIB)).unwrap());
}

#[test]
fn a_hold_is_for_one_version() {
    let bench = Bench::new();
    let store = bench.open();
    held(&store, "f");
    let object = store.object(&id("f", MIB)).unwrap();
    assert!(matches!(store.take(object, &label("f")).unwrap(), Taken::Staged(_)));
    assert_eq!(store.stats().held_bytes, 0);
    assert!(!store.is_held(&id("f", MIB)).unwrap());
}
