//! What an S3 store is told: validated plain data, no handles, no environment.
//!
//! Secrets are kept in types whose `Debug` hides them; nothing here prints one.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// The settings of an S3 store.
#[derive(Debug, Clone)]
pub struct S3Config {
    /// The bucket.
    pub bucket: String,
    /// The URL of a server that is not AWS, `http://` or `https://`.
    pub endpoint: Option<String>,
    /// The region; `None` asks the environment and the profile, and with an endpoint falls back to `us-east-1`.
    pub region: Option<String>,
    /// The profile of the AWS configuration files.
    pub profile: Option<String>,
    /// How the bucket is named in a request.
    pub path_style: PathStyle,
    /// Where the credentials come from.
    pub credentials: CredentialSource,
    /// The caller pays for requests and traffic.
    pub requester_pays: bool,
    /// A PEM file of further trusted certificates; `None` takes `AWS_CA_BUNDLE` where that is set.
    pub ca_bundle: Option<PathBuf>,
    /// Encryption at the server.
    pub sse: Sse,
    /// The storage class of new objects that name none.
    pub storage_class: Option<String>,
    /// How long one attempt may wait for the answer's headers, or for the next bytes of a body.
    pub attempt_timeout: Duration,
    /// How long an operation may take with all its attempts, and a body without any progress.
    pub operation_timeout: Duration,
    /// How long a server that is away or overloaded is asked again, whatever `max_attempts` says.
    pub retry_for: Duration,
    /// Attempts of a request, the first included; also the number of times a broken body is resumed.
    pub max_attempts: u32,
    /// Idle connections kept for the next requests.
    pub max_connections: usize,
}

impl S3Config {
    /// The settings for a bucket on AWS with the defaults.
    pub fn new(bucket: impl Into<String>) -> Self {
        Self {
            bucket: bucket.into(),
            endpoint: None,
            region: None,
            profile: None,
            path_style: PathStyle::Auto,
            credentials: CredentialSource::Chain,
            requester_pays: false,
            ca_bundle: None,
            sse: Sse::None,
            storage_class: None,
            attempt_timeout: Duration::from_secs(20),
            operation_timeout: Duration::from_secs(60),
            retry_for: Duration::ZERO,
            max_attempts: 4,
            max_connections: 64,
        }
    }

    /// How long a request may take with all its attempts, and a body without any progress.
    pub(super) fn patience(&self) -> Duration {
        self.operation_timeout.max(self.retry_for)
    }

    /// Whether the bucket goes into the path, given the endpoint that is really used.
    pub(super) fn force_path_style(&self, endpoint: Option<&str>) -> bool {
        match self.path_style {
            PathStyle::On => true,
            PathStyle::Off => false,
            PathStyle::Auto => endpoint.is_some_and(|url| !is_amazon(url)),
        }
    }
}

fn is_amazon(url: &str) -> bool {
    let host = url.split("://").last().unwrap_or(url);
    let host = host.split(['/', ':']).next().unwrap_or(host);
    host == "amazonaws.com" || host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn")
}

/// How the bucket is named in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PathStyle {
    /// In the path, if there is an endpoint that is not of AWS.
    #[default]
    Auto,
    /// In the path.
    On,
    /// In the host name.
    Off,
}

/// Where the credentials come from.
#[derive(Clone, Default)]
pub enum CredentialSource {
    /// The SDK's whole chain: environment, profile, SSO, web identity, container, IMDS, process.
    #[default]
    Chain,
    /// Requests are not signed.
    Anonymous,
    /// These.
    Static {
        /// The public part.
        access_key: String,
        /// The secret.
        secret_key: String,
        /// The session token of temporary credentials.
        session_token: Option<String>,
    },
}

impl fmt::Debug for CredentialSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Chain => "Chain",
            Self::Anonymous => "Anonymous",
            Self::Static { .. } => "Static(hidden)",
        })
    }
}

/// Encryption at the server.
#[derive(Debug, Clone, Default)]
pub enum Sse {
    /// Whatever the bucket does by default.
    #[default]
    None,
    /// With keys of the store (`AES256`).
    S3,
    /// With a key of the key service.
    Kms {
        /// The key; `None` is the default of the account.
        key_id: Option<String>,
    },
    /// With a key that is sent with every request and kept nowhere.
    Customer {
        /// The key.
        key: CustomerKey,
    },
}

/// A 256-bit key of the customer. `Debug` hides it; its memory is overwritten when it is dropped.
#[derive(Clone)]
pub struct CustomerKey(zeroize::Zeroizing<[u8; 32]>);

impl CustomerKey {
    /// Takes the key's bytes.
    pub fn new(key: [u8; 32]) -> Self {
        Self(zeroize::Zeroizing::new(key))
    }

    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for CustomerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CustomerKey(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_style_follows_the_endpoint_unless_set() {
        let mut config = S3Config::new("b");
        for (endpoint, expected) in [
            (None, false),
            (Some("http://127.0.0.1:9000"), true),
            (Some("https://s3.eu-west-1.amazonaws.com"), false),
            (Some("https://amazonaws.com.example.org/"), true),
        ] {
            assert_eq!(config.force_path_style(endpoint), expected, "{endpoint:?}");
        }
        config.path_style = PathStyle::Off;
        assert!(!config.force_path_style(Some("http://127.0.0.1:9000")));
    }

    #[test]
    fn debug_hides_every_secret() {
        let mut config = S3Config::new("b");
        config.credentials = CredentialSource::Static {
            access_key: "AKIDSECRET".into(),
            secret_key: "SECRET".into(),
            session_token: Some("SECRETTOKEN".into()),
        };
        config.sse = Sse::Customer { key: CustomerKey::new([b'S'; 32]) };
        let text = format!("{config:?}");
        assert!(!text.contains("SECRET") && !text.contains("83, 83"), "{text}");
    }
}
