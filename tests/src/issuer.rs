//! The services that programs on AWS get their credentials from, as far as the SDK asks them: instance metadata
//! (IMDSv2), the container endpoint of ECS and EKS, the portal of IAM Identity Center (SSO), and STS for web
//! identities. All give out the same credentials.

use crate::foreign::Session;
use crate::http::HttpServer;
use anyhow::Result;
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Response, StatusCode};

/// When the credentials end, for those services that give a time in text, and for the portal in milliseconds.
const END: (&str, u64) = ("2099-01-01T00:00:00Z", 4_070_908_800_000);

/// Starts a server of all of them that gives out `session`.
pub async fn start(session: Session) -> Result<HttpServer> {
    HttpServer::start(move |request| answer(&session, request.method(), request.uri().path())).await
}

fn answer(session: &Session, method: &Method, path: &str) -> Response<Full<Bytes>> {
    let text = match (method.as_str(), path) {
        ("PUT", "/latest/api/token") => "token".into(),
        ("GET", "/latest/meta-data/iam/security-credentials/") => "role".into(),
        ("GET", "/latest/meta-data/iam/security-credentials/role" | "/container") => json(session),
        ("GET", "/federation/credentials") => portal(session),
        ("POST", "/") => web_identity(session),
        _ => {
            let mut missing = Response::default();
            *missing.status_mut() = StatusCode::NOT_FOUND;
            return missing;
        }
    };
    let answer = Response::builder().header("x-aws-ec2-metadata-token-ttl-seconds", "21600");
    answer.body(Full::new(Bytes::from(text))).expect("plain headers")
}

fn json(session: &Session) -> String {
    let Session { access_key, secret_key, token } = session;
    serde_json::json!({
        "Code": "Success", "Type": "AWS-HMAC", "LastUpdated": "2026-01-01T00:00:00Z", "Expiration": END.0,
        "AccessKeyId": access_key, "SecretAccessKey": secret_key, "Token": token,
    })
    .to_string()
}

fn portal(session: &Session) -> String {
    let Session { access_key, secret_key, token } = session;
    let role = serde_json::json!({
        "accessKeyId": access_key, "secretAccessKey": secret_key, "sessionToken": token, "expiration": END.1,
    });
    serde_json::json!({ "roleCredentials": role }).to_string()
}

fn web_identity(session: &Session) -> String {
    let Session { access_key, secret_key, token } = session;
    format!(
        "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">
           <AssumeRoleWithWebIdentityResult><Credentials>
             <AccessKeyId>{access_key}</AccessKeyId><SecretAccessKey>{secret_key}</SecretAccessKey>
             <SessionToken>{token}</SessionToken><Expiration>{}</Expiration>
           </Credentials></AssumeRoleWithWebIdentityResult>
         </AssumeRoleWithWebIdentityResponse>",
        END.0
    )
}
