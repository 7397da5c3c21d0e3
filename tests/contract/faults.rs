//! The S3 store before a server that misbehaves: every fault ends in the right bytes or the right error, in
//! bounded time and with a bounded number of requests.

use anyhow::{Result, ensure};
use bytes::Bytes;
use futures::StreamExt;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tarn_fs::embedded::{EmbeddedCredentials, EmbeddedServer};
use tarn_fs::name::{Key, Prefix};
use tarn_fs::store::{
    CompleteRequest, Condition, CopyRequest, CustomerKey, Depth, ErrorKind, GetRequest, Headers, ListRequest,
    ObjectStore, PartKinds, PartSource, S3Config, S3Store, Sse, Version,
};
use tarn_tests::faulty::{Fault, FaultyServer, Kind, Rule};
use tempfile::TempDir;

const ATTEMPT: Duration = Duration::from_millis(400);
const OPERATION: Duration = Duration::from_secs(3);
const ATTEMPTS: u32 = 3;
const SIZE: u64 = 300_000;
static NO_HEADERS: Headers = Headers {
    content_type: None,
    cache_control: None,
    content_disposition: None,
    content_encoding: None,
    content_language: None,
    expires: None,
    storage_class: None,
    user: BTreeMap::new(),
    tagged: false,
};

/// A store, the proxy, the server behind it, and one object.
struct Setup {
    store: S3Store,
    proxy: FaultyServer,
    key: Key,
    body: Bytes,
    version: Version,
    _server: EmbeddedServer,
    _dir: TempDir,
}

async fn setup(rules: Vec<Rule>) -> Setup {
    setup_with(rules, Sse::None).await
}

async fn setup_with(rules: Vec<Rule>, sse: Sse) -> Setup {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let server =
        EmbeddedServer::start("bucket", dir.path(), EmbeddedCredentials::random()).await.expect("a server");
    let key = Key::parse("dir/object").expect("short");
    let body: Bytes = (0..SIZE).map(|n| (n % 253) as u8).collect::<Vec<_>>().into();
    let direct = S3Store::connect(server.config()).await.expect("plain settings");
    let version = direct.put(&key, body.clone(), &Headers::default(), Condition::Always).await.expect("put");
    let proxy = FaultyServer::start(&server.endpoint(), rules).await.expect("a proxy");
    let config = S3Config {
        endpoint: Some(proxy.endpoint()),
        attempt_timeout: ATTEMPT,
        operation_timeout: OPERATION,
        max_attempts: ATTEMPTS,
        sse,
        ..server.config()
    };
    let store = S3Store::connect(config).await.expect("plain settings");
    Setup { store, proxy, key, body, version, _server: server, _dir: dir }
}

impl Setup {
    async fn read(&self, range: Option<Range<u64>>) -> tarn_fs::store::Result<Bytes> {
        let request = GetRequest { range, if_match: Some(self.version.etag.clone()), part: None };
        let mut answer = self.store.get(&self.key, request).await?;
        let mut body = Vec::new();
        while let Some(chunk) = answer.body.next().await {
            body.extend_from_slice(&chunk?);
        }
        Ok(body.into())
    }

    async fn put(&self) -> tarn_fs::store::Result<Version> {
        let key = Key::parse("new").expect("short");
        self.store.put(&key, "body".into(), &Headers::default(), Condition::Always).await
    }

    fn copy(&self) -> CopyRequest {
        CopyRequest {
            from: self.key.clone(),
            if_match: self.version.etag.clone(),
            size: SIZE,
            to: Key::parse("copy").expect("short"),
            condition: Condition::Always,
            headers: None,
            log: None,
        }
    }
}

/// The reads that end well in spite of a fault.
#[tokio::test]
async fn a_read_survives_a_passing_fault() {
    for fault in [
        Fault::Cut(0),
        Fault::Cut(100_000),
        Fault::Stall(100_000),
        Fault::Reset,
        Fault::Silence,
        Fault::Status(503, "SlowDown"),
        Fault::Status(500, "InternalError"),
    ] {
        let name = format!("{fault:?}");
        let setup = setup(vec![Rule::first(Kind::Get, fault)]).await;
        let read = setup.read(Some(10..200_010)).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(read == setup.body[10..200_010], "{name}");
        assert_eq!(setup.proxy.count(Kind::Get), 2, "{name}");
    }
}

/// A whole object that is cut is resumed and still has its checksum.
#[tokio::test]
async fn a_resumed_whole_read_is_checked() {
    let setup = setup(vec![Rule::first(Kind::Get, Fault::Cut(100_000))]).await;
    assert_eq!(setup.read(None).await.expect("resumed"), setup.body);
    let seen = setup.proxy.seen();
    assert!(seen[1].headers.contains_key("if-match") && seen[1].headers["range"] == "bytes=100000-299999");
}

/// The answers that are no answers.
/// SEMANTICS: "Every answer is checked for its range, length and version."
#[tokio::test]
async fn a_wrong_answer_is_never_data() {
    for (fault, range) in [
        (Fault::WrongETag, Some(0..1000)),
        (Fault::WrongETag, None),
        (Fault::WrongRange, Some(0..1000)),
        (Fault::NoRange, Some(0..1000)),
        (Fault::Longer(1), Some(0..1000)),
        (Fault::Longer(1), None),
        (Fault::Flip(5), None),
        (Fault::Flip(SIZE as usize * 8 - 1), None),
    ] {
        let name = format!("{fault:?} of {range:?}");
        let setup = setup(vec![Rule::every(Kind::Get, fault)]).await;
        let error = setup.read(range).await.expect_err(&name);
        assert_eq!(error.kind, ErrorKind::Corrupt, "{name}: {error}");
    }
}

/// The last chunk of a body with a wrong checksum is held back.
#[tokio::test]
async fn a_body_with_a_wrong_checksum_is_never_complete() {
    let setup = setup(vec![Rule::first(Kind::Get, Fault::Flip(SIZE as usize * 8 - 1))]).await;
    let request = GetRequest::default();
    let mut answer = setup.store.get(&setup.key, request).await.expect("headers");
    let mut received = 0;
    let error = loop {
        match answer.body.next().await.expect("not the end") {
            Ok(chunk) => received += chunk.len() as u64,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind, ErrorKind::Corrupt, "{error}");
    assert!(received < SIZE, "all {received} bytes were handed on");
}

/// What does not pass ends in bounded time, with bounded requests, under its own name.
#[tokio::test]
async fn a_lasting_fault_ends_in_its_error() {
    for (fault, expected) in [
        (Fault::Status(503, "SlowDown"), ErrorKind::Throttled),
        (Fault::Status(500, "InternalError"), ErrorKind::Unavailable),
        (Fault::Reset, ErrorKind::Unavailable),
        (Fault::Silence, ErrorKind::Timeout),
        (Fault::Stall(10), ErrorKind::Timeout),
        (Fault::Cut(10), ErrorKind::Unavailable),
        (Fault::Status(403, "AccessDenied"), ErrorKind::Denied),
        (Fault::Status(403, "InvalidAccessKeyId"), ErrorKind::Credentials),
        (Fault::Status(403, "InvalidObjectState"), ErrorKind::Archived),
    ] {
        let name = format!("{fault:?}");
        let setup = setup(vec![Rule::every(Kind::Get, fault)]).await;
        let started = Instant::now();
        let error = setup.read(Some(0..1000)).await.expect_err(&name);
        assert_eq!(error.kind, expected, "{name}: {error}");
        assert!(started.elapsed() < OPERATION + ATTEMPT * 4, "{name} took {:?}", started.elapsed());
        assert!(setup.proxy.count(Kind::Get) <= 1 + ATTEMPTS as usize, "{name}");
    }
}

#[tokio::test]
async fn a_write_survives_throttling_and_ends_if_it_lasts() {
    let passing = setup(vec![Rule::first(Kind::Put, Fault::Status(503, "SlowDown"))]).await;
    passing.put().await.expect("the second attempt");
    let lasting = setup(vec![Rule::every(Kind::Put, Fault::Status(503, "SlowDown"))]).await;
    assert_eq!(lasting.put().await.expect_err("throttled").kind, ErrorKind::Throttled);
    assert_eq!(lasting.proxy.count(Kind::Put), ATTEMPTS as usize);
}

/// A write that arrived, but whose answer was lost, is not taken for somebody else's.
#[tokio::test]
async fn a_write_with_a_lost_answer_is_recognised() {
    let rules = [Kind::Put, Kind::CompleteUpload].map(|kind| Rule::first(kind, Fault::LostAnswer));
    let setup = setup(rules.to_vec()).await;
    let key = Key::parse("put").expect("short");
    let put = |body: &'static str| setup.store.put(&key, body.into(), &NO_HEADERS, Condition::Absent);
    let version = put("ours").await.expect("our own object");
    assert!(setup.store.head(&key).await.expect("head").version.same_bytes(&version));
    assert_eq!(setup.proxy.count(Kind::Put), 2);
    assert_eq!(put("theirs").await.expect_err("taken").kind, ErrorKind::Precondition);

    let key = Key::parse("upload").expect("short");
    let upload = setup.store.create_upload(&key, &NO_HEADERS, PartKinds::Sent).await.expect("begin");
    let part = setup.store.upload_part(&upload, 1, PartSource::Bytes("ours".into())).await.expect("part");
    let complete = CompleteRequest { upload, parts: vec![part], condition: Condition::Absent };
    let version = setup.store.complete_upload(complete).await.expect("our own object");
    assert!(setup.store.head(&key).await.expect("head").version.same_bytes(&version));
    assert_eq!(setup.proxy.count(Kind::CompleteUpload), 2);
}

/// A refusal after a lost answer is one, if the object there is not ours.
#[tokio::test]
async fn a_foreign_object_is_not_taken_for_ours() {
    let rule = Rule::first(Kind::Put, Fault::Status(500, "InternalError"));
    let setup = setup(vec![rule]).await;
    let put = setup.store.put(&setup.key, "ours".into(), &NO_HEADERS, Condition::Absent).await;
    assert_eq!(put.expect_err("taken").kind, ErrorKind::Precondition);
    assert_eq!(setup.proxy.count(Kind::Put), 2);
}

#[tokio::test]
async fn an_error_under_status_200_is_an_error() {
    let rules =
        [Kind::Copy, Kind::CompleteUpload].map(|kind| Rule::every(kind, Fault::ErrorIn200("InternalError")));
    let setup = setup(rules.to_vec()).await;
    let error = setup.store.copy(setup.copy()).await.expect_err("copy");
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    let conditional = CopyRequest { condition: Condition::Absent, ..setup.copy() };
    let error = setup.store.copy(conditional).await.expect_err("completion");
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    assert_eq!(setup.proxy.count(Kind::AbortUpload), 1, "the upload is aborted");
}

/// The SDK takes what it can read of a document: a directory would have fewer files, a removal that failed would be done.
#[tokio::test]
async fn half_a_document_is_no_answer() {
    let list = || ListRequest::new(Prefix::default(), Depth::Subtree, 10);
    for missing in [1, 20, 100, 200] {
        let setup = setup(vec![Rule::every(Kind::List, Fault::Shorter(missing))]).await;
        let error = setup.store.list(list()).await.expect_err("a part of a listing");
        assert_eq!(error.kind, ErrorKind::Corrupt, "{error}");
    }
    let keys = ["one", "two"].map(|key| Key::parse(key).expect("short"));
    let setup = setup(vec![
        Rule::every(Kind::DeleteObjects, Fault::Shorter(1)),
        Rule::every(Kind::Delete, Fault::ErrorIn200("InternalError")),
    ])
    .await;
    for (keys, kind) in [(&keys[..], ErrorKind::Corrupt), (&keys[..1], ErrorKind::Unavailable)] {
        let error = setup.store.delete(keys).await.expect_err("nobody knows what was done");
        assert_eq!(error.kind, kind, "{error}");
    }
}

#[tokio::test]
async fn a_failed_copy_by_parts_is_aborted() {
    let setup = setup(vec![Rule::every(Kind::UploadPartCopy, Fault::Status(403, "AccessDenied"))]).await;
    let conditional = CopyRequest { condition: Condition::Absent, ..setup.copy() };
    let error = setup.store.copy(conditional).await.expect_err("denied");
    assert_eq!(error.kind, ErrorKind::Denied, "{error}");
    assert_eq!(setup.proxy.count(Kind::AbortUpload), 1);
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_is_named_within_seconds() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("bound"));
    drop(listener);
    let setup = setup(vec![]).await;
    let config = S3Config { endpoint: Some(endpoint.clone()), ..setup._server.config() };
    let started = Instant::now();
    let store = S3Store::connect(config).await.expect("plain settings");
    let error = store.head(&setup.key).await.expect_err("nobody listens");
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(error.message.contains(&endpoint), "{error}");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

/// Does one of everything.
async fn everything(setup: &Setup) -> Result<()> {
    setup.put().await?;
    setup.store.head(&setup.key).await?;
    ensure!(setup.read(Some(0..10)).await? == setup.body[..10]);
    setup.store.copy(setup.copy()).await?;
    let key = Key::parse("upload")?;
    let upload = setup.store.create_upload(&key, &Headers::default(), PartKinds::Copied).await?;
    let range = 0..SIZE;
    let source = PartSource::Copy { key: setup.key.clone(), if_match: setup.version.etag.clone(), range };
    setup.store.upload_part(&upload, 2, source).await?;
    let part = setup.store.upload_part(&upload, 1, PartSource::Bytes("x".into())).await?;
    let complete = CompleteRequest { upload, parts: vec![part], condition: Condition::Always };
    setup.store.complete_upload(complete).await?;
    let (prefix, depth) = (Prefix::default(), Depth::Subtree);
    setup.store.list(ListRequest::new(prefix, depth, 10)).await?;
    setup.store.delete(&[key]).await?;
    Ok(())
}

/// The encryption that was asked for goes with every request that it concerns.
#[tokio::test]
async fn no_request_is_sent_without_its_encryption() {
    let begins = [Kind::Put, Kind::Copy, Kind::CreateUpload];
    let touches = [Kind::Head, Kind::Get, Kind::UploadPart, Kind::UploadPartCopy, Kind::CompleteUpload];
    let has = |setup: &Setup, kinds: &[Kind], header: &str| {
        for kind in kinds {
            let seen = setup.proxy.seen();
            let mut requests = seen.iter().filter(|seen| seen.kind == *kind).peekable();
            assert!(requests.peek().is_some(), "no {kind:?}");
            assert!(requests.all(|seen| seen.headers.contains_key(header)), "{kind:?} without {header}");
        }
    };
    let kms = setup_with(vec![], Sse::Kms { key_id: Some("key".into()) }).await;
    everything(&kms).await.expect("kms");
    has(&kms, &begins, "x-amz-server-side-encryption");
    has(&kms, &begins, "x-amz-server-side-encryption-aws-kms-key-id");
    let customer = setup_with(vec![], Sse::Customer { key: CustomerKey::new([7; 32]) }).await;
    everything(&customer).await.expect("customer");
    for header in ["algorithm", "key", "key-md5"] {
        let own = format!("x-amz-server-side-encryption-customer-{header}");
        has(&customer, &begins, &own);
        has(&customer, &touches, &own);
        let source = format!("x-amz-copy-source-server-side-encryption-customer-{header}");
        has(&customer, &[Kind::Copy, Kind::UploadPartCopy], &source);
    }
}

/// What goes out carries a checksum, and payloads are not signed.
#[tokio::test]
async fn what_is_sent_carries_a_checksum() {
    let setup = setup(vec![]).await;
    everything(&setup).await.expect("everything");
    let seen = setup.proxy.seen();
    for seen in seen.iter().filter(|seen| [Kind::Put, Kind::UploadPart].contains(&seen.kind)) {
        assert!(seen.headers.contains_key("x-amz-checksum-crc64nvme"), "{seen:?}");
        assert_eq!(seen.headers["x-amz-content-sha256"], "UNSIGNED-PAYLOAD", "{seen:?}");
    }
}

/// Neither logs nor `Debug` show a secret, whatever happens.
#[tokio::test]
async fn no_secret_is_shown() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_env_filter("debug,s3s=warn").with_writer(move || writer.clone());
    let guard = tracing::subscriber::set_default(subscriber.finish());
    let rules = vec![
        Rule::first(Kind::Put, Fault::Status(403, "AccessDenied")),
        Rule::first(Kind::Get, Fault::Reset),
    ];
    let setup =
        setup_with(rules, Sse::Customer { key: CustomerKey::new(*b"0123456789abcdefghijklmnopqrstuv") })
            .await;
    let refused = setup.put().await.expect_err("denied");
    everything(&setup).await.expect("everything");
    drop(guard);
    let shown = format!("{}{refused:?}{refused}{:?}{:?}", log.text(), setup.store, setup._server);
    assert!(shown.contains("AccessDenied") && !log.text().is_empty(), "nothing is shown at all");
    let secret = setup._server.credentials().secret_key.clone();
    for secret in [secret.as_str(), "MDEyMzQ1Njc4OWFiY2RlZmdoaWprbG1ub3BxcnN0dXY", "0123456789abcdefghijkl"] {
        let line = shown.lines().find(|line| line.contains(secret));
        assert!(line.is_none(), "{secret} is shown: {line:?}");
    }
}

/// Collects what is logged.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("no holder panics")).into_owned()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no holder panics").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
