//! The command for a host without an orchestrator: looks after the cache volume of the instance it runs on.
//!
//! Mounts find their cache through a symbolic link, which is switched from the host's directory to the volume and back
//! ([`crate::link`]). One that runs keeps what it has; the next one follows the link.

use crate::clock;
use crate::cloud::Cloud;
use crate::cloud::ec2::{Ec2, Ec2Settings, Identity};
use crate::error::Error;
use crate::host::LinuxHost;
use crate::id::{NodeName, Owner};
use crate::link::Link;
use crate::plan::{Desired, Why};
use crate::reconcile::{Reconciler, Status};
use crate::spec::{Spec, SpecError};
use crate::state::Place;
use clap::{Args, Parser, Subcommand};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Keep the cache of this EC2 instance on an EBS volume of its own
#[derive(Debug, Parser)]
#[command(name = "tarn-volume", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make, attach, mount and grow the volume, until a signal comes; the volume stays in use
    Run(Node),
    /// Upload what is staged, then unmount, detach and delete the volume
    Release(Node),
    /// Check the parameters, and what the credentials permit
    Check(Reach),
    /// List the volumes of the owner as JSON, one a line
    List(Reach),
}

/// How EC2 is reached, and what is wanted of it.
#[derive(Debug, Args)]
pub struct Reach {
    /// Touch only volumes of this owner: the installation's name, unique in the account
    #[arg(long, env = "TARN_VOLUME_OWNER")]
    pub owner: String,
    /// Set a parameter, as -o type=gp3 -o maxSize=500Gi; see cache/volume/README.md
    #[arg(short = 'o', value_name = "NAME=VALUE", value_parser = pair)]
    pub parameters: Vec<(String, String)>,
    /// Use this region [default: the instance's]
    #[arg(long)]
    pub region: Option<String>,
    /// Use this endpoint of the EC2 API [default: AWS]
    #[arg(long, value_name = "URL")]
    pub endpoint: Option<String>,
    /// Ask this instance metadata service [default: that of EC2]
    #[arg(long, value_name = "URL")]
    pub metadata_endpoint: Option<String>,
}

/// A node and its directories.
#[derive(Debug, Args)]
pub struct Node {
    /// How EC2 is reached.
    #[command(flatten)]
    pub reach: Reach,
    /// Name this node [default: the instance's id]
    #[arg(long)]
    pub node: Option<String>,
    /// Mount volumes below this directory
    #[arg(long, value_name = "DIR", default_value = "/var/lib/tarn/volumes")]
    pub mounts: PathBuf,
    /// Cache here while there is no volume
    #[arg(long, value_name = "DIR", default_value = "/var/cache/tarn")]
    pub host_dir: PathBuf,
    /// Keep a symbolic link here to the directory in use, for tarn mount --cache-dir
    #[arg(long, value_name = "PATH", default_value = "/var/lib/tarn/cache")]
    pub link: PathBuf,
    /// Run this program with a directory to upload what is staged there
    #[arg(long, value_name = "PROGRAM")]
    pub recover: Option<PathBuf>,
}

/// Why the command failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The parameters are refused.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// EC2, the host or the directories refuse.
    #[error(transparent)]
    Volume(#[from] Error),
    /// A signal handler cannot be set.
    #[error("wait for signals: {0}")]
    Signal(std::io::Error),
    /// Permissions are missing.
    #[error("the credentials lack {}; cache/volume/README.md has a policy", .0.join(", "))]
    Denied(Vec<&'static str>),
}

/// Runs a command to its end.
pub async fn run(cli: Cli) -> Result<(), CliError> {
    match cli.command {
        Command::Run(node) => {
            let spec = spec(&node.reach)?;
            look_after(&node, Some(spec), |_| false).await
        }
        Command::Release(node) => {
            spec(&node.reach)?;
            look_after(&node, None, is_released).await
        }
        Command::Check(reach) => check(&reach).await,
        Command::List(reach) => list(&reach).await,
    }
}

/// Nothing of this node is left; what others left is not waited for.
fn is_released(status: &Status) -> bool {
    let of_others = |why: &Why| matches!(why, Why::OrphanStaged(_) | Why::OrphanGrace | Why::Quarantined(_));
    status.doing.is_none()
        && status.conditions.iter().all(|condition| of_others(&condition.reason))
        && status.place == Some(Place::Host)
        && status.volumes.is_empty()
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("it takes NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn spec(reach: &Reach) -> Result<Spec, SpecError> {
    Spec::parse(&reach.parameters.iter().cloned().collect::<BTreeMap<_, _>>())
}

/// Who this is, and a way to EC2 in its region.
async fn reach(reach: &Reach) -> Result<(Identity, Ec2), Error> {
    let identity = Identity::ask(reach.metadata_endpoint.as_deref()).await?;
    let region = reach.region.clone().unwrap_or_else(|| identity.region.clone());
    let settings = Ec2Settings { region: Some(region), endpoint: reach.endpoint.clone(), keys: None };
    let ec2 = Ec2::connect(&settings).await?;
    Ok((identity, ec2))
}

fn desired(reach: &Reach, identity: &Identity, node: Option<&String>, spec: Option<Spec>) -> Desired {
    Desired {
        owner: Owner::new(&reach.owner),
        node: NodeName::new(node.map_or(identity.instance.as_str(), String::as_str)),
        instance: identity.instance.clone(),
        zone: identity.zone.clone(),
        spec,
    }
}

/// Goes on until a signal comes or `done` says so, and tells every change of the status.
async fn look_after(node: &Node, spec: Option<Spec>, done: fn(&Status) -> bool) -> Result<(), CliError> {
    let host = LinuxHost::open(&node.mounts, &node.host_dir)?;
    let _alone = host.lock()?;
    let link = Link::new(&node.link, node.recover.clone());
    // Mounts can start before anybody has answered.
    link.start(&node.host_dir)?;
    let (identity, ec2) = self::reach(&node.reach).await?;
    let desired = desired(&node.reach, &identity, node.node.as_ref(), spec);
    let reconciler = Reconciler::new(Arc::new(ec2), Arc::new(host), Arc::new(link));
    let mut status = reconciler.status();
    let (_keep, wanted) = watch::channel(desired);
    let mut interrupted = signal(SignalKind::interrupt()).map_err(CliError::Signal)?;
    let mut terminated = signal(SignalKind::terminate()).map_err(CliError::Signal)?;
    let stop = async move {
        let told = async {
            while status.changed().await.is_ok() {
                let now = status.borrow_and_update().clone();
                print(&now);
                if done(&now) {
                    return;
                }
            }
        };
        tokio::select! {
            () = told => {}
            _ = interrupted.recv() => {}
            _ = terminated.recv() => {}
        }
    };
    reconciler.run(wanted, stop).await;
    Ok(())
}

async fn check(reach: &Reach) -> Result<(), CliError> {
    let spec = spec(reach)?;
    let (identity, ec2) = self::reach(reach).await?;
    let desired = desired(reach, &identity, None, Some(spec));
    let denied = match desired.first_volume() {
        Some(volume) => ec2.denied(&desired.owner, &volume).await?,
        None => Vec::new(),
    };
    if !denied.is_empty() {
        return Err(CliError::Denied(denied));
    }
    println!("parameters and permissions are in order at {}", clock::now());
    Ok(())
}

async fn list(reach: &Reach) -> Result<(), CliError> {
    let (_, ec2) = self::reach(reach).await?;
    for volume in ec2.volumes(&Owner::new(&reach.owner)).await? {
        let attached = volume.attachment.map(|attachment| attachment.instance);
        print(&serde_json::json!({
            "id": volume.id, "zone": volume.zone, "sizeGib": volume.size, "state": volume.state,
            "attachedTo": attached, "tags": volume.tags,
        }));
    }
    Ok(())
}

fn print(value: &impl serde::Serialize) {
    println!("{}", serde_json::to_string(value).expect("plain data is JSON"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_holds_together() {
        Cli::command().debug_assert();
        let line = ["tarn-volume", "run", "--owner", "me", "-o", "type=io2", "-o", "tagSpecification_1=a=b"];
        let Command::Run(node) = Cli::parse_from(line).command else { panic!("run") };
        assert_eq!(node.reach.parameters[1], ("tagSpecification_1".into(), "a=b".into()));
    }
}
