//! `tarn demo`: an embedded S3 server, a bucket and a mount, without any account. With a directory it stays until
//! Ctrl-C; without one it makes a tour in directories of its own and removes them.
//!
//! Invariant: the tour succeeds only if every byte agreed, through the mount and through the S3 API.

mod measure;
mod tour;
mod tree;

use crate::config::{Caller, Config, Input, Layers, World};
use crate::embedded::{EmbeddedCredentials, EmbeddedServer};
use crate::fuse::session::{self, DeviceSlot, Mode, MountRequest, OptionText, SessionHandle};
use crate::mount::{self, Failure, OpenSession, Served, checks};
use crate::store::{ObjectStore, S3Store};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const BUCKET: &str = "demo";
/// The tour takes seconds; what takes longer than this has failed.
const TOUR_LIMIT: Duration = Duration::from_secs(300);

/// Runs the demo.
pub fn run(dir: Option<&Path>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    // The cache and the server's bodies: on a real disk, not in /tmp's memory.
    let base = if Path::new("/var/tmp").is_dir() { PathBuf::from("/var/tmp") } else { std::env::temp_dir() };
    let scratch = tempfile::Builder::new().prefix("tarn-demo-").tempdir_in(base)?;
    let result = runtime.block_on(async {
        let server = start_server(scratch.path()).await?;
        let result = match dir {
            Some(dir) => stay(&server, dir, scratch.path()).await,
            None => make_tour(&server, scratch.path()).await,
        };
        server.stop().await;
        result
    });
    runtime.shutdown_timeout(Duration::from_secs(5));
    scratch.close()?;
    result
}

async fn start_server(scratch: &Path) -> Result<EmbeddedServer, Failure> {
    let dir = scratch.join("server");
    std::fs::create_dir(&dir)?;
    Ok(EmbeddedServer::start(BUCKET, &dir, EmbeddedCredentials::random()).await?)
}

/// A mount of the embedded server's bucket.
struct Demo {
    session: SessionHandle,
    served: Arc<dyn Served>,
}

async fn open(server: &EmbeddedServer, dir: &Path, scratch: &Path) -> Result<Demo, Failure> {
    let config = config(&scratch.join("cache"))?;
    let point = checks::check(dir, &config)?;
    let device = DeviceSlot::default();
    let session = OpenSession { device: device.clone(), ..OpenSession::default() };
    let opened =
        mount::open::open_with(config.clone(), server.config(), tokio::runtime::Handle::current(), session)
            .await?;
    let request = MountRequest {
        dir: point.dir,
        source: OptionText::escape(&config.source.to_string()),
        allow_other: false,
        read_only: false,
        no_exec: false,
    };
    let adapter = opened.adapter;
    let started = tokio::task::spawn_blocking(move || session::start(&request, adapter, &device)).await;
    let session = started.map_err(|error| Failure::new(&error))??;
    Ok(Demo { session, served: opened.served })
}

fn config(cache: &Path) -> Result<Config, Failure> {
    let input = Input {
        flags: vec![("cache-dir", cache.display().to_string()), ("cache-size", "4GiB".to_owned())],
        ..Input::default()
    };
    let world = World { variable: &|_| None, read: &|path| std::fs::read_to_string(path) };
    let caller = Caller {
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        xdg_cache_home: None,
        home: None,
    };
    let built = Layers::merge(&input, &world)
        .and_then(|layers| Config::build(&format!("s3://{BUCKET}"), &layers, &caller));
    built.map_err(|error| Failure::new(&error))
}

async fn stay(server: &EmbeddedServer, dir: &Path, scratch: &Path) -> Result<(), Failure> {
    let demo = open(server, dir, scratch).await?;
    let (endpoint, dir) = (server.endpoint(), dir.display());
    let keys = server.credentials();
    // The keys are of this server alone and end with it: printing them is what this command is for.
    let text = format!(
        "\
s3://{BUCKET} is mounted at {dir}. Ctrl-C unmounts it; the bucket goes with it.

Reach the same bucket with any S3 client:
  export AWS_ENDPOINT_URL={endpoint} AWS_REGION=us-east-1
  export AWS_ACCESS_KEY_ID={} AWS_SECRET_ACCESS_KEY={}
  echo hello > {dir}/hello.txt
  aws s3 cp s3://{BUCKET}/hello.txt -
",
        keys.access_key, keys.secret_key
    );
    std::io::stdout().write_all(text.as_bytes())?;
    let end = mount::serve(demo.session, demo.served).await;
    writeln!(std::io::stdout(), "{end}")?;
    end.into_result().map_err(Failure::text)
}

async fn make_tour(server: &EmbeddedServer, scratch: &Path) -> Result<(), Failure> {
    let dir = scratch.join("mnt");
    std::fs::create_dir(&dir)?;
    let demo = open(server, &dir, scratch).await?;
    let client: Arc<dyn ObjectStore> = Arc::new(S3Store::connect(server.config()).await?);
    let places = tour::Places { mount: demo.session.dir().to_owned(), plain: scratch.join("plain") };
    writeln!(
        std::io::stdout(),
        "An S3 server on {}, its bucket mounted at {}\n",
        server.endpoint(),
        dir.display()
    )?;
    let runtime = tokio::runtime::Handle::current();
    let walk = tokio::task::spawn_blocking(move || tour::walk(&places, &*client, &runtime));
    let walked = tokio::select! {
        walked = tokio::time::timeout(TOUR_LIMIT, walk) => match walked {
            Ok(Ok(result)) => result,
            Ok(Err(error)) => Err(Failure::new(&error)),
            Err(_) => Err(Failure::text(format!("the tour took over {} s", TOUR_LIMIT.as_secs()))),
        },
        _ = tokio::signal::ctrl_c() => Err(Failure::text("interrupted")),
    };
    let mode = if walked.is_ok() { Mode::Clean } else { Mode::Lazy };
    let session = Arc::new(demo.session);
    let unmounting = Arc::clone(&session);
    let unmounted = tokio::task::spawn_blocking(move || unmounting.unmount(mode)).await;
    unmounted.map_err(|error| Failure::new(&error))??;
    walked?;
    session.wait().await;
    let drained = demo.served.drain().await;
    if let Some((path, reason)) = drained.failed.first() {
        return Err(Failure::text(format!("{path} is not in the bucket: {reason}")));
    }
    writeln!(std::io::stdout(), "unmount        clean, nothing was left to send\n\nEvery byte agreed.")?;
    Ok(())
}
