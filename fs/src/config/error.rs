//! What is wrong with an option, and where it stands.

use std::fmt;
use std::path::PathBuf;

/// Where a value was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// `--name` on the command line.
    Flag,
    /// `-o name=value`.
    DashO,
    /// An environment variable.
    Env(&'static str),
    /// The TOML file.
    File(PathBuf),
}

/// One option with the place it came from, as messages name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The option.
    pub name: String,
    /// Where it was given.
    pub origin: Origin,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::Flag => write!(f, "--{}", self.name),
            Origin::DashO => write!(f, "-o {}", self.name),
            Origin::Env(variable) => write!(f, "{variable}"),
            Origin::File(path) => write!(f, "{}: {}", path.display(), self.name),
        }
    }
}

/// A mistake in the options. Nothing has been mounted; the exit code is 2.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such option.
    #[error("{place}: unknown option{}", did_you_mean(.nearest.as_deref()))]
    Unknown {
        /// The option as it was given.
        place: Place,
        /// The valid name that is spelt most like it.
        nearest: Option<String>,
    },
    /// The value cannot be read.
    #[error("{place}: {value:?} is not {expected}{}", did_you_mean(.nearest.as_deref()))]
    Value {
        /// The option.
        place: Place,
        /// Its value.
        value: String,
        /// What it should have been.
        expected: String,
        /// The valid word that is spelt most like it.
        nearest: Option<String>,
    },
    /// The option needs a value and has none.
    #[error("{place}: needs a value")]
    NoValue {
        /// The option.
        place: Place,
    },
    /// The option is known and cannot be had.
    #[error("{place}: {reason}")]
    Refused {
        /// The option.
        place: Place,
        /// Why.
        reason: String,
    },
    /// Two values for one option.
    #[error("{place}: given twice, as {first:?} and as {second:?}")]
    Twice {
        /// The option.
        place: Place,
        /// The first value.
        first: String,
        /// The other value.
        second: String,
    },
    /// Two options that exclude each other, or one without the other it needs.
    #[error("{0}")]
    Contradiction(String),
    /// A file that an option names.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The source is not `s3://BUCKET[/PREFIX]`.
    #[error("{0}")]
    Source(String),
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |word| format!("; did you mean {word:?}?"))
}
