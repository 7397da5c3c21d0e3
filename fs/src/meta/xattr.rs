//! Extended attributes in one entry of the user metadata, in the form of s3fs: a JSON object of names and base64
//! values, percent-encoded.

use crate::error::{Error, Result};
use crate::store::Headers;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use std::collections::BTreeMap;

/// Name of the entry.
const ENTRY: &str = "xattr";
/// What stands for itself; the more, the more fits.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'.')
    .remove(b'-')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/')
    .remove(b'+')
    .remove(b'=');

/// The extended attributes of one file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Xattrs {
    values: BTreeMap<String, Vec<u8>>,
}

impl Xattrs {
    /// Those that the headers hold; an entry that cannot be read holds none.
    pub fn read(headers: &Headers) -> Self {
        Self::parse(headers).unwrap_or_default()
    }

    /// The same, to change them: an entry of an unknown form is not overwritten ([`Error::NotPermitted`]).
    pub fn edit(headers: &Headers) -> Result<Self> {
        Self::parse(headers).ok_or(Error::NotPermitted("the metadata entry xattr has an unknown form"))
    }

    fn parse(headers: &Headers) -> Option<Self> {
        let Some(text) = headers.user.get(ENTRY) else { return Some(Self::default()) };
        let json = percent_decode_str(text).decode_utf8().ok()?;
        let encoded: BTreeMap<String, String> = serde_json::from_str(&json).ok()?;
        let decode = |(name, value): (String, String)| Some((name, STANDARD.decode(value).ok()?));
        Some(Self { values: encoded.into_iter().map(decode).collect::<Option<_>>()? })
    }

    /// Writes them into `headers`; without any there is no entry.
    pub fn write(&self, headers: &mut Headers) {
        if self.values.is_empty() {
            headers.user.remove(ENTRY);
            return;
        }
        let encode = |(name, value): (&String, &Vec<u8>)| (name.clone(), STANDARD.encode(value).into());
        let json = serde_json::Value::Object(self.values.iter().map(encode).collect()).to_string();
        headers.user.insert(ENTRY.to_owned(), utf8_percent_encode(&json, PLAIN).to_string());
    }

    /// The value of one.
    pub fn value(&self, name: &str) -> Option<&[u8]> {
        self.values.get(name).map(Vec::as_slice)
    }

    /// Sets one.
    pub fn set(&mut self, name: &str, value: Vec<u8>) {
        self.values.insert(name.to_owned(), value);
    }

    /// Removes one; false if it is not there.
    pub fn remove(&mut self, name: &str) -> bool {
        self.values.remove(name).is_some()
    }

    /// All names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }
}

/// What a program may do beyond its user (capabilities(7)).
const CAPABILITIES: &str = "security.capability";

/// Whether the file is a program with capabilities.
pub fn has_capabilities(headers: &Headers) -> bool {
    headers.user.contains_key(ENTRY) && Xattrs::read(headers).value(CAPABILITIES).is_some()
}

/// Takes a program's capabilities away; true if it had some.
pub fn drop_capabilities(headers: &mut Headers) -> bool {
    if !has_capabilities(headers) {
        return false;
    }
    let mut xattrs = Xattrs::read(headers);
    xattrs.remove(CAPABILITIES);
    xattrs.write(headers);
    true
}
