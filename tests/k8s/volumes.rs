//! What a volume is to pods: the examples of deploy/examples, and what becomes of buckets.

use crate::Test;
use crate::cluster::{CHANGE_LIMIT, Cluster};
use crate::manifest::{IDLE, claim, pod};
use anyhow::{Context, Result, ensure};
use serde_json::json;
use tarn_tests::wait;

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("two_pods_write_and_read_one_claim_and_another_client_reads_the_object", shared),
    ("a_deployment_of_two_shares_a_claim_as_a_user_with_a_group", example_claim),
    ("a_deleted_claim_takes_its_bucket_along_and_one_with_retain_leaves_it", reclaim),
    ("a_dataset_is_read_and_refuses_writes", dataset),
    ("two_containers_have_a_folder_each_of_one_claim", sub_path),
    ("a_pod_names_a_bucket_by_itself", inline),
];

fn shared(cluster: &Cluster) -> Result<()> {
    cluster.apply(&[
        claim("shared", "tarn"),
        pod("shared-one", "shared", "mkdir /data/dir && echo from-one >/data/dir/file && sleep 365d"),
    ])?;
    cluster.await_ready(&["shared-one"])?;
    cluster.apply(&[pod("shared-two", "shared", IDLE)])?;
    cluster.await_ready(&["shared-two"])?;
    ensure!(
        cluster.exec("shared-two", "cat /data/dir/file")? == "from-one\n",
        "the second pod reads another text"
    );
    cluster.exec("shared-two", "echo from-two >>/data/dir/file")?;
    let both = "from-one\nfrom-two\n";
    ensure!(
        cluster.exec("shared-one", "cat /data/dir/file")? == both,
        "the first pod does not see the second's"
    );
    let bucket = cluster.bucket_of("shared")?;
    ensure!(cluster.foreign.bucket(&bucket).get("dir/file")? == both.as_bytes(), "the object differs");
    // More than one part, written by one pod and compared by the other.
    cluster
        .exec("shared-one", "head -c 20000000 /dev/urandom >/data/large && md5sum </data/large >/data/sum")?;
    cluster.exec("shared-two", "md5sum </data/large | cmp - /data/sum")?;
    cluster.delete(&["pod/shared-one", "pod/shared-two", "pvc/shared"])?;
    cluster.await_no_bucket(&bucket)
}

fn example_claim(cluster: &Cluster) -> Result<()> {
    cluster.apply_example("pvc.yaml")?;
    cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=180s"])?;
    let bucket = cluster.bucket_of("data")?;
    let names =
        cluster.kubectl(&["get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].metadata.name}"])?;
    let mut pods: Vec<&str> = names.split_whitespace().collect();
    pods.sort_unstable();
    ensure!(pods.len() == 2, "{pods:?}");
    let written = wait::eventually(CHANGE_LIMIT, "each pod has written its file", || {
        let mut keys = cluster.foreign.bucket(&bucket).keys()?;
        keys.sort();
        Ok((keys.len() >= 2).then_some(keys))
    })?;
    ensure!(written == pods, "{written:?} is not {pods:?}");
    let owner = cluster.exec(pods[0], "stat -c %u:%g:%a /data/$(hostname)")?;
    ensure!(owner == "1000:1000:644\n", "the file belongs to {owner}");
    cluster.delete_example("pvc.yaml")?;
    cluster.await_no_bucket(&bucket)
}

fn reclaim(cluster: &Cluster) -> Result<()> {
    cluster.apply(&[
        claim("deleted", "tarn"),
        claim("kept", "tarn-retain"),
        crate::manifest::pod_of(
            "filler",
            &["deleted", "kept"],
            "echo 1 >/data/file; echo 2 >/data1/file; sleep 365d",
        ),
    ])?;
    cluster.await_ready(&["filler"])?;
    cluster.exec("filler", "until [ -e /data1/file ]; do sleep 0.1; done")?;
    let (deleted, kept) = (cluster.bucket_of("deleted")?, cluster.bucket_of("kept")?);
    let volume = cluster.object("pvc/kept")?["spec"]["volumeName"].as_str().context("volume")?.to_owned();
    cluster.delete(&["pod/filler", "pvc/deleted", "pvc/kept"])?;
    cluster.await_no_bucket(&deleted)?;
    let name = format!("pv/{volume}");
    cluster.kubectl(&["wait", "--for=jsonpath={.status.phase}=Released", &name, "--timeout=60s"])?;
    ensure!(cluster.foreign.bucket(&kept).get("file")? == b"2\n", "the object of the kept bucket differs");
    cluster.delete(&[&name])?;
    ensure!(cluster.has_bucket(&kept)?, "deleting the volume object has removed the bucket");
    cluster.foreign.bucket(&kept).drop_all()
}

fn dataset(cluster: &Cluster) -> Result<()> {
    let bucket = cluster.foreign.bucket("my-datasets");
    bucket.create()?;
    bucket.put("images/v2/one", b"first")?;
    bucket.put("secret", b"outside of the folder")?;
    cluster.apply_example("static-dataset.yaml")?;
    cluster.apply(&[pod("reader", "dataset", IDLE)])?;
    cluster.await_ready(&["reader"])?;
    ensure!(
        cluster.exec("reader", "ls /data; cat /data/one")? == "one\nfirst",
        "the folder shows something else"
    );
    for change in ["touch /data/new", "echo x >/data/one", "rm /data/one", "mkdir /data/dir"] {
        let said = cluster.exec_fails("reader", change)?;
        ensure!(said.contains("Read-only file system"), "{change}: {said}");
    }
    cluster.delete(&["pod/reader", "pvc/dataset", "pv/dataset"])?;
    ensure!(bucket.get("images/v2/one")? == b"first", "the data set was changed");
    bucket.drop_all()
}

fn sub_path(cluster: &Cluster) -> Result<()> {
    cluster.apply(&[claim("data", "tarn")])?;
    cluster.apply_example("subpath.yaml")?;
    cluster.await_ready(&["subpath"])?;
    let bucket = cluster.bucket_of("data")?;
    for container in ["one", "two"] {
        let listed = cluster.kubectl(&["exec", "subpath", "-c", container, "--", "ls", "/data"])?;
        ensure!(listed == "file\n", "{container} sees {listed:?}");
    }
    let mut keys = cluster.foreign.bucket(&bucket).keys()?;
    keys.retain(|key| !key.ends_with('/'));
    keys.sort();
    ensure!(keys == ["one/file", "two/file"], "{keys:?}");
    cluster.delete_example("subpath.yaml")?;
    cluster.delete(&["pvc/data"])?;
    cluster.await_no_bucket(&bucket)
}

fn inline(cluster: &Cluster) -> Result<()> {
    let bucket = cluster.foreign.bucket("my-datasets");
    bucket.create()?;
    bucket.put("images/v2/one", b"first")?;
    let keys = [tarn_tests::server::ACCESS_KEY, tarn_tests::server::SECRET_KEY];
    cluster.apply(&[json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": "my-datasets-keys" },
        "stringData": { "accessKeyId": keys[0], "secretAccessKey": keys[1] },
    })])?;
    cluster.apply_example("inline.yaml")?;
    cluster.await_ready(&["inline"])?;
    ensure!(cluster.exec("inline", "cat /data/one")? == "first", "another text");
    let said = cluster.exec_fails("inline", "touch /data/new")?;
    ensure!(said.contains("Read-only file system"), "{said}");
    cluster.delete_example("inline.yaml")?;
    cluster.delete(&["secret/my-datasets-keys"])?;
    bucket.drop_all()
}
