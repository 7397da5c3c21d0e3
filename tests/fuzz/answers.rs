//! What a server says.

use crate::fuzz;
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Response, StatusCode};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tarn_fs::name::{Key, Prefix};
use tarn_fs::store::{
    CredentialSource, Depth, GetRequest, ListRequest, ObjectStore, PartKinds, S3Config, S3Store,
};
use tarn_tests::http::HttpServer;
use tokio::runtime::Runtime;

/// A store before a server whose next answer is set.
struct Setup {
    runtime: Runtime,
    store: S3Store,
    answer: Arc<Mutex<(StatusCode, Bytes)>>,
    _server: HttpServer,
}

impl Setup {
    fn new() -> Self {
        let runtime = Runtime::new().unwrap();
        let answer = Arc::new(Mutex::new((StatusCode::OK, Bytes::new())));
        let given = Arc::clone(&answer);
        let server = HttpServer::start(move |_| {
            let (status, body) = given.lock().unwrap().clone();
            Response::builder().status(status).body(Full::from(body)).unwrap()
        });
        let server = runtime.block_on(server).unwrap();
        let config = S3Config {
            endpoint: Some(server.endpoint()),
            region: Some("us-east-1".into()),
            credentials: CredentialSource::Anonymous,
            max_attempts: 1,
            attempt_timeout: Duration::from_secs(5),
            ..S3Config::new("bucket")
        };
        let store = runtime.block_on(S3Store::connect(config)).unwrap();
        Self { runtime, store, answer, _server: server }
    }

    fn answers(&self, status: u16, body: &[u8]) {
        *self.answer.lock().unwrap() = (StatusCode::from_u16(status).unwrap(), Bytes::copy_from_slice(body));
    }
}

/// What a listing holds lies below what was asked for.
#[test]
fn list_xml() {
    let setup = Setup::new();
    fuzz("list_xml", |input| {
        setup.answers(200, input);
        for depth in [Depth::Directory, Depth::Subtree] {
            let prefix = Prefix::parse("dir/").unwrap();
            let request = ListRequest::new(prefix, depth, 1000);
            let Ok(page) = setup.runtime.block_on(setup.store.list(request)) else { continue };
            assert!(page.objects.iter().all(|listed| listed.key.as_str().starts_with("dir/")));
            assert!(page.prefixes.iter().all(|prefix| prefix.as_str().starts_with("dir/")));
        }
    });
}

/// An error is one, whatever its text.
#[test]
fn error_xml() {
    let setup = Setup::new();
    let key = Key::parse("dir/object").unwrap();
    fuzz("error_xml", |input| {
        for status in [400, 403, 404, 412, 500, 503] {
            setup.answers(status, input);
            assert!(setup.runtime.block_on(setup.store.get(&key, GetRequest::default())).is_err());
        }
        // Under 200 too, where the answer should be a document.
        setup.answers(200, input);
        let headers = tarn_fs::store::Headers::default();
        let created = setup.runtime.block_on(setup.store.create_upload(&key, &headers, PartKinds::Sent));
        assert!(created.is_err() || !input.starts_with(b"<Error>"));
    });
}
