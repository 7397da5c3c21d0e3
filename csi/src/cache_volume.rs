//! Runs the program that looks after the node's cache volume, and tells the cluster what that program says: one
//! CacheVolume for each node, with its status.
//!
//! The program knows nothing of Kubernetes, and an API that is away keeps it from nothing: the last thing that it said is
//! told when the API is back.

mod status;

use crate::error::{Error, Kind, Result};
use crate::kubernetes::Kubernetes;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use status::Told;
use std::ffi::OsString;
use std::io::Write;
use std::process::Stdio;
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// The group and version of the resource.
const API: &str = "tarn.dev/v1alpha1";
/// The least time between two calls: a volume that is being made changes every moment.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(10);

/// Runs `program` with its arguments until it ends, and writes what it tells to the CacheVolume of `node`.
pub async fn run(kubernetes: Kubernetes, node: &str, program: &[OsString]) -> Result<()> {
    let failed = |error| Error::local("run the program that looks after the cache volume", &error);
    let (name, arguments) = program.split_first().ok_or_else(|| Error::invalid("no program is named"))?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut command = Command::new(name);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(failed)?;
    let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    let stdout =
        child.stdout.take().ok_or_else(|| Error::new(Kind::Internal, "the program has no output"))?;
    let mut lines = BufReader::new(stdout).lines();
    let (tell, told) = watch::channel(None::<Told>);
    let writer = tokio::spawn(write(kubernetes, node.to_owned(), told));
    let ended = loop {
        let stop = tokio::select! {
            line = lines.next_line() => match line.map_err(failed)? {
                Some(line) => {
                    // For who reads the log; that nobody does is no reason to stop.
                    let _ = writeln!(std::io::stdout(), "{line}");
                    match serde_json::from_str::<Told>(&line) {
                        Ok(now) => drop(tell.send_replace(Some(now))),
                        Err(error) => tracing::warn!(%error, "a line of the program is not understood"),
                    }
                    continue;
                }
                None => break child.wait().await.map_err(failed)?,
            },
            _ = terminate.recv() => Signal::TERM,
            _ = interrupt.recv() => Signal::INT,
        };
        if let Some(pid) = pid {
            kill_process(pid, stop).map_err(|errno| failed(errno.into()))?;
        }
    };
    let text = format!("the program has ended with {ended}");
    if !ended.success() {
        tell.send_modify(|told| told.get_or_insert_default().last_error = Some(text.clone()));
    }
    // The writer ends with the last thing that was said, unless the API is away.
    drop(tell);
    let _ = tokio::time::timeout(PAUSE_AFTER_FAILURE, writer).await;
    if ended.success() { Ok(()) } else { Err(Error::new(Kind::Internal, text)) }
}

/// Writes the newest of what is told, until nothing more is.
async fn write(kubernetes: Kubernetes, node: String, mut told: watch::Receiver<Option<Told>>) {
    let mut resource = Resource { kubernetes, node, status: None };
    while told.changed().await.is_ok() {
        loop {
            let Some(now) = told.borrow_and_update().clone() else { break };
            match resource.write(&now).await {
                Ok(()) => {
                    tokio::time::sleep(PAUSE).await;
                    break;
                }
                Err(error) => {
                    tracing::warn!(%error, "the CacheVolume is not up to date");
                    tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
                }
            }
        }
    }
}

/// The CacheVolume of a node.
struct Resource {
    kubernetes: Kubernetes,
    node: String,
    /// As it was written last; `None` before the first time.
    status: Option<Value>,
}

impl Resource {
    async fn write(&mut self, told: &Told) -> Result<()> {
        let path = format!("/apis/{API}/cachevolumes/{}", self.node);
        let earlier = match &self.status {
            Some(status) => status.clone(),
            None => self.make(&path).await?,
        };
        let now = prost_types::Timestamp { nanos: 0, ..SystemTime::now().into() };
        let status = told.status(&earlier, &now.to_string());
        let fields = json!({ "apiVersion": API, "kind": "CacheVolume", "metadata": { "name": self.node }, "status": status });
        if let Err(error) = self.kubernetes.apply(&format!("{path}/status"), &fields).await {
            // Somebody may have deleted it.
            self.status = None;
            return Err(error);
        }
        self.status = Some(status);
        Ok(())
    }

    /// Makes the object, which goes with its node, and gives the status that it has if it was there.
    async fn make(&self, path: &str) -> Result<Value> {
        let node = self.kubernetes.get(&format!("/api/v1/nodes/{}", self.node)).await?;
        let owner = json!({
            "apiVersion": "v1",
            "kind": "Node",
            "name": self.node,
            "uid": node["metadata"]["uid"],
        });
        let metadata = json!({ "name": self.node, "ownerReferences": [owner] });
        let fields = json!({ "apiVersion": API, "kind": "CacheVolume", "metadata": metadata });
        let mut made = self.kubernetes.apply(path, &fields).await?;
        Ok(made["status"].take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::fake::{FakeApi, NODE_UID};

    const OBJECT: &str = "/apis/tarn.dev/v1alpha1/cachevolumes/node-1";
    const HOST: &str = r#"{"place":"host","volumes":[],"doing":"create","conditions":[],"lastError":null}"#;
    const SERVES: &str = r#"{"place":{"volume":"vol-00000001"},"volumes":[{"id":"vol-00000001","sizeGib":100,
        "usedBytes":7,"staged":null}],"doing":null,"conditions":[],"lastError":null}"#;

    fn told(line: &str) -> Told {
        serde_json::from_str(line).expect("a status")
    }

    fn resource(api: &FakeApi) -> Resource {
        Resource { kubernetes: api.client(), node: "node-1".to_owned(), status: None }
    }

    #[tokio::test]
    async fn the_object_is_made_once_goes_with_its_node_and_has_the_newest_status() {
        let api = FakeApi::start().await;
        let mut resource = resource(&api);
        resource.write(&told(HOST)).await.expect("written");
        let made = api.object(OBJECT).expect("made");
        assert_eq!(made["metadata"]["ownerReferences"][0]["uid"], NODE_UID);
        assert_eq!((&made["status"]["place"], &made["status"]["doing"]), (&json!("Host"), &json!("create")));
        resource.write(&told(SERVES)).await.expect("written");
        let now = api.object(OBJECT).expect("there");
        assert_eq!((&now["status"]["volumeId"], now["status"].get("doing")), (&json!("vol-00000001"), None));
        let status = format!("PATCH {OBJECT}/status");
        let calls = api.calls();
        assert_eq!(
            calls,
            ["GET /api/v1/nodes/node-1".to_owned(), format!("PATCH {OBJECT}"), status.clone(), status]
        );
    }

    #[tokio::test]
    async fn the_next_process_keeps_the_times_of_conditions() {
        let api = FakeApi::start().await;
        resource(&api).write(&told(HOST)).await.expect("written");
        let since = "2026-01-01T00:00:00Z";
        api.change(OBJECT, |object| object["status"]["conditions"][0]["lastTransitionTime"] = json!(since));
        resource(&api).write(&told(HOST)).await.expect("written");
        let status = |at: usize| api.object(OBJECT).expect("there")["status"]["conditions"][at].clone();
        assert_eq!(status(0)["lastTransitionTime"], since);
        resource(&api).write(&told(SERVES)).await.expect("written");
        assert_ne!(status(0)["lastTransitionTime"], since);
    }

    #[tokio::test]
    async fn one_that_was_deleted_is_made_again() {
        let api = FakeApi::start().await;
        let mut resource = resource(&api);
        resource.write(&told(HOST)).await.expect("written");
        api.remove(OBJECT);
        resource.write(&told(SERVES)).await.expect_err("it is gone");
        resource.write(&told(SERVES)).await.expect("made again");
        assert_eq!(api.object(OBJECT).expect("there")["status"]["place"], "Volume");
    }

    #[tokio::test]
    async fn what_the_program_said_last_is_written_when_it_has_ended() {
        let api = FakeApi::start().await;
        let lines = format!("{HOST}\nno status\n{}\n", SERVES.replace('\n', " "));
        let program = ["printf", "%s", &lines].map(OsString::from);
        run(api.client(), "node-1", &program).await.expect("a good end");
        assert_eq!(api.object(OBJECT).expect("made")["status"]["place"], "Volume");
        api.remove(OBJECT);
        let failing = run(api.client(), "node-1", &["false".into()]).await.expect_err("a bad end");
        assert!(failing.message.contains("exit status: 1"), "{failing}");
        let status = api.object(OBJECT).expect("made")["status"].clone();
        assert_eq!((status.get("place"), &status["lastError"]), (None, &json!(failing.message)));
        assert_eq!(status["conditions"][0]["status"], "Unknown");
    }

    #[tokio::test]
    async fn an_api_that_is_away_does_not_hold_the_program_up() {
        let api = FakeApi::start().await;
        api.fail(u32::MAX);
        let home = tempfile::tempdir().expect("temp dir");
        let mark = home.path().join("mark");
        let script = format!("echo '{HOST}'; echo '{HOST}'; touch {}", mark.display());
        let client = api.client();
        let running =
            tokio::spawn(
                async move { run(client, "node-1", &["sh", "-c", &script].map(OsString::from)).await },
            );
        while !mark.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        running.abort();
        assert_eq!(api.object(OBJECT), None);
    }
}
