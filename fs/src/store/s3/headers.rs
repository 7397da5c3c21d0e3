//! Headers that go with every request of a kind: encryption and who pays.
//!
//! They are set in one place for all operations, below the code that builds requests, so that no request can be
//! sent without them. Invariant: with [`Sse`] set, everything that writes carries it, and with a customer's key
//! everything that reads data does too.

use super::config::{CustomerKey, S3Config, Sse};
use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};
use std::fmt;

/// What a request does with the object's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    /// Begins a new object.
    Begin,
    /// Begins a new object from another one.
    BeginCopy,
    /// Works on an object or upload whose encryption is set.
    Use,
    /// The same, reading another object.
    UseCopy,
    /// Touches no data.
    Nothing,
}

fn access(operation: &str) -> Access {
    match operation {
        "PutObject" | "CreateMultipartUpload" => Access::Begin,
        "CopyObject" => Access::BeginCopy,
        "HeadObject" | "GetObject" | "UploadPart" | "CompleteMultipartUpload" => Access::Use,
        "UploadPartCopy" => Access::UseCopy,
        _ => Access::Nothing,
    }
}

/// Adds the headers to each request before it is signed.
pub(super) struct FixedHeaders {
    begin: Vec<(String, String)>,
    using: Vec<(String, String)>,
    source: Vec<(String, String)>,
    requester_pays: bool,
}

impl FixedHeaders {
    pub(super) fn new(config: &S3Config) -> Self {
        let header =
            |name: &str, value: &str| (format!("x-amz-server-side-encryption{name}"), value.to_owned());
        let (begin, using, source) = match &config.sse {
            Sse::None => (vec![], vec![], vec![]),
            Sse::S3 => (vec![header("", "AES256")], vec![], vec![]),
            Sse::Kms { key_id } => {
                let key_id = key_id.iter().map(|id| header("-aws-kms-key-id", id));
                ([header("", "aws:kms")].into_iter().chain(key_id).collect(), vec![], vec![])
            }
            Sse::Customer { key } => {
                let own = customer("x-amz-server-side-encryption-customer", key);
                (own.clone(), own, customer("x-amz-copy-source-server-side-encryption-customer", key))
            }
        };
        Self { begin, using, source, requester_pays: config.requester_pays }
    }

    fn of(&self, operation: &str) -> impl Iterator<Item = &(String, String)> {
        let none: &[_] = &[];
        let (own, source): (&[_], &[_]) = match access(operation) {
            Access::Begin => (&self.begin, none),
            Access::BeginCopy => (&self.begin, &self.source),
            Access::Use => (&self.using, none),
            Access::UseCopy => (&self.using, &self.source),
            Access::Nothing => (none, none),
        };
        own.iter().chain(source)
    }
}

/// The three headers of a customer's key.
fn customer(prefix: &str, key: &CustomerKey) -> Vec<(String, String)> {
    vec![
        (format!("{prefix}-algorithm"), "AES256".to_owned()),
        (format!("{prefix}-key"), STANDARD.encode(key.bytes())),
        (format!("{prefix}-key-md5"), STANDARD.encode(Md5::digest(key.bytes()))),
    ]
}

impl fmt::Debug for FixedHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FixedHeaders(hidden)")
    }
}

impl Intercept for FixedHeaders {
    fn name(&self) -> &'static str {
        "FixedHeaders"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let operation = config.load::<Metadata>().ok_or("a request without an operation")?;
        let headers = context.request_mut().headers_mut();
        for (name, value) in self.of(operation.name()) {
            headers.try_insert(name.clone(), value.clone())?;
        }
        if self.requester_pays {
            headers.try_insert("x-amz-request-payer", "requester")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(sse: Sse, operation: &str) -> Vec<String> {
        let config = S3Config { sse, ..S3Config::new("b") };
        let headers = FixedHeaders::new(&config);
        headers.of(operation).map(|(name, _)| name.clone()).collect()
    }

    #[test]
    fn keys_of_the_store_are_asked_for_where_an_object_begins() {
        for operation in ["PutObject", "CreateMultipartUpload", "CopyObject"] {
            assert_eq!(names(Sse::S3, operation), ["x-amz-server-side-encryption"], "{operation}");
            let kms = Sse::Kms { key_id: Some("k".into()) };
            assert_eq!(names(kms, operation).len(), 2, "{operation}");
        }
        assert!(names(Sse::S3, "UploadPart").is_empty());
    }

    #[test]
    fn a_customers_key_goes_with_everything_that_touches_data() {
        let sse = || Sse::Customer { key: CustomerKey::new([1; 32]) };
        for operation in ["PutObject", "CreateMultipartUpload", "UploadPart", "HeadObject", "GetObject"] {
            assert_eq!(names(sse(), operation).len(), 3, "{operation}");
        }
        for operation in ["CopyObject", "UploadPartCopy"] {
            assert_eq!(names(sse(), operation).len(), 6, "{operation}");
        }
        for operation in ["ListObjectsV2", "DeleteObjects", "AbortMultipartUpload"] {
            assert!(names(sse(), operation).is_empty(), "{operation}");
        }
    }
}
