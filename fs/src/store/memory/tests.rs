//! What is particular to the memory store; the rest is the contract suite's.

use super::*;
use crate::name::Prefix;
use crate::store::{Depth, ListCursor};
use std::time::SystemTime;

fn key(text: &str) -> Key {
    Key::parse(text).unwrap()
}

async fn filled(keys: &[&str], page_size: u16) -> MemoryStore {
    let store = MemoryStore::with_options(MemoryOptions { page_size, ..MemoryOptions::default() });
    for name in keys {
        store.put(&key(name), Bytes::new(), &Headers::default(), Condition::Always).await.unwrap();
    }
    store
}

async fn walk(store: &MemoryStore, prefix: &str, depth: Depth, mut after: Option<ListCursor>) -> Vec<String> {
    let mut found = Vec::new();
    loop {
        let prefix = Prefix::parse(prefix).unwrap();
        let page = store.list(ListRequest { after, ..ListRequest::new(prefix, depth, 1000) }).await.unwrap();
        found.extend(page.objects.iter().map(|listed| listed.key.as_str().to_owned()));
        found.extend(page.prefixes.iter().map(|prefix| prefix.as_str().to_owned()));
        after = page.next;
        if after.is_none() {
            return found;
        }
    }
}

#[tokio::test]
async fn pages_of_one_entry_give_the_whole_directory_once() {
    let store = filled(&["a", "d/", "d/x", "d/y/z", "d0", "e//f", "z"], 1).await;
    assert_eq!(walk(&store, "", Depth::Directory, None).await, ["a", "d/", "d0", "e/", "z"]);
    assert_eq!(walk(&store, "d", Depth::Directory, None).await, ["d/", "d/x", "d/y/"]);
    assert_eq!(walk(&store, "e", Depth::Directory, None).await, ["e//"]);
    assert_eq!(walk(&store, "d", Depth::Subtree, None).await, ["d/", "d/x", "d/y/z"]);
}

#[tokio::test]
async fn a_key_cursor_inside_a_prefix_still_shows_the_prefix() {
    let store = filled(&["d/a", "d/b", "e"], 10).await;
    let after = Some(ListCursor::Key(key("d/a")));
    assert_eq!(walk(&store, "", Depth::Directory, after).await, ["e", "d/"]);
}

#[tokio::test]
async fn parts_below_the_minimum_are_refused_and_the_upload_stays() {
    let store = MemoryStore::with_options(MemoryOptions { min_part_size: 4, ..MemoryOptions::default() });
    let upload = store.create_upload(&key("k"), &Headers::default(), PartKinds::Sent).await.unwrap();
    let mut parts = Vec::new();
    for (number, body) in [(1, "abc"), (2, "d")] {
        parts.push(store.upload_part(&upload, number, PartSource::Bytes(body.into())).await.unwrap());
    }
    let request = CompleteRequest { upload: upload.clone(), parts, condition: Condition::Always };
    let error = store.complete_upload(request.clone()).await.unwrap_err();
    assert!(error.message.starts_with("EntityTooSmall"), "{error}");
    assert_eq!(store.pending_uploads(), 1);
    store.abort_upload(&Abandoned::Upload(upload)).await.unwrap();
    assert_eq!(store.complete_upload(request).await.unwrap_err().kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn an_upload_whose_id_never_arrived_is_dropped_and_no_other() {
    let store = MemoryStore::new();
    let begin = |name| {
        let (store, key) = (&store, key(name));
        async move { store.create_upload(&key, &Headers::default(), PartKinds::Sent).await.unwrap() }
    };
    let (_unseen, _of_another_key, at_work) = (begin("k").await, begin("other").await, begin("k").await);
    store.upload_part(&at_work, 1, PartSource::Bytes("x".into())).await.unwrap();
    let asked = |at| Abandoned::Asked { key: key("k"), at };
    let long_ago = SystemTime::now() - std::time::Duration::from_secs(3600);
    store.abort_upload(&asked(long_ago)).await.unwrap();
    assert_eq!(store.pending_uploads(), 3);
    store.abort_upload(&asked(SystemTime::now())).await.unwrap();
    assert_eq!(store.pending_uploads(), 2);
}

#[tokio::test]
async fn user_metadata_over_two_kibibytes_is_refused() {
    let store = MemoryStore::new();
    let user = BTreeMap::from([("name".to_owned(), "x".repeat(2045))]);
    let headers = Headers { user, ..Headers::default() };
    let error = store.put(&key("k"), Bytes::new(), &headers, Condition::Always).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Rejected);
}
