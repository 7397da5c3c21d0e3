//! A server of the EC2 API by other people (moto) on a free port of the loopback interface.

use anyhow::{Context, Result, bail, ensure};
use aws_sdk_ec2::Client;
use aws_sdk_ec2::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_ec2::types::InstanceType;
use aws_smithy_http_client::Builder;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tarn_volume::cloud::ec2::{Ec2, Ec2Settings};
use tarn_volume::{InstanceId, Zone};

const REGION: &str = "eu-central-1";
const START_LIMIT: Duration = Duration::from_secs(60);

/// A running server. Dropping it ends it.
pub(crate) struct Moto {
    child: Child,
    port: u16,
}

impl Moto {
    /// Starts it, on the main thread: it ends with the thread that started it, however that ends.
    pub(crate) fn start() -> Result<Self> {
        let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools/venv/bin/moto_server");
        ensure!(tool.exists(), "moto_server is missing: run `make tools`");
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(tool)
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("start moto_server")?;
        let end = Instant::now() + START_LIMIT;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            if let Some(status) = child.try_wait()? {
                bail!("moto_server ends at once: {status}");
            }
            ensure!(Instant::now() < end, "moto_server does not listen");
            std::thread::park_timeout(Duration::from_millis(50));
        }
        Ok(Self { child, port })
    }

    fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Our client.
    pub(crate) async fn ec2(&self) -> Result<Ec2> {
        let settings = Ec2Settings {
            region: Some(REGION.into()),
            endpoint: Some(self.endpoint()),
            keys: Some(("test".into(), "test".into())),
        };
        Ok(Ec2::connect(&settings).await?)
    }

    /// The SDK's client, for what ours does not do.
    pub(crate) fn sdk(&self) -> Client {
        let config = aws_sdk_ec2::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(Builder::new().build_http())
            .region(Region::new(REGION))
            .endpoint_url(self.endpoint())
            .credentials_provider(Credentials::new("test", "test", None, None, "test"));
        Client::from_conf(config.build())
    }

    /// Starts an instance.
    pub(crate) async fn launch(&self) -> Result<(InstanceId, Zone)> {
        let request = self.sdk().run_instances().image_id("ami-12c6146b").min_count(1).max_count(1);
        let started = request.instance_type(InstanceType::M5Large).send().await.context("RunInstances")?;
        let instance = started.instances().first().context("no instance")?;
        let zone =
            instance.placement().and_then(|placement| placement.availability_zone()).context("no zone")?;
        Ok((InstanceId::new(instance.instance_id().context("no id")?), Zone::new(zone)))
    }

    /// Ends an instance.
    pub(crate) async fn terminate(&self, instance: &InstanceId) -> Result<()> {
        let request = self.sdk().terminate_instances().instance_ids(instance.as_str());
        request.send().await.context("TerminateInstances").map(drop)
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        self.child.kill().expect("kill moto_server");
        self.child.wait().expect("wait for moto_server");
    }
}
