//! Objects as Kubernetes wants them, as JSON.

use serde_json::{Value, json};
use std::net::Ipv4Addr;

/// The node's own address in its network namespace (start.sh).
pub(crate) const NODE_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
/// The image of pods.
pub(crate) const IMAGE: &str = "localhost/busybox:test";
/// What pods do that are only looked at with `kubectl exec`.
pub(crate) const IDLE: &str = "sleep 365d";

/// Several objects as one.
pub(crate) fn list(objects: &[Value]) -> Value {
    json!({ "apiVersion": "v1", "kind": "List", "items": objects })
}

/// A claim that many pods may write to.
pub(crate) fn claim(name: &str, class: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": { "name": name },
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "storageClassName": class,
            "resources": { "requests": { "storage": "1Gi" } },
        },
    })
}

/// A volume of somebody's bucket, and a claim of the same name that is bound to it.
pub(crate) fn static_volume(name: &str, attributes: &Value) -> [Value; 2] {
    let mut claim = claim(name, "");
    claim["spec"]["volumeName"] = json!(name);
    let volume = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": { "name": name },
        "spec": {
            "capacity": { "storage": "1Gi" },
            "accessModes": ["ReadWriteMany"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "",
            "claimRef": { "namespace": "default", "name": name },
            "csi": { "driver": "csi.tarn.dev", "volumeHandle": name, "volumeAttributes": attributes },
        },
    });
    [volume, claim]
}

/// A pod with the volume of a claim at `/data`.
pub(crate) fn pod(name: &str, claim: &str, script: &str) -> Value {
    pod_of(name, &[claim], script)
}

/// A pod with the volumes of several claims: the first at `/data`, the next at `/data1`, and so on.
pub(crate) fn pod_of(name: &str, claims: &[&str], script: &str) -> Value {
    let place = |index: usize| if index == 0 { "/data".to_owned() } else { format!("/data{index}") };
    let mounts: Vec<Value> =
        claims.iter().enumerate().map(|(i, claim)| json!({ "name": claim, "mountPath": place(i) })).collect();
    let volumes: Vec<Value> = claims
        .iter()
        .map(|claim| json!({ "name": claim, "persistentVolumeClaim": { "claimName": claim } }))
        .collect();
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name },
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "containers": [{
                "name": "shell",
                "image": IMAGE,
                "command": ["sh", "-c", script],
                "volumeMounts": mounts,
            }],
            "volumes": volumes,
        },
    })
}
