//! Keys of the object store: from a secret of Kubernetes, or from a folder of files such as a mounted secret.
//!
//! A mount gets them as a folder of files (0600) and asks for them through `tarn-csi credentials FOLDER`, which its
//! AWS configuration names as `credential_process`. They are asked for anew every [`LIFETIME`], so that keys
//! that change there are used without a new mount, and no key is ever an argument or a variable.

use crate::error::{Error, Result};
use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};
use tarn_fs::store::CredentialSource;
use zeroize::Zeroizing;

/// How long a mount uses what it was told before it asks again.
pub const LIFETIME: Duration = Duration::from_secs(300);

/// What stands before keys that Kubernetes adds.
const FOREIGN: &str = "csi.storage.k8s.io/";
const ACCESS_KEY: &str = "accessKeyId";
const SECRET_KEY: &str = "secretAccessKey";
const TOKEN: &str = "sessionToken";

/// Keys. `Debug` hides them; their memory is overwritten when they are dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    access_key: Zeroizing<String>,
    secret_key: Zeroizing<String>,
    token: Option<Zeroizing<String>>,
}

impl Credentials {
    /// Reads the secret of a request; an empty one is none.
    pub fn from_secret(secret: &HashMap<String, String>) -> Result<Option<Self>> {
        if secret.keys().all(|key| key.starts_with(FOREIGN)) {
            return Ok(None);
        }
        if let Some(unknown) =
            secret.keys().find(|key| ![ACCESS_KEY, SECRET_KEY, TOKEN].contains(&key.as_str()))
        {
            return Err(Error::invalid(format!(
                "the secret has the unknown key {unknown:?}; it may have {ACCESS_KEY}, {SECRET_KEY} and {TOKEN}"
            )));
        }
        let value = |name: &str| secret.get(name).map(|text| text.trim()).filter(|text| !text.is_empty());
        Self::assemble(value).map(Some).map_err(|missing| {
            Error::invalid(format!("the secret has no {missing}; it needs {ACCESS_KEY} and {SECRET_KEY}"))
        })
    }

    /// Reads a folder with a file for each key.
    pub fn read(folder: &Path) -> io::Result<Self> {
        let read = |name: &str| match fs::read_to_string(folder.join(name)) {
            Ok(text) => Ok(Some(Zeroizing::new(text))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io::Error::new(error.kind(), format!("{name}: {error}"))),
        };
        let files = [(ACCESS_KEY, read(ACCESS_KEY)?), (SECRET_KEY, read(SECRET_KEY)?), (TOKEN, read(TOKEN)?)];
        let value = |name: &str| {
            let (_, text) = files.iter().find(|(file, _)| *file == name)?;
            text.as_ref().map(|text| text.trim()).filter(|text| !text.is_empty())
        };
        Self::assemble(value)
            .map_err(|missing| io::Error::new(io::ErrorKind::NotFound, format!("there is no file {missing}")))
    }

    /// Keys that a token service has given.
    pub(crate) fn temporary(access_key: &str, secret_key: &str, token: &str) -> Self {
        let keep = |text: &str| Zeroizing::new(text.to_owned());
        Self { access_key: keep(access_key), secret_key: keep(secret_key), token: Some(keep(token)) }
    }

    /// The error is the name of what is missing.
    fn assemble<'a>(value: impl Fn(&str) -> Option<&'a str>) -> std::result::Result<Self, &'static str> {
        let keep = |text: &str| Zeroizing::new(text.to_owned());
        Ok(Self {
            access_key: keep(value(ACCESS_KEY).ok_or(ACCESS_KEY)?),
            secret_key: keep(value(SECRET_KEY).ok_or(SECRET_KEY)?),
            token: value(TOKEN).map(keep),
        })
    }

    /// Writes the folder that [`Self::read`] reads.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let empty = Zeroizing::new(String::new());
        let token = self.token.as_ref().unwrap_or(&empty);
        for (name, text) in [(ACCESS_KEY, &self.access_key), (SECRET_KEY, &self.secret_key), (TOKEN, token)] {
            write_private(&folder.join(name), text)?;
        }
        Ok(())
    }

    /// What `credential_process` has to print (AWS CLI user guide, "Sourcing credentials with an external process").
    pub fn process_output(&self, end: SystemTime) -> Zeroizing<String> {
        let end = DateTime::from(end).fmt(DateTimeFormat::DateTime).unwrap_or_default();
        let mut answer = serde_json::json!({
            "Version": 1,
            "AccessKeyId": *self.access_key,
            "SecretAccessKey": *self.secret_key,
            "Expiration": end,
        });
        if let Some(token) = &self.token {
            answer["SessionToken"] = serde_json::Value::String(token.to_string());
        }
        Zeroizing::new(answer.to_string())
    }
}

/// Writes a file that only its owner reads. It is replaced as a whole, so that a reader never sees half of it.
pub fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    let draft = path.with_file_name(name);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(text.as_bytes())?;
    fs::rename(&draft, path)
}

impl From<Credentials> for CredentialSource {
    fn from(keys: Credentials) -> Self {
        Self::Static {
            access_key: keys.access_key.to_string(),
            secret_key: keys.secret_key.to_string(),
            session_token: keys.token.map(|token| token.to_string()),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn secret(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_secret_becomes_private_files_and_comes_back() {
        let keys = secret(&[(ACCESS_KEY, "AK"), (SECRET_KEY, "SK\n"), (TOKEN, "T")]);
        let keys = Credentials::from_secret(&keys).expect("valid").expect("some");
        let temp = tempfile::tempdir().expect("temp dir");
        let folder = temp.path().join("keys");
        keys.write(&folder).expect("written");
        keys.write(&folder).expect("written again");
        assert_eq!(Credentials::read(&folder).expect("readable"), keys);
        assert_eq!(fs::metadata(&folder).expect("folder").permissions().mode() & 0o777, 0o700);
        for entry in fs::read_dir(&folder).expect("folder") {
            let mode = entry.expect("entry").metadata().expect("file").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn what_is_missing_or_unknown_is_named_and_no_value_is_shown() {
        for (pairs, named) in [
            (&[(ACCESS_KEY, "SHOWN")][..], SECRET_KEY),
            (&[(SECRET_KEY, "SHOWN")][..], ACCESS_KEY),
            (&[("accesskey", "SHOWN")][..], "accesskey"),
        ] {
            let error = Credentials::from_secret(&secret(pairs)).expect_err("wrong");
            assert!(error.message.contains(named) && !error.message.contains("SHOWN"), "{error}");
        }
        assert_eq!(Credentials::from_secret(&HashMap::new()).expect("none is fine"), None);
    }

    #[test]
    fn the_process_prints_what_the_sdk_reads() {
        let keys = secret(&[(ACCESS_KEY, "AK"), (SECRET_KEY, "SK")]);
        let keys = Credentials::from_secret(&keys).expect("valid").expect("some");
        let output = keys.process_output(SystemTime::UNIX_EPOCH + LIFETIME);
        let answer: serde_json::Value = serde_json::from_str(&output).expect("json");
        assert_eq!(answer["Version"], 1);
        assert_eq!(answer["Expiration"], "1970-01-01T00:05:00Z");
        assert!(answer.get("SessionToken").is_none());
        assert_eq!(format!("{keys:?}"), "Credentials(hidden)");
    }
}
