//! An API server for tests, as far as this driver asks it: one node, and CacheVolumes that are written by apply.

use super::Kubernetes;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

const TOKEN: &str = "the-pods-token";
pub(crate) const NODE_UID: &str = "0815";

/// A running server with one node, `node-1`. It ends when it is dropped.
pub(crate) struct FakeApi {
    state: Arc<Mutex<State>>,
    account: tempfile::TempDir,
    url: String,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Value>,
    away: u32,
    calls: Vec<String>,
}

impl FakeApi {
    pub(crate) async fn start() -> Self {
        let account = tempfile::tempdir().expect("temp dir");
        std::fs::write(account.path().join("token"), format!("{TOKEN}\n")).expect("written");
        let state: Arc<Mutex<State>> = Arc::default();
        let node = json!({ "metadata": { "name": "node-1", "uid": NODE_UID } });
        state.lock().objects.insert("/api/v1/nodes/node-1".into(), node);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Self { state, account, url, task }
    }

    pub(crate) fn client(&self) -> Kubernetes {
        Kubernetes::connect(Some(&self.url), self.account.path()).expect("connected")
    }

    pub(crate) fn token_file(&self) -> std::path::PathBuf {
        self.account.path().join("token")
    }

    /// Has so many calls fail from now on.
    pub(crate) fn fail(&self, calls: u32) {
        self.state.lock().away = calls;
    }

    pub(crate) fn object(&self, path: &str) -> Option<Value> {
        self.state.lock().objects.get(path).cloned()
    }

    pub(crate) fn change(&self, path: &str, change: impl FnOnce(&mut Value)) {
        if let Some(object) = self.state.lock().objects.get_mut(path) {
            change(object);
        }
    }

    pub(crate) fn remove(&self, path: &str) {
        self.state.lock().objects.remove(path);
    }

    pub(crate) fn calls(&self) -> Vec<String> {
        self.state.lock().calls.clone()
    }
}

impl Drop for FakeApi {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(stream: TcpStream, state: Arc<Mutex<State>>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            if line.trim().is_empty() {
                break;
            }
            head.push(line.trim().to_owned());
        }
        let header = |name: &str| {
            let pairs = head.iter().filter_map(|line| line.split_once(": "));
            pairs.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned()).next()
        };
        let length = header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        let known = header("authorization").as_deref() == Some(&*format!("Bearer {TOKEN}"));
        let (status, answer) = if known {
            state.lock().answer(&head[0], header("content-type").as_deref(), &body)
        } else {
            (401, json!({ "message": "Unauthorized" }))
        };
        let text = answer.to_string();
        let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{text}", text.len());
        stream.write_all(answer.as_bytes()).await?;
    }
}

impl State {
    fn answer(&mut self, line: &str, kind: Option<&str>, body: &[u8]) -> (u16, Value) {
        let mut words = line.split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        self.calls.push(format!("{method} {path}"));
        if self.away > 0 {
            self.away -= 1;
            return (503, json!({ "message": "the API rests" }));
        }
        match method {
            "GET" => self.found(path),
            "PATCH" if kind == Some("application/apply-patch+yaml") && query.contains("fieldManager=") => {
                self.apply(path, body)
            }
            _ => (415, json!({ "message": "the kind of patch is not known" })),
        }
    }

    fn found(&self, path: &str) -> (u16, Value) {
        match self.objects.get(path) {
            Some(object) => (200, object.clone()),
            None => (404, json!({ "message": format!("{path} not found") })),
        }
    }

    /// The status is a part of its own: the object's apply passes over it, and its apply over everything else.
    fn apply(&mut self, path: &str, body: &[u8]) -> (u16, Value) {
        let Ok(mut fields) = serde_json::from_slice::<Value>(body) else {
            return (400, json!({ "message": "no JSON" }));
        };
        match path.strip_suffix("/status") {
            Some(object) => match self.objects.get_mut(object) {
                Some(found) => found["status"] = fields["status"].take(),
                None => return (404, json!({ "message": format!("{object} not found") })),
            },
            None => {
                let status = self.objects.get(path).map(|object| object["status"].clone());
                fields["status"] = status.unwrap_or_default();
                self.objects.insert(path.to_owned(), fields);
            }
        }
        self.found(path.strip_suffix("/status").unwrap_or(path))
    }
}
