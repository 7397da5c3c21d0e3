//! The cluster of this run: a MinIO beside it, the chart installed in it, and `kubectl`.

use crate::manifest;
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;
use tarn_tests::foreign::Foreign;
use tarn_tests::server::{ACCESS_KEY, SECRET_KEY, Server};
use tarn_tests::{paths, run, wait};

/// The namespace of the driver.
pub(crate) const SYSTEM: &str = "tarn-system";
/// The pods of the node part.
pub(crate) const NODE_PODS: &str = "app.kubernetes.io/component=node";
/// How long one command may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(240);
/// How long Kubernetes may take for a change.
pub(crate) const CHANGE_LIMIT: Duration = Duration::from_secs(180);

/// A cluster with the driver in it. It ends with this program.
pub(crate) struct Cluster {
    /// The store.
    pub(crate) server: Server,
    /// Another client of it.
    pub(crate) foreign: Foreign,
    _snapshot_controller: Child,
}

impl Cluster {
    /// Starts the store and installs the driver as its README says.
    pub(crate) fn start() -> Result<Self> {
        let server = Server::start_for_pods(manifest::NODE_ADDRESS)?;
        let foreign = Foreign::start(&server.endpoint())?;
        let cluster = Self { _snapshot_controller: snapshot_controller()?, server, foreign };
        cluster.kubectl(&["create", "namespace", SYSTEM])?;
        let keys = [format!("accessKeyId={ACCESS_KEY}"), format!("secretAccessKey={SECRET_KEY}")];
        let keys = keys.map(|key| format!("--from-literal={key}"));
        cluster.kubectl(&["-n", SYSTEM, "create", "secret", "generic", "store", &keys[0], &keys[1]])?;
        // A class of the chart takes the keys of its volumes from here.
        cluster.kubectl(&["create", "secret", "generic", "rotated", &keys[0], &keys[1]])?;
        cluster.install()?;
        Ok(cluster)
    }

    fn install(&self) -> Result<()> {
        let home = node_dir()?;
        let mut helm = run::command(paths::tool("bin/helm")?);
        helm.args(["install", "tarn"])
            .arg(paths::root().join("deploy/charts/tarn"))
            .args(["--namespace", SYSTEM, "--wait", "--timeout", "3m", "--values"])
            .arg(paths::root().join("tests/k8s/values.yaml"))
            .args(["--set", &format!("store.endpoint={}", self.server.endpoint())])
            .args(["--set", &format!("node.cacheDir={}", home.join("cache").display())])
            .env("HOME", &home);
        let installed = run::must(&mut helm, COMMAND_LIMIT);
        installed.map(drop).with_context(|| self.state())
    }

    /// Runs `kubectl`, which must succeed.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        run::must(kubectl()?.args(arguments), COMMAND_LIMIT)
    }

    /// Makes objects.
    pub(crate) fn apply(&self, objects: &[Value]) -> Result<()> {
        self.apply_text(&manifest::list(objects).to_string())
    }

    /// Makes the objects of a file in deploy/examples, with the image that is there.
    pub(crate) fn apply_example(&self, name: &str) -> Result<()> {
        self.apply_text(&example(name)?)
    }

    /// Deletes the objects of such a file.
    pub(crate) fn delete_example(&self, name: &str) -> Result<()> {
        let file = scratch(&example(name)?)?;
        run::must(kubectl()?.args(["delete", "--ignore-not-found", "-f"]).arg(file.path()), COMMAND_LIMIT)?;
        Ok(())
    }

    fn apply_text(&self, text: &str) -> Result<()> {
        let file = scratch(text)?;
        run::must(kubectl()?.args(["apply", "-f"]).arg(file.path()), COMMAND_LIMIT).map(drop)
    }

    /// Deletes objects by `KIND/NAME` and waits until they are gone.
    pub(crate) fn delete(&self, names: &[&str]) -> Result<()> {
        self.kubectl(&[&["delete", "--timeout=180s"], names].concat()).map(drop)
    }

    /// Reads an object.
    pub(crate) fn object(&self, name: &str) -> Result<Value> {
        let text = self.kubectl(&["get", name, "-o", "json"])?;
        serde_json::from_str(&text).with_context(|| format!("{name} as JSON"))
    }

    /// Waits until pods run.
    pub(crate) fn await_ready(&self, pods: &[&str]) -> Result<()> {
        for pod in pods {
            let waited =
                self.kubectl(&["wait", "--for=condition=Ready", &format!("pod/{pod}"), "--timeout=180s"]);
            waited.with_context(|| self.messages(pod).unwrap_or_default().join("\n"))?;
        }
        Ok(())
    }

    /// Runs a shell's command in a pod; what it printed.
    pub(crate) fn exec(&self, pod: &str, script: &str) -> Result<String> {
        self.kubectl(&["exec", pod, "--", "sh", "-c", script])
    }

    /// Runs a shell's command in a pod that must fail; what it said.
    pub(crate) fn exec_fails(&self, pod: &str, script: &str) -> Result<String> {
        let outcome = run::run(kubectl()?.args(["exec", pod, "--", "sh", "-c", script]), COMMAND_LIMIT)?;
        ensure!(!outcome.status.success(), "{script:?} has succeeded in {pod}: {}", outcome.stdout);
        Ok(outcome.stderr)
    }

    /// What the events about an object say.
    pub(crate) fn messages(&self, name: &str) -> Result<Vec<String>> {
        let selector = format!("involvedObject.name={name}");
        let text = self.kubectl(&["get", "events", "--field-selector", &selector, "-o", "json"])?;
        let events: Value = serde_json::from_str(&text)?;
        let events = events["items"].as_array().context("events")?;
        Ok(events.iter().filter_map(|event| event["message"].as_str()).map(str::to_owned).collect())
    }

    /// Waits until an event about an object has a text.
    pub(crate) fn await_message(&self, name: &str, text: &str) -> Result<String> {
        let mut last = Vec::new();
        let found = wait::eventually(CHANGE_LIMIT, "an event comes", || {
            last = self.messages(name)?;
            Ok(last.iter().find(|message| message.contains(text)).cloned())
        });
        found.with_context(|| format!("expected {text:?} of {name}, there is {last:#?}"))
    }

    /// The bucket of a claim.
    pub(crate) fn bucket_of(&self, claim: &str) -> Result<String> {
        self.kubectl(&[
            "wait",
            "--for=jsonpath={.status.phase}=Bound",
            &format!("pvc/{claim}"),
            "--timeout=120s",
        ])
        .with_context(|| self.messages(claim).unwrap_or_default().join("\n"))?;
        let claim = self.object(&format!("pvc/{claim}"))?;
        let volume = claim["spec"]["volumeName"].as_str().context("name of the volume")?;
        let volume = self.object(&format!("pv/{volume}"))?;
        let bucket = volume["spec"]["csi"]["volumeAttributes"]["bucket"].as_str();
        bucket.map(str::to_owned).context("the volume names its bucket")
    }

    /// Whether a bucket is there.
    pub(crate) fn has_bucket(&self, bucket: &str) -> Result<bool> {
        match self.foreign.bucket(bucket).keys() {
            Ok(_) => Ok(true),
            Err(error) if format!("{error:#}").contains("NoSuchBucket") => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Waits until a bucket is gone.
    pub(crate) fn await_no_bucket(&self, bucket: &str) -> Result<()> {
        wait::eventually(CHANGE_LIMIT, &format!("the bucket {bucket} is gone"), || {
            Ok((!self.has_bucket(bucket)?).then_some(()))
        })
    }

    /// What is going on, for the report of a failure.
    pub(crate) fn state(&self) -> String {
        let questions: [&[&str]; 4] = [
            &["get", "pods,pvc,pv", "-A", "-o", "wide"],
            &["get", "events", "-A", "--sort-by=.lastTimestamp"],
            &["-n", SYSTEM, "logs", "-l", NODE_PODS, "-c", "tarn-csi", "--tail=40"],
            &[
                "-n",
                SYSTEM,
                "logs",
                "-l",
                "app.kubernetes.io/component=controller",
                "--all-containers",
                "--tail=15",
            ],
        ];
        let answers = questions.map(|question| match self.kubectl(question) {
            Ok(text) => run::tail(&text),
            Err(error) => format!("{error:#}"),
        });
        answers.join("\n---\n")
    }
}

/// The folder that `node.sh` has made for this run.
pub(crate) fn node_dir() -> Result<PathBuf> {
    std::env::var_os("NODE_DIR").map(PathBuf::from).context("node.sh sets NODE_DIR")
}

fn kubectl() -> Result<std::process::Command> {
    Ok(run::command(paths::tool("bin/kubectl")?))
}

fn scratch(text: &str) -> Result<tempfile::NamedTempFile> {
    let file = tempfile::Builder::new().suffix(".yaml").tempfile()?;
    std::fs::write(file.path(), text)?;
    Ok(file)
}

fn example(name: &str) -> Result<String> {
    let text = std::fs::read_to_string(paths::root().join("deploy/examples").join(name))?;
    Ok(text.replace("image: busybox", &format!("image: {}", manifest::IMAGE)))
}

/// Makes the kinds of snapshots known, and starts what binds them, as a cluster that has snapshots does.
fn snapshot_controller() -> Result<Child> {
    let kinds = paths::tool("crds")?;
    let Some(kinds) = std::fs::read_dir(&kinds)?.flatten().next() else {
        bail!("{} is empty: run `tests/tools.sh k8s`", kinds.display())
    };
    run::must(kubectl()?.args(["apply", "-k"]).arg(kinds.path()), COMMAND_LIMIT)?;
    let log = std::fs::File::create(node_dir()?.join("log/snapshot-controller.log"))?;
    run::command(paths::tool("bin/snapshot-controller")?)
        .arg("--kubeconfig")
        .arg(std::env::var_os("KUBECONFIG").context("node.sh sets KUBECONFIG")?)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("start the snapshot controller")
}
