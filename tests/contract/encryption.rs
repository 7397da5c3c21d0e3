//! Encryption at the server: the contract holds with every kind, and what lies on its disk cannot be read.

use bytes::Bytes;
use std::sync::Arc;
use tarn_fs::name::Key;
use tarn_fs::store::{
    Condition, CustomerKey, ErrorKind, GetRequest, Headers, ObjectStore, S3Config, S3Store, Sse,
};
use tarn_tests::contract::object_store::suite;
use tarn_tests::server::Server;

const MARK: &str = "these words are looked for on the disk of the server";

async fn put_mark(config: S3Config) -> S3Store {
    let store = S3Store::connect(config).await.expect("plain settings");
    let (body, headers) = (Bytes::from_static(MARK.as_bytes()), Headers::default());
    store.put(&mark(), body, &headers, Condition::Always).await.expect("put");
    store
}

fn mark() -> Key {
    Key::parse("mark").expect("a plain key")
}

fn customer(byte: u8) -> Sse {
    Sse::Customer { key: CustomerKey::new([byte; 32]) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_encryption_keeps_the_contract() {
    let server = Server::start_encrypting().expect("MinIO starts");
    let config = |bucket: &str| {
        let config = server.store_config(bucket).expect("a bucket");
        S3Config { ca_bundle: Some(server.ca()), ..config }
    };
    put_mark(config("plain")).await;
    assert!(server.has_on_disk("plain", MARK.as_bytes()).expect("a look"), "the look finds what is there");
    let kinds = [
        ("own-keys", Sse::S3),
        ("named-key", Sse::Kms { key_id: Some("tarn-tests".into()) }),
        ("customer-key", customer(7)),
    ];
    for (bucket, sse) in kinds {
        let store = put_mark(S3Config { sse, ..config(bucket) }).await;
        assert!(
            !server.has_on_disk(bucket, MARK.as_bytes()).expect("a look"),
            "{bucket} lies open on the disk"
        );
        suite(Arc::new(store), "scratch/").await;
    }
}

#[tokio::test]
async fn without_the_customers_key_nothing_is_read() {
    let server = Server::start_encrypting().expect("MinIO starts");
    let config =
        S3Config { ca_bundle: Some(server.ca()), ..server.store_config("bucket").expect("a bucket") };
    put_mark(S3Config { sse: customer(7), ..config.clone() }).await;
    for sse in [Sse::None, customer(8)] {
        let store = S3Store::connect(S3Config { sse, ..config.clone() }).await.expect("plain settings");
        let error = store.get(&mark(), GetRequest::default()).await.expect_err("no bytes");
        assert!(matches!(error.kind, ErrorKind::Denied | ErrorKind::Rejected), "{error:?}");
    }
}
