//! The chart, the kustomize base and the examples: rendered with the real helm, and held against what the driver takes.

use crate::Test;
use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;
use tarn_csi::cli::{Cli, Command};
use tarn_csi::parameters::{Attributes, Class};
use tarn_tests::server::Server;
use tarn_tests::{paths, run};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("deploy::the_chart_renders_with_arguments_that_the_driver_takes", chart),
    ("deploy::the_hot_tier_renders_with_arguments_that_tarn_volume_takes", hot_tier),
    ("deploy::the_policy_is_the_one_that_is_explained", policy),
    ("deploy::the_kustomize_base_is_the_rendered_chart", base),
    ("deploy::examples_say_what_the_driver_takes", examples),
];

/// Everything that can be turned on.
const ALL: &[&str] = &[
    "sidecars.snapshotter.enabled=true",
    "sidecars.livenessProbe.enabled=true",
    "node.inlineVolumes=true",
    "node.republish=true",
    "node.podIdentity.enabled=true",
    "store.credentialsSecret=keys",
    "store.caConfigMap=ca",
    "store.endpoint=http://minio:9000",
    "store.region=us-east-1",
    "secretNamespaces={one,two}",
    "hotTier.enabled=true",
    "hotTier.owner=shop-prod",
    "hotTier.region=eu-central-1",
    "hotTier.options.maxSize=500Gi",
    "hotTier.options.iops=16000",
    "hotTier.nodeSelector.pool=data",
    "hotTier.serviceAccountAnnotations.role=arn",
];

fn helm(arguments: &[&str], values: &[&str]) -> Result<String> {
    let mut command = run::command(paths::tool("bin/helm")?);
    command.args(arguments).arg(paths::root().join("deploy/charts/tarn"));
    // helm as a module does not know which Kubernetes it is for.
    command.args(["--kube-version", "1.34.0"]);
    for value in values {
        command.args(["--set", value]);
    }
    run::must(&mut command, Duration::from_secs(60))
}

fn render(values: &[&str]) -> Result<String> {
    helm(&["template", "--namespace", "tarn-system", "tarn"], values)
}

fn chart(_: &Server) -> Result<()> {
    for values in [&[][..], ALL] {
        helm(&["lint", "--strict"], values)?;
        let commands = commands(&render(values)?);
        let parts: Vec<&str> = commands.iter().map(|arguments| arguments[0].as_str()).collect();
        ensure!(parts == ["node", "controller"], "{parts:?}");
        for arguments in commands {
            let name = arguments[0].clone();
            let node = (name == "node").then(|| "--node-id=from-the-environment".to_owned());
            let line = ["tarn-csi".to_owned()].into_iter().chain(arguments).chain(node);
            Cli::try_parse_from(line).with_context(|| format!("arguments of {name}"))?;
        }
    }
    Ok(())
}

/// The arguments of each container that is called tarn-csi.
fn commands(rendered: &str) -> Vec<Vec<String>> {
    arguments_of(rendered, "tarn-csi")
}

/// The arguments of each container of a name.
fn arguments_of(rendered: &str, container: &str) -> Vec<Vec<String>> {
    let name = format!("- name: {container}\n");
    let containers = rendered.split(&name).skip(1);
    let arguments = containers.filter_map(|text| text.split_once("args:\n")).map(|(_, text)| {
        let items = text.lines().map_while(|line| line.trim().strip_prefix("- "));
        items.map(|item| item.trim_matches('"').to_owned()).collect()
    });
    arguments.collect()
}

fn hot_tier(_: &Server) -> Result<()> {
    ensure!(!render(&[])?.contains("hot-tier"), "it is off unless it is wanted");
    let rendered = render(ALL)?;
    for wanted in
        ["kind: CustomResourceDefinition", "--hot-cache-dir=/var/lib/tarn/cache", "resources: [cachevolumes]"]
    {
        ensure!(rendered.contains(wanted), "{wanted} is missing");
    }
    let unnamed = helm(&["template", "tarn"], &["hotTier.enabled=true"]).expect_err("no owner");
    ensure!(format!("{unnamed:#}").contains("hotTier.owner"), "{unnamed:#}");
    let medium = render(&["hotTier.enabled=true", "hotTier.medium.emptyDir.sizeLimit=5Gi"])?;
    ensure!(
        medium.contains("sizeLimit: 5Gi") && medium.contains("--hot-cache-dir="),
        "the medium is not mounted"
    );
    ensure!(!medium.contains("tarn-volume"), "another medium needs no EBS");
    let refused = tarn_volume(&render(&[ALL, &["hotTier.options.iops=1"]].concat())?)?;
    ensure!(refused.contains("iops is 1, allowed is"), "{refused}");
    // Everything is taken; there is only no EC2 here.
    let taken = tarn_volume(&rendered)?;
    ensure!(taken.contains("metadata"), "{taken}");
    Ok(())
}

/// What the program that the chart starts says of its arguments, on a machine that is no instance.
fn tarn_volume(rendered: &str) -> Result<String> {
    let arguments = arguments_of(rendered, "tarn-volume").pop().context("the container")?;
    let line = ["tarn-csi".to_owned(), "cache-volume".to_owned(), "--node-name=n".to_owned()];
    let line = line.into_iter().chain(arguments.into_iter().skip(1));
    let Command::CacheVolume(parsed) = Cli::try_parse_from(line)?.command else {
        bail!("the container runs something else");
    };
    let program = parsed.program.first().context("a program")?;
    ensure!(program == "/usr/bin/tarn-volume", "{}", program.display());
    let home = tempfile::tempdir()?;
    let mut command = run::command(paths::program("tarn-volume")?);
    command.args(&parsed.program[1..]).args(["--metadata-endpoint", "http://127.0.0.1:9"]);
    for (flag, name) in [("--mounts", "volumes"), ("--host-dir", "own"), ("--link", "link")] {
        command.arg(flag).arg(home.path().join(name));
    }
    let outcome = run::run(&mut command, Duration::from_secs(60))?;
    ensure!(!outcome.status.success(), "it goes on without EC2");
    Ok(outcome.stderr)
}

fn policy(_: &Server) -> Result<()> {
    let read =
        |path: &str| std::fs::read_to_string(paths::root().join(path)).with_context(|| path.to_owned());
    let policy = read("deploy/iam/cache-volumes.json")?;
    serde_json::from_str::<serde_json::Value>(&policy)?;
    ensure!(read("cache/volume/README.md")?.contains(&policy), "cache/volume/README.md has another policy");
    Ok(())
}

fn base(_: &Server) -> Result<()> {
    let path = paths::root().join("deploy/kustomize/base/tarn.yaml");
    let kept = std::fs::read_to_string(path)?;
    ensure!(
        kept == render(&[])?,
        "deploy/kustomize/base/tarn.yaml is not the chart's; deploy/README.md says how to render it"
    );
    Ok(())
}

fn examples(_: &Server) -> Result<()> {
    let mut checked = 0;
    for entry in std::fs::read_dir(paths::root().join("deploy/examples"))? {
        let path = entry?.path();
        checked += example(&path).with_context(|| path.display().to_string())?;
    }
    ensure!(checked >= 5, "only {checked} blocks were found");
    Ok(())
}

/// Checks the blocks of one file that reach the driver, and counts them.
fn example(path: &Path) -> Result<usize> {
    let text = std::fs::read_to_string(path)?;
    let mut checked = 0;
    for block in blocks(&text, "parameters:") {
        Class::parse(&block)?;
        checked += 1;
    }
    for block in blocks(&text, "volumeAttributes:") {
        Attributes::parse(&block)?;
        checked += 1;
    }
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("driver: ").or(line.strip_prefix("provisioner: ")) {
            ensure!(name == "csi.tarn.dev", "{line}");
        }
        if let Some(options) = line.strip_prefix("mountOptions: [") {
            let mut attributes =
                Attributes::parse(&HashMap::from([("bucket".to_owned(), "any".to_owned())]))?;
            attributes.add_mount_flags(&[options.trim_end_matches(']').to_owned()])?;
            checked += 1;
        }
    }
    Ok(checked)
}

/// The maps of text that stand under a key: the lines that are indented deeper.
fn blocks(text: &str, key: &str) -> Vec<HashMap<String, String>> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let lines: Vec<&str> = text.lines().collect();
    let starts = lines.iter().enumerate().filter(|(_, line)| line.trim() == key);
    let block = |(at, start): (usize, &&str)| {
        let inside = lines[at + 1..].iter().take_while(|line| indent(line) > indent(start));
        let pairs = inside.filter_map(|line| line.trim().split_once(": "));
        pairs.map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned())).collect()
    };
    starts.map(block).collect()
}
