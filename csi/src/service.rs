//! An S3 service as the controller sees it: buckets, their tags, and what works across them. Objects of one bucket
//! are [`ObjectStore`]'s, as everywhere in tarn.
//!
//! Two implementations: [`s3`] with the AWS SDK, and [`fake`] in memory for tests.

pub mod fake;
pub mod s3;

use crate::error::Result;
use crate::record::Fields;
use std::fmt;
use std::sync::Arc;
use tarn_fs::store::{CredentialSource, ETag, ObjectStore};

/// How a service is reached.
#[derive(Debug, Clone, Default)]
pub struct Reach {
    /// The endpoint's URL; `None` is AWS.
    pub endpoint: Option<String>,
    /// The region; `None` leaves it to the SDK's chain.
    pub region: Option<String>,
    /// Whether the bucket goes into the path; `None` leaves it to the endpoint.
    pub path_style: Option<bool>,
    /// `none`, `s3` or `kms`, for the copies that the controller asks for; `None` is the bucket's rule.
    pub encryption: Option<String>,
    /// The key of `kms`.
    pub kms_key: Option<String>,
    /// Who asks.
    pub credentials: CredentialSource,
}

/// Reaches services.
#[async_trait::async_trait]
pub trait Connect: Send + Sync + fmt::Debug {
    /// A service that is reached like this. Nothing need be sent yet.
    async fn connect(&self, reach: Reach) -> Result<Arc<dyn Service>>;
}

/// A copy from one bucket to another, or within one, made by the server.
#[derive(Debug, Clone)]
pub struct Copy {
    /// Bucket and key of the source.
    pub from: (String, String),
    /// The version of the source; another one is [`crate::error::Kind::Busy`].
    pub etag: ETag,
    /// Its size in bytes.
    pub size: u64,
    /// Bucket and key of the copy.
    pub to: (String, String),
}

/// An S3 service with one set of credentials.
#[async_trait::async_trait]
pub trait Service: Send + Sync + fmt::Debug {
    /// The names of all buckets of this account, sorted.
    async fn buckets(&self) -> Result<Vec<String>>;

    /// Makes a bucket. One that this account has already is fine; one of another account is
    /// [`crate::error::Kind::Exists`].
    async fn create_bucket(&self, bucket: &str) -> Result<()>;

    /// Removes an empty bucket; an absent one is removed. One with objects is [`crate::error::Kind::Precondition`].
    async fn delete_bucket(&self, bucket: &str) -> Result<()>;

    /// The tags of a bucket; `None` if there is no such bucket.
    async fn tags(&self, bucket: &str) -> Result<Option<Fields>>;

    /// Replaces the tags of a bucket.
    async fn set_tags(&self, bucket: &str, tags: &Fields) -> Result<()>;

    /// Has a bucket keep old versions from now on.
    async fn keep_versions(&self, bucket: &str) -> Result<()>;

    /// Removes every object below `prefix` with all its versions and delete markers, and aborts unfinished uploads.
    async fn purge(&self, bucket: &str, prefix: &str) -> Result<()>;

    /// Copies an object with its headers.
    async fn copy(&self, copy: &Copy) -> Result<()>;

    /// The objects of a bucket.
    fn objects(&self, bucket: &str) -> Arc<dyn ObjectStore>;
}
