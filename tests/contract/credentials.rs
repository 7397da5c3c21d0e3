//! Where credentials come from: every source of the SDK's chain ends in a store that answers.

use std::fs;
use std::path::Path;
use std::time::Duration;
use tarn_tests::foreign::{Foreign, Session};
use tarn_tests::server::{ACCESS_KEY, SECRET_KEY, Server};
use tarn_tests::{issuer, mount, run};

/// The file that the portal's token is kept in: the SHA-1 of the start URL below.
const SSO_TOKEN: &str = "98df91031e87f97bfc088c045be6442dc5d70b2a.json";

/// What `tarn doctor` says of the credentials that it finds with these variables.
fn judged(server: &Server, home: &Path, variables: &[(&str, &str)]) -> run::Outcome {
    let mut doctor = mount::tarn().expect("the binary");
    doctor
        .args(["doctor", "s3://bucket", "--endpoint", &server.endpoint(), "--cache-dir"])
        .arg(home.join("cache"))
        .env("HOME", home)
        .env("AWS_CONFIG_FILE", home.join("config"))
        .env("AWS_SHARED_CREDENTIALS_FILE", home.join("credentials"))
        .env("AWS_REGION", "us-east-1")
        .envs(variables.iter().copied());
    run::run(&mut doctor, Duration::from_secs(60)).expect("it ends")
}

/// The files of a user who has everything set up, each way in a profile of its own.
fn write_files(home: &Path, session: &Session) {
    let Session { access_key, secret_key, token } = session;
    let process = serde_json::json!({
        "Version": 1, "AccessKeyId": access_key, "SecretAccessKey": secret_key, "SessionToken": token,
    });
    let config = format!(
        "[profile process]\ncredential_process = cat {}\n\
         [profile sso]\nsso_start_url = https://sso.example/start\nsso_region = us-east-1\n\
         sso_account_id = 123456789012\nsso_role_name = reader\nregion = us-east-1\n",
        home.join("process.json").display()
    );
    let credentials = format!(
        "[file]\naws_access_key_id = {access_key}\naws_secret_access_key = {secret_key}\n\
         aws_session_token = {token}\n"
    );
    let portal = serde_json::json!({ "accessToken": "token", "expiresAt": "2099-01-01T00:00:00Z" });
    let tokens = home.join(".aws/sso/cache");
    fs::create_dir_all(&tokens).expect("a folder");
    for (path, text) in [
        (home.join("config"), config),
        (home.join("credentials"), credentials),
        (home.join("process.json"), process.to_string()),
        (home.join("web-identity"), "token".into()),
        (tokens.join(SSO_TOKEN), portal.to_string()),
    ] {
        fs::write(path, text).expect("a file");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_source_of_the_chain_opens_a_bucket() {
    let server = Server::start_small().expect("MinIO starts");
    let foreign = Foreign::start(&server.endpoint()).expect("another client");
    foreign.bucket("bucket").create().expect("a bucket");
    let session = foreign.session().expect("temporary credentials");
    let home = tempfile::tempdir().expect("a folder");
    write_files(home.path(), &session);
    let issuer = issuer::start(session.clone()).await.expect("the services");
    let (endpoint, container) = (issuer.endpoint(), format!("{}/container", issuer.endpoint()));
    let web_identity = home.path().join("web-identity");
    let off = ("AWS_EC2_METADATA_DISABLED", "true");
    let sources: [(&str, &[(&str, &str)]); 7] = [
        (
            "environment",
            &[
                ("AWS_ACCESS_KEY_ID", &session.access_key),
                ("AWS_SECRET_ACCESS_KEY", &session.secret_key),
                ("AWS_SESSION_TOKEN", &session.token),
                off,
            ],
        ),
        ("profile", &[("AWS_PROFILE", "file"), off]),
        ("process", &[("AWS_PROFILE", "process"), off]),
        ("SSO", &[("AWS_PROFILE", "sso"), ("AWS_ENDPOINT_URL_SSO", &endpoint), off]),
        (
            "web identity",
            &[
                ("AWS_WEB_IDENTITY_TOKEN_FILE", web_identity.to_str().expect("plain")),
                ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/reader"),
                ("AWS_ENDPOINT_URL_STS", &endpoint),
                off,
            ],
        ),
        ("container", &[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &container), off]),
        ("instance", &[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &endpoint)]),
    ];
    for (source, variables) in sources {
        let outcome = judged(&server, home.path(), variables);
        assert!(outcome.stdout.contains(", 0 failed"), "{source}: {outcome:?}");
        let said = format!("{}{}", outcome.stdout, outcome.stderr);
        assert!(!said.contains(&session.secret_key) && !said.contains(&session.token), "{source} is told");
    }
    let outcome = judged(&server, home.path(), &[off]);
    assert!(!outcome.status.success() && outcome.stdout.contains("FAIL"), "without any: {outcome:?}");
}

#[test]
fn a_machine_without_ca_certificates_is_told_what_to_do() {
    let server = Server::start_small().expect("MinIO starts");
    let home = tempfile::tempdir().expect("a folder");
    let nobody = home.path().join("nobody");
    let nobody = nobody.to_str().expect("plain");
    let trusts = [("SSL_CERT_FILE", nobody), ("SSL_CERT_DIR", nobody), ("AWS_EC2_METADATA_DISABLED", "true")];
    let mut tls = mount::tarn().expect("the binary");
    tls.args(["doctor", "s3://bucket", "--endpoint", "https://127.0.0.1:1", "--cache-dir"]);
    tls.arg(home.path().join("cache")).envs(trusts);
    let refused = run::run(&mut tls, Duration::from_secs(60)).expect("it ends");
    let said = format!("{}{}", refused.stdout, refused.stderr);
    assert!(said.contains("install ca-certificates, or set ca-bundle"), "{said}");
    let keys = [("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY)];
    let plain = judged(&server, home.path(), &[&trusts[..], &keys[..]].concat());
    assert!(plain.stdout.contains("OK"), "keys of the environment need no TLS: {plain:?}");
}
