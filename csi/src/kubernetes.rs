//! The few calls to the Kubernetes API that the cache volume's part of the driver makes, with the rights of its pod. It
//! writes by server-side apply, so that what others have set stays.

use crate::error::{Error, Kind, Result};
use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use aws_smithy_http_client::Connector;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_runtime_api::client::http::HttpConnector;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where Kubernetes puts the token of a pod's service account.
pub const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Who has set the fields that are written here.
const MANAGER: &str = "tarn-csi";
const CALL_TIME: Duration = Duration::from_secs(10);

/// The API of the cluster.
#[derive(Debug)]
pub struct Kubernetes {
    connector: Connector,
    url: String,
    token: PathBuf,
}

impl Kubernetes {
    /// The API at `url`, or the one that the pod was told of, with the token and the certificate in `account`.
    pub fn connect(url: Option<&str>, account: &Path) -> Result<Self> {
        let url = match url {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => from_environment()?,
        };
        let connector = if url.starts_with("http://") {
            Connector::builder().build_http()
        } else {
            let context = trust(&account.join("ca.crt"))?;
            Connector::builder().tls_provider(Provider::Rustls(CryptoMode::Ring)).tls_context(context).build()
        };
        Ok(Self { connector, url, token: account.join("token") })
    }

    /// Reads an object.
    pub async fn get(&self, path: &str) -> Result<Value> {
        self.call("GET", path, None).await
    }

    /// Makes an object have these fields, and gives it as it is then. It is made if it is not there.
    pub async fn apply(&self, path: &str, fields: &Value) -> Result<Value> {
        self.call("PATCH", &format!("{path}?fieldManager={MANAGER}&force=true"), Some(fields)).await
    }

    async fn call(&self, method: &str, path: &str, fields: Option<&Value>) -> Result<Value> {
        let failed = |kind, why: String| Error::new(kind, format!("{method} {path}: {why}"));
        // It is renewed while the pod runs.
        let token =
            fs::read_to_string(&self.token).map_err(|error| Error::local("read the pod's token", &error))?;
        let mut request = HttpRequest::new(SdkBody::from(fields.map(Value::to_string).unwrap_or_default()));
        let set = request.set_method(method).map_err(|error| error.to_string());
        let set = set
            .and_then(|()| request.set_uri(format!("{}{path}", self.url)).map_err(|error| error.to_string()));
        set.map_err(|why| failed(Kind::Internal, why))?;
        let headers = request.headers_mut();
        headers.insert("authorization", format!("Bearer {}", token.trim()));
        headers.insert("accept", "application/json");
        if fields.is_some() {
            // JSON is YAML; the API knows this kind of patch by no other name.
            headers.insert("content-type", "application/apply-patch+yaml");
        }
        let answer = tokio::time::timeout(CALL_TIME, async {
            let response = self.connector.call(request).await.map_err(|error| format!("{error:?}"))?;
            let status = response.status();
            let body =
                ByteStream::new(response.into_body()).collect().await.map_err(|error| error.to_string())?;
            Ok::<_, String>((status, body.into_bytes()))
        });
        let away = |why: String| failed(Kind::Unavailable, why);
        let (status, body) = answer.await.map_err(|_| away("no answer in time".to_owned()))?.map_err(away)?;
        let value: Value = serde_json::from_slice(&body).unwrap_or_default();
        if status.is_success() {
            return Ok(value);
        }
        let kind = match status.as_u16() {
            401 | 403 => Kind::Denied,
            404 => Kind::NotFound,
            _ => Kind::Unavailable,
        };
        let said = value.get("message").and_then(Value::as_str).unwrap_or("no reason given");
        Err(failed(kind, format!("{}: {said}", status.as_u16())))
    }
}

fn from_environment() -> Result<String> {
    let variable = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    match (variable("KUBERNETES_SERVICE_HOST"), variable("KUBERNETES_SERVICE_PORT")) {
        (Some(host), Some(port)) if host.contains(':') => Ok(format!("https://[{host}]:{port}")),
        (Some(host), Some(port)) => Ok(format!("https://{host}:{port}")),
        (_, _) => Err(Error::new(Kind::Precondition, "this is no pod: name the API with --kubernetes")),
    }
}

/// Trusts the cluster's certificate and no other.
fn trust(file: &Path) -> Result<TlsContext> {
    let text = fs::read_to_string(file);
    let text = text.map_err(|error| Error::local(format_args!("read {}", file.display()), &error))?;
    // The TLS library panics when it has nothing to trust.
    if !text.contains("-----BEGIN CERTIFICATE-----") {
        return Err(Error::new(Kind::Internal, format!("{} holds no certificate", file.display())));
    }
    let store = TrustStore::empty().with_pem_certificate(text.into_bytes());
    let context = TlsContext::builder().with_trust_store(store).build();
    context.map_err(|error| Error::new(Kind::Internal, format!("{}: {error}", file.display())))
}

#[cfg(test)]
pub(crate) mod fake;

#[cfg(test)]
mod tests {
    use super::fake::FakeApi;
    use super::*;
    use serde_json::json;

    const PATH: &str = "/apis/tarn.dev/v1alpha1/cachevolumes/node-1";

    #[tokio::test]
    async fn what_is_refused_or_missing_is_told_apart() {
        let api = FakeApi::start().await;
        let client = api.client();
        assert_eq!(client.get("/api/v1/nodes/other").await.expect_err("none").kind, Kind::NotFound);
        let missing = client.apply(&format!("{PATH}/status"), &json!({})).await;
        assert_eq!(missing.expect_err("no object").kind, Kind::NotFound);
        api.fail(1);
        let error = client.get("/api/v1/nodes/node-1").await.expect_err("away");
        assert!(error.kind == Kind::Unavailable && error.message.contains("the API rests"), "{error}");
        // The token is read anew for each call: it is renewed while the pod runs.
        std::fs::write(api.token_file(), "another").expect("written");
        let error = client.get("/api/v1/nodes/node-1").await.expect_err("not known");
        assert!(error.kind == Kind::Denied && !error.message.contains("another"), "{error}");
    }

    #[test]
    fn only_the_clusters_certificate_is_trusted_and_without_it_nothing_is() {
        let account = tempfile::tempdir().expect("temp dir");
        let connect = || Kubernetes::connect(Some("https://10.96.0.1:443"), account.path()).map(drop);
        assert!(connect().expect_err("no file").message.contains("ca.crt"));
        std::fs::write(account.path().join("ca.crt"), "").expect("written");
        assert!(connect().expect_err("empty").message.contains("no certificate"));
    }
}
