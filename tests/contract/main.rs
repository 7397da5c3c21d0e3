//! The contract suites, run on every implementation.

mod faults;

use std::sync::Arc;
use tarn_fs::embedded::{EmbeddedCredentials, EmbeddedServer};
use tarn_fs::store::{
    CredentialSource, LimitStore, MemoryOptions, MemoryStore, ObserveStore, S3Config, S3Store,
};
use tarn_tests::contract::object_store::suite;
use tarn_tests::foreign::Foreign;
use tarn_tests::server::{ACCESS_KEY, SECRET_KEY, Server};

#[tokio::test]
async fn the_memory_store_keeps_the_contract() {
    suite(Arc::new(MemoryStore::new()), "scratch/").await;
}

#[tokio::test]
async fn small_pages_and_the_wrappers_keep_the_contract() {
    let options = MemoryOptions { page_size: 3, chunk_size: 1000, ..MemoryOptions::default() };
    let limited = LimitStore::new(Arc::new(MemoryStore::with_options(options)), 2);
    suite(Arc::new(ObserveStore::new(Arc::new(limited))), "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_s3_store_on_minio_keeps_the_contract() {
    let server = Server::start_small().expect("MinIO starts");
    let foreign = Foreign::start(&server.endpoint()).expect("the other client starts");
    foreign.bucket("contract").create().expect("a new bucket");
    let credentials = CredentialSource::Static {
        access_key: ACCESS_KEY.into(),
        secret_key: SECRET_KEY.into(),
        session_token: None,
    };
    let config = S3Config {
        endpoint: Some(server.endpoint()),
        region: Some("us-east-1".into()),
        credentials,
        ..S3Config::new("contract")
    };
    let store = S3Store::connect(config).await.expect("plain settings");
    suite(Arc::new(store), "scratch/").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_s3_store_on_the_embedded_server_keeps_the_contract() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let server = EmbeddedServer::start("demo", dir.path(), EmbeddedCredentials::random()).await;
    let server = server.expect("the server starts");
    let store = S3Store::connect(server.config()).await.expect("plain settings");
    suite(Arc::new(store), "scratch/").await;
    server.stop().await;
}

#[tokio::test]
async fn a_store_with_a_scratch_file_keeps_the_contract() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let store = MemoryStore::with_scratch(dir.path()).expect("a scratch file");
    suite(Arc::new(store), "scratch/").await;
}
