//! The one list of options. The command line, the TOML file, the environment and `-o` all read it, so that no
//! option exists in one of them only, or is spelt differently.
//!
//! It does not parse values ([`super::value`]) and does not combine them ([`super::Config`]).

/// What a value of an option looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// A path on this machine.
    Path,
    /// `true` or `false`; naming the option alone means `true`.
    Switch,
    /// One of these words.
    Word(&'static [&'static str]),
    /// Bytes, with a unit if wanted: `8MiB`, `1.5g`.
    Size,
    /// A size, or a part of the disk: `10%`.
    Share,
    /// A span of time: `500ms`, `1s`, `1m`.
    Time,
    /// Permission bits in octal.
    Mode,
    /// A whole number.
    Number,
}

/// Under which heading of `--help` an option stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heading {
    /// Where the bucket is and who asks.
    Store,
    /// How objects are written.
    Objects,
    /// What lies on the local disk.
    Cache,
    /// How much is asked for at once.
    Transfer,
    /// What files look like.
    Files,
    /// What the mount allows.
    Mount,
    /// The serving process and its log.
    Process,
}

impl Heading {
    /// The heading as `--help` prints it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Store => "Object store",
            Self::Objects => "Objects",
            Self::Cache => "Local cache",
            Self::Transfer => "Transfer",
            Self::Files => "Files",
            Self::Mount => "Mount",
            Self::Process => "Process and log",
        }
    }
}

/// One option.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    /// Its name: `--name`, `name = ` in TOML, `-o name=`.
    pub name: &'static str,
    /// What its value looks like.
    pub kind: Kind,
    /// The value's name in `--help`.
    pub value: &'static str,
    /// Its line in `--help`, with the default.
    pub help: &'static str,
    /// Its group in `--help`.
    pub heading: Heading,
    /// The environment variable that sets it, where that is sensible.
    pub env: Option<&'static str>,
}

const fn option(
    heading: Heading,
    name: &'static str,
    kind: Kind,
    value: &'static str,
    help: &'static str,
) -> Spec {
    Spec { name, kind, value, help, heading, env: None }
}

impl Spec {
    const fn env(mut self, variable: &'static str) -> Self {
        self.env = Some(variable);
        self
    }
}

/// How a bucket's name goes into a request.
pub const PATH_STYLES: &[&str] = &["auto", "on", "off"];
/// Who encrypts an object at rest.
pub const ENCRYPTIONS: &[&str] = &["none", "s3", "kms", "c"];
/// Whose mode and owner files show.
pub const ATTRIBUTES: &[&str] = &["keep", "fixed"];
/// When a written file is in the bucket.
pub const COMMITS: &[&str] = &["close", "async"];
/// Who says which of several exclusive creates was first.
pub const EXCLUSIVES: &[&str] = &["bucket", "node"];
/// Which reads are compared with the checksums of the bucket before they are used.
pub const VERIFIES: &[&str] = &["auto", "always"];
/// Whether the server is tried out at the first mount of a bucket.
pub const PROBES: &[&str] = &["auto", "off"];
/// Whether the kernel may serve files from the local disk by itself.
pub const PASSTHROUGHS: &[&str] = &["auto", "off"];
/// How much is logged.
pub const LOG_LEVELS: &[&str] = &["error", "warn", "info", "debug", "trace"];
/// What a log line looks like.
pub const LOG_FORMATS: &[&str] = &["text", "json"];

use Heading::{Cache, Files, Mount, Objects, Process, Store, Transfer};

/// Every option of tarn, in the order of `--help`.
pub const OPTIONS: &[Spec] = &[
    option(Store, "endpoint", Kind::Text, "URL", "Talk to this S3 endpoint [default: AWS]")
        .env("TARN_ENDPOINT"),
    option(Store, "region", Kind::Text, "NAME", "Sign for this region [default: the SDK's, else us-east-1]"),
    option(Store, "profile", Kind::Text, "NAME", "Take settings and credentials from this profile of ~/.aws"),
    option(
        Store,
        "path-style",
        Kind::Word(PATH_STYLES),
        "auto|on|off",
        "Put the bucket's name into the path instead of the host [default: auto, off for AWS]",
    ),
    option(
        Store,
        "anonymous",
        Kind::Switch,
        "BOOL",
        "Send unsigned requests, for public buckets [default: false]",
    ),
    option(
        Store,
        "requester-pays",
        Kind::Switch,
        "BOOL",
        "Agree to pay for requests and traffic [default: false]",
    ),
    option(
        Store,
        "ca-bundle",
        Kind::Path,
        "FILE",
        "Trust the certificates in this PEM file [default: the system's]",
    ),
    option(
        Objects,
        "sse",
        Kind::Word(ENCRYPTIONS),
        "none|s3|kms|c",
        "Ask the store to encrypt new objects [default: none, the bucket's own rule]",
    ),
    option(
        Objects,
        "sse-kms-key-id",
        Kind::Text,
        "ID",
        "Encrypt with this KMS key; needs --sse=kms [default: the account's]",
    ),
    option(
        Objects,
        "sse-c-key-file",
        Kind::Path,
        "FILE",
        "Encrypt with the key in this file (32 bytes or their base64, mode 0600); needs --sse=c",
    ),
    option(
        Objects,
        "storage-class",
        Kind::Text,
        "NAME",
        "Store new objects in this class [default: the bucket's]",
    ),
    option(
        Cache,
        "cache-dir",
        Kind::Path,
        "DIR",
        "Keep the cache here [default: /var/cache/tarn for root, else ~/.cache/tarn]",
    )
    .env("TARN_CACHE_DIR"),
    option(
        Cache,
        "cache-size",
        Kind::Share,
        "SIZE|%",
        "Keep at most this much on disk [default: 10% of the disk, 1 GiB to 50 GiB]",
    )
    .env("TARN_CACHE_SIZE"),
    option(
        Cache,
        "cache-min-free",
        Kind::Share,
        "SIZE|%",
        "Leave this much of the disk free [default: 5%, at most 10G]",
    ),
    option(
        Transfer,
        "verify",
        Kind::Word(VERIFIES),
        "auto|always",
        "Check files and sequential reads before use, or random reads too, by fetching whole parts [default: auto]",
    ),
    option(
        Transfer,
        "memory-limit",
        Kind::Size,
        "SIZE",
        "Buffer at most this much in memory [default: 96MiB, or two parts]",
    )
    .env("TARN_MEMORY_LIMIT"),
    option(
        Objects,
        "probe",
        Kind::Word(PROBES),
        "auto|off",
        "Find out, at the first mount of a bucket, whether its server keeps writers apart [default: auto]",
    ),
    option(
        Transfer,
        "part-size",
        Kind::Size,
        "SIZE",
        "Transfer large objects in parts of this size, 5MiB to 5GiB [default: 8MiB]",
    ),
    option(
        Transfer,
        "max-requests",
        Kind::Number,
        "N",
        "Send at most this many requests at once, 1 to 1024 [default: 32]",
    ),
    option(
        Transfer,
        "request-timeout",
        Kind::Time,
        "TIME",
        "Give up on one attempt of a request after this long [default: 20s]",
    ),
    option(
        Transfer,
        "retry-for",
        Kind::Time,
        "TIME",
        "Let programs wait this long for a server that is away or overloaded, up to 1d [default: 0s, four attempts]",
    ),
    option(Files, "uid", Kind::Number, "ID", "Show files as owned by this user [default: who mounts]"),
    option(Files, "gid", Kind::Number, "ID", "Show files as owned by this group [default: who mounts]"),
    option(
        Files,
        "umask",
        Kind::Mode,
        "OCTAL",
        "Take these bits from 0666 and 0777 where no mode is given [default: 022]",
    ),
    option(
        Files,
        "file-mode",
        Kind::Mode,
        "OCTAL",
        "Show files that carry no mode with this one [default: 0644]",
    ),
    option(
        Files,
        "dir-mode",
        Kind::Mode,
        "OCTAL",
        "Show directories that carry no mode with this one [default: 0755]",
    ),
    option(
        Files,
        "attributes",
        Kind::Word(ATTRIBUTES),
        "keep|fixed",
        "Keep each file's mode and owner, or show the mount's for all and refuse chmod and chown [default: keep]",
    ),
    option(
        Files,
        "attr-ttl",
        Kind::Time,
        "TIME",
        "Believe attributes and listings for this long [default: 1s]",
    ),
    option(
        Files,
        "commit",
        Kind::Word(COMMITS),
        "close|async",
        "Answer a close when the file is in the bucket, or when it is in the journal on the local disk [default: close]",
    ),
    option(
        Files,
        "backlog-size",
        Kind::Size,
        "SIZE",
        "With commit=async, let this much wait for its upload before a close waits too [default: 1GiB]",
    ),
    option(
        Files,
        "backlog-age",
        Kind::Time,
        "TIME",
        "With commit=async, let a file wait for its upload this long before a close waits too [default: 1m]",
    ),
    option(
        Files,
        "exclusive",
        Kind::Word(EXCLUSIVES),
        "bucket|node",
        "Make a file of open(O_EXCL) in the bucket at once, so that one node wins, or save that PUT where one node writes \
         [default: bucket]",
    ),
    option(Mount, "read-only", Kind::Switch, "BOOL", "Refuse every change [default: false]"),
    option(
        Mount,
        "allow-other",
        Kind::Switch,
        "BOOL",
        "Let other users in, as far as the modes allow [default: false]",
    ),
    option(
        Mount,
        "quota",
        Kind::Size,
        "SIZE",
        "Let what is mounted hold this much and answer ENOSPC beyond; 0 is no quota [default: 0]",
    ),
    option(Mount, "no-exec", Kind::Switch, "BOOL", "Refuse to run programs from the mount [default: false]"),
    option(
        Mount,
        "passthrough",
        Kind::Word(PASSTHROUGHS),
        "auto|off",
        "Let the kernel read and write local files by itself [default: auto]",
    ),
    option(
        Process,
        "foreground",
        Kind::Switch,
        "BOOL",
        "Stay in the foreground and log to stderr [default: false]",
    ),
    option(Process, "config", Kind::Path, "FILE", "Read options from this TOML file (name = value)")
        .env("TARN_CONFIG"),
    option(
        Process,
        "log-level",
        Kind::Word(LOG_LEVELS),
        "LEVEL",
        "Log from this level up: error, warn, info, debug, trace [default: info]",
    )
    .env("TARN_LOG_LEVEL"),
    option(
        Process,
        "log-format",
        Kind::Word(LOG_FORMATS),
        "text|json",
        "Write log lines as text or as JSON [default: text]",
    )
    .env("TARN_LOG_FORMAT"),
    option(
        Process,
        "metrics",
        Kind::Text,
        "ADDRESS",
        "Serve metrics for Prometheus on a loopback ADDRESS:PORT or unix:/PATH [default: none]",
    ),
    option(
        Process,
        "traces",
        Kind::Text,
        "URL",
        "Send traces by OTLP over gRPC to the collector at this http:// URL [default: none]",
    )
    .env("TARN_TRACES"),
];

/// Finds an option; `_` and `-` are equal.
pub fn find(name: &str) -> Option<&'static Spec> {
    let name = name.replace('_', "-");
    OPTIONS.iter().find(|option| option.name == name)
}

/// The known word that is spelt most like `name`, if one is close.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.replace('_', "-").to_lowercase();
    let scored = known.into_iter().map(|word| (strsim::jaro_winkler(&name, word), word));
    scored.filter(|(score, _)| *score > 0.8).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_lower_case() {
        let mut seen = std::collections::BTreeSet::new();
        for option in OPTIONS {
            assert!(seen.insert(option.name), "{} stands twice", option.name);
            assert!(option.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{}", option.name);
        }
    }

    #[test]
    fn help_lines_are_imperative_and_state_the_default() {
        let without_default = ["profile", "config", "sse-c-key-file"];
        for option in OPTIONS {
            assert!(option.help.starts_with(|c: char| c.is_ascii_uppercase()), "{}", option.name);
            assert!(!option.help.ends_with('.'), "{}", option.name);
            let stated = option.help.contains("[default: ");
            assert_eq!(stated, !without_default.contains(&option.name), "{}", option.name);
        }
    }

    #[test]
    fn underscores_find_the_option_too() {
        assert_eq!(find("allow_other").map(|o| o.name), Some("allow-other"));
        assert!(find("access-key").is_none());
    }

    #[test]
    fn nearest_is_the_one_a_person_meant() {
        let names = || OPTIONS.iter().map(|option| option.name);
        for (typed, meant) in [
            ("cachedir", "cache-dir"),
            ("cache_sise", "cache-size"),
            ("end-point", "endpoint"),
            ("readonly", "read-only"),
            ("memory", "memory-limit"),
        ] {
            assert_eq!(nearest(typed, names()), Some(meant), "{typed}");
        }
        assert_eq!(nearest("zzzz", names()), None);
    }
}
