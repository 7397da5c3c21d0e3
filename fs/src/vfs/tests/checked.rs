//! Which bytes are compared with a checksum before anyone sees them.

use super::faulty::FaultyStore;
use super::*;
use crate::store::{CompleteRequest, PartKinds, PartSource};

const SIZE: usize = (8 << 20) + 300_000;

/// A bucket with an object of two parts of 5 MiB, of a size that other parts would fit too.
async fn bucket(home: &tempfile::TempDir) -> (Arc<FaultyStore>, Vec<u8>) {
    let bucket = Arc::new(MemoryStore::new());
    let body: Vec<u8> = (0..SIZE).map(|at| (at / 1000) as u8).collect();
    let upload =
        bucket.create_upload(&parse("f"), &Headers::default(), PartKinds::Sent).await.expect("upload");
    let mut parts = Vec::new();
    for (number, part) in (1..).zip(body.chunks(5 << 20)) {
        let source = PartSource::Bytes(Bytes::copy_from_slice(part));
        parts.push(bucket.upload_part(&upload, number, source).await.expect("a part"));
    }
    let request = CompleteRequest { upload, parts, condition: Condition::Always };
    bucket.complete_upload(request).await.expect("complete");
    let store = FaultyStore::new(bucket, home.path());
    store.has_parts_of(5 << 20);
    (store, body)
}

fn mount(store: &Arc<FaultyStore>, home: &tempfile::TempDir, always: bool) -> Arc<Vfs> {
    let store = Arc::clone(store) as Arc<dyn ObjectStore>;
    mount_with(store, &home.path().join("cache"), None, |options| options.always_checked = always)
}

#[tokio::test]
async fn a_wrong_guess_of_the_parts_lets_nothing_through_unchecked() {
    for always in [false, true] {
        let home = tempfile::tempdir().expect("a folder");
        let (store, body) = bucket(&home).await;
        assert!(read_file(&mount(&store, &home, always), "f").await.expect("read") == body);
        assert_eq!(store.unchecked(), 0, "always: {always}");
    }
}

#[tokio::test]
async fn a_part_of_which_some_is_there_is_fetched_whole_if_all_is_to_be_checked() {
    let home = tempfile::tempdir().expect("a folder");
    let (store, body) = bucket(&home).await;
    let vfs = mount(&store, &home, false);
    let opened = vfs.open(lookup(&vfs, "f").await.expect("there"), READ, false).await.expect("open");
    vfs.read(opened.fh, 3 << 20, 4096).await.expect("a block");
    vfs.release(opened.fh).await.expect("release");
    drop(vfs);
    assert_eq!(store.unchecked(), 1, "the block alone has no checksum");
    assert!(read_file(&mount(&store, &home, true), "f").await.expect("read") == body);
    assert_eq!(store.unchecked(), 1);
}
