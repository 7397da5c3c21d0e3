//! The rule between a component of a key (the text between two slashes) and the file name that shows it.
//!
//! Where both are legal they are the same text. What only a key can hold, and what only a file name can hold, is
//! percent-encoded behind the mark `%:`. A text that is such an encoding already gets one more level of it, so that
//! nothing meets; any other text behind the mark stays as it is. So the rule is reversible for every text, and
//! `rule/tests.rs` holds it to that.

use percent_encoding::percent_decode;
use std::borrow::Cow;
use std::fmt::Write;

/// Begins an encoded text.
const MARK: &str = "%:";
/// Begins the name of an object beside a directory of the same name; alone it is the directory's own object.
pub(super) const BESIDE: &str = "%=";

/// Which side a text can stand on without being encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    /// Only in a key: empty, `.`, `..`, with NUL, or a file name with another meaning.
    Key,
    /// Only as a file name: not UTF-8.
    File,
    /// On both.
    Both,
}

/// The name that shows a component, of any length.
pub(super) fn shown(component: &str) -> Cow<'_, [u8]> {
    match origin(component.as_bytes()) {
        Side::Key => Cow::Owned(encode(component.as_bytes()).into_bytes()),
        Side::File => Cow::Owned(decode(component.as_bytes()).unwrap_or_default()),
        Side::Both => Cow::Borrowed(component.as_bytes()),
    }
}

/// The component behind a name that does not begin with [`BESIDE`].
pub(super) fn component(name: &[u8]) -> Cow<'_, str> {
    match origin(name) {
        Side::Key => Cow::Owned(String::from_utf8(decode(name).unwrap_or_default()).unwrap_or_default()),
        Side::File => Cow::Owned(encode(name)),
        Side::Both => String::from_utf8_lossy(name),
    }
}

/// The side of the text that is left when every level of encoding is taken off.
fn origin(text: &[u8]) -> Side {
    let mut text = Cow::Borrowed(text);
    while let Some(inner) = decode(&text) {
        text = Cow::Owned(inner);
    }
    match std::str::from_utf8(&text) {
        // Neither a name nor a component: nothing is behind the encoding, which stays what it is.
        Err(_) if text.contains(&0) || text.starts_with(BESIDE.as_bytes()) => Side::Both,
        Err(_) => Side::File,
        Ok("" | "." | "..") => Side::Key,
        Ok(text) if text.contains('\0') || text.starts_with(BESIDE) => Side::Key,
        Ok(_) => Side::Both,
    }
}

/// One level of encoding: `%`, NUL and bytes that are no UTF-8 as `%XX`, all else as it is.
fn encode(text: &[u8]) -> String {
    let mut encoded = MARK.to_owned();
    let escape = |encoded: &mut String, byte: u8| {
        write!(encoded, "%{byte:02X}").expect("a string takes everything");
    };
    for chunk in text.utf8_chunks() {
        for char in chunk.valid().chars() {
            match char {
                '%' | '\0' => escape(&mut encoded, char as u8),
                char => encoded.push(char),
            }
        }
        chunk.invalid().iter().for_each(|&byte| escape(&mut encoded, byte));
    }
    encoded
}

/// Takes one level off; `None` for a text that [`encode`] does not make.
fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let decoded: Vec<u8> = percent_decode(text.strip_prefix(MARK.as_bytes())?).collect();
    (encode(&decoded).as_bytes() == text).then_some(decoded)
}

#[cfg(test)]
mod tests;
