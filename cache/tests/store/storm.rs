//! Everything at once: two processes with a few threads each open, fill, read, change and promote few objects
//! under a budget that holds half of them. Whatever is read must be right.

use crate::support::{Bench, bytes, fill_from, id, label, misses_against};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use tarn_cache::{Access, BLOCK_SIZE, ObjectId, PromoteWith, Store, Taken};

const OBJECTS: u64 = 8;
const SIZE: u64 = 2 * BLOCK_SIZE + 77;
const ROUNDS: u64 = 150;

#[test]
fn nobody_ever_reads_wrong_bytes() {
    let bench = Bench::with_budget(OBJECTS * SIZE / 2);
    let stores = [bench.open(), bench.open()];
    let objects: Vec<(ObjectId, Vec<u8>)> =
        (0..OBJECTS).map(|n| id(&format!("object {n}"), SIZE)).map(|id| (id.clone(), bytes(&id))).collect();
    std::thread::scope(|scope| {
        for worker in 0..6_u64 {
            let (store, objects) = (&stores[worker as usize % 2], &objects);
            scope.spawn(move || {
                let mut state = worker + 1;
                for _ in 0..ROUNDS {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let (id, all) = &objects[(state >> 40) as usize % objects.len()];
                    act(store, id, all, state >> 50);
                }
            });
        }
    });
    assert!(
        stores.iter().map(|store| store.stats().evictions).sum::<u64>() > 0,
        "the budget was never short"
    );
    assert_eq!(stores.iter().map(|store| store.stats().bad_blocks).sum::<u64>(), 0);
    assert!(bench.files(".label").is_empty());
    drop(stores);
    // What is left on disk is right as well.
    let store = bench.open_in_boot("second boot");
    for (id, all) in &objects {
        misses_against(&store.object(id).unwrap(), all);
    }
    assert_eq!(store.stats().bad_blocks + store.stats().bad_objects, 0);
}

fn act(store: &Arc<Store>, id: &ObjectId, all: &[u8], choice: u64) {
    let object = store.object(id).unwrap();
    assert_eq!(object.id(), id);
    misses_against(&object, all);
    fill_from(&object, all, [choice % 3, (choice + 1) % 3]);
    misses_against(&object, all);
    if let Ok(mut file) = object.open_whole(Access::Read) {
        let mut whole = Vec::new();
        file.read_to_end(&mut whole).unwrap();
        assert!(whole == all, "a file was handed out that was not whole");
    }
    match choice % 7 {
        0 => {
            if let Taken::Staged(staged) = store.take(object, &label(id.key())).unwrap() {
                assert!(std::fs::read(staged.path()).unwrap() == all, "taken while it was not whole");
                staged.file().write_all_at(&[0xDD; 100], 7).unwrap();
            }
        }
        1 => {
            drop(object);
            let staged = store.stage(&label(id.key())).unwrap();
            staged.file().write_all_at(all, 0).unwrap();
            if let Some(object) = staged.promote(id, PromoteWith::Whole).unwrap() {
                misses_against(&object, all);
            }
        }
        _ => drop(object),
    }
}
