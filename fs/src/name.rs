//! Names on both sides: object keys in the bucket, file names in a directory, and the rule that maps one to
//! the other. Pure; nothing here does I/O.
//!
//! Invariants: a [`Key`] is never empty and at most 1,024 bytes of UTF-8 (S3 user guide, "Naming Amazon S3
//! objects"). A [`Name`] is one path component: 1 to 1,024 bytes without `/` and NUL, never `.` or `..`.
//! A [`Prefix`] is empty (the whole bucket) or ends in `/`.

mod rule;

use rule::BESIDE;
use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

/// The longest key S3 takes, in bytes.
pub const KEY_MAX: usize = 1024;
/// The longest file name that is made here, in bytes (`NAME_MAX`): what programs expect and servers take.
pub const NAME_MAX: usize = 255;
/// The longest file name that the kernel takes from a FUSE file system, in bytes (`FUSE_NAME_LOW_MAX`): keys of other
/// clients may have such components.
pub const SHOWN_MAX: usize = 1024;

/// Why a name was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Empty, or a component that no file can have.
    #[error("not a file name")]
    Invalid,
    /// Over [`SHOWN_MAX`] or [`KEY_MAX`], or over [`NAME_MAX`] for what is to be made.
    #[error("name too long")]
    TooLong,
}

/// The full name of one object in its bucket.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Key(Arc<str>);

impl TryFrom<String> for Key {
    type Error = NameError;

    fn try_from(key: String) -> Result<Self, NameError> {
        Self::parse(&key)
    }
}

impl From<Key> for String {
    fn from(key: Key) -> Self {
        key.as_str().to_owned()
    }
}

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
    /// Takes a prefix as a user or a server gave it; a missing final `/` is added.
    pub fn parse(prefix: &str) -> Result<Self, NameError> {
        let text = match prefix {
            "" => return Ok(Self::default()),
            _ if prefix.ends_with('/') => Cow::Borrowed(prefix),
            _ => Cow::Owned(format!("{prefix}/")),
        };
        if text.len() > KEY_MAX { Err(NameError::TooLong) } else { Ok(Self(text.into())) }
    }

    /// The prefix as text, with its final `/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key of the object that is the file `name` in this directory. No object ends in an empty component but
    /// the directory's own.
    pub fn key(&self, name: &Name) -> Result<Key, NameError> {
        match (name.role(), name.component()) {
            (Role::Own, _) => self.marker().ok_or(NameError::Invalid),
            (Role::Entry | Role::Beside, component) if component.is_empty() => Err(NameError::Invalid),
            (Role::Entry | Role::Beside, component) => Key::parse(&format!("{}{component}", self.0)),
        }
    }

    /// The prefix of the directory `name` in this directory.
    pub fn dir(&self, name: &Name) -> Result<Self, NameError> {
        match name.role() {
            Role::Entry => Self::parse(&format!("{}{}/", self.0, name.component())),
            Role::Beside | Role::Own => Err(NameError::Invalid),
        }
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

/// One component of a path, as programs see it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Arc<[u8]>);

/// What a name stands for in its directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A component of keys: an object, or a directory.
    Entry,
    /// `%=` and an entry's name: the object whose entry is a directory, because keys below it exist too.
    Beside,
    /// `%=`: the bytes of the directory's own marker object.
    Own,
}

impl Name {
    /// Takes the name of what is to be made.
    pub fn to_make(name: &OsStr) -> Result<Self, NameError> {
        Self::parse(name).and_then(|name| if name.is_long() { Err(NameError::TooLong) } else { Ok(name) })
    }

    /// Takes a component as the kernel gave it.
    pub fn parse(name: &OsStr) -> Result<Self, NameError> {
        let text = name.as_bytes();
        if text.len() > SHOWN_MAX {
            return Err(NameError::TooLong);
        }
        let own = text == BESIDE.as_bytes();
        let name = Self(text.into());
        match name.entry_text() {
            b"" if own => Ok(name),
            b"" | b"." | b".." => Err(NameError::Invalid),
            text if text.contains(&b'/') || text.contains(&0) => Err(NameError::Invalid),
            text if text.starts_with(BESIDE.as_bytes()) => Err(NameError::Invalid),
            _ => Ok(name),
        }
    }

    /// The name that shows a component of a key.
    pub fn of(component: &str) -> Result<Self, NameError> {
        let shown = rule::shown(component);
        if shown.len() > SHOWN_MAX { Err(NameError::TooLong) } else { Ok(Self(shown.as_ref().into())) }
    }

    /// The name of the directory's own object.
    pub fn own() -> Self {
        Self(BESIDE.as_bytes().into())
    }

    /// The name as text; `None` if it is not UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// The bytes that programs see.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether it is longer than what may be made.
    pub fn is_long(&self) -> bool {
        self.0.len() > NAME_MAX
    }

    /// What it stands for.
    pub fn role(&self) -> Role {
        match self.0.strip_prefix(BESIDE.as_bytes()) {
            None => Role::Entry,
            Some([]) => Role::Own,
            Some(_) => Role::Beside,
        }
    }

    /// The other name that the object has when a directory of its name comes (an entry gets `%=`) or goes (it
    /// loses it). A directory's own object has no other.
    pub fn other(&self) -> Result<Self, NameError> {
        match self.role() {
            Role::Entry if self.component().is_empty() => Err(NameError::Invalid),
            Role::Entry => Self::parse(OsStr::from_bytes(&[BESIDE.as_bytes(), &self.0].concat())),
            Role::Beside => Ok(Self(self.entry_text().into())),
            Role::Own => Err(NameError::Invalid),
        }
    }

    /// Whether name and component are the same text: what nearly every name is, and what every server takes.
    pub fn is_plain(&self) -> bool {
        self.role() == Role::Entry && self.component().as_bytes() == &*self.0
    }

    /// The component of keys behind it; empty for the directory's own object.
    fn component(&self) -> Cow<'_, str> {
        rule::component(self.entry_text())
    }

    fn entry_text(&self) -> &[u8] {
        self.0.strip_prefix(BESIDE.as_bytes()).unwrap_or(&self.0)
    }
}

impl std::borrow::Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<OsStr> for Name {
    fn as_ref(&self) -> &OsStr {
        OsStr::from_bytes(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(OsStr::from_bytes(&self.0), f)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
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
        assert_eq!(Name::parse(OsStr::new(&"x".repeat(1025))), Err(NameError::TooLong));
        assert!(Name::parse(OsStr::new(&"x".repeat(1024))).is_ok());
        assert_eq!(Name::to_make(OsStr::new(&"x".repeat(256))), Err(NameError::TooLong));
        assert!(Name::to_make(OsStr::new(&"x".repeat(255))).is_ok());
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

    /// SEMANTICS: "`%=` and `%=name` are never directories, and `%=.`, `%=..` and `%=%=...` are no names:
    /// EINVAL."
    #[test]
    fn a_role_is_part_of_the_name_and_gives_the_same_key() {
        let parse = |text: &str| Name::parse(OsStr::new(text));
        let prefix = Prefix::parse("d").expect("plain prefix");
        let (entry, beside) = (parse("a").expect("entry"), parse("%=a").expect("beside"));
        assert_eq!(prefix.key(&entry), prefix.key(&beside));
        assert_eq!((entry.other(), beside.other()), (Ok(beside.clone()), Ok(entry)));
        assert_eq!(prefix.dir(&beside), Err(NameError::Invalid));
        assert_eq!(prefix.key(&Name::own()).expect("the marker").as_str(), "d/");
        assert_eq!(Prefix::default().key(&Name::own()), Err(NameError::Invalid));
        for bad in ["%=.", "%=..", "%=%=", "%=%=a"] {
            assert_eq!(parse(bad), Err(NameError::Invalid), "{bad}");
        }
    }

    #[test]
    fn an_empty_component_is_a_directory_and_never_an_object() {
        let empty = Name::of("").expect("short");
        let prefix = Prefix::parse("d").expect("plain prefix");
        assert_eq!(prefix.dir(&empty).expect("short").as_str(), "d//");
        assert_eq!(Prefix::default().dir(&empty).expect("short").as_str(), "/");
        assert_eq!(prefix.key(&empty), Err(NameError::Invalid));
        assert_eq!(empty.other(), Err(NameError::Invalid));
        let beside = Name::parse(OsStr::new("%=%:")).expect("a legal file name");
        assert_eq!(prefix.key(&beside), Err(NameError::Invalid));
    }

    /// SEMANTICS: "making a name over 255 bytes, or looking for one that is not there; a key over 1,024
    /// bytes, the mount's prefix included; a component that is too long for the server | ENAMETOOLONG"
    #[test]
    fn a_path_over_the_key_limit_is_refused() {
        let prefix = Prefix::parse(&"d/".repeat(400)).expect("800 bytes");
        let name = Name::parse(OsStr::new(&"x".repeat(250))).expect("250 bytes");
        assert_eq!(prefix.key(&name), Err(NameError::TooLong));
    }
}
