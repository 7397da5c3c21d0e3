//! The S3 store before listings that no honest server makes: what can be asked for is there, the rest is counted.

use tarn_fs::name::{Key, Prefix};
use tarn_fs::store::{
    CredentialSource, Depth, ErrorKind, GetRequest, ListCursor, ListRequest, ObjectStore, S3Config, S3Store,
};
use tarn_tests::hostile::{self, Bucket};
use tarn_tests::http::HttpServer;

async fn connect(server: &HttpServer) -> S3Store {
    let credentials = CredentialSource::Static {
        access_key: "hostile".into(),
        secret_key: "hostile-secret".into(),
        session_token: None,
    };
    let config = S3Config {
        endpoint: Some(server.endpoint()),
        region: Some("us-east-1".into()),
        credentials,
        ..S3Config::new("bucket")
    };
    S3Store::connect(config).await.expect("plain settings")
}

/// Objects, prefixes and the count of what is left out, over all pages.
async fn walk(store: &S3Store, prefix: &str, depth: Depth) -> (Vec<String>, Vec<String>, usize) {
    let prefix = Prefix::parse(prefix).expect("short");
    let (mut objects, mut prefixes, mut unusable) = (Vec::new(), Vec::new(), 0);
    let mut after: Option<ListCursor> = None;
    loop {
        let request = ListRequest { after, ..ListRequest::new(prefix.clone(), depth, 1000) };
        let page = store.list(request).await.expect("a page");
        objects.extend(page.objects.into_iter().map(|listed| listed.key.as_str().to_owned()));
        prefixes.extend(page.prefixes.into_iter().map(|prefix| prefix.as_str().to_owned()));
        unusable += page.unusable;
        after = page.next;
        if after.is_none() {
            return (objects, prefixes, unusable);
        }
    }
}

async fn bucket(keys: &[&'static str]) -> HttpServer {
    let bucket = Bucket { keys: keys.to_vec(), ..Bucket::default() };
    hostile::start(bucket).await.expect("a server")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_bad_key_does_not_hide_its_siblings() {
    for bad in ["%FF", "a%C3", "%ED%A0%80"] {
        let server = bucket(&["before", bad, "after"]).await;
        let found = walk(&connect(&server).await, "", Depth::Directory).await;
        assert_eq!(found, (vec!["before".into(), "after".into()], vec![], 1), "{bad}");
    }
    for (odd, key) in [
        ("one%01", "one\u{1}"),
        ("new%0Aline", "new\nline"),
        ("cdata%5D%5D%3E", "cdata]]>"),
        ("nul%00", "nul\0"),
        ("bad%zz", "bad%zz"),
        ("cut%4", "cut%4"),
        ("..", ".."),
    ] {
        let server = bucket(&["before", odd, "after"]).await;
        let store = connect(&server).await;
        let found = walk(&store, "", Depth::Directory).await;
        assert_eq!(found, (vec!["before".into(), key.into(), "after".into()], vec![], 0));
        let info = store.head(&Key::parse(key).expect("short")).await.expect(key);
        assert_eq!(info.version.size, odd.len() as u64, "{key:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_keys_are_asked_for_as_they_are() {
    let keys = ["/lead", "//", "/", "a//b", "a/./b", "a/../b", "../up", "a/", "%2E%2E/x"];
    let server = bucket(&keys).await;
    let store = connect(&server).await;
    let (objects, _, unusable) = walk(&store, "", Depth::Subtree).await;
    assert_eq!((objects.len(), unusable), (keys.len(), 0));
    for (key, listed) in objects.iter().zip(keys) {
        let key = Key::parse(key).expect("short");
        let info = store.head(&key).await.expect(listed);
        assert_eq!(info.version.size, listed.len() as u64, "{listed}");
        let whole = GetRequest::default();
        assert_eq!(store.get(&key, whole).await.expect(listed).info.version.size, listed.len() as u64);
    }
    let missing = store.head(&Key::parse("lead").expect("short")).await.expect_err("another key");
    assert_eq!(missing.kind, ErrorKind::NotFound);
    let (_, prefixes, _) = walk(&store, "", Depth::Directory).await;
    assert_eq!(prefixes, ["/", "a/", "../"]);
    let (objects, prefixes, _) = walk(&store, "/", Depth::Directory).await;
    assert_eq!((objects, prefixes), (vec!["/lead".into(), "/".into()], vec!["//".into()]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_that_nobody_asked_for_are_left_out() {
    let server = hostile::start(Bucket {
        keys: vec!["d/z", "d/a", "d/a", "d/", "d/m/n"],
        stray_keys: vec!["outside", "d"],
        stray_prefixes: vec!["elsewhere/", "d/no-slash", "d/deep/er/", "/"],
        page: 2,
    })
    .await;
    let found = walk(&connect(&server.expect("a server")).await, "d", Depth::Directory).await;
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    assert_eq!(found, (texts(&["d/z", "d/a", "d/a", "d/"]), texts(&["d/m/"]), 3 * 2));
}
