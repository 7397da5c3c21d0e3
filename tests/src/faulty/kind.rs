//! Kinds of S3 requests, told apart by method, query and headers.

use hyper::{Method, Request};

/// A kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are those of the S3 operations")]
pub enum Kind {
    Head,
    Get,
    GetPart,
    Put,
    Copy,
    Delete,
    DeleteObjects,
    List,
    CreateUpload,
    UploadPart,
    UploadPartCopy,
    CompleteUpload,
    AbortUpload,
    Other,
}

impl Kind {
    /// The kind of a request.
    pub fn of<B>(request: &Request<B>) -> Self {
        let query = request.uri().query().unwrap_or_default();
        let has = |name: &str| query.split('&').any(|pair| pair.split('=').next() == Some(name));
        let copies = request.headers().contains_key("x-amz-copy-source");
        match *request.method() {
            Method::HEAD => Self::Head,
            Method::GET if has("list-type") => Self::List,
            Method::GET if has("partNumber") => Self::GetPart,
            Method::GET => Self::Get,
            Method::PUT if has("partNumber") && copies => Self::UploadPartCopy,
            Method::PUT if has("partNumber") => Self::UploadPart,
            Method::PUT if copies => Self::Copy,
            Method::PUT => Self::Put,
            Method::POST if has("uploads") => Self::CreateUpload,
            Method::POST if has("uploadId") => Self::CompleteUpload,
            Method::POST if has("delete") => Self::DeleteObjects,
            Method::DELETE if has("uploadId") => Self::AbortUpload,
            Method::DELETE => Self::Delete,
            _ => Self::Other,
        }
    }
}
