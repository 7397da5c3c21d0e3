//! The rights of pods: each mounts with the token of its own service account, which MinIO's token service takes for keys.
//!
//! The issuer of the tokens is this program. MinIO also takes tokens that are signed with the secret it shares with the
//! issuer, which saves a key pair.

use crate::Test;
use crate::life::{Volume, block};
use anyhow::{Result, ensure};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tarn_tests::csi::Driver;
use tarn_tests::foreign::Foreign;
use tarn_tests::server::Server;

pub(crate) const TESTS: &[(&str, Test)] =
    &[("pods::a_pod_mounts_with_the_rights_of_its_service_account", own_rights)];

const CLIENT: &str = "tarn-test";
const SHARED_SECRET: &str = "shared by the issuer and the store";
/// What MinIO calls the role of that client: the SHA-1 of its name.
const ROLE: &str = "arn:minio:iam:::role/o98DpiH4GtOD58iyG3I6aFLTo7g";

fn own_rights(_: &Server) -> Result<()> {
    let issuer = issuer()?;
    let server = Server::start_with(&[
        ("MINIO_IDENTITY_OPENID_CONFIG_URL", &format!("{issuer}/.well-known/openid-configuration")),
        ("MINIO_IDENTITY_OPENID_CLIENT_ID", CLIENT),
        ("MINIO_IDENTITY_OPENID_CLIENT_SECRET", SHARED_SECRET),
        ("MINIO_IDENTITY_OPENID_ROLE_POLICY", "readwrite"),
    ])?;
    block(async {
        let driver = Driver::start(&server, &["--token-audience", CLIENT])?;
        // Nothing but the pod's token can serve.
        std::fs::write(driver.state().with_file_name("keys").join("secretAccessKey"), "not valid")?;
        let foreign = Foreign::start(&server.endpoint())?;
        let bucket = foreign.bucket("team-data");
        bucket.create()?;
        let context = HashMap::from([
            ("bucket".to_owned(), "team-data".to_owned()),
            ("roleArn".to_owned(), ROLE.to_owned()),
            ("csi.storage.k8s.io/pod.name".to_owned(), "web-0".to_owned()),
        ]);
        let mut volume = Volume::of(&driver, driver.client().await?, "team".to_owned(), context);
        volume.stage().await?;
        let (one, two) = (driver.kubelet("pod-one"), driver.kubelet("pod-two"));
        let good = token(SHARED_SECRET);
        volume.context.insert(TOKENS.to_owned(), tokens(&good));
        volume.publish(&one, false).await?;
        std::fs::write(one.join("file"), b"x")?;
        ensure!(bucket.get("file")? == b"x", "the object differs");
        // The kubelet calls again while the pod runs.
        volume.context.insert(TOKENS.to_owned(), tokens(&token(SHARED_SECRET)));
        volume.publish(&one, false).await?;
        ensure!(std::fs::read(one.join("file"))? == b"x", "the mount was disturbed");
        volume.context.insert(TOKENS.to_owned(), tokens(&token("another secret")));
        let error = format!("{:#}", volume.publish(&two, false).await.expect_err("a false token"));
        ensure!(error.contains("s3://team-data"), "{error}");
        let signature = good.rsplit('.').next().unwrap_or_default();
        ensure!(!error.contains(signature) && !driver.log().contains(signature), "a token is shown");
        volume.unpublish(&one).await?;
        volume.unpublish(&two).await?;
        volume.unstage().await?;
        ensure!(std::fs::read_dir(driver.state())?.next().is_none(), "a token stays behind");
        Ok(())
    })
}

const TOKENS: &str = "csi.storage.k8s.io/serviceAccount.tokens";

/// The tokens of a pod as the kubelet hands them over.
fn tokens(token: &str) -> String {
    json!({ CLIENT: { "token": token, "expirationTimestamp": "2100-01-01T00:00:00Z" } }).to_string()
}

/// A token of a service account (RFC 7519), signed with a shared secret (HS256).
fn token(secret: &str) -> String {
    let end = SystemTime::now() + Duration::from_secs(4 * 3600);
    let end = end.duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let head = json!({ "alg": "HS256", "typ": "JWT", "kid": CLIENT });
    let body = json!({ "sub": "system:serviceaccount:blue:web", "aud": CLIENT, "exp": end, "iss": "tests" });
    let part = |value: String| BASE64_URL_SAFE_NO_PAD.encode(value);
    let signed = format!("{}.{}", part(head.to_string()), part(body.to_string()));
    let signature = BASE64_URL_SAFE_NO_PAD.encode(hmac(secret.as_bytes(), signed.as_bytes()));
    format!("{signed}.{signature}")
}

/// HMAC-SHA256 (RFC 2104) with a key of at most 64 bytes.
fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let pad = |mask: u8| {
        let mut block = [mask; 64];
        block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
        block
    };
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(text).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().to_vec()
}

/// The pages that say who issues the tokens; its URL. It lives as long as this program.
fn issuer() -> Result<String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let url = format!("http://{}", listener.local_addr()?);
    let pages = json!({ "issuer": url, "jwks_uri": format!("{url}/keys"), "keys": [] }).to_string();
    std::thread::Builder::new().name("issuer".into()).spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let read = stream.try_clone().map(BufReader::new);
            let Ok(request) = read else { continue };
            // The head ends with an empty line; the same page answers every question.
            let head = request.lines().map_while(Result::ok).take_while(|line| !line.is_empty());
            if head.count() > 0 {
                let length = pages.len();
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{pages}"
                );
                // A client that is gone needs no answer.
                let _ = stream.write_all(answer.as_bytes());
            }
        }
    })?;
    Ok(url)
}
