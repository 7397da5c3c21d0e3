//! What goes wrong in a cluster: killed workers, a store that is away, pods that are torn away, many volumes, new keys.

use crate::Test;
use crate::cluster::{CHANGE_LIMIT, Cluster};
use crate::manifest::{IDLE, claim, pod, pod_of, static_volume};
use crate::node::{mounts_of, worker};
use anyhow::{Result, ensure};
use rustix::process::{Signal, kill_process};
use serde_json::json;
use tarn_tests::proxy::Proxy;
use tarn_tests::wait;

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("no_program_in_a_pod_notices_killed_workers", kills),
    ("a_pod_says_that_the_store_is_away_and_starts_when_it_is_back", endpoint_away),
    ("a_pod_that_is_torn_away_leaves_no_mount", torn_away),
    ("thirty_volumes_on_one_node", many),
    ("changed_keys_reach_the_mount_of_a_running_pod", rotation),
];

const KILLS: usize = 20;

/// Writes and reads without a pause until `/tmp/stop` is there. Whatever fails is told in `/tmp/errors`; the rounds of the
/// writer and the reader are in `/tmp/written` and `/tmp/read`.
const LOAD: &str = r#"
wrong() { echo "$*" >>/tmp/errors; }
head -c 12000000 /dev/urandom >/data/seed || wrong seed
sum=$(md5sum </data/seed)
touch /tmp/started
(
    n=0
    until [ -e /tmp/stop ]; do
        n=$((n + 1))
        echo "line $n" >>/data/log || wrong "append $n"
        head -c 300000 /dev/urandom >/tmp/new
        cp /tmp/new /data/copy$((n % 5)) || wrong "copy $n"
        cmp /tmp/new /data/copy$((n % 5)) || wrong "compare $n"
        mv /data/copy$((n % 5)) /data/moved || wrong "move $n"
        ls /data >/dev/null || wrong "list $n"
        echo $n >/tmp/written
    done
) &
n=0
until [ -e /tmp/stop ]; do
    n=$((n + 1))
    [ "$(md5sum </data/seed)" = "$sum" ] || wrong "read $n"
    echo $n >/tmp/read
done
wait
touch /tmp/done
sleep 365d
"#;

fn kills(cluster: &Cluster) -> Result<()> {
    cluster.apply(&[claim("load", "tarn"), pod("load", "load", LOAD)])?;
    cluster.await_ready(&["load"])?;
    let bucket = cluster.bucket_of("load")?;
    cluster.exec("load", "until [ -e /tmp/started ]; do sleep 0.1; done")?;
    for round in 0..KILLS {
        let before = worker(&bucket)?;
        kill_process(before, Signal::KILL)?;
        wait::eventually(CHANGE_LIMIT, &format!("another worker, round {round}"), || {
            Ok(worker(&bucket).ok().filter(|worker| *worker != before))
        })?;
        // A round of each more, so that every kill meets both.
        let rounds = "a=$(cat /tmp/written) b=$(cat /tmp/read); \
            until [ $(cat /tmp/written) -gt $a ] && [ $(cat /tmp/read) -gt $b ]; do sleep 0.1; done";
        cluster.exec("load", rounds)?;
    }
    cluster.exec("load", "touch /tmp/stop; until [ -e /tmp/done ]; do sleep 0.1; done")?;
    let errors = cluster.exec("load", "cat /tmp/errors 2>/dev/null || true")?;
    ensure!(errors.is_empty(), "the pod has met errors:\n{errors}");
    let said = cluster.kubectl(&["logs", "load"])?;
    ensure!(said.is_empty(), "programs of the pod have complained:\n{said}");
    let rounds: usize = cluster.exec("load", "cat /tmp/written")?.trim().parse()?;
    let log: String = (1..=rounds).map(|n| format!("line {n}\n")).collect();
    let foreign = cluster.foreign.bucket(&bucket);
    ensure!(foreign.get("log")? == log.as_bytes(), "lines are lost or doubled in the bucket");
    ensure!(foreign.get("seed")?.len() == 12_000_000, "the seed differs");
    cluster.delete(&["pod/load", "pvc/load"])?;
    cluster.await_no_bucket(&bucket)
}

fn endpoint_away(cluster: &Cluster) -> Result<()> {
    let proxy = Proxy::start(cluster.server.address())?;
    let bucket = cluster.foreign.bucket("far-away");
    bucket.create()?;
    bucket.put("file", b"there")?;
    proxy.cut(true);
    let attributes = json!({ "bucket": "far-away", "endpoint": proxy.endpoint() });
    let [volume, own_claim] = static_volume("far-away", &attributes);
    cluster.apply(&[volume, own_claim, pod("waiting", "far-away", IDLE)])?;
    let message = cluster.await_message("waiting", "s3://far-away")?;
    ensure!(message.contains("MountVolume"), "{message}");
    ensure!(message.contains(&proxy.endpoint()), "the event does not name the endpoint: {message}");
    proxy.cut(false);
    cluster.await_ready(&["waiting"])?;
    ensure!(cluster.exec("waiting", "cat /data/file")? == "there", "another text");
    cluster.delete(&["pod/waiting", "pvc/far-away", "pv/far-away"])?;
    bucket.drop_all()
}

fn torn_away(cluster: &Cluster) -> Result<()> {
    cluster.apply(&[claim("torn", "tarn"), pod("torn", "torn", "while :; do date >>/data/file; done")])?;
    cluster.await_ready(&["torn"])?;
    let bucket = cluster.bucket_of("torn")?;
    ensure!(!mounts_of(&bucket)?.is_empty(), "the mount is not seen");
    cluster.kubectl(&["delete", "pod/torn", "--force", "--grace-period=0"])?;
    wait::eventually(CHANGE_LIMIT, "no mount is left", || Ok(mounts_of(&bucket)?.is_empty().then_some(())))?;
    ensure!(worker(&bucket).is_err(), "the worker of the mount still runs");
    cluster.delete(&["pvc/torn"])?;
    cluster.await_no_bucket(&bucket)
}

fn many(cluster: &Cluster) -> Result<()> {
    const PODS: usize = 3;
    const EACH: usize = 10;
    let claims: Vec<Vec<String>> =
        (0..PODS).map(|pod| (0..EACH).map(|one| format!("many-{pod}-{one}")).collect()).collect();
    let mut objects = Vec::new();
    for (index, claims) in claims.iter().enumerate() {
        objects.extend(claims.iter().map(|name| claim(name, "tarn")));
        let names: Vec<&str> = claims.iter().map(String::as_str).collect();
        objects.push(pod_of(
            &format!("many-{index}"),
            &names,
            "for d in /data*; do echo $d >$d/file; done; sleep 365d",
        ));
    }
    cluster.apply(&objects)?;
    let pods: Vec<String> = (0..PODS).map(|index| format!("many-{index}")).collect();
    cluster.await_ready(&pods.iter().map(String::as_str).collect::<Vec<_>>())?;
    for (pod, claims) in pods.iter().zip(&claims) {
        cluster.exec(pod, "until [ -s /data9/file ]; do sleep 0.1; done")?;
        for (index, claim) in claims.iter().enumerate() {
            let bucket = cluster.bucket_of(claim)?;
            let dir = if index == 0 { "/data".to_owned() } else { format!("/data{index}") };
            let text = cluster.foreign.bucket(&bucket).get("file")?;
            ensure!(text == format!("{dir}\n").as_bytes(), "{claim} holds {text:?}");
        }
    }
    let mounted = mounts_of("tarn-pvc-")?.iter().filter(|dir| dir.ends_with("globalmount")).count();
    ensure!(mounted == PODS * EACH, "{mounted} mounts");
    let pods = pods.iter().map(|pod| format!("pod/{pod}"));
    let all: Vec<String> = pods.chain(claims.concat().iter().map(|claim| format!("pvc/{claim}"))).collect();
    cluster.delete(&all.iter().map(String::as_str).collect::<Vec<_>>())?;
    wait::eventually(CHANGE_LIMIT, "no mount is left", || {
        Ok(mounts_of("tarn-pvc-")?.is_empty().then_some(()))
    })
}

fn rotation(cluster: &Cluster) -> Result<()> {
    cluster.apply(&[claim("rotated", "tarn-keys"), pod("rotated", "rotated", IDLE)])?;
    cluster.await_ready(&["rotated"])?;
    let bucket = cluster.bucket_of("rotated")?;
    cluster.exec("rotated", "echo before >/data/one")?;
    let session = cluster.foreign.session()?;
    cluster.apply(&[json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": "rotated" },
        "stringData": {
            "accessKeyId": session.access_key,
            "secretAccessKey": session.secret_key,
            "sessionToken": session.token,
        },
    })])?;
    // The kubelet publishes the volume again every minute or two and brings them.
    wait::eventually(CHANGE_LIMIT, "the mount has the new keys", || {
        Ok((crate::node::access_key_of(&bucket)? == session.access_key).then_some(()))
    })?;
    cluster.exec("rotated", "echo after >/data/two")?;
    ensure!(cluster.foreign.bucket(&bucket).get("two")? == b"after\n", "the object differs");
    cluster.delete(&["pod/rotated", "pvc/rotated"])?;
    cluster.await_no_bucket(&bucket)
}
