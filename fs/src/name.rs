//! Names on both sides: object keys in the bucket, file names in a directory, and the rule that maps one to
//! the other. Pure; nothing here does I/O.
//!
//! Invariants: a [`Key`] is never empty and at most 1,024 bytes of UTF-8 (S3 user guide, "Naming Amazon S3
//! objects"). A [`Name`] is one path component: 1 to 255 bytes of UTF-8 without `/` and NUL, never `.` or `..`.
//! A [`Prefix`] is empty (the whole bucket) or ends in `/`.

use std::ffi::OsStr;
use std::fmt;
use std::sync::Arc;

/// The longest key S3 takes, in bytes.
pub const KEY_MAX: usize = 1024;
/// The longest file name Linux takes, in bytes (`NAME_MAX`).
pub const NAME_MAX: usize = 255;

/// Why a name was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Empty, or a component that no file can have.
    #[error("not a file name")]
    Invalid,
    /// Over [`NAME_MAX`] or [`KEY_MAX`].
    #[error("name too long")]
    TooLong,
    /// Not UTF-8; a key is UTF-8 by definition.
    #[error("name is not UTF-8")]
    NotUtf8,
}

/// The full name of one object in its bucket.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Arc<str>);

impl Key {
    /// Takes a key as a server or a user gave it.
    pub fn parse(key: &str) -> Result<Self, NameError> {
        match key.len() {
            0 => Err(NameError::Invalid),
            1..=KEY_MAX => Ok(Self(key.into())),
            _ => Err(NameError::TooLong),
        }
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_debug())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// The keys below one directory: empty for the whole bucket, otherwise ending in `/`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Prefix(Arc<str>);

impl Prefix {
    /// Takes a prefix as a user gave it; a missing final `/` is added.
    pub fn parse(prefix: &str) -> Result<Self, NameError> {
        match prefix.len() {
            0 => Ok(Self::default()),
            KEY_MAX.. => Err(NameError::TooLong),
            _ if prefix.ends_with('/') => Ok(Self(prefix.into())),
            _ => Ok(Self(format!("{prefix}/").into())),
        }
    }

    /// The prefix as text, with its final `/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key of the file `name` in this directory.
    pub fn key(&self, name: &Name) -> Result<Key, NameError> {
        Key::parse(&format!("{}{}", self.0, name.as_str()))
    }

    /// The prefix of the directory `name` in this directory.
    pub fn dir(&self, name: &Name) -> Result<Self, NameError> {
        Self::parse(&format!("{}{}/", self.0, name.as_str()))
    }

    /// The key of this directory's marker object (`dir/`); the bucket's root has none.
    pub fn marker(&self) -> Option<Key> {
        Key::parse(&self.0).ok()
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_debug())
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// One component of a path.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Arc<str>);

impl Name {
    /// Takes a component as the kernel gave it.
    pub fn parse(name: &OsStr) -> Result<Self, NameError> {
        if name.len() > NAME_MAX {
            return Err(NameError::TooLong);
        }
        match name.to_str().ok_or(NameError::NotUtf8)? {
            "" | "." | ".." => Err(NameError::Invalid),
            text if text.contains(['/', '\0']) => Err(NameError::Invalid),
            text => Ok(Self(text.into())),
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AsRef<OsStr> for Name {
    fn as_ref(&self) -> &OsStr {
        OsStr::new(&*self.0)
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_debug())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_component() {
        for bad in ["", ".", "..", "a/b", "a\0b"] {
            assert_eq!(Name::parse(OsStr::new(bad)), Err(NameError::Invalid), "{bad:?}");
        }
        assert_eq!(Name::parse(OsStr::new(&"x".repeat(256))), Err(NameError::TooLong));
        assert!(Name::parse(OsStr::new(&"x".repeat(255))).is_ok());
    }

    #[test]
    fn a_key_is_the_prefix_and_the_name() {
        let name = Name::parse(OsStr::new("c.txt")).expect("plain name");
        let prefix = Prefix::parse("a/b").expect("plain prefix");
        assert_eq!(prefix.key(&name).expect("short").as_str(), "a/b/c.txt");
        assert_eq!(prefix.dir(&name).expect("short").as_str(), "a/b/c.txt/");
        assert_eq!(prefix.marker().expect("not the root").as_str(), "a/b/");
        assert_eq!(Prefix::default().marker(), None);
    }

    #[test]
    fn a_path_over_the_key_limit_is_refused() {
        let prefix = Prefix::parse(&"d/".repeat(400)).expect("800 bytes");
        let name = Name::parse(OsStr::new(&"x".repeat(250))).expect("250 bytes");
        assert_eq!(prefix.key(&name), Err(NameError::TooLong));
    }
}
