//! The contract suites, run on every implementation.

mod minio;

use std::sync::Arc;
use tarn_fs::store::{LimitStore, MemoryOptions, MemoryStore, ObserveStore, S3Store};
use tarn_tests::contract::object_store::suite;

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
    let server = minio::Minio::start().await.expect("MinIO starts");
    let store = S3Store::connect(server.config()).await.expect("plain settings");
    suite(Arc::new(store), "scratch/").await;
}
