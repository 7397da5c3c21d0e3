//! The node's part of the driver: what outlives its process, what its pod, and what an uninstalled chart leaves.

use crate::Test;
use crate::cluster::{CHANGE_LIMIT, Cluster, NODE_PODS, SYSTEM};
use crate::manifest::{IDLE, claim, pod};
use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::path::Path;
use std::time::Duration;
use tarn_tests::{mount, paths, run, wait};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("mounts_outlive_a_crash_of_the_drivers_process", crash),
    ("mounts_end_with_the_node_pod_and_the_next_pod_has_them_again", node_pod),
    ("an_uninstalled_chart_leaves_nothing_on_the_node", uninstall),
];

/// A process of the node: its id, and its arguments with a blank between two of them.
fn processes() -> Result<Vec<(Pid, String)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
        let Some(pid) = pid else { continue };
        // One that has just ended has no arguments.
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        found.push((pid, String::from_utf8_lossy(&line).replace('\0', " ").trim_end().to_owned()));
    }
    Ok(found)
}

/// The process that answers for the mount of a bucket.
pub(crate) fn worker(bucket: &str) -> Result<Pid> {
    let source = format!(" mount s3://{bucket}/ ");
    for (pid, _) in processes()?.into_iter().filter(|(_, line)| line.contains(&source)) {
        if let Ok(Some(worker)) = mount::worker_of(pid) {
            return Ok(worker);
        }
    }
    anyhow::bail!("no process serves s3://{bucket}")
}

/// Where mounts of tarn are whose source holds a text.
pub(crate) fn mounts_of(text: &str) -> Result<Vec<String>> {
    let table = std::fs::read_to_string("/proc/self/mountinfo")?;
    let ours = table.lines().filter(|line| line.contains(" fuse.tarn ") && line.contains(text));
    Ok(ours.filter_map(|line| line.split(' ').nth(4)).map(str::to_owned).collect())
}

/// The access key that the mount of a bucket asks with, as its private folder on the node has it.
pub(crate) fn access_key_of(bucket: &str) -> Result<String> {
    for home in std::fs::read_dir("/run/tarn-csi")?.flatten().map(|entry| entry.path()) {
        if std::fs::read_to_string(home.join("volume.json"))?.contains(bucket) {
            return std::fs::read_to_string(home.join("keys/accessKeyId")).context("the keys of a mount");
        }
    }
    anyhow::bail!("no mount of {bucket} is noted")
}

fn node_pod_name(cluster: &Cluster) -> Result<String> {
    let found = ["-n", SYSTEM, "get", "pods", "-l", NODE_PODS, "-o", "jsonpath={.items[0].metadata.name}"];
    cluster.kubectl(&found)
}

/// Waits for the pod that takes the place of `old`.
fn await_node_pod(cluster: &Cluster, old: &str) -> Result<()> {
    wait::eventually(CHANGE_LIMIT, "another pod of the node", || {
        // There may be none for a moment.
        Ok(node_pod_name(cluster).ok().filter(|name| name != old))
    })?;
    cluster.kubectl(&[
        "-n",
        SYSTEM,
        "wait",
        "--for=condition=Ready",
        "pod",
        "-l",
        NODE_PODS,
        "--timeout=120s",
    ])?;
    // The kubelet knows the driver a moment after its pod runs.
    let registered = "jsonpath={.spec.drivers[*].name}";
    wait::eventually(CHANGE_LIMIT, "the driver is registered", || {
        let drivers = cluster.kubectl(&["get", "csinode/node-1", "-o", registered])?;
        Ok(drivers.contains("csi.tarn.dev").then_some(()))
    })
}

/// The process of the driver that serves: the youngest, because the container's first one only keeps it running.
fn driver() -> Result<Pid> {
    let all = processes()?.into_iter().filter(|(_, line)| line.starts_with("/usr/bin/tarn-csi node "));
    all.map(|(pid, _)| pid).max_by_key(|pid| pid.as_raw_nonzero()).context("the driver's process")
}

fn crash(cluster: &Cluster) -> Result<()> {
    cluster.apply(&[claim("crash", "tarn"), pod("crash", "crash", IDLE)])?;
    cluster.await_ready(&["crash"])?;
    let bucket = cluster.bucket_of("crash")?;
    cluster.exec("crash", "echo before >/data/file")?;
    let (before, own) = (worker(&bucket)?, driver()?);
    kill_process(own, Signal::KILL)?;
    wait::eventually(CHANGE_LIMIT, "another process of the driver", || {
        Ok(driver().ok().filter(|pid| pid.as_raw_nonzero() > own.as_raw_nonzero()))
    })?;
    ensure!(worker(&bucket)? == before, "the mount has another worker");
    cluster.exec("crash", "cat /data/file; echo after >>/data/file")?;
    // The driver works: another pod can have the volume, and both can go.
    cluster.apply(&[pod("crash-next", "crash", IDLE)])?;
    cluster.await_ready(&["crash-next"])?;
    ensure!(cluster.exec("crash-next", "cat /data/file")? == "before\nafter\n", "another text");
    cluster.delete(&["pod/crash", "pod/crash-next", "pvc/crash"])?;
    cluster.await_no_bucket(&bucket)
}

fn node_pod(cluster: &Cluster) -> Result<()> {
    cluster.apply(&[claim("upgrade", "tarn"), pod("upgrade", "upgrade", IDLE)])?;
    cluster.await_ready(&["upgrade"])?;
    let bucket = cluster.bucket_of("upgrade")?;
    cluster.exec("upgrade", "echo before >/data/file")?;
    let old = node_pod_name(cluster)?;
    cluster.kubectl(&["-n", SYSTEM, "delete", "pod", &old, "--timeout=120s"])?;
    await_node_pod(cluster, &old)?;
    // As deploy/README.md says: until the pod is restarted.
    let said = cluster.exec_fails("upgrade", "cat /data/file")?;
    ensure!(said.contains("not connected"), "{said}");
    cluster.delete(&["pod/upgrade"])?;
    cluster.apply(&[pod("upgrade", "upgrade", IDLE)])?;
    cluster.await_ready(&["upgrade"])?;
    ensure!(
        cluster.exec("upgrade", "cat /data/file; echo after >>/data/file")? == "before\n",
        "another text"
    );
    ensure!(cluster.foreign.bucket(&bucket).get("file")? == b"before\nafter\n", "the object differs");
    cluster.delete(&["pod/upgrade", "pvc/upgrade"])?;
    cluster.await_no_bucket(&bucket)
}

fn uninstall(cluster: &Cluster) -> Result<()> {
    let mut helm = run::command(paths::tool("bin/helm")?);
    helm.args(["uninstall", "tarn", "--namespace", SYSTEM, "--wait", "--timeout", "3m"]);
    helm.env("HOME", crate::cluster::node_dir()?);
    run::must(&mut helm, Duration::from_secs(240))?;
    wait::eventually(CHANGE_LIMIT, "no process of the driver is left", || {
        let left = processes()?.into_iter().any(|(_, line)| line.contains("/usr/bin/tarn"));
        Ok((!left).then_some(()))
    })?;
    let left = mounts_of("s3://")?;
    ensure!(left.is_empty(), "mounts are left: {left:?}");
    for gone in ["plugins_registry/csi.tarn.dev-reg.sock", "plugins/csi.tarn.dev/csi.sock"] {
        ensure!(!Path::new("/var/lib/kubelet").join(gone).exists(), "{gone} is left");
    }
    ensure!(std::fs::read_dir("/run/tarn-csi")?.next().is_none(), "notes or keys of mounts are left");
    let kinds = "clusterrole,clusterrolebinding,csidriver,storageclass,volumesnapshotclass";
    let objects = cluster.kubectl(&["get", kinds, "-l", "app.kubernetes.io/instance=tarn", "-o", "name"])?;
    ensure!(objects.is_empty(), "objects are left: {objects}");
    Ok(())
}
