//! Builds the SDK's client: HTTP stack, credentials, region, retries and time limits.
//!
//! One HTTP client serves the store and the credential providers. Its connections are reused and kept warm; TLS
//! trusts the system's certificates and those of the CA bundle. The SDK's own stalled-stream protection is off,
//! because it also fires when it is the reader who pauses; deadlines are set here and in `body.rs`.

use super::config::{CredentialSource, S3Config};
use super::document::WholeDocuments;
use super::headers::FixedHeaders;
use crate::store::{Error, ErrorKind, Op, Result};
use aws_config::BehaviorVersion;
use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::{RetryConfig, RetryPartition, TokenBucket};
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation, SharedHttpClient,
    StalledStreamProtectionConfig,
};
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_native_certs::load_native_certs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long an idle connection is kept. Servers close theirs after a minute or more.
const POOL_IDLE: Duration = Duration::from_secs(50);
/// How long it may take to connect, at most.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// The longest pause between two attempts, unless a server is waited for.
const MAX_BACKOFF: Duration = Duration::from_secs(5);
/// The region of servers that have none.
const DEFAULT_REGION: &str = "us-east-1";
/// What to do on a machine that trusts nobody.
const NO_CERTIFICATE: &str = "install ca-certificates, or set ca-bundle";
/// The slowest link that is worth waiting for: bodies we send get this much more time, in bytes per second.
const SLOWEST_UPLOAD: u64 = 256 << 10;

/// The client, and the endpoint as people know it.
pub(super) async fn connect(config: &S3Config) -> Result<(Client, String)> {
    check(config)?;
    let endpoint = config.endpoint.clone().or_else(endpoint_from_environment);
    let http = http_client(config, endpoint.as_deref())?;
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http.clone())
        .region(region(config, endpoint.is_some()));
    if let Some(profile) = &config.profile {
        loader = loader.profile_name(profile);
    }
    if let Some(endpoint) = &endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    loader = match &config.credentials {
        CredentialSource::Chain => loader,
        CredentialSource::Anonymous => loader.no_credentials(),
        CredentialSource::Static { access_key, secret_key, session_token } => loader.credentials_provider(
            Credentials::new(access_key, secret_key, session_token.clone(), None, "configuration"),
        ),
    };
    let shared = loader.load().await;
    let Some(region) = shared.region().cloned() else {
        return Err(refuse("no region: set it, or AWS_REGION, or the profile's region"));
    };
    let endpoint = endpoint.or_else(|| shared.endpoint_url().map(str::to_owned));
    let s3 = aws_sdk_s3::config::Builder::from(&shared)
        .http_client(http)
        .force_path_style(config.force_path_style(endpoint.as_deref()))
        .retry_config(retries(config))
        .retry_partition(patience(config))
        .timeout_config(timeouts(config, Duration::ZERO))
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .interceptor(FixedHeaders::new(config))
        .interceptor(WholeDocuments);
    let shown = endpoint.unwrap_or_else(|| format!("S3 in {region}"));
    Ok((Client::from_conf(s3.build()), shown))
}

fn check(config: &S3Config) -> Result<()> {
    if config.bucket.is_empty() || config.bucket.contains('/') {
        return Err(refuse(format!("{:?} is not a bucket's name", config.bucket)));
    }
    let Some(endpoint) = &config.endpoint else { return Ok(()) };
    let Some((scheme @ ("http" | "https"), rest)) = endpoint.split_once("://") else {
        return Err(refuse("the endpoint must start with http:// or https://"));
    };
    if rest.is_empty() || rest.contains('@') {
        return Err(refuse(format!("the endpoint must be {scheme}://HOST[:PORT], without a user")));
    }
    Ok(())
}

fn refuse(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Rejected, Op::Head, None, message)
}

fn endpoint_from_environment() -> Option<String> {
    let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    set("AWS_ENDPOINT_URL_S3").or_else(|| set("AWS_ENDPOINT_URL"))
}

/// With an endpoint the instance's metadata service is not asked: it knows nothing of a foreign server, and
/// waiting for it would delay every mount outside EC2.
fn region(config: &S3Config, foreign: bool) -> RegionProviderChain {
    let chain = RegionProviderChain::first_try(config.region.clone().map(Region::new));
    if !foreign {
        return chain.or_default_provider();
    }
    let mut profile = ProfileFileRegionProvider::builder();
    if let Some(name) = &config.profile {
        profile = profile.profile_name(name);
    }
    chain
        .or_else(EnvironmentVariableRegionProvider::new())
        .or_else(profile.build())
        .or_else(Region::from_static(DEFAULT_REGION))
}

/// The standard mode backs off from a `SlowDown` with growing, jittered pauses. The adaptive one limits the rate of the
/// whole client to what it sent before: one `SlowDown` after a quiet minute and every request waits for seconds.
///
/// Who is patient has attempts for all of the time, even if chance makes most pauses short; not more, for the library
/// adds all pauses up whenever it asks for credentials.
fn retries(config: &S3Config) -> RetryConfig {
    let longest = (config.retry_for / 120).clamp(MAX_BACKOFF, 6 * MAX_BACKOFF);
    let patient = (config.retry_for.as_secs_f64() * 4.0 / longest.as_secs_f64()).ceil() as u32;
    RetryConfig::standard()
        .with_max_attempts(config.max_attempts.max(1) + patient)
        .with_initial_backoff(Duration::from_millis(100))
        .with_max_backoff(longest)
}

/// Who shall wait for a server that is away is not to fail because many others wait too.
fn patience(config: &S3Config) -> RetryPartition {
    match config.retry_for.is_zero() {
        true => RetryPartition::new("tarn"),
        false => RetryPartition::custom("tarn, patient").token_bucket(TokenBucket::unlimited()).build(),
    }
}

/// The time limits of a request whose own work takes up to `work`.
pub(super) fn timeouts(config: &S3Config, work: Duration) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT.min(config.attempt_timeout))
        .operation_attempt_timeout(config.attempt_timeout + work)
        .operation_timeout(config.patience() + work)
        .build()
}

/// How long it may take to send so many bytes over the slowest link.
pub(super) fn time_to_send(bytes: usize) -> Duration {
    Duration::from_secs(bytes as u64 / SLOWEST_UPLOAD)
}

fn http_client(config: &S3Config, endpoint: Option<&str>) -> Result<SharedHttpClient> {
    let builder = Builder::new().pool_idle_timeout(POOL_IDLE).pool_max_idle_per_host(config.max_connections);
    let plain = endpoint.is_some_and(|url| url.starts_with("http://"));
    if plain && !matches!(config.credentials, CredentialSource::Chain) {
        // Nothing speaks TLS here, so a machine without any certificates will do.
        return Ok(builder.build_http());
    }
    let from_environment =
        || std::env::var_os("AWS_CA_BUNDLE").filter(|path| !path.is_empty()).map(PathBuf::from);
    let bundle = config.ca_bundle.clone().or_else(from_environment);
    // The TLS library panics when it has no certificate to trust.
    let trust = match bundle {
        Some(path) => TrustStore::default().with_pem_certificate(certificates(&path)?),
        None if !load_native_certs().certs.is_empty() => TrustStore::default(),
        None if plain => {
            tracing::warn!(
                "no CA certificate on this machine: keys cannot be fetched over https ({NO_CERTIFICATE})"
            );
            return Ok(builder.build_http());
        }
        None => return Err(refuse(format!("no CA certificate on this machine: {NO_CERTIFICATE}"))),
    };
    let context = TlsContext::builder().with_trust_store(trust).build();
    let context = context.map_err(|error| refuse(format!("the TLS settings are refused: {error}")))?;
    Ok(builder.tls_provider(Provider::Rustls(CryptoMode::Ring)).tls_context(context).build_https())
}

/// Reads a CA bundle. What is no certificate is refused here: the TLS library panics on it.
fn certificates(path: &Path) -> Result<Vec<u8>> {
    let refuse = |why: String| refuse(format!("CA bundle {}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| refuse(error.to_string()))?;
    let mut found = 0;
    for block in text.split("-----BEGIN CERTIFICATE-----").skip(1) {
        let body = block.split("-----END CERTIFICATE-----").next().unwrap_or_default();
        let der = STANDARD.decode(body.split_whitespace().collect::<String>());
        // A certificate is a DER sequence of over 127 bytes: 0x30, then a length of one to three bytes.
        if !der.is_ok_and(|der| der.len() > 127 && der[0] == 0x30 && (0x81..=0x83).contains(&der[1])) {
            return Err(refuse(format!("certificate {} cannot be read", found + 1)));
        }
        found += 1;
    }
    if found == 0 {
        return Err(refuse("holds no PEM certificate".to_owned()));
    }
    Ok(text.into_bytes())
}
