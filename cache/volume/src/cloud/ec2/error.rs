//! The one table from EC2's error codes to what can be done.

use crate::error::{CloudErrorKind, Error, Result};
use aws_sdk_ec2::config::http::HttpResponse;
use aws_sdk_ec2::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};

/// The call that an error is about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call(pub(super) &'static str);

impl Call {
    /// Converts what the SDK gave up with.
    pub(super) fn error<E>(self) -> impl FnOnce(SdkError<E, HttpResponse>) -> Error
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        move |error| {
            let (kind, message) = match &error {
                SdkError::ServiceError(service) => {
                    let status = service.raw().status().as_u16();
                    let code = service.err().code().unwrap_or("no code");
                    (
                        kind(code, status),
                        format!("{code}: {}", service.err().message().unwrap_or("no message")),
                    )
                }
                SdkError::TimeoutError(_) => (CloudErrorKind::Unreachable, "no answer in time".to_owned()),
                _ => {
                    let text = DisplayErrorContext(&error).to_string();
                    let denied = text.contains("redential");
                    (if denied { CloudErrorKind::Denied } else { CloudErrorKind::Unreachable }, text)
                }
            };
            Error::Cloud { kind, call: self.0, message }
        }
    }

    /// An answer that makes no sense.
    pub(super) fn odd(self, what: &str) -> Error {
        Error::Cloud { kind: CloudErrorKind::Unreachable, call: self.0, message: format!("an answer {what}") }
    }
}

/// What a dry run says: whether the call would be refused for want of a permission.
pub(super) fn is_denied<T, E>(
    call: &'static str,
    answer: std::result::Result<T, SdkError<E, HttpResponse>>,
) -> Result<bool>
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let Err(error) = answer else { return Ok(false) };
    match Call(call).error()(error) {
        Error::Cloud { message, .. } if message.starts_with("DryRunOperation:") => Ok(false),
        Error::Cloud { kind: CloudErrorKind::Denied, .. } => Ok(true),
        // The permission was there, or the answer would be another; the state of the volume does not matter here.
        Error::Cloud {
            kind:
                CloudErrorKind::State
                | CloudErrorKind::Limit
                | CloudErrorKind::CoolDown
                | CloudErrorKind::NotFound,
            ..
        } => Ok(false),
        other => Err(other),
    }
}

fn kind(code: &str, status: u16) -> CloudErrorKind {
    match code {
        "RequestLimitExceeded"
        | "Throttling"
        | "ThrottlingException"
        | "RequestThrottled"
        | "EC2ThrottledException"
        | "TooManyRequestsException" => CloudErrorKind::Throttled,
        "UnauthorizedOperation"
        | "AuthFailure"
        | "AccessDenied"
        | "AccessDeniedException"
        | "InvalidClientTokenId"
        | "SignatureDoesNotMatch"
        | "ExpiredToken"
        | "RequestExpired"
        | "OptInRequired"
        | "Blocked"
        | "PendingVerification"
        | "Client.KMSKeyNotAccessibleFault"
        | "KMSKeyNotAccessible" => CloudErrorKind::Denied,
        "VolumeLimitExceeded"
        | "AttachmentLimitExceeded"
        | "MaxIOPSLimitExceeded"
        | "ResourceLimitExceeded"
        | "MaxSpotInstanceCountExceeded"
        | "TagLimitExceeded" => CloudErrorKind::Limit,
        "InsufficientVolumeCapacity" | "InsufficientCapacity" => CloudErrorKind::Capacity,
        "VolumeInUse"
        | "IncorrectState"
        | "IncorrectInstanceState"
        | "IncorrectModificationState"
        | "ConcurrentTagAccess" => CloudErrorKind::State,
        "VolumeModificationRateExceeded" | "MaximumModificationRateExceeded" => CloudErrorKind::CoolDown,
        "InvalidVolume.NotFound" | "InvalidInstanceID.NotFound" | "InvalidAttachment.NotFound" => {
            CloudErrorKind::NotFound
        }
        "IdempotentParameterMismatch" => CloudErrorKind::TokenUsed,
        "InternalError" | "InternalFailure" | "ServiceUnavailable" | "Unavailable" | "RequestTimeout" => {
            CloudErrorKind::Unreachable
        }
        _ if status >= 500 => CloudErrorKind::Unreachable,
        _ => CloudErrorKind::Invalid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_say_what_can_be_done() {
        for (code, status, expected) in [
            ("RequestLimitExceeded", 503, CloudErrorKind::Throttled),
            ("UnauthorizedOperation", 403, CloudErrorKind::Denied),
            ("AttachmentLimitExceeded", 400, CloudErrorKind::Limit),
            ("IncorrectModificationState", 400, CloudErrorKind::State),
            ("VolumeModificationRateExceeded", 400, CloudErrorKind::CoolDown),
            ("InvalidVolume.NotFound", 400, CloudErrorKind::NotFound),
            ("IdempotentParameterMismatch", 400, CloudErrorKind::TokenUsed),
            ("InvalidVolume.ZoneMismatch", 400, CloudErrorKind::Invalid),
            ("SomethingNew", 400, CloudErrorKind::Invalid),
            ("SomethingNew", 502, CloudErrorKind::Unreachable),
        ] {
            assert_eq!(kind(code, status), expected, "{code}");
        }
    }
}
