//! The validated settings of one mount: plain data, no handles. [`Config::build`] is the one door; what it
//! lets through holds together.
//!
//! Order of strength: defaults < TOML file < environment < `-o` < long flags ([`Layers`]). Credentials are no
//! settings: they come from the SDK's chain (environment, profile, web identity, instance role).

mod customer_key;
mod error;
mod layers;
mod listen;
mod reader;
pub mod table;
mod value;
mod words;

pub use customer_key::CustomerKey;
pub use error::{Error, Origin, Place};
pub use layers::{Input, Layers, World};
pub use listen::Listen;
pub use value::{Share, time};
pub use words::{Remount, remount};

use crate::spec::Source;
use reader::Reader;
use std::path::PathBuf;
use std::time::Duration;

/// The least and the most one part of an upload may have (S3 user guide, "multipart upload limits").
const PART_SIZE: std::ops::RangeInclusive<u64> = 5 << 20..=5 << 30;
/// The least memory that keeps a reader and a writer going.
const MEMORY_MIN: u64 = 32 << 20;
/// The memory limit where none is given and two parts need no more.
const MEMORY: u64 = 96 << 20;
/// The smallest cache that is worth its files.
const CACHE_MIN: u64 = 64 << 20;
/// The most requests at once; more only queue in the kernel.
const REQUESTS_MAX: u32 = 1024;

/// All settings of one mount.
#[derive(Debug, Clone)]
pub struct Config {
    /// What is shown.
    pub source: Source,
    /// How the bucket is reached.
    pub store: StoreSettings,
    /// The local store.
    pub cache: CacheSettings,
    /// What files look like and what is allowed.
    pub files: FileSettings,
    /// The serving process.
    pub process: ProcessSettings,
}

/// How the bucket is reached and how objects are written.
#[derive(Debug, Clone)]
pub struct StoreSettings {
    /// The endpoint's URL; `None` is AWS.
    pub endpoint: Option<String>,
    /// The region; `None` leaves it to the SDK's chain.
    pub region: Option<String>,
    /// A profile of `~/.aws`.
    pub profile: Option<String>,
    /// Whether the bucket's name goes into the path; `None` leaves it to the endpoint.
    pub path_style: Option<bool>,
    /// Unsigned requests.
    pub anonymous: bool,
    /// `x-amz-request-payer`.
    pub requester_pays: bool,
    /// Certificates to trust.
    pub ca_bundle: Option<PathBuf>,
    /// Encryption of new objects.
    pub encryption: Encryption,
    /// Class of new objects.
    pub storage_class: Option<String>,
    /// Part size in bytes, 5 MiB to 5 GiB.
    pub part_size: u64,
    /// Requests at once, 1 to 1024.
    pub max_requests: usize,
    /// Limit of one attempt of a request.
    pub request_timeout: Duration,
    /// How long a server that is away is asked again before a call fails.
    pub retry_for: Duration,
    /// Find out at the first mount what the server enforces.
    pub probe: bool,
}

/// Who encrypts new objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Encryption {
    /// Whatever the bucket says.
    BucketDefault,
    /// `AES256`.
    S3,
    /// `aws:kms`, with this key or the account's.
    Kms(Option<String>),
    /// The customer's key, sent with every request.
    Customer(CustomerKey),
}

/// The local store.
#[derive(Debug, Clone)]
pub struct CacheSettings {
    /// Its directory, absolute.
    pub dir: PathBuf,
    /// At most this much; `None` is a tenth of the disk, 1 to 50 GiB.
    pub size: Option<Share>,
    /// Leave this much free; `None` is 5 % of the disk, at most 10 GiB.
    pub min_free: Option<Share>,
}

impl CacheSettings {
    /// The budget in bytes on a disk of `total` bytes.
    pub fn max_bytes(&self, total: u64) -> u64 {
        const GIB: u64 = 1 << 30;
        match self.size {
            Some(size) => size.of(total).max(CACHE_MIN),
            None => (total / 10).clamp(GIB, 50 * GIB),
        }
    }

    /// The floor of free bytes on a disk of `total` bytes.
    pub fn min_free_bytes(&self, total: u64) -> u64 {
        self.min_free.map_or_else(|| (total / 20).min(10 << 30), |share| share.of(total))
    }
}

/// What files look like and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSettings {
    /// Owner of files that carry none.
    pub uid: u32,
    /// Group of files that carry none.
    pub gid: u32,
    /// Permission bits of files that carry none.
    pub file_mode: u32,
    /// Permission bits of directories that carry none.
    pub dir_mode: u32,
    /// Whether files keep attributes of their own; one of [`table::ATTRIBUTES`].
    pub fixed_attributes: bool,
    /// Life of attributes and listings.
    pub attr_ttl: Duration,
    /// Refuse every change.
    pub read_only: bool,
    /// Other users may enter.
    pub allow_other: bool,
    /// Programs may not be run.
    pub no_exec: bool,
    /// The kernel may serve local files by itself.
    pub passthrough: bool,
    /// Every byte is compared with a checksum before it is used, where the object has some; one of
    /// [`table::VERIFIES`].
    pub always_checked: bool,
    /// Bytes buffered in memory.
    pub memory_limit: u64,
    /// When a close is answered; one of [`table::COMMITS`].
    pub commit: Commit,
    /// Who says which of several exclusive creates was first; one of [`table::EXCLUSIVES`].
    pub exclusive: Exclusive,
    /// The most bytes that what is mounted may hold; `None` is no quota.
    pub quota: Option<u64>,
}

/// When a close is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commit {
    /// When the bucket has the file.
    Close,
    /// When the journal has it.
    Async {
        /// Bytes that may wait for their upload.
        max_bytes: u64,
        /// How long a file may wait.
        max_age: Duration,
    },
}

/// Who says which of several exclusive creates of one name (`O_EXCL`) was first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exclusive {
    /// The bucket, among all its nodes: the object is made before the file is open.
    Bucket,
    /// This mount: the object is made with the first flush.
    Node,
}

/// The serving process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessSettings {
    /// Stay in the foreground.
    pub foreground: bool,
    /// One of [`table::LOG_LEVELS`].
    pub log_level: String,
    /// JSON instead of text.
    pub log_json: bool,
    /// Where metrics can be fetched.
    pub metrics: Option<Listen>,
    /// The collector that traces go to: an http URL.
    pub traces: Option<String>,
}

/// Who runs the command; what defaults depend on.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    /// `$XDG_CACHE_HOME`.
    pub xdg_cache_home: Option<PathBuf>,
    /// `$HOME`.
    pub home: Option<PathBuf>,
}

impl Config {
    /// Reads, checks and completes all settings.
    pub fn build(source: &str, layers: &Layers, caller: &Caller) -> Result<Self, Error> {
        let reader = Reader::new(layers);
        Self::read(source, &reader, caller)
    }

    fn read(source: &str, reader: &Reader<'_>, caller: &Caller) -> Result<Self, Error> {
        let source = Source::parse(source).map_err(Error::Source)?;
        let store = store(reader)?;
        let part = store.part_size;
        let settings = Self {
            source,
            store,
            cache: cache(reader, caller)?,
            files: files(reader, caller, part)?,
            process: process(reader)?,
        };
        if part.saturating_mul(2) > settings.files.memory_limit {
            return Err(Error::Contradiction(format!(
                "memory-limit of {} bytes does not hold two parts of {part} bytes; raise it or lower part-size",
                settings.files.memory_limit
            )));
        }
        Ok(settings)
    }
}

fn store(reader: &Reader<'_>) -> Result<StoreSettings, Error> {
    let endpoint = reader.url("endpoint")?;
    let anonymous = reader.switch("anonymous")?;
    let profile = reader.text("profile")?;
    if anonymous && profile.is_some() {
        return Err(Error::Contradiction(
            "anonymous sends no credentials, so profile cannot be used with it".into(),
        ));
    }
    let path_style = match reader.word("path-style", table::PATH_STYLES)? {
        Some("on") => Some(true),
        Some("off") => Some(false),
        Some(_) | None => None,
    };
    Ok(StoreSettings {
        path_style,
        endpoint,
        region: reader.text("region")?,
        profile,
        anonymous,
        requester_pays: reader.switch("requester-pays")?,
        ca_bundle: reader.file("ca-bundle")?,
        encryption: encryption(reader)?,
        storage_class: reader.text("storage-class")?,
        part_size: reader.size_in("part-size", 8 << 20, PART_SIZE, "5MiB to 5GiB")?,
        max_requests: reader.number_in("max-requests", 32, 1..=REQUESTS_MAX, "1 to 1024")? as usize,
        request_timeout: reader.time_from(
            "request-timeout",
            Duration::from_secs(20),
            Duration::from_secs(1),
        )?,
        retry_for: reader.time_from("retry-for", Duration::ZERO, Duration::ZERO)?,
        probe: reader.word("probe", table::PROBES)?.unwrap_or("auto") == "auto",
    })
}

fn encryption(reader: &Reader<'_>) -> Result<Encryption, Error> {
    let kms_key = reader.text("sse-kms-key-id")?;
    let key_file = reader.path("sse-c-key-file")?;
    let kind = reader.word("sse", table::ENCRYPTIONS)?.unwrap_or("none");
    if kms_key.is_some() && kind != "kms" {
        return Err(Error::Contradiction(format!("sse-kms-key-id needs sse=kms, not sse={kind}")));
    }
    match (kind, key_file) {
        ("c", Some(file)) => Ok(Encryption::Customer(CustomerKey::read(&file)?)),
        ("c", None) => Err(Error::Contradiction("sse=c needs sse-c-key-file".into())),
        (_, Some(_)) => Err(Error::Contradiction(format!("sse-c-key-file needs sse=c, not sse={kind}"))),
        ("kms", None) => Ok(Encryption::Kms(kms_key)),
        ("s3", None) => Ok(Encryption::S3),
        (_, None) => Ok(Encryption::BucketDefault),
    }
}

fn cache(reader: &Reader<'_>, caller: &Caller) -> Result<CacheSettings, Error> {
    let home = || caller.home.as_ref().map(|home| home.join(".cache"));
    let user = || caller.xdg_cache_home.clone().filter(|dir| dir.is_absolute()).or_else(home);
    let default = || if caller.uid == 0 { Some(PathBuf::from("/var/cache")) } else { user() };
    let dir = match reader.path("cache-dir")? {
        Some(dir) => dir,
        None => default().map(|dir| dir.join("tarn")).ok_or_else(|| {
            Error::Contradiction("neither HOME nor XDG_CACHE_HOME is set; name a cache-dir".into())
        })?,
    };
    let size = reader.share("cache-size")?;
    if let Some(Share::Bytes(bytes)) = size
        && bytes < CACHE_MIN
    {
        return Err(reader.out_of_range("cache-size", "at least 64MiB"));
    }
    Ok(CacheSettings { dir, size, min_free: reader.share("cache-min-free")? })
}

fn files(reader: &Reader<'_>, caller: &Caller, part: u64) -> Result<FileSettings, Error> {
    let umask = reader.mode("umask")?.unwrap_or(0o022);
    let memory = MEMORY.max(part.saturating_mul(2));
    Ok(FileSettings {
        uid: reader.number("uid")?.unwrap_or(caller.uid),
        gid: reader.number("gid")?.unwrap_or(caller.gid),
        file_mode: reader.mode("file-mode")?.unwrap_or(0o666 & !umask),
        dir_mode: reader.mode("dir-mode")?.unwrap_or(0o777 & !umask),
        fixed_attributes: reader.word("attributes", table::ATTRIBUTES)? == Some("fixed"),
        attr_ttl: reader.time_from("attr-ttl", Duration::from_secs(1), Duration::ZERO)?,
        read_only: reader.switch("read-only")?,
        allow_other: reader.switch("allow-other")?,
        no_exec: reader.switch("no-exec")?,
        passthrough: reader.word("passthrough", table::PASSTHROUGHS)?.unwrap_or("auto") == "auto",
        always_checked: reader.word("verify", table::VERIFIES)? == Some("always"),
        memory_limit: reader.size_in("memory-limit", memory, MEMORY_MIN..=1 << 40, "32MiB to 1TiB")?,
        commit: commit(reader)?,
        exclusive: match reader.word("exclusive", table::EXCLUSIVES)? {
            Some("node") => Exclusive::Node,
            Some(_) | None => Exclusive::Bucket,
        },
        quota: quota(reader)?,
    })
}

fn quota(reader: &Reader<'_>) -> Result<Option<u64>, Error> {
    let bytes = reader.size_in("quota", 0, 0..=i64::MAX.cast_unsigned(), "less than 8 EiB")?;
    Ok(Some(bytes).filter(|bytes| *bytes > 0))
}

fn commit(reader: &Reader<'_>) -> Result<Commit, Error> {
    let max_bytes = reader.size_in("backlog-size", 1 << 30, 0..=1 << 50, "0 to 1PiB")?;
    let max_age = reader.time_from("backlog-age", Duration::from_secs(60), Duration::ZERO)?;
    if reader.word("commit", table::COMMITS)? == Some("async") {
        return Ok(Commit::Async { max_bytes, max_age });
    }
    match ["backlog-size", "backlog-age"].into_iter().find(|name| reader.is_given(name)) {
        Some(name) => Err(Error::Contradiction(format!("{name} needs commit=async"))),
        None => Ok(Commit::Close),
    }
}

fn process(reader: &Reader<'_>) -> Result<ProcessSettings, Error> {
    // Read before anything else, by `Layers::merge`.
    reader.path("config")?;
    Ok(ProcessSettings {
        foreground: reader.switch("foreground")?,
        log_level: reader.word("log-level", table::LOG_LEVELS)?.unwrap_or("info").to_owned(),
        log_json: reader.word("log-format", table::LOG_FORMATS)? == Some("json"),
        metrics: reader.listen("metrics")?,
        traces: reader.collector("traces")?,
    })
}

#[cfg(test)]
mod tests;
