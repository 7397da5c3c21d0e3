//! csi-sanity, the conformance suite of kubernetes-csi, against the driver in both ways of making volumes.

use crate::Test;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::time::Duration;
use tarn_tests::csi::Driver;
use tarn_tests::server::Server;
use tarn_tests::{paths, run};

pub(crate) const TESTS: &[(&str, Test)] =
    &[("sanity::bucket_per_volume", bucket_per_volume), ("sanity::folder_per_volume", folder_per_volume)];

const LIMIT: Duration = Duration::from_secs(600);

/// What csi-sanity may pass over, by its reason: nothing is attached to nodes, a store is reached from everywhere,
/// groups of volumes have no snapshot at one moment in it, and a list cannot name the volumes that are gone from it.
const MAY_BE_SKIPPED: &[&str] = &[
    "Controller Publish, UnpublishVolume not supported",
    "ControllerPublishVolume not supported",
    "ControllerUnpublishVolume not supported",
    "ControllerListVolumeHealth not supported",
    "GroupControllerService not supported",
    "SNAPSHOT_ACCESSIBILITY_CONSTRAINTS not supported",
];

// Each has a server of its own: it counts the volumes that are there.

fn bucket_per_volume(_: &Server) -> Result<()> {
    sanity(&Server::start_small()?, "{}")
}

fn folder_per_volume(_: &Server) -> Result<()> {
    let server = Server::start_small()?;
    server.store_config("sanity-shared")?;
    sanity(&server, r#"{"bucket": "sanity-shared", "folderPattern": "volumes/${pv.name}"}"#)
}

fn sanity(server: &Server, parameters: &str) -> Result<()> {
    let driver = Driver::start(server, &[])?;
    let file = |name: &str, text: &str| -> Result<String> {
        let path = driver.kubelet(name);
        std::fs::write(&path, text)?;
        Ok(path.display().to_string())
    };
    let report = driver.kubelet("report.json");
    let mut command = run::command(paths::tool("bin/csi-sanity")?);
    command
        .arg(format!("--csi.endpoint={}", driver.socket().display()))
        .arg(format!("--csi.mountdir={}", driver.kubelet("mount").display()))
        .arg(format!("--csi.stagingdir={}", driver.kubelet("staging").display()))
        .arg(format!("--csi.testvolumeparameters={}", file("parameters.yaml", parameters)?))
        .arg(format!(
            "--csi.testvolumemutableparameters={}",
            file("mutable.yaml", "{\"onDelete\": \"purge\"}")?
        ))
        .arg(format!("--ginkgo.json-report={}", report.display()))
        .arg("--ginkgo.no-color");
    run::must(&mut command, LIMIT)?;
    let report: Value = serde_json::from_str(&std::fs::read_to_string(&report)?)?;
    let specs = report[0]["SpecReports"].as_array().context("reports of specs")?;
    let passed = specs.iter().filter(|spec| spec["State"] == "passed").count();
    let skipped = specs.iter().filter(|spec| spec["State"] == "skipped");
    for spec in skipped {
        let reason = spec["Failure"]["Message"].as_str().unwrap_or_default();
        ensure!(
            MAY_BE_SKIPPED.contains(&reason),
            "skipped: {} {}: {reason}",
            spec["ContainerHierarchyTexts"],
            spec["LeafNodeText"]
        );
    }
    ensure!(passed >= 84, "only {passed} specs passed");
    Ok(())
}
