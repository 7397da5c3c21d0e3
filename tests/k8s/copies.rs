//! Snapshots, restores and clones by the real sidecars, and a claim that is full and grows.

use crate::Test;
use crate::cluster::Cluster;
use crate::manifest::{IDLE, claim, pod};
use anyhow::{Result, ensure};
use serde_json::json;

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("a_snapshot_and_a_clone_have_the_content_of_their_moment", copies),
    ("a_full_claim_refuses_writes_and_takes_them_once_it_has_grown", grow),
];

fn copies(cluster: &Cluster) -> Result<()> {
    cluster.apply(&[claim("data", "tarn"), pod("writer", "data", IDLE)])?;
    cluster.await_ready(&["writer"])?;
    cluster.exec("writer", "mkdir /data/dir && echo monday >/data/dir/file")?;
    cluster.apply_example("snapshot-restore.yaml")?;
    cluster.kubectl(&[
        "wait",
        "--for=jsonpath={.status.readyToUse}=true",
        "volumesnapshot/data-monday",
        "--timeout=120s",
    ])?;
    let clone = cluster.bucket_of("data-clone")?;
    // After the snapshot, and before anybody looks at what was restored.
    cluster.exec("writer", "echo tuesday >/data/dir/file")?;
    cluster.apply(&[pod("restored", "data-restored", IDLE), pod("cloned", "data-clone", IDLE)])?;
    cluster.await_ready(&["restored", "cloned"])?;
    for pod in ["restored", "cloned"] {
        let text = cluster.exec(pod, "cat /data/dir/file")?;
        ensure!(text == "monday\n", "{pod} has {text:?}");
        cluster.exec(pod, "echo mine >/data/dir/file")?;
    }
    ensure!(cluster.exec("writer", "cat /data/dir/file")? == "tuesday\n", "a copy writes into its source");
    let restored = cluster.bucket_of("data-restored")?;
    let source = cluster.bucket_of("data")?;
    cluster.delete(&["pod/restored", "pod/cloned", "pod/writer"])?;
    cluster.delete_example("snapshot-restore.yaml")?;
    cluster.delete(&["pvc/data"])?;
    for bucket in [clone, restored, source] {
        cluster.await_no_bucket(&bucket)?;
    }
    Ok(())
}

fn grow(cluster: &Cluster) -> Result<()> {
    let mut small = claim("growing", "tarn");
    small["spec"]["resources"]["requests"]["storage"] = json!("10Mi");
    cluster.apply(&[small, pod("user", "growing", IDLE)])?;
    cluster.await_ready(&["user"])?;
    let bucket = cluster.bucket_of("growing")?;
    cluster.exec("user", "head -c 8000000 /dev/zero >/data/first")?;
    let said = cluster.exec_fails("user", "head -c 8000000 /dev/zero >/data/second")?;
    ensure!(said.contains("No space left on device"), "{said}");
    let larger = r#"{"spec":{"resources":{"requests":{"storage":"20Mi"}}}}"#;
    cluster.kubectl(&["patch", "pvc/growing", "-p", larger])?;
    cluster.kubectl(&[
        "wait",
        "--for=jsonpath={.status.capacity.storage}=20Mi",
        "pvc/growing",
        "--timeout=150s",
    ])?;
    cluster.exec("user", "head -c 8000000 /dev/zero >/data/second")?;
    let size = cluster.exec("user", "df -k /data | tail -1 | awk '{ print $2 }'")?;
    ensure!(size == "20480\n", "df shows {size:?}");
    cluster.delete(&["pod/user", "pvc/growing"])?;
    cluster.await_no_bucket(&bucket)
}
