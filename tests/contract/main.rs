//! The contract suites, run on every implementation.

mod credentials;
mod encryption;
mod faults;
mod hostile;

use std::sync::Arc;
use tarn_fs::embedded::{EmbeddedCredentials, EmbeddedServer};
use tarn_fs::name::Prefix;
use tarn_fs::store::{
    Depth, ErrorKind, LimitStore, ListRequest, MemoryOptions, MemoryStore, ObjectStore, ObserveStore,
    S3Config, S3Store, Support, probe,
};
use tarn_tests::contract::object_store::suite;
use tarn_tests::server::Server;

#[tokio::test]
async fn the_memory_store_keeps_the_contract() {
    suite(Arc::new(MemoryStore::new()), "scratch/").await;
}

#[tokio::test]
async fn small_pages_and_the_wrappers_keep_the_contract() {
    let options =
        MemoryOptions { page_size: 3, chunk_size: 1000, lists_headers: true, ..MemoryOptions::default() };
    let limited = LimitStore::new(Arc::new(MemoryStore::with_options(options)), 2);
    suite(Arc::new(ObserveStore::new(Arc::new(limited))), "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_s3_store_on_minio_keeps_the_contract() {
    let server = Server::start_small().expect("MinIO starts");
    let store =
        S3Store::connect(server.store_config("contract").expect("a bucket")).await.expect("plain settings");
    let found = probe(&store, &Prefix::default()).await.expect("the probe works");
    assert!(found.guards_writes() && found.checksum == Support::Yes, "{found:?}");
    assert!(matches!(found.empty_segments, Support::Refused(_)), "{found:?}");
    suite(Arc::new(store.clone()), "scratch/").await;
    // The one with a name of metadata that is no XML makes a page without any.
    let prefix = Prefix::parse("scratch/more_keys_than_a_page_holds").expect("short");
    let list = ListRequest::new(prefix, Depth::Subtree, 1000);
    let all = store.list(ListRequest { headers: true, ..list.clone() }).await.expect("a listing").objects;
    assert!(all.len() == 1000 && all.iter().all(|listed| listed.headers.is_some()), "MinIO tells headers");
    let plain = store.list(list).await.expect("a listing").objects;
    assert!(plain.iter().all(|listed| listed.headers.is_none()), "nobody has asked for them");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_s3_store_on_the_embedded_server_keeps_the_contract() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let server = EmbeddedServer::start("demo", dir.path(), EmbeddedCredentials::random()).await;
    let server = server.expect("the server starts");
    let store = S3Store::connect(server.config()).await.expect("plain settings");
    let found = probe(&store, &Prefix::default()).await.expect("the probe works");
    assert!(found.named().iter().all(|(_, support)| **support == Support::Yes), "{found:?}");
    suite(Arc::new(store), "scratch/").await;
    server.stop().await;
}

#[tokio::test]
async fn a_store_with_a_scratch_file_keeps_the_contract() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let store = MemoryStore::with_scratch(dir.path()).expect("a scratch file");
    suite(Arc::new(store), "scratch/").await;
}

#[tokio::test]
async fn tls_works_with_the_ca_bundle_and_only_with_it() {
    let server = Server::start_tls().expect("MinIO starts");
    let config = server.store_config("contract").expect("a bucket");
    let known = S3Config { ca_bundle: Some(server.ca()), ..config.clone() };
    let store = S3Store::connect(known).await.expect("plain settings");
    let root = ListRequest::new(Prefix::default(), Depth::Directory, 10);
    store.list(root.clone()).await.expect("the certificate is trusted");
    let stranger =
        S3Store::connect(S3Config { max_attempts: 1, ..config.clone() }).await.expect("plain settings");
    let error = stranger.list(root).await.expect_err("the certificate is not trusted");
    assert!(error.kind == ErrorKind::Unavailable && error.message.contains("ertificate"), "{error}");
    let broken = server.ca().with_extension("broken");
    std::fs::write(&broken, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        .expect("a file");
    let refused = S3Store::connect(S3Config { ca_bundle: Some(broken), ..config }).await;
    assert!(refused.expect_err("no certificate").message.contains("certificate 1 cannot be read"));
}
