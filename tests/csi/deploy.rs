//! The chart, the kustomize base and the examples: rendered with the real helm, and held against what the driver takes.

use crate::Test;
use anyhow::{Context, Result, ensure};
use clap::Parser;
use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;
use tarn_csi::cli::Cli;
use tarn_csi::parameters::{Attributes, Class};
use tarn_tests::server::Server;
use tarn_tests::{paths, run};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("deploy::the_chart_renders_with_arguments_that_the_driver_takes", chart),
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
    let containers = rendered.split("- name: tarn-csi\n").skip(1);
    let arguments = containers.filter_map(|text| text.split_once("args:\n")).map(|(_, text)| {
        let items = text.lines().map_while(|line| line.trim().strip_prefix("- "));
        items.map(str::to_owned).collect()
    });
    arguments.collect()
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
