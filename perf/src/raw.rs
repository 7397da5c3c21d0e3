//! The raw client: curl with signed URLs, many transfers at once, nothing done with the bytes.

use crate::plan::MIB;
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tarn_tests::server::{ACCESS_KEY, SECRET_KEY};
use tarn_tests::{paths, run};

/// Bytes of each range and part: tarn's own default.
const PART: u64 = 8 * MIB;
/// Transfers at once. On the loopback interface more of them are no faster.
const PARALLEL: &str = "8";
const LIMIT: Duration = Duration::from_secs(600);

/// What a download is called in the report.
pub const DOWNLOAD: &str = "curl -Z, 8 ranges of 8 MiB at once";
/// What an upload is called in the report.
pub const UPLOAD: &str = "curl -Z, multipart, 8 parts of 8 MiB at once";

/// Where the raw client works.
#[derive(Debug, Clone)]
pub struct Client {
    /// The server's URL.
    pub endpoint: String,
    /// The bucket.
    pub bucket: &'static str,
    /// A folder for what curl is to be told.
    pub notes: PathBuf,
}

/// Downloads an object in parallel ranges, to nowhere.
#[derive(Debug)]
pub struct Download {
    config: PathBuf,
    size: u64,
}

impl Download {
    /// Signs the URL.
    pub fn prepare(client: &Client, key: &str, size: u64) -> Result<Self> {
        #[derive(Deserialize)]
        struct Signed {
            url: String,
        }
        let Signed { url } = serde_json::from_str(&presign(client, &["get", client.bucket, key])?)?;
        let mut text = String::new();
        for start in (0..size).step_by(PART as usize) {
            let end = size.min(start + PART) - 1;
            transfer(
                &mut text,
                &format!("url = \"{url}\"\nrange = \"{start}-{end}\"\noutput = \"/dev/null\"\n"),
            );
            text.push_str("write-out = \"%{size_download}\\n\"\n");
        }
        let config = client.notes.join("download.curl");
        fs::write(&config, text)?;
        Ok(Self { config, size })
    }

    /// Downloads once.
    pub fn run(&self) -> Result<Duration> {
        let start = Instant::now();
        let answer = curl(&self.config)?;
        let elapsed = start.elapsed();
        let total =
            answer.lines().map(str::parse::<u64>).sum::<Result<u64, _>>().context("output of curl")?;
        ensure!(total == self.size, "curl has got {total} bytes instead of {}", self.size);
        Ok(elapsed)
    }
}

/// A multipart upload of a local file.
#[derive(Debug)]
pub struct Upload {
    config: PathBuf,
    complete: String,
    note: PathBuf,
    parts: PathBuf,
}

#[derive(Deserialize)]
struct SignedUpload {
    parts: Vec<String>,
    complete: String,
}

impl Upload {
    /// Begins the upload, signs its URLs and cuts the file into parts, for curl sends whole files only.
    pub fn prepare(client: &Client, source: &Path, key: &str) -> Result<Self> {
        let count = fs::metadata(source)?.len().div_ceil(PART).to_string();
        let signed: SignedUpload =
            serde_json::from_str(&presign(client, &["put", client.bucket, key, &count])?)?;
        let parts = client.notes.join("parts");
        fs::create_dir(&parts)?;
        let mut file = File::open(source)?;
        let mut text = String::new();
        for (index, url) in signed.parts.iter().enumerate() {
            let part = parts.join(index.to_string());
            std::io::copy(&mut (&mut file).take(PART), &mut File::create_new(&part)?)?;
            transfer(&mut text, &format!("url = \"{url}\"\nupload-file = \"{}\"\n", part.display()));
            write!(text, "output = \"/dev/null\"\nwrite-out = \"{} %header{{etag}}\\n\"\n", index + 1)?;
        }
        let config = client.notes.join("upload.curl");
        fs::write(&config, text)?;
        Ok(Self { config, complete: signed.complete, note: client.notes.join("complete.xml"), parts })
    }

    /// Sends the parts and completes the upload; the parts are gone afterwards.
    pub fn run(self) -> Result<Duration> {
        let start = Instant::now();
        let answer = curl(&self.config)?;
        self.complete(&answer)?;
        let elapsed = start.elapsed();
        fs::remove_dir_all(&self.parts)?;
        Ok(elapsed)
    }

    fn complete(&self, answer: &str) -> Result<()> {
        let parsed: Option<Vec<(u32, &str)>> = answer
            .lines()
            .map(|line| line.split_once(' ').and_then(|(n, tag)| Some((n.parse().ok()?, tag))))
            .collect();
        let mut parts = parsed.context("output of curl")?;
        parts.sort_unstable();
        let mut body = String::from("<CompleteMultipartUpload>");
        for (number, etag) in parts {
            write!(body, "<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>")?;
        }
        body.push_str("</CompleteMultipartUpload>");
        fs::write(&self.note, body)?;
        let mut text = String::new();
        let options = format!(
            "url = \"{}\"\nrequest = POST\ndata-binary = \"@{}\"\n",
            self.complete,
            self.note.display()
        );
        transfer(&mut text, &options);
        fs::write(&self.config, text)?;
        let answer = curl(&self.config)?;
        // The status is sent before the parts are put together: an error may stand in the body.
        ensure!(answer.contains("CompleteMultipartUploadResult"), "the upload is not completed: {answer}");
        Ok(())
    }
}

/// Adds a transfer to a configuration of curl.
fn transfer(text: &mut String, options: &str) {
    if !text.is_empty() {
        text.push_str("next\n");
    }
    // These hold for one transfer only. An error of the server must end curl with an error.
    text.push_str("silent\nshow-error\nfail\n");
    text.push_str(options);
}

fn curl(config: &Path) -> Result<String> {
    let mut curl = run::command("curl");
    // The signed URLs stand in the file, not in the arguments that everybody can see.
    curl.args(["--disable", "--parallel", "--parallel-immediate", "--parallel-max", PARALLEL, "--config"])
        .arg(config);
    run::must(&mut curl, LIMIT)
}

fn presign(client: &Client, arguments: &[&str]) -> Result<String> {
    let mut python = run::command(paths::tool("venv/bin/python")?);
    python
        .arg(paths::root().join("perf/presign.py"))
        .args(arguments)
        .env("PERF_ENDPOINT", &client.endpoint)
        .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        .env("AWS_CONFIG_FILE", "/dev/null");
    run::must(&mut python, LIMIT)
}
