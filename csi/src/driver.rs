//! What all services of the driver share: its name, where its store is, and who asks.

use crate::credentials::Credentials;
use crate::error::{Error, Kind, Result};
use crate::parameters::Options;
use crate::service::{Connect, Reach, Service};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use tarn_fs::store::CredentialSource;

/// The version that the driver tells.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The driver's own settings.
#[derive(Debug)]
pub struct Driver {
    /// Its name, as the CSIDriver object has it.
    pub name: String,
    /// What the names of buckets that it makes begin with.
    pub bucket_prefix: String,
    /// The endpoint where a StorageClass names none; `None` is AWS.
    pub endpoint: Option<String>,
    /// The region where a StorageClass names none.
    pub region: Option<String>,
    /// A folder of files with the keys that serve where a volume has none of its own; `None` leaves it to the
    /// SDK's chain (web identity, container, instance role).
    pub credentials: Option<PathBuf>,
    /// Further certificates to trust, a PEM file.
    pub ca_bundle: Option<PathBuf>,
    /// Reaches services.
    pub connect: Arc<dyn Connect>,
}

impl Driver {
    /// The endpoint of a volume, if it is not the driver's.
    pub fn own_endpoint(&self, options: &Options) -> Option<String> {
        options.get("endpoint").filter(|endpoint| Some(*endpoint) != self.endpoint.as_ref()).cloned()
    }

    /// The service of a volume at `endpoint` (`None` is the driver's), asked with the secret of the request.
    pub async fn service(
        &self,
        endpoint: Option<&str>,
        options: &Options,
        secret: &HashMap<String, String>,
    ) -> Result<Arc<dyn Service>> {
        let text = |name: &str| options.get(name).cloned();
        let reach = Reach {
            endpoint: endpoint.map(str::to_owned).or_else(|| self.endpoint.clone()),
            region: text("region").or_else(|| self.region.clone()),
            path_style: options.get("path-style").and_then(|style| match style.as_str() {
                "on" => Some(true),
                "off" => Some(false),
                _auto => None,
            }),
            encryption: text("sse"),
            kms_key: text("sse-kms-key-id"),
            credentials: self.keys(secret)?,
        };
        self.connect.connect(reach).await
    }

    fn keys(&self, secret: &HashMap<String, String>) -> Result<CredentialSource> {
        if let Some(keys) = Credentials::from_secret(secret)? {
            return Ok(keys.into());
        }
        let Some(folder) = &self.credentials else { return Ok(CredentialSource::Chain) };
        // Read each time, so that keys that were rotated serve at once.
        let keys = Credentials::read(folder);
        keys.map(Into::into).map_err(|error| {
            Error::new(Kind::Denied, format!("the driver's own credentials cannot be read: {error}"))
        })
    }
}
