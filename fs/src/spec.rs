//! What is mounted: `s3://BUCKET[/PREFIX]`.

use crate::name::Prefix;
use std::fmt;

/// A bucket and the part of it that is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The bucket's name.
    pub bucket: String,
    /// The keys that are shown; empty for all.
    pub prefix: Prefix,
}

impl Source {
    /// Reads `s3://BUCKET[/PREFIX]`. The error is a sentence for the user.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix("s3://") else {
            return Err(format!("{text:?} is not a bucket; write s3://BUCKET or s3://BUCKET/PREFIX"));
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        // The name goes into host names, URLs and mount options: only what S3 itself allows, old buckets included.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        let named = (3..=255).contains(&bucket.len()) && bucket.bytes().all(plain);
        if !named || bucket.starts_with(['.', '-']) {
            return Err(format!(
                "{bucket:?} is not a bucket's name: 3 to 255 of a-z, A-Z, 0-9, point, dash and underscore"
            ));
        }
        if prefix.split('/').rev().skip(1).any(str::is_empty) && !prefix.is_empty() {
            return Err(format!("{prefix:?} has an empty component; write it with single slashes"));
        }
        if prefix.split('/').any(|part| part == "." || part == "..") || prefix.contains(char::is_control) {
            return Err(format!("{prefix:?} cannot be a directory"));
        }
        let prefix = Prefix::parse(prefix).map_err(|error| format!("{prefix:?}: {error}"))?;
        Ok(Self { bucket: bucket.to_owned(), prefix })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}", self.bucket)?;
        if self.prefix.as_str().is_empty() { Ok(()) } else { write!(f, "/{}", self.prefix) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_and_prefixes() {
        for (text, bucket, prefix) in [
            ("s3://data", "data", ""),
            ("s3://data/", "data", ""),
            ("s3://data/a/b", "data", "a/b/"),
            ("s3://my.data-1/a b/", "my.data-1", "a b/"),
        ] {
            let source = Source::parse(text).expect(text);
            assert_eq!((source.bucket.as_str(), source.prefix.as_str()), (bucket, prefix), "{text}");
        }
        assert_eq!(Source::parse("s3://data/a").expect("good").to_string(), "s3://data/a/");
    }

    #[test]
    fn what_is_no_bucket_is_refused() {
        for bad in [
            "data",
            "s3:/data",
            "s3://",
            "s3://a",
            "s3:///x",
            "s3://-x-/",
            "s3://da,ta",
            "s3://data//x",
            "s3://data/../x",
        ] {
            assert!(Source::parse(bad).is_err(), "{bad}");
        }
    }
}
