//! Puts the parts together and serves them. The only place that knows them all.

use crate::cache_volume;
use crate::cli::{Cli, Command, DriverArgs, NodeArgs, NodeCommand};
use crate::controller::Controller;
use crate::driver::Driver;
use crate::error::{Error, Kind, Result};
use crate::identity::Identity;
use crate::kubernetes::Kubernetes;
use crate::mounter::{Caches, Tarn};
use crate::node::{Node, NodeSettings};
use crate::parameters::Options;
use crate::proto::controller_server::ControllerServer;
use crate::proto::identity_server::IdentityServer;
use crate::proto::node_server::NodeServer;
use crate::proto::registration::registration_server::RegistrationServer;
use crate::registration::Registration;
use crate::server::Socket;
use crate::service::s3::S3;
use crate::supervise;
use crate::web_identity;
use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::transport::Server;
use tracing::Level;

/// Runs `tarn-csi`.
pub async fn run(cli: Cli) -> Result<()> {
    match cli.command {
        Command::Credentials { folder } => print_credentials(&folder).await,
        Command::CacheVolume(args) => {
            log(Level::INFO);
            let kubernetes = Kubernetes::connect(args.kubernetes.as_deref(), &args.service_account)?;
            cache_volume::run(kubernetes, &args.node_name, &args.program).await
        }
        Command::Controller(args) => serve(args, Part::Controller, None).await,
        Command::Node(_) if supervise::is_wanted() => supervise::run().await,
        Command::Node(NodeCommand { driver, node }) => serve(driver, Part::Node, Some(node)).await,
        Command::All(NodeCommand { driver, node }) => serve(driver, Part::Both, Some(node)).await,
    }
}

/// Which services stand behind the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Controller,
    Node,
    Both,
}

async fn print_credentials(folder: &Path) -> Result<()> {
    let (keys, end) = web_identity::keys(folder, SystemTime::now()).await?;
    let written = std::io::stdout().write_all(keys.process_output(end).as_bytes());
    written.map_err(|error| Error::local("print the keys", &error))
}

async fn serve(args: DriverArgs, part: Part, node: Option<NodeArgs>) -> Result<()> {
    log(args.log_level);
    let socket = Socket::listen(&args.csi_endpoint).await?;
    let driver = Arc::new(driver(&args));
    let (stop, stopped) = watch::channel(false);
    let mut router =
        Server::builder().add_service(IdentityServer::new(Identity { driver: Arc::clone(&driver) }));
    if part != Part::Node {
        router = router.add_service(ControllerServer::new(Controller::new(Arc::clone(&driver))));
    }
    let (mut registered, mut recovery) = (None, None);
    if let Some(args) = &node {
        let node = Arc::new(self::node(Arc::clone(&driver), args)?);
        router = router.add_service(NodeServer::from_arc(Arc::clone(&node)));
        recovery = Some(tokio::spawn(recover(node)));
        registered = register(&driver, args, &socket, stopped.clone()).await?;
    }
    tracing::info!(name = driver.name, socket = %socket.path().display(), ?part, "serving");
    let signals = tokio::spawn(async move {
        let heard = hear().await;
        stop.send_replace(true);
        heard
    });
    let served = socket.serve(router, stopped).await;
    if let Some(task) = registered {
        task.await.map_err(|error| Error::new(Kind::Internal, error.to_string()))??;
    }
    // What it has not come to yet is left for the next start.
    recovery.iter().for_each(JoinHandle::abort);
    signals.abort();
    tracing::info!("ended");
    served
}

fn log(level: Level) {
    tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).with_ansi(false).init();
}

fn driver(args: &DriverArgs) -> Driver {
    Driver {
        name: args.driver_name.clone(),
        bucket_prefix: args.bucket_prefix.clone(),
        endpoint: args.endpoint.clone(),
        region: args.region.clone(),
        credentials: args.credentials.clone(),
        connect: Arc::new(S3 { ca_bundle: args.ca_bundle.clone() }),
        ca_bundle: args.ca_bundle.clone(),
    }
}

fn node(driver: Arc<Driver>, args: &NodeArgs) -> Result<Node> {
    let own = std::env::current_exe().map_err(|error| Error::local("find this program", &error))?;
    let beside = || own.parent().map_or_else(|| PathBuf::from("tarn"), |dir| dir.join("tarn"));
    let program = args.tarn.clone().unwrap_or_else(beside);
    let program = program.canonicalize().map_err(|error| {
        Error::local(format_args!("find the program that mounts, {} (--tarn)", program.display()), &error)
    })?;
    let mut defaults = Options::new();
    defaults.extend(driver.endpoint.clone().map(|endpoint| ("endpoint", endpoint)));
    defaults.extend(driver.region.clone().map(|region| ("region", region)));
    defaults.extend(driver.ca_bundle.as_ref().map(|file| ("ca-bundle", file.display().to_string())));
    let kubelet_dir = args.kubelet_dir.canonicalize().map_err(|error| {
        Error::local(
            format_args!("find the kubelet's folder {} (--kubelet-dir)", args.kubelet_dir.display()),
            &error,
        )
    })?;
    keep_private(&args.cache_dir)?;
    let credentials = driver.credentials.clone();
    let mounter = Tarn {
        program,
        own_program: own,
        caches: Caches { standard: args.cache_dir.clone(), hot: args.hot_cache_dir.clone() },
        credentials,
        defaults,
        commit_time: args.commit_timeout,
    };
    let settings = NodeSettings {
        node_id: args.node_id.clone(),
        max_volumes: args.max_volumes,
        kubelet_dir,
        state_dir: args.state_dir.clone(),
        inline_volumes: args.inline_volumes,
        token_audience: args.token_audience.clone(),
        topology: args.topology.iter().cloned().collect(),
    };
    Node::new(settings, driver, Arc::new(mounter))
}

/// Keeps the cache folder to this user. The kubelet makes a folder of the node (`DirectoryOrCreate`) for everybody to read,
/// and no mount takes such a cache.
fn keep_private(dir: &Path) -> Result<()> {
    let failed =
        |error| Error::local(format_args!("keep the cache folder {} private", dir.display()), &error);
    std::fs::create_dir_all(dir).map_err(failed)?;
    std::fs::set_permissions(dir, Permissions::from_mode(0o700)).map_err(failed)
}

async fn recover(node: Arc<Node>) {
    if let Err(error) = node.recover().await {
        tracing::warn!(%error, "mounts of an earlier start are not looked after");
    }
}

/// Serves the registration beside the driver's own socket, if the kubelet is to be told directly.
async fn register(
    driver: &Driver,
    args: &NodeArgs,
    socket: &Socket,
    stopped: watch::Receiver<bool>,
) -> Result<Option<JoinHandle<Result<()>>>> {
    let Some(folder) = &args.registry_dir else { return Ok(None) };
    let path = folder.join(format!("{}-reg.sock", driver.name));
    let own = socket.path().display().to_string();
    let service =
        Registration { name: driver.name.clone(), socket: args.kubelet_socket.clone().unwrap_or(own) };
    let registry = Socket::listen(&path.display().to_string()).await?;
    let router = Server::builder().add_service(RegistrationServer::new(service));
    Ok(Some(tokio::spawn(registry.serve(router, stopped))))
}

/// Waits for a signal that ends the driver.
async fn hear() {
    let listen = |kind| signal(kind).map_err(|error| tracing::error!(%error, "signals cannot be heard"));
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (listen(SignalKind::terminate()), listen(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    let name = tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    };
    tracing::info!("{name}: ending when the calls under way are answered");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_folder_that_the_kubelet_has_made_is_made_private() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["made", "missing/too"] {
            let dir = folder.path().join(name);
            if name == "made" {
                std::fs::create_dir(&dir).expect("a folder");
                std::fs::set_permissions(&dir, Permissions::from_mode(0o755)).expect("chmod");
            }
            keep_private(&dir).expect("private");
            assert_eq!(dir.metadata().expect("there").permissions().mode() & 0o777, 0o700, "{name}");
        }
    }
}
