//! The one table from the SDK's errors to [`ErrorKind`].
//!
//! The code of the answer decides, the status where there is none (HEAD has no body). Messages name the endpoint
//! when it was not reached, and never hold a header or a secret.

use crate::name::{Key, NAME_MAX};
use crate::store::{Error, ErrorKind, Op};
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};

/// What an error is about.
pub(super) struct Site<'a> {
    pub(super) op: Op,
    pub(super) key: Option<&'a Key>,
    /// The endpoint as it is shown to people.
    pub(super) endpoint: &'a str,
}

impl Site<'_> {
    /// An error with a message of our own.
    pub(super) fn error(&self, kind: ErrorKind, message: impl Into<String>) -> Error {
        Error::new(kind, self.op, self.key, message)
    }

    pub(super) fn corrupt(&self, message: impl Into<String>) -> Error {
        self.error(ErrorKind::Corrupt, message)
    }

    /// Converts what the SDK gave up with.
    pub(super) fn convert<E>(&self, error: SdkError<E, HttpResponse>) -> Error
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let (kind, message) = match &error {
            SdkError::TimeoutError(_) => {
                (ErrorKind::Timeout, format!("no answer from {} in time", self.endpoint))
            }
            SdkError::DispatchFailure(failure) if failure.is_timeout() => {
                (ErrorKind::Timeout, self.unreachable("the connection timed out"))
            }
            SdkError::ServiceError(service) => {
                let (code, status) = (service.err().code(), service.raw().status().as_u16());
                let text = service.err().message().unwrap_or("no message");
                (
                    kind(code, status),
                    format!("{}: {text}", code.map_or_else(|| format!("HTTP {status}"), str::to_owned)),
                )
            }
            SdkError::ResponseError(response) => {
                let status = response.raw().status().as_u16();
                let kind = if status < 300 { ErrorKind::Corrupt } else { kind(None, status) };
                (kind, format!("HTTP {status} with an answer that cannot be read: {}", deepest(&error)))
            }
            SdkError::DispatchFailure(_) | SdkError::ConstructionFailure(_) => {
                let text = format!("{}", DisplayErrorContext(&error));
                if text.contains("redential") {
                    (ErrorKind::Credentials, format!("no usable credentials: {}", deepest(&error)))
                } else if matches!(error, SdkError::ConstructionFailure(_)) {
                    (ErrorKind::Rejected, format!("the request cannot be built: {}", deepest(&error)))
                } else {
                    (ErrorKind::Unavailable, self.unreachable(&deepest(&error)))
                }
            }
            _ => (ErrorKind::Unavailable, deepest(&error)),
        };
        // Servers that keep objects as files give one code for a segment that is odd and one that is too long.
        let kind = if kind == ErrorKind::InvalidName && self.key.is_some_and(has_long_segment) {
            ErrorKind::NameTooLong
        } else {
            kind
        };
        Error { kind, op: self.op, key: self.key.cloned(), message, source: Some(Box::new(error)) }
    }

    fn unreachable(&self, cause: &str) -> String {
        format!(
            "cannot reach {}: {cause}; check the endpoint's address, that the server runs, and the way to it",
            self.endpoint
        )
    }
}

fn has_long_segment(key: &Key) -> bool {
    key.as_str().split('/').any(|segment| segment.len() > NAME_MAX)
}

/// The message at the end of the chain of causes: the one that says what happened.
fn deepest(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// The meaning of a code, or of the status where the code says nothing.
pub(super) fn kind(code: Option<&str>, status: u16) -> ErrorKind {
    match code.unwrap_or_default() {
        "NoSuchKey" | "NoSuchUpload" | "NoSuchBucket" | "NotFound" | "NoSuchVersion" => ErrorKind::NotFound,
        "PreconditionFailed" | "ConditionalRequestConflict" => ErrorKind::Precondition,
        "InvalidAccessKeyId"
        | "ExpiredToken"
        | "InvalidToken"
        | "TokenRefreshRequired"
        | "ExpiredTokenException" => ErrorKind::Credentials,
        // A wrong secret key and a right one without a permission look alike to a user; the code tells them apart.
        "SignatureDoesNotMatch" => ErrorKind::Credentials,
        "KeyTooLongError" | "KeyTooLong" => ErrorKind::NameTooLong,
        "XMinioInvalidObjectName"
        | "XMinioInvalidResourceName"
        | "InvalidObjectName"
        | "InvalidURI"
        | "XMinioObjectExistsAsDirectory"
        | "XMinioParentIsObject" => ErrorKind::InvalidName,
        "QuotaExceeded" | "XMinioAdminBucketQuotaExceeded" | "XMinioStorageFull" | "InsufficientStorage" => {
            ErrorKind::Full
        }
        "InvalidObjectState" => ErrorKind::Archived,
        "EntityTooLarge" => ErrorKind::TooLarge,
        "NotImplemented" => ErrorKind::Unsupported,
        "SlowDown"
        | "SlowDownRead"
        | "SlowDownWrite"
        | "TooManyRequests"
        | "Throttling"
        | "RequestLimitExceeded"
        | "RequestThrottled"
        | "ThrottlingException" => ErrorKind::Throttled,
        "RequestTimeout" | "InternalError" | "ServiceUnavailable" => ErrorKind::Unavailable,
        "BadDigest" | "XAmzContentChecksumMismatch" | "XAmzContentSHA256Mismatch" | "IncompleteBody" => {
            ErrorKind::Corrupt
        }
        _ => kind_of_status(status),
    }
}

fn kind_of_status(status: u16) -> ErrorKind {
    match status {
        // The SDK could not read the answer.
        200..=299 => ErrorKind::Corrupt,
        404 => ErrorKind::NotFound,
        409 | 412 => ErrorKind::Precondition,
        401 => ErrorKind::Credentials,
        403 => ErrorKind::Denied,
        413 => ErrorKind::TooLarge,
        429 => ErrorKind::Throttled,
        408 => ErrorKind::Unavailable,
        501 => ErrorKind::Unsupported,
        507 => ErrorKind::Full,
        503 => ErrorKind::Throttled,
        500..=599 => ErrorKind::Unavailable,
        _ => ErrorKind::Rejected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_come_before_the_status_and_the_status_before_nothing() {
        for (code, status, expected) in [
            (Some("NoSuchKey"), 404, ErrorKind::NotFound),
            (Some("NoSuchUpload"), 404, ErrorKind::NotFound),
            (None, 404, ErrorKind::NotFound),
            (None, 200, ErrorKind::Corrupt),
            (None, 412, ErrorKind::Precondition),
            (Some("ConditionalRequestConflict"), 409, ErrorKind::Precondition),
            (Some("AccessDenied"), 403, ErrorKind::Denied),
            (None, 403, ErrorKind::Denied),
            (Some("ExpiredToken"), 400, ErrorKind::Credentials),
            (Some("InvalidAccessKeyId"), 403, ErrorKind::Credentials),
            (Some("KeyTooLongError"), 400, ErrorKind::NameTooLong),
            (Some("XMinioInvalidObjectName"), 400, ErrorKind::InvalidName),
            (Some("XMinioInvalidResourceName"), 400, ErrorKind::InvalidName),
            (Some("XMinioStorageFull"), 507, ErrorKind::Full),
            (Some("InvalidObjectState"), 403, ErrorKind::Archived),
            (Some("NotImplemented"), 501, ErrorKind::Unsupported),
            (Some("SlowDown"), 503, ErrorKind::Throttled),
            (Some("InternalError"), 500, ErrorKind::Unavailable),
            (Some("InvalidArgument"), 400, ErrorKind::Rejected),
            (Some("BucketAlreadyExists"), 409, ErrorKind::Precondition),
        ] {
            assert_eq!(kind(code, status), expected, "{code:?} {status}");
        }
    }
}
