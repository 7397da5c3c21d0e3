//! Keys of a role for the service account of a pod: the kubelet hands over the pod's token, and the store's token service
//! gives temporary keys for it (AssumeRoleWithWebIdentity, on AWS and on MinIO).
//!
//! A mount has the token as a private file beside a note of the role. `tarn-csi credentials` sees both and asks for keys
//! whenever the mount needs new ones; the kubelet has the token replaced before it ends.

use crate::credentials::{Credentials, write_private};
use crate::error::{Error, Kind, Result};
use aws_sdk_sts::config::{BehaviorVersion, Region};
use aws_sdk_sts::error::{DisplayErrorContext, ProvideErrorMetadata};
use std::collections::HashMap;
use std::fmt;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::SystemTime;
use tarn_fs::store::{CredentialSource, S3Config, S3Store};
use zeroize::Zeroizing;

/// Where the kubelet puts the tokens of a pod: a volume's context, or its secrets since Kubernetes 1.35.
const TOKENS: &str = "csi.storage.k8s.io/serviceAccount.tokens";
const ROLE: &str = "role.json";
const TOKEN: &str = "token";
/// The region of services that have none.
const DEFAULT_REGION: &str = "us-east-1";

/// The token of a pod's service account. `Debug` hides it; its memory is overwritten when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Zeroizing<String>);

impl Token {
    /// Finds the token for `audience` in a call; an error says what the cluster lacks.
    pub fn find(
        context: &HashMap<String, String>,
        secrets: &HashMap<String, String>,
        audience: &str,
    ) -> Result<Self> {
        let lacking = |what: String| {
            let text =
                format!("{what}; the CSIDriver object needs tokenRequests with the audience {audience:?}");
            Error::new(Kind::Precondition, text)
        };
        let tokens = secrets.get(TOKENS).or_else(|| context.get(TOKENS));
        let tokens = tokens.ok_or_else(|| lacking("the kubelet gives no token of the pod".to_owned()))?;
        // What is wrong with it is not said: it would be said with the token.
        let tokens: serde_json::Value =
            serde_json::from_str(tokens).map_err(|_| Error::invalid("the pod's tokens are no JSON"))?;
        let token = tokens[audience]["token"].as_str().filter(|token| !token.is_empty());
        let token = token.ok_or_else(|| lacking(format!("the pod has no token for {audience:?}")))?;
        Ok(Self(Zeroizing::new(token.to_owned())))
    }

    /// Writes it into the folder of a mount's keys.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        write_private(&folder.join(TOKEN), &self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(hidden)")
    }
}

/// Whose keys a pod gets.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Role {
    /// The role.
    pub arn: String,
    /// How the session is called in the store's log.
    pub session: String,
}

/// Where the token service is.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Site {
    /// The store's endpoint; `None` is AWS, and an endpoint of AWS has the service elsewhere.
    pub endpoint: Option<String>,
    /// The region.
    pub region: Option<String>,
    /// Further certificates to trust.
    pub ca_bundle: Option<String>,
}

impl Role {
    /// A role for the pod that a volume's context names.
    pub fn new(arn: &str, context: &HashMap<String, String>) -> Self {
        /// The longest name of a session (STS API reference, "AssumeRoleWithWebIdentity").
        const LONGEST: usize = 64;
        let of = |name: &str| context.get(&format!("csi.storage.k8s.io/{name}")).map_or("", String::as_str);
        let plain = |c: &char| c.is_ascii_alphanumeric() || "_=.@-".contains(*c);
        let name = format!("tarn.{}.{}", of("pod.namespace"), of("pod.name"));
        let session = name.chars().filter(plain).take(LONGEST).collect();
        Self { arn: arn.to_owned(), session }
    }

    /// Writes it into the folder of a mount's keys.
    pub fn write(&self, folder: &Path, site: &Site) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        write_private(&folder.join(ROLE), &serde_json::to_string(&(self, site))?)
    }
}

/// The keys of a mount's folder: those in it, or those of its role, and when they end.
pub async fn keys(folder: &Path, now: SystemTime) -> Result<(Credentials, SystemTime)> {
    let failed =
        |error: io::Error| Error::local(format_args!("read the keys in {}", folder.display()), &error);
    let note = match fs::read_to_string(folder.join(ROLE)) {
        Ok(note) => note,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let keys = Credentials::read(folder).map_err(failed)?;
            return Ok((keys, now + crate::credentials::LIFETIME));
        }
        Err(error) => return Err(failed(error)),
    };
    let (role, site): (Role, Site) = serde_json::from_str(&note).map_err(|error| failed(error.into()))?;
    let token = fs::read_to_string(folder.join(TOKEN)).map_err(failed)?;
    assume(&role, &site, &Zeroizing::new(token)).await
}

async fn assume(role: &Role, site: &Site, token: &str) -> Result<(Credentials, SystemTime)> {
    // The store's client knows how its service is reached; its connections serve here too.
    let store = S3Store::connect(S3Config {
        endpoint: site.endpoint.clone(),
        region: site.region.clone(),
        ca_bundle: site.ca_bundle.clone().map(Into::into),
        credentials: CredentialSource::Anonymous,
        ..S3Config::new("none")
    })
    .await?;
    let s3 = store.client().config();
    let region = s3.region().cloned().unwrap_or(Region::from_static(DEFAULT_REGION));
    let amazon = |url: &&String| !url.contains(".amazonaws.com");
    let mut config = aws_sdk_sts::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(region)
        .allow_no_auth();
    config.set_endpoint_url(site.endpoint.as_ref().filter(amazon).cloned());
    config.set_http_client(s3.http_client());
    config.set_sleep_impl(s3.sleep_impl());
    let call = aws_sdk_sts::Client::from_conf(config.build()).assume_role_with_web_identity();
    let call = call.role_arn(&role.arn).role_session_name(&role.session).web_identity_token(token);
    let answer = call.send().await.map_err(|error| {
        let why = error.message().map_or_else(|| DisplayErrorContext(&error).to_string(), str::to_owned);
        Error::new(Kind::Denied, format!("assume the role {}: {why}", role.arn))
    })?;
    let keys = answer.credentials();
    let keys = keys.ok_or_else(|| Error::new(Kind::Internal, "the token service gave no keys"))?;
    let end = SystemTime::try_from(*keys.expiration());
    let end = end.map_err(|error| Error::new(Kind::Internal, format!("the keys' end: {error}")))?;
    let temporary =
        Credentials::temporary(keys.access_key_id(), keys.secret_access_key(), keys.session_token());
    Ok((temporary, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_token_is_found_in_context_and_secrets_and_never_shown() {
        let tokens = r#"{"sts": {"token": "SHOWN", "expirationTimestamp": "2030-01-01T00:00:00Z"}}"#;
        let given = map(&[(TOKENS, tokens)]);
        for (context, secrets) in [(&given, &HashMap::new()), (&HashMap::new(), &given)] {
            let token = Token::find(context, secrets, "sts").expect("found");
            assert_eq!((token.0.as_str(), format!("{token:?}").as_str()), ("SHOWN", "Token(hidden)"));
        }
        for (context, audience) in
            [(&given, "other"), (&HashMap::new(), "sts"), (&map(&[(TOKENS, "SHOWN{")]), "sts")]
        {
            let error = Token::find(context, &HashMap::new(), audience).expect_err("lacking");
            assert!(!error.message.contains("SHOWN"), "{error}");
        }
    }

    #[test]
    fn a_session_has_a_name_that_the_service_takes() {
        let context =
            map(&[("csi.storage.k8s.io/pod.namespace", "blue"), ("csi.storage.k8s.io/pod.name", "web,0 \n")]);
        assert_eq!(Role::new("arn:x", &context).session, "tarn.blue.web0");
        assert_eq!(Role::new("arn:x", &HashMap::new()).session, "tarn..");
        let long = map(&[("csi.storage.k8s.io/pod.name", &"x".repeat(200))]);
        assert_eq!(Role::new("arn:x", &long).session.len(), 64);
    }
}
