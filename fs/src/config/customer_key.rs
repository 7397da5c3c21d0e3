//! The SSE-C key: read from a file that only its owner can read, never shown.

use super::error::Error;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// An AES-256 key of the customer.
#[derive(Clone, PartialEq, Eq)]
pub struct CustomerKey([u8; 32]);

impl CustomerKey {
    /// Reads a key file: 32 bytes, or their base64 with or without a final line break.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let wrong = |reason: String| Error::File { path: path.display().to_string(), reason };
        let file = File::open(path).map_err(|error| wrong(error.to_string()))?;
        let mode = file.metadata().map_err(|error| wrong(error.to_string()))?.mode();
        if mode & 0o077 != 0 {
            let mode = mode & 0o777;
            return Err(wrong(format!("mode {mode:04o} lets others read the key; chmod 600 it")));
        }
        let mut bytes = Vec::with_capacity(128);
        file.take(128).read_to_end(&mut bytes).map_err(|error| wrong(error.to_string()))?;
        let key = match <[u8; 32]>::try_from(bytes.as_slice()) {
            Ok(key) => Some(key),
            Err(_) => STANDARD.decode(bytes.trim_ascii()).ok().and_then(|key| key.try_into().ok()),
        };
        key.map(Self).ok_or_else(|| wrong("holds neither 32 bytes nor their base64".to_owned()))
    }

    /// The key, for the headers of a request.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for CustomerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CustomerKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    fn key_file(content: &[u8], mode: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("temp file");
        fs::write(file.path(), content).expect("write");
        fs::set_permissions(file.path(), Permissions::from_mode(mode)).expect("chmod");
        file
    }

    #[test]
    fn raw_and_base64_are_the_same_key() {
        let raw = [7_u8; 32];
        let text = format!("{}\n", STANDARD.encode(raw));
        for content in [raw.as_slice(), text.as_bytes()] {
            let key = CustomerKey::read(key_file(content, 0o600).path()).expect("a key");
            assert_eq!(key.bytes(), &raw);
            assert!(!format!("{key:?}").contains('7'), "a key shows in Debug");
        }
    }

    #[test]
    fn readable_by_others_or_of_another_length_is_refused() {
        assert!(CustomerKey::read(key_file(&[7; 32], 0o640).path()).is_err());
        assert!(CustomerKey::read(key_file(&[7; 31], 0o600).path()).is_err());
        assert!(CustomerKey::read(key_file(&[7; 4096], 0o600).path()).is_err());
        assert!(CustomerKey::read(Path::new("/nonexistent/key")).is_err());
    }
}
