//! Typed access to the merged options. A value that cannot be read names its place and what was expected.

use super::error::Error;
use super::layers::Layers;
use super::listen::Listen;
use super::table;
use super::value::{self, Share};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// Reads options by name.
pub(super) struct Reader<'a> {
    layers: &'a Layers,
    /// Names asked for, so that a test can see that no option of the table is left unread.
    #[cfg(test)]
    pub(super) read: std::cell::RefCell<std::collections::BTreeSet<String>>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(layers: &'a Layers) -> Self {
        Self {
            layers,
            #[cfg(test)]
            read: std::cell::RefCell::default(),
        }
    }

    /// Whether anybody has set it.
    pub(super) fn is_given(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<String>, Error> {
        self.parse(name, |text| {
            let plain = !text.is_empty() && !text.contains(char::is_control);
            if plain { Ok(text.to_owned()) } else { Err("a text without control characters") }
        })
    }

    pub(super) fn url(&self, name: &str) -> Result<Option<String>, Error> {
        self.parse(name, |text| {
            let host = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
            let plain = |host: &str| {
                // A user name in a URL would be a secret in argv.
                !host.is_empty()
                    && !host.starts_with('/')
                    && !host.contains(|c: char| {
                        c == '@' || c == '?' || c == '#' || c.is_whitespace() || c.is_control()
                    })
            };
            match host {
                Some(host) if plain(host) => Ok(text.trim_end_matches('/').to_owned()),
                Some(_) | None => Err("a URL such as https://s3.example.org or http://127.0.0.1:9000"),
            }
        })
    }

    pub(super) fn collector(&self, name: &str) -> Result<Option<String>, Error> {
        self.parse(name, |text| match text.strip_prefix("http://") {
            Some(host) if !host.is_empty() && !host.contains(['@', '?', '#', ' ']) => Ok(text.to_owned()),
            Some(_) | None => Err("an http URL of a collector nearby, such as http://127.0.0.1:4317"),
        })
    }

    pub(super) fn path(&self, name: &str) -> Result<Option<PathBuf>, Error> {
        // The serving process leaves the directory it was started in.
        self.parse(name, |text| std::path::absolute(text).map_err(|_| "a path"))
    }

    /// A path that must be a readable file now rather than at the first request.
    pub(super) fn file(&self, name: &str) -> Result<Option<PathBuf>, Error> {
        let path = self.path(name)?;
        if let Some(path) = &path {
            let opened = std::fs::File::open(path).and_then(|file| file.metadata());
            let reason = match opened {
                Ok(metadata) if metadata.is_file() => return Ok(Some(path.clone())),
                Ok(_) => "is not a file".to_owned(),
                Err(error) => error.to_string(),
            };
            return Err(Error::File { path: path.display().to_string(), reason });
        }
        Ok(path)
    }

    pub(super) fn switch(&self, name: &str) -> Result<bool, Error> {
        self.parse(name, value::switch).map(Option::unwrap_or_default)
    }

    pub(super) fn word(&self, name: &str, words: &[&'static str]) -> Result<Option<&'static str>, Error> {
        let Some((text, place)) = self.get(name) else { return Ok(None) };
        if let Some(word) = words.iter().find(|word| word.eq_ignore_ascii_case(text)) {
            return Ok(Some(word));
        }
        let nearest = table::nearest(text, words.iter().copied()).map(str::to_owned);
        Err(Error::Value { place, value: text.to_owned(), expected: words.join(", "), nearest })
    }

    pub(super) fn share(&self, name: &str) -> Result<Option<Share>, Error> {
        self.parse(name, value::share)
    }

    pub(super) fn mode(&self, name: &str) -> Result<Option<u32>, Error> {
        self.parse(name, value::mode)
    }

    pub(super) fn number(&self, name: &str) -> Result<Option<u32>, Error> {
        self.parse(name, value::number)
    }

    pub(super) fn listen(&self, name: &str) -> Result<Option<Listen>, Error> {
        self.parse(name, Listen::parse)
    }

    pub(super) fn number_in(
        &self,
        name: &str,
        default: u32,
        range: RangeInclusive<u32>,
        said: &str,
    ) -> Result<u32, Error> {
        let number = self.number(name)?.unwrap_or(default);
        if range.contains(&number) { Ok(number) } else { Err(self.out_of_range(name, said)) }
    }

    pub(super) fn size_in(
        &self,
        name: &str,
        default: u64,
        range: RangeInclusive<u64>,
        said: &str,
    ) -> Result<u64, Error> {
        let size = self.parse(name, value::size)?.unwrap_or(default);
        if range.contains(&size) { Ok(size) } else { Err(self.out_of_range(name, said)) }
    }

    pub(super) fn time_from(
        &self,
        name: &str,
        default: Duration,
        least: Duration,
    ) -> Result<Duration, Error> {
        const MOST: Duration = Duration::from_secs(86_400);
        let time = self.parse(name, value::time)?.unwrap_or(default);
        if (least..=MOST).contains(&time) {
            return Ok(time);
        }
        Err(self.out_of_range(name, &format!("{}s to 1d", least.as_secs())))
    }

    /// The error for a value that can be read and cannot be used.
    pub(super) fn out_of_range(&self, name: &str, said: &str) -> Error {
        match self.get(name) {
            Some((text, place)) => {
                Error::Value { place, value: text.to_owned(), expected: said.to_owned(), nearest: None }
            }
            None => Error::Contradiction(format!("{name} must be {said}")),
        }
    }

    fn parse<T>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, value::Expected>,
    ) -> Result<Option<T>, Error> {
        let Some((text, place)) = self.get(name) else { return Ok(None) };
        match parse(text) {
            Ok(value) => Ok(Some(value)),
            Err(expected) => Err(Error::Value {
                place,
                value: text.to_owned(),
                expected: expected.to_owned(),
                nearest: None,
            }),
        }
    }

    fn get(&self, name: &str) -> Option<(&'a str, super::Place)> {
        #[cfg(test)]
        self.read.borrow_mut().insert(name.to_owned());
        self.layers.get(name)
    }
}
