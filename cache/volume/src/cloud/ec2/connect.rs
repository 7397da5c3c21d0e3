//! Builds the SDK's client: HTTP stack, credentials of the usual chain, region, retries and time limits.

use crate::error::{CloudErrorKind, Error, Result};
use aws_config::BehaviorVersion;
use aws_sdk_ec2::Client;
use aws_sdk_ec2::config::retry::RetryConfig;
use aws_sdk_ec2::config::timeout::TimeoutConfig;
use aws_sdk_ec2::config::{Credentials, Region, SharedHttpClient};
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use std::time::Duration;

/// Attempts of one call. More are a matter of the reconciler, which knows what else there is to do.
const ATTEMPTS: u32 = 3;
const CONNECT: Duration = Duration::from_secs(3);
const ATTEMPT: Duration = Duration::from_secs(8);
/// Less than the reconciler waits.
const OPERATION: Duration = Duration::from_secs(25);
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";

/// How EC2 is reached.
#[derive(Debug, Clone, Default)]
pub struct Ec2Settings {
    /// The region; `None` leaves it to the SDK's chain.
    pub region: Option<String>,
    /// The endpoint's URL; `None` is AWS.
    pub endpoint: Option<String>,
    /// Access key and secret; `None` leaves them to the SDK's chain.
    pub keys: Option<(String, String)>,
}

pub(super) async fn client(settings: &Ec2Settings) -> Result<Client> {
    let http = http_client(settings)?;
    let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(http);
    if let Some(region) = &settings.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(endpoint) = &settings.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    if let Some((key, secret)) = &settings.keys {
        loader = loader.credentials_provider(Credentials::new(key, secret, None, None, "settings"));
    }
    let shared = loader.load().await;
    if shared.region().is_none() {
        return Err(refuse("no region: set it, or AWS_REGION, or the profile's region"));
    }
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT)
        .operation_attempt_timeout(ATTEMPT)
        .operation_timeout(OPERATION);
    let config = aws_sdk_ec2::config::Builder::from(&shared)
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
        .timeout_config(timeouts.build());
    Ok(Client::from_conf(config.build()))
}

/// An HTTP client that trusts the system's certificates and those of `AWS_CA_BUNDLE`.
fn http_client(settings: &Ec2Settings) -> Result<SharedHttpClient> {
    if settings.endpoint.as_ref().is_some_and(|url| url.starts_with("http://")) && settings.keys.is_some() {
        return Ok(Builder::new().build_http());
    }
    let mut trust = TrustStore::default();
    if let Some(path) = std::env::var_os("AWS_CA_BUNDLE").filter(|path| !path.is_empty()) {
        let refuse = |why: &str| refuse(&format!("AWS_CA_BUNDLE: {}: {why}", path.display()));
        let text = std::fs::read_to_string(&path).map_err(|error| refuse(&error.to_string()))?;
        if !text.contains(CERTIFICATE) {
            return Err(refuse("holds no PEM certificate"));
        }
        trust.add_pem_certificate(text.into_bytes());
    }
    let context = TlsContext::builder().with_trust_store(trust).build();
    let context = context.map_err(|error| refuse(&format!("the TLS settings are refused: {error}")))?;
    Ok(Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).tls_context(context).build_https())
}

fn refuse(message: &str) -> Error {
    Error::Cloud { kind: CloudErrorKind::Invalid, call: "connect", message: message.into() }
}
