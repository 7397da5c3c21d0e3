//! Which instance this is, by its metadata service (IMDSv2).

use crate::error::{CloudErrorKind, Error, Result};
use crate::id::{InstanceId, Zone};
use aws_config::imds::client::Client;
use aws_config::provider_config::ProviderConfig;
use aws_smithy_http_client::Builder;
use std::time::Duration;

/// On a machine that is no instance nobody answers.
const LIMIT: Duration = Duration::from_secs(2);
const ATTEMPTS: u32 = 3;

/// What an instance knows of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its id.
    pub instance: InstanceId,
    /// Where it is.
    pub zone: Zone,
    /// The region of the zone.
    pub region: String,
}

impl Identity {
    /// Asks the metadata service; `endpoint` is another one than the usual.
    pub async fn ask(endpoint: Option<&str>) -> Result<Self> {
        let http = ProviderConfig::without_region().with_http_client(Builder::new().build_http());
        let builder = Client::builder().configure(&http);
        let mut builder = builder.max_attempts(ATTEMPTS).connect_timeout(LIMIT).read_timeout(LIMIT);
        if let Some(endpoint) = endpoint {
            builder = builder.endpoint(endpoint).map_err(|error| failed(&error.to_string()))?;
        }
        let client = builder.build();
        let get = async |path: &str| {
            let answer = client.get(format!("/latest/meta-data/{path}")).await;
            answer.map(|text| text.as_ref().trim().to_owned()).map_err(|error| {
                let hint = "is this an EC2 instance, and its hop limit 2 or more in a container?";
                failed(&format!("{path}: {error}; {hint}"))
            })
        };
        Ok(Self {
            instance: InstanceId::new(get("instance-id").await?),
            zone: Zone::new(get("placement/availability-zone").await?),
            region: get("placement/region").await?,
        })
    }
}

fn failed(message: &str) -> Error {
    Error::Cloud { kind: CloudErrorKind::Unreachable, call: "instance metadata", message: message.into() }
}
