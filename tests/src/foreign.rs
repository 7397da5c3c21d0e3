//! Another S3 client, unrelated to tarn: boto3 in a Python process of its own (tests/foreign.py). What tarn did is
//! judged by what this client sees, and what others do to a bucket is done by it.

use crate::server::{ACCESS_KEY, SECRET_KEY};
use crate::{paths, run};
use anyhow::{Context, Result, bail};
use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::{Mutex, PoisonError};

/// One object as the other client sees it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
pub struct Object {
    /// Its key.
    pub key: String,
    /// Its size as listed.
    pub size: u64,
    /// SHA-256 of what a GET delivers.
    pub sha256: String,
}

/// What HEAD says.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
pub struct Head {
    /// Length in bytes.
    pub size: u64,
    /// The tag, with its quotes.
    pub etag: String,
    /// The content type.
    #[serde(rename = "type")]
    pub content_type: String,
    /// `Expires`.
    pub expires: String,
    /// User metadata.
    pub metadata: BTreeMap<String, String>,
}

/// Temporary credentials.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
pub struct Session {
    /// The public part.
    pub access_key: String,
    /// The secret.
    pub secret_key: String,
    /// The session token, without which they are not valid.
    pub token: String,
}

/// The client. Safe to use from several threads, one request at a time.
#[derive(Debug)]
pub struct Foreign {
    child: Child,
    pipes: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
}

impl Foreign {
    /// Starts the client against an endpoint.
    pub fn start(endpoint: &str) -> Result<Self> {
        let mut child = run::command(paths::tool("venv/bin/python")?)
            .arg(paths::root().join("tests/foreign.py"))
            .env("FOREIGN_ENDPOINT", endpoint)
            .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
            .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
            .env("AWS_CONFIG_FILE", "/dev/null")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start the other client")?;
        let stdin = child.stdin.take().context("its standard input")?;
        let stdout = BufReader::new(child.stdout.take().context("its standard output")?);
        Ok(Self { child, pipes: Mutex::new((stdin, stdout)) })
    }

    /// A bucket of that server, which must exist.
    pub fn bucket<'a>(&'a self, name: &'a str) -> Bucket<'a> {
        Bucket { client: self, name }
    }

    /// Temporary credentials of this client's user (STS `AssumeRole`).
    pub fn session(&self) -> Result<Session> {
        serde_json::from_value(self.ask(&json!({"op": "session"}))?).context("temporary credentials")
    }

    /// Asks, and waits for the answer; an error code of the server is an error.
    fn ask(&self, request: &Value) -> Result<Value> {
        // A test that failed in here has failed; the next one gets a pipe that is still in step, or an error.
        let mut pipes = self.pipes.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(pipes.0, "{request}").context("ask the other client")?;
        let mut line = String::new();
        pipes.1.read_line(&mut line).context("answer of the other client")?;
        let mut answer: Value =
            serde_json::from_str(&line).with_context(|| format!("answer of the other client: {line:?}"))?;
        if let Some(error) = answer.get("error") {
            bail!("{} {}: {error}", request["op"], request["key"]);
        }
        Ok(answer["ok"].take())
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        self.child.kill().expect("kill a child that was not waited for");
        self.child.wait().expect("wait for the other client");
    }
}

/// One bucket, seen by the other client.
#[derive(Debug, Clone, Copy)]
pub struct Bucket<'a> {
    client: &'a Foreign,
    name: &'a str,
}

impl Bucket<'_> {
    /// Its name.
    pub fn name(&self) -> &str {
        self.name
    }

    /// Makes it.
    pub fn create(&self) -> Result<()> {
        self.client.ask(&json!({"op": "create", "bucket": self.name})).map(drop)
    }

    /// Removes it with all that is in it.
    pub fn drop_all(&self) -> Result<()> {
        self.client.ask(&json!({"op": "drop", "bucket": self.name})).map(drop)
    }

    /// All objects, with the checksum of their content.
    pub fn objects(&self) -> Result<Vec<Object>> {
        let answer = self.client.ask(&json!({"op": "list", "bucket": self.name}))?;
        serde_json::from_value(answer).context("list of objects")
    }

    /// All keys.
    pub fn keys(&self) -> Result<Vec<String>> {
        let answer = self.client.ask(&json!({"op": "keys", "bucket": self.name}))?;
        serde_json::from_value(answer).context("list of keys")
    }

    /// The prefixes that a listing of this one shows, up to their `/`.
    pub fn prefixes(&self, prefix: &str) -> Result<Vec<String>> {
        let answer = self.client.ask(&json!({"op": "prefixes", "bucket": self.name, "prefix": prefix}))?;
        serde_json::from_value(answer).context("list of prefixes")
    }

    /// The keys below a prefix with their sizes.
    pub fn sizes(&self, prefix: &str) -> Result<BTreeMap<String, u64>> {
        let answer = self.client.ask(&json!({"op": "sizes", "bucket": self.name, "prefix": prefix}))?;
        serde_json::from_value(answer).context("list of sizes")
    }

    /// Removes all objects below a prefix.
    pub fn clear(&self, prefix: &str) -> Result<()> {
        self.client.ask(&json!({"op": "clear", "bucket": self.name, "prefix": prefix})).map(drop)
    }

    /// Keys of the multipart uploads that are neither completed nor aborted.
    pub fn uploads(&self) -> Result<Vec<String>> {
        let answer = self.client.ask(&json!({"op": "uploads", "bucket": self.name}))?;
        serde_json::from_value(answer).context("list of uploads")
    }

    /// Aborts them.
    pub fn abort_uploads(&self) -> Result<()> {
        self.client.ask(&json!({"op": "abort", "bucket": self.name})).map(drop)
    }

    /// Puts an object.
    pub fn put(&self, key: &str, body: &[u8]) -> Result<()> {
        self.put_with(key, body, &BTreeMap::new())
    }

    /// Puts an object with user metadata.
    pub fn put_with(&self, key: &str, body: &[u8], metadata: &BTreeMap<String, String>) -> Result<()> {
        let body = BASE64_STANDARD.encode(body);
        let request =
            json!({"op": "put", "bucket": self.name, "key": key, "body": body, "metadata": metadata});
        self.client.ask(&request).map(drop)
    }

    /// Puts an object that is out of date from a time on, as HTTP writes it.
    pub fn put_expiring(&self, key: &str, body: &[u8], expires: &str) -> Result<()> {
        let body = BASE64_STANDARD.encode(body);
        let request = json!({
            "op": "put_expiring", "bucket": self.name, "key": key, "body": body, "expires": expires,
        });
        self.client.ask(&request).map(drop)
    }

    /// Puts an object with this checksum beside it (`CRC32` or `CRC32C`), or with none.
    pub fn put_checked(&self, key: &str, body: &[u8], checksum: &str) -> Result<()> {
        let body = BASE64_STANDARD.encode(body);
        let request = json!({
            "op": "put_checked", "bucket": self.name, "key": key, "body": body, "checksum": checksum,
        });
        self.client.ask(&request).map(drop)
    }

    /// Reads an object.
    pub fn get(&self, key: &str) -> Result<Vec<u8>> {
        let answer = self.client.ask(&json!({"op": "get", "bucket": self.name, "key": key}))?;
        BASE64_STANDARD.decode(answer.as_str().context("a body")?).context("a body")
    }

    /// Asks for an object's headers.
    pub fn head(&self, key: &str) -> Result<Head> {
        let answer = self.client.ask(&json!({"op": "head", "bucket": self.name, "key": key}))?;
        serde_json::from_value(answer).context("headers")
    }

    /// Sets an object's tags.
    pub fn tag(&self, key: &str, tags: &BTreeMap<String, String>) -> Result<()> {
        self.client.ask(&json!({"op": "tag", "bucket": self.name, "key": key, "tags": tags})).map(drop)
    }

    /// An object's tags.
    pub fn tags(&self, key: &str) -> Result<BTreeMap<String, String>> {
        let answer = self.client.ask(&json!({"op": "tags", "bucket": self.name, "key": key}))?;
        serde_json::from_value(answer).context("tags")
    }

    /// Deletes an object.
    pub fn delete(&self, key: &str) -> Result<()> {
        self.client.ask(&json!({"op": "delete", "bucket": self.name, "key": key})).map(drop)
    }
}
