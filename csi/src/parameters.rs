//! What a StorageClass, a volume's attributes and mount options may say: one table, typed values, nothing else.
//!
//! Invariants: an unknown name is refused with the nearest known one; a value is checked by the same code that
//! `tarn mount` checks it with; nothing that reaches a path, a credential or a log setting of the node can be set
//! from here. Keys of Kubernetes itself (`csi.storage.k8s.io/...`) are passed over.
//!
//! PARAMETERS.md describes the table; a test holds the two together.

use crate::error::{Error, Result};
use crate::record::{OnDelete, find_word};
use crate::volume_id::is_bucket;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use tarn_fs::config::table::nearest;
use tarn_fs::config::{Caller, Config, Input, Layers, World};

/// Where a parameter may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stands {
    /// In a StorageClass.
    Class,
    /// In the attributes of a volume.
    Volume,
    /// In both.
    Both,
    /// In both and in a VolumeAttributesClass.
    Mutable,
}

/// One parameter.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    /// Its name.
    pub name: &'static str,
    /// Where it may stand.
    pub stands: Stands,
    /// The option of `tarn mount` that it sets.
    pub option: Option<&'static str>,
}

const fn spec(name: &'static str, stands: Stands) -> Spec {
    Spec { name, stands, option: None }
}

const fn option(name: &'static str, option: &'static str) -> Spec {
    Spec { name, stands: Stands::Both, option: Some(option) }
}

/// Every parameter.
pub const PARAMETERS: &[Spec] = &[
    spec("bucket", Stands::Both),
    spec("prefix", Stands::Volume),
    spec("roleArn", Stands::Both),
    spec("folderPattern", Stands::Class),
    spec("versioning", Stands::Class),
    spec("quota", Stands::Class),
    Spec { name: "quota", stands: Stands::Volume, option: Some(QUOTA) },
    Spec { name: "onDelete", stands: Stands::Mutable, option: None },
    option("endpoint", "endpoint"),
    option("region", "region"),
    option("pathStyle", "path-style"),
    option("requesterPays", "requester-pays"),
    option("anonymous", "anonymous"),
    option("encryption", "sse"),
    option("kmsKeyId", "sse-kms-key-id"),
    option("objectStorageClass", "storage-class"),
    option("commit", "commit"),
    option("backlogSize", "backlog-size"),
    option("backlogAge", "backlog-age"),
    option("exclusive", "exclusive"),
    spec(CACHE_TIER, Stands::Both),
    option("cacheSize", "cache-size"),
    option("memoryLimit", "memory-limit"),
    option("partSize", "part-size"),
    option("maxRequests", "max-requests"),
    option("requestTimeout", "request-timeout"),
    option("retryFor", "retry-for"),
    option("uid", "uid"),
    option("gid", "gid"),
    option("umask", "umask"),
    option("fileMode", "file-mode"),
    option("dirMode", "dir-mode"),
    option("attributes", "attributes"),
    option("attrTtl", "attr-ttl"),
    option("readOnly", "read-only"),
    option("noExec", "no-exec"),
    option("passthrough", "passthrough"),
    option("verify", "verify"),
    option("probe", "probe"),
];

/// Which of a node's caches a volume uses.
const CACHE_TIER: &str = "cacheTier";
/// The option that says how much a volume may hold.
pub const QUOTA: &str = "quota";
/// Options that change where requests go: neither mount options nor inline volumes may set them.
const REACH: &[&str] = &["endpoint", "region", "path-style", "anonymous", "requester-pays"];
/// What stands before keys that are not ours.
const FOREIGN: &[&str] = &["csi.storage.k8s.io/", "storage.kubernetes.io/"];
/// The default folder of a volume in a shared bucket.
const FOLDER_PATTERN: &str = "${pv.name}";

/// Which of a node's caches a volume uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CacheTier {
    /// A folder of the node.
    #[default]
    Standard,
    /// The node's cache volume, while it has one.
    Hot,
}

impl CacheTier {
    /// Its words, as a parameter says them.
    pub const WORDS: &[(&str, Self)] = &[("standard", Self::Standard), ("hot", Self::Hot)];

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Hot => "hot",
        }
    }
}

/// Options of `tarn mount` by name.
pub type Options = BTreeMap<&'static str, String>;

/// The parameters of a StorageClass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Class {
    /// A bucket that volumes share, each in a folder; `None` gives each a bucket.
    pub bucket: Option<String>,
    /// The folder of each volume, with names to fill in.
    pub folder_pattern: String,
    /// Whether a bucket of its own keeps old versions.
    pub versioning: bool,
    /// What deleting a volume does.
    pub on_delete: OnDelete,
    /// The role in which each pod mounts, with the token of its own service account.
    pub role: Option<String>,
    /// Whether a volume may hold no more than its size.
    pub quota: bool,
    /// Which of a node's caches its volumes use.
    pub tier: CacheTier,
    /// Options of its mounts.
    pub options: Options,
}

impl Class {
    /// Reads the parameters of a request.
    pub fn parse(parameters: &HashMap<String, String>) -> Result<Self> {
        let reader = Reader::new(parameters, "parameter", |stands| stands != Stands::Volume)?;
        let folder_pattern = reader.text("folderPattern").unwrap_or(FOLDER_PATTERN);
        let bucket = reader.text("bucket");
        if let Some(bucket) = bucket.filter(|bucket| !is_bucket(bucket)) {
            return Err(reader.wrong(
                "bucket",
                bucket,
                "a bucket's name: 3 to 63 of a-z, 0-9, point and dash",
            ));
        }
        check_pattern(&reader, folder_pattern)?;
        if bucket.is_none() && reader.text("folderPattern").is_some() {
            return Err(Error::invalid(
                "the parameter folderPattern needs bucket: without it each volume has its own",
            ));
        }
        let versioning = reader.word("versioning", SWITCH)?;
        if bucket.is_some() && versioning.is_some() {
            return Err(Error::invalid(
                "the parameter versioning is for buckets that the driver makes; set it on the shared bucket itself",
            ));
        }
        Ok(Self {
            bucket: bucket.map(str::to_owned),
            folder_pattern: folder_pattern.to_owned(),
            versioning: versioning.unwrap_or(false),
            on_delete: reader.word("onDelete", OnDelete::WORDS)?.unwrap_or(OnDelete::Purge),
            role: reader.role()?,
            quota: reader.word("quota", ON_OFF)?.unwrap_or(true),
            tier: reader.tier()?,
            options: reader.options()?,
        })
    }

    /// The options of the mounts of a volume of this size.
    pub fn options_for(mut self, bytes: u64) -> Options {
        if self.quota {
            self.options.insert(QUOTA, bytes.to_string());
        }
        self.options
    }

    /// The folder of the volume `slot`, ending in `/`.
    pub fn folder(&self, slot: &str, parameters: &HashMap<String, String>) -> Result<String> {
        let mut folder = self.folder_pattern.replace("${pv.name}", slot);
        for name in ["pvc.name", "pvc.namespace"] {
            let placeholder = format!("${{{name}}}");
            if folder.contains(&placeholder) {
                let key = format!("csi.storage.k8s.io/{}", name.replace('.', "/"));
                let value = parameters.get(&key).ok_or_else(|| {
                    Error::invalid(format!(
                        "folderPattern uses {placeholder}, which csi-provisioner gives only with --extra-create-metadata"
                    ))
                })?;
                folder = folder.replace(&placeholder, value);
            }
        }
        check_folder(&folder).map_err(|why| Error::invalid(format!("the folder {folder:?} {why}")))?;
        Ok(format!("{folder}/"))
    }

    /// A checksum of what may not differ when a volume is asked for again.
    pub fn digest(&self) -> String {
        let Self { bucket, folder_pattern, versioning, on_delete: _, role, quota, tier, options } = self;
        // What is as before must not change the sum of volumes that were made before.
        let quota = if *quota { "" } else { " without quota" };
        let tier = match tier {
            CacheTier::Standard => "",
            CacheTier::Hot => " hot",
        };
        let text = format!("{bucket:?} {folder_pattern:?} {versioning} {role:?} {options:?}{quota}{tier}");
        Sha256::digest(text).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// What may change while a volume lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Changes {
    /// What deleting the volume does.
    pub on_delete: Option<OnDelete>,
}

impl Changes {
    /// Reads the mutable parameters of a request.
    pub fn parse(parameters: &HashMap<String, String>) -> Result<Self> {
        let reader = Reader::new(parameters, "mutable parameter", |stands| stands == Stands::Mutable)?;
        Ok(Self { on_delete: reader.word("onDelete", OnDelete::WORDS)? })
    }
}

/// The attributes of a volume: what a node must know to mount it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attributes {
    /// The bucket.
    pub bucket: String,
    /// The keys that are shown, ending in `/`; empty for all.
    pub prefix: String,
    /// The role in which each pod mounts, with the token of its own service account.
    pub role: Option<String>,
    /// Which of the node's caches it uses.
    pub tier: CacheTier,
    /// Options of the mount.
    pub options: Options,
}

impl Attributes {
    /// Reads a volume context.
    pub fn parse(context: &HashMap<String, String>) -> Result<Self> {
        let reader = Reader::new(context, "volume attribute", |stands| {
            matches!(stands, Stands::Volume | Stands::Both)
        })?;
        let bucket = reader.text("bucket").ok_or_else(|| {
            Error::invalid("the volume attribute bucket is missing; a static volume names its bucket there")
        })?;
        // Old buckets on AWS have capitals and underscores; `tarn mount` checks them too.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        if bucket.len() < 3
            || bucket.len() > 63
            || !bucket.bytes().all(plain)
            || bucket.starts_with(['.', '-'])
        {
            return Err(reader.wrong("bucket", bucket, "a bucket's name"));
        }
        let prefix = reader.text("prefix").unwrap_or_default().trim_end_matches('/');
        if !prefix.is_empty() {
            check_folder(prefix)
                .map_err(|why| reader.wrong("prefix", prefix, &format!("a folder; it {why}")))?;
        }
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        let (role, tier, options) = (reader.role()?, reader.tier()?, reader.options()?);
        Ok(Self { bucket: bucket.to_owned(), prefix, role, tier, options })
    }

    /// The same for an inline volume, which any user of a namespace may write: it may not say where requests go.
    pub fn parse_inline(context: &HashMap<String, String>) -> Result<Self> {
        let attributes = Self::parse(context)?;
        match attributes.options.keys().find(|option| REACH.contains(option)) {
            None => Ok(attributes),
            Some(option) => Err(Error::invalid(format!(
                "an inline volume may not set {option}; use a PersistentVolume, which only an administrator makes"
            ))),
        }
    }

    /// The volume context that [`Self::parse`] reads.
    pub fn to_context(&self) -> HashMap<String, String> {
        let mut context = HashMap::from([("bucket".to_owned(), self.bucket.clone())]);
        if !self.prefix.is_empty() {
            context.insert("prefix".to_owned(), self.prefix.clone());
        }
        context.extend(self.role.clone().map(|role| ("roleArn".to_owned(), role)));
        if self.tier != CacheTier::default() {
            context.insert(CACHE_TIER.to_owned(), self.tier.word().to_owned());
        }
        for spec in PARAMETERS {
            if let Some(value) = spec.option.and_then(|option| self.options.get(option)) {
                context.insert(spec.name.to_owned(), value.clone());
            }
        }
        context
    }

    /// What is mounted: `s3://BUCKET/PREFIX`.
    pub fn source(&self) -> String {
        format!("s3://{}/{}", self.bucket, self.prefix)
    }

    /// Adds the mount options of the volume: words of the same table, with `ro` and `rw`.
    pub fn add_mount_flags(&mut self, flags: &[String]) -> Result<()> {
        for word in
            flags.iter().flat_map(|flag| flag.split(',')).map(str::trim).filter(|word| !word.is_empty())
        {
            let (name, value) = match word {
                "ro" => ("read-only", "true"),
                "rw" => ("read-only", "false"),
                word => word.split_once('=').unwrap_or((word, "true")),
            };
            let known = || PARAMETERS.iter().filter_map(|spec| spec.option).filter(|o| !REACH.contains(o));
            let name = name.replace('_', "-");
            let Some(option) = known().find(|option| *option == name) else {
                let hint = nearest(&name, known()).map(|word| format!("; did you mean {word:?}?"));
                let hint = hint.unwrap_or_default();
                return Err(Error::invalid(format!("the mount option {name:?} is not allowed{hint}")));
            };
            self.options.insert(option, value.to_owned());
        }
        check_options(&self.options, "mount option")
    }
}

const SWITCH: &[(&str, bool)] = &[("true", true), ("false", false)];
const ON_OFF: &[(&str, bool)] = &[("on", true), ("off", false)];

/// Reads values and names the parameter in every error.
struct Reader<'a> {
    values: &'a HashMap<String, String>,
    kind: &'static str,
    known: Vec<&'static Spec>,
}

impl<'a> Reader<'a> {
    fn new(
        values: &'a HashMap<String, String>,
        kind: &'static str,
        allowed: fn(Stands) -> bool,
    ) -> Result<Self> {
        let known: Vec<&Spec> = PARAMETERS.iter().filter(|spec| allowed(spec.stands)).collect();
        let ours = |name: &&String| !FOREIGN.iter().any(|prefix| name.starts_with(prefix));
        let mut names: Vec<&String> = values.keys().filter(ours).collect();
        names.sort();
        for name in names {
            if known.iter().any(|spec| spec.name == name) {
                continue;
            }
            let hint = nearest(name, known.iter().map(|spec| spec.name));
            let hint = hint.map(|word| format!("; did you mean {word:?}?")).unwrap_or_default();
            return Err(Error::invalid(format!("unknown {kind} {name:?}{hint}")));
        }
        Ok(Self { values, kind, known })
    }

    fn text(&self, name: &str) -> Option<&'a str> {
        self.values.get(name).map(String::as_str).filter(|text| !text.is_empty())
    }

    fn word<T: Copy>(&self, name: &str, words: &[(&str, T)]) -> Result<Option<T>> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        find_word(text, words)
            .map(Some)
            .ok_or_else(|| self.wrong(name, text, &format!("one of {}", all.join(", "))))
    }

    fn tier(&self) -> Result<CacheTier> {
        Ok(self.word(CACHE_TIER, CacheTier::WORDS)?.unwrap_or_default())
    }

    /// A role's ARN (IAM user guide, "IAM ARNs"): it goes into a request, so nothing else may.
    fn role(&self) -> Result<Option<String>> {
        const LONGEST: usize = 2048;
        let Some(text) = self.text("roleArn") else { return Ok(None) };
        let plain = |c: char| c.is_ascii_alphanumeric() || ":/_+=,.@-".contains(c);
        if text.len() > LONGEST || !text.starts_with("arn:") || !text.chars().all(plain) {
            return Err(self.wrong("roleArn", text, "arn:PARTITION:iam::ACCOUNT:role/NAME"));
        }
        Ok(Some(text.to_owned()))
    }

    fn options(&self) -> Result<Options> {
        let set = |spec: &&Spec| Some((spec.option?, self.text(spec.name)?.to_owned()));
        let options = self.known.iter().filter_map(set).collect();
        check_options(&options, self.kind)?;
        Ok(options)
    }

    fn wrong(&self, name: &str, value: &str, expected: &str) -> Error {
        Error::invalid(format!("the {} {name} is {value:?}, expected {expected}", self.kind))
    }
}

/// Has `tarn mount`'s own rules judge the values.
fn check_options(options: &Options, kind: &str) -> Result<()> {
    let named = |option: &str| {
        let spec = PARAMETERS.iter().find(|spec| spec.option == Some(option));
        spec.map_or(option.to_owned(), |spec| spec.name.to_owned())
    };
    for (option, value) in options {
        if value.contains(char::is_control) || value.len() > 256 {
            return Err(Error::invalid(format!(
                "the {kind} {} has a control character or over 256 bytes",
                named(option)
            )));
        }
    }
    let input = Input {
        flags: options.iter().map(|(name, value)| (*name, value.clone())).collect(),
        ..Input::default()
    };
    let world = World { variable: &|_| None, read: &|_| Err(std::io::ErrorKind::NotFound.into()) };
    let caller = Caller { uid: 0, gid: 0, xdg_cache_home: None, home: None };
    let judged = Layers::merge(&input, &world).and_then(|layers| Config::build("s3://any", &layers, &caller));
    judged.map(drop).map_err(|error| Error::invalid(format!("{kind}: {error}")))
}

/// The volume's own name must end the pattern, so that no two volumes share a folder and none lies in another.
fn check_pattern(reader: &Reader<'_>, pattern: &str) -> Result<()> {
    let (before, last) = pattern.rsplit_once('/').unwrap_or(("", pattern));
    if !last.contains("${pv.name}") || before.contains("${pv.name}") {
        return Err(reader.wrong(
            "folderPattern",
            pattern,
            "a path whose last component, and no other, has ${pv.name}",
        ));
    }
    let filled =
        pattern.replace("${pv.name}", "x").replace("${pvc.name}", "x").replace("${pvc.namespace}", "x");
    if filled.contains('$') {
        return Err(reader.wrong(
            "folderPattern",
            pattern,
            "no other names than pv.name, pvc.name and pvc.namespace",
        ));
    }
    check_folder(&filled)
        .map_err(|why| reader.wrong("folderPattern", pattern, &format!("a folder; it {why}")))
}

/// The error says why this is no folder of a bucket that a volume may have.
fn check_folder(folder: &str) -> std::result::Result<(), &'static str> {
    /// What leaves room for the keys of files.
    const LONGEST: usize = 512;
    if folder.len() > LONGEST || folder.contains(char::is_control) {
        return Err("has over 512 bytes or a control character");
    }
    if folder.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err("has an empty, `.` or `..` component");
    }
    if folder.split('/').next() == Some(crate::record::HOME.trim_end_matches('/')) {
        return Err("is where the driver keeps its records");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
