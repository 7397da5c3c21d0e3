//! The service over the S3 API, with the client that mounts use too.

use super::{Connect, Copy, Reach, Service};
use crate::error::{Error, Kind, Result};
use crate::record::Fields;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::Builder;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::types::{
    BucketLocationConstraint, BucketVersioningStatus, CompletedMultipartUpload, CompletedPart,
    CreateBucketConfiguration, Delete, ObjectIdentifier, Tag, Tagging, VersioningConfiguration,
};
use futures::{StreamExt, TryStreamExt, stream};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tarn_fs::store::{ObjectStore, PathStyle, S3Config, S3Store, Sse};

/// What `CopyObject` copies at most.
const COPY_MAX: u64 = 5 << 30;
/// The size of a copied part: large enough for 5 TiB in 10,000 parts.
const PART_SIZE: u64 = 1 << 30;
/// Parts copied at once.
const PARTS_AT_ONCE: usize = 4;
/// How long a store may take for the server's side of a copy: it moves the bytes before it answers.
const COPY_TIME: Duration = Duration::from_secs(600);
/// A client needs a bucket's name even for what is no bucket's.
const NO_BUCKET: &str = "none";
/// What stays as it is in `x-amz-copy-source`.
const SOURCE_KEPT: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Reaches S3 and what speaks like it.
#[derive(Debug, Clone, Default)]
pub struct S3 {
    /// A PEM file of further trusted certificates.
    pub ca_bundle: Option<PathBuf>,
}

#[async_trait::async_trait]
impl Connect for S3 {
    async fn connect(&self, reach: Reach) -> Result<Arc<dyn Service>> {
        let region = reach.region.clone();
        let config = S3Config {
            endpoint: reach.endpoint,
            region: reach.region,
            path_style: match reach.path_style {
                None => PathStyle::Auto,
                Some(true) => PathStyle::On,
                Some(false) => PathStyle::Off,
            },
            credentials: reach.credentials,
            ca_bundle: self.ca_bundle.clone(),
            sse: match reach.encryption.as_deref() {
                Some("s3") => Sse::S3,
                Some("kms") => Sse::Kms { key_id: reach.kms_key },
                Some(_) | None => Sse::None,
            },
            ..S3Config::new(NO_BUCKET)
        };
        let store = S3Store::connect(config).await?;
        Ok(Arc::new(S3Service { store, region }))
    }
}

#[derive(Debug)]
struct S3Service {
    store: S3Store,
    region: Option<String>,
}

impl S3Service {
    fn client(&self) -> &Client {
        self.store.client()
    }

    async fn exists(&self, bucket: &str) -> Result<bool> {
        match self.client().head_bucket().bucket(bucket).send().await {
            Ok(_) => Ok(true),
            Err(error) if error.as_service_error().is_some_and(|error| error.is_not_found()) => Ok(false),
            Err(error) => Err(failed("look for", bucket, &error)),
        }
    }

    /// Deletes versions and delete markers below `prefix`, a page at a time, until a listing is empty.
    async fn purge_versions(&self, bucket: &str, prefix: &str) -> Result<()> {
        let mut before = Vec::new();
        loop {
            let page = self.client().list_object_versions().bucket(bucket).prefix(prefix).send().await;
            let page = page.map_err(|error| failed("list versions of", bucket, &error))?;
            let one = |key: Option<&str>, version: Option<&str>| {
                let version = version.filter(|id| *id != "null").map(str::to_owned);
                ObjectIdentifier::builder().key(key.unwrap_or_default()).set_version_id(version).build().ok()
            };
            let versions = page.versions().iter().filter_map(|v| one(v.key(), v.version_id()));
            let markers = page.delete_markers().iter().filter_map(|m| one(m.key(), m.version_id()));
            let doomed: Vec<ObjectIdentifier> = versions.chain(markers).collect();
            if doomed.is_empty() {
                return Ok(());
            }
            if doomed == before {
                let text =
                    format!("bucket {bucket} says that objects are deleted and lists them still; try again");
                return Err(Error::new(Kind::Unavailable, text));
            }
            self.delete_all(bucket, doomed.clone()).await?;
            before = doomed;
        }
    }

    async fn delete_all(&self, bucket: &str, doomed: Vec<ObjectIdentifier>) -> Result<()> {
        let delete = Delete::builder().set_objects(Some(doomed)).quiet(true).build();
        let delete = delete.map_err(|error| Error::new(Kind::Internal, error.to_string()))?;
        let answer = self.client().delete_objects().bucket(bucket).delete(delete).send().await;
        let answer = answer.map_err(|error| failed("delete objects of", bucket, &error))?;
        match answer.errors().first() {
            None => Ok(()),
            Some(error) => Err(Error::new(
                kind(error.code()),
                format!(
                    "delete {:?} of bucket {bucket}: {}",
                    error.key().unwrap_or_default(),
                    error.message().or(error.code()).unwrap_or("refused")
                ),
            )),
        }
    }

    async fn abort_uploads(&self, bucket: &str, prefix: &str) -> Result<()> {
        loop {
            let page = self.client().list_multipart_uploads().bucket(bucket).prefix(prefix).send().await;
            let page = page.map_err(|error| failed("list uploads of", bucket, &error))?;
            if page.uploads().is_empty() {
                return Ok(());
            }
            for upload in page.uploads() {
                let call = self.client().abort_multipart_upload().bucket(bucket);
                let call = call.set_key(upload.key().map(str::to_owned));
                match call.set_upload_id(upload.upload_id().map(str::to_owned)).send().await {
                    Ok(_) => {}
                    Err(error) if error.code() == Some("NoSuchUpload") => {}
                    Err(error) => return Err(failed("abort an upload of", bucket, &error)),
                }
            }
        }
    }

    async fn copy_by_parts(&self, copy: &Copy) -> Result<()> {
        let (bucket, key) = &copy.to;
        let head = self.client().head_object().bucket(&copy.from.0).key(&copy.from.1).send().await;
        let head = head.map_err(|error| failed("read", &copy.from.0, &error))?;
        let begin = self.client().create_multipart_upload().bucket(bucket).key(key);
        let begin = begin
            .set_content_type(head.content_type)
            .set_cache_control(head.cache_control)
            .set_content_disposition(head.content_disposition)
            .set_content_encoding(head.content_encoding)
            .set_content_language(head.content_language)
            .set_metadata(head.metadata);
        let upload = begin.send().await.map_err(|error| failed("begin a copy in", bucket, &error))?;
        let id = upload.upload_id().unwrap_or_default();
        let joined = match self.copy_parts(copy, id).await {
            Ok(parts) => {
                let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
                let end = self.client().complete_multipart_upload().bucket(bucket).key(key).upload_id(id);
                let end = end.multipart_upload(parts).customize().config_override(patience()).send().await;
                end.map(drop).map_err(|error| failed("end a copy in", bucket, &error))
            }
            Err(error) => Err(error),
        };
        if joined.is_err() {
            let abort = self.client().abort_multipart_upload().bucket(bucket).key(key).upload_id(id);
            if let Err(error) = abort.send().await {
                tracing::warn!(bucket, key, error = %failed("abort a copy in", bucket, &error), "parts stay behind");
            }
        }
        joined
    }

    async fn copy_parts(&self, copy: &Copy, id: &str) -> Result<Vec<CompletedPart>> {
        let (bucket, key) = &copy.to;
        let starts = (0..copy.size).step_by(PART_SIZE as usize);
        let parts = (1..).zip(starts).map(|(number, start)| async move {
            let end = copy.size.min(start + PART_SIZE) - 1;
            let call = self.client().upload_part_copy().bucket(bucket).key(key).upload_id(id);
            let call = call
                .part_number(number)
                .copy_source(source(copy))
                .copy_source_if_match(quoted(copy))
                .copy_source_range(format!("bytes={start}-{end}"));
            let part = call.customize().config_override(patience()).send().await;
            let part = part.map_err(|error| failed("copy a part into", bucket, &error))?;
            let etag = part.copy_part_result().and_then(|result| result.e_tag()).map(str::to_owned);
            Ok(CompletedPart::builder().part_number(number).set_e_tag(etag).build())
        });
        stream::iter(parts).buffered(PARTS_AT_ONCE).try_collect().await
    }
}

#[async_trait::async_trait]
impl Service for S3Service {
    async fn buckets(&self) -> Result<Vec<String>> {
        let answer = self.client().list_buckets().send().await;
        let answer = answer.map_err(|error| failed("list the buckets of", "this account", &error))?;
        let mut names: Vec<String> =
            answer.buckets().iter().filter_map(|bucket| bucket.name().map(str::to_owned)).collect();
        names.sort();
        Ok(names)
    }

    async fn create_bucket(&self, bucket: &str) -> Result<()> {
        let call = self.client().create_bucket().bucket(bucket);
        // This region alone must not be named.
        let elsewhere = self.region.as_deref().filter(|region| *region != "us-east-1");
        let place = elsewhere.map(|region| {
            let region = BucketLocationConstraint::from(region);
            CreateBucketConfiguration::builder().location_constraint(region).build()
        });
        match call.set_create_bucket_configuration(place).send().await {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some("BucketAlreadyOwnedByYou") => Ok(()),
            Err(error) => Err(failed("create", bucket, &error)),
        }
    }

    async fn delete_bucket(&self, bucket: &str) -> Result<()> {
        match self.client().delete_bucket().bucket(bucket).send().await {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some("NoSuchBucket") => Ok(()),
            Err(error) => Err(failed("delete", bucket, &error)),
        }
    }

    async fn tags(&self, bucket: &str) -> Result<Option<Fields>> {
        match self.client().get_bucket_tagging().bucket(bucket).send().await {
            Ok(answer) => {
                let pair = |tag: &Tag| (tag.key().to_owned(), tag.value().to_owned());
                Ok(Some(answer.tag_set().iter().map(pair).collect()))
            }
            Err(error) => match error.code() {
                // MinIO says so of a bucket that is not there, too.
                Some("NoSuchTagSet") => Ok(self.exists(bucket).await?.then(Fields::new)),
                Some("NoSuchBucket") => Ok(None),
                Some(_) | None => Err(failed("read the tags of", bucket, &error)),
            },
        }
    }

    async fn set_tags(&self, bucket: &str, tags: &Fields) -> Result<()> {
        let built: std::result::Result<Vec<Tag>, _> =
            tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect();
        let tagging = built.and_then(|tags| Tagging::builder().set_tag_set(Some(tags)).build());
        let tagging = tagging.map_err(|error| Error::new(Kind::Internal, error.to_string()))?;
        let answer = if tags.is_empty() {
            self.client()
                .delete_bucket_tagging()
                .bucket(bucket)
                .send()
                .await
                .map(drop)
                .map_err(|e| failed("untag", bucket, &e))
        } else {
            let call = self.client().put_bucket_tagging().bucket(bucket).tagging(tagging);
            call.send().await.map(drop).map_err(|error| failed("tag", bucket, &error))
        };
        answer.map(drop)
    }

    async fn keep_versions(&self, bucket: &str) -> Result<()> {
        let on = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
        let call = self.client().put_bucket_versioning().bucket(bucket).versioning_configuration(on);
        call.send().await.map(drop).map_err(|error| failed("turn on versions of", bucket, &error))
    }

    async fn purge(&self, bucket: &str, prefix: &str) -> Result<()> {
        self.abort_uploads(bucket, prefix).await?;
        self.purge_versions(bucket, prefix).await
    }

    async fn copy(&self, copy: &Copy) -> Result<()> {
        if copy.size > COPY_MAX {
            return self.copy_by_parts(copy).await;
        }
        let (bucket, key) = &copy.to;
        let call = self.client().copy_object().bucket(bucket).key(key);
        let call = call.copy_source(source(copy)).copy_source_if_match(quoted(copy));
        let sent = call.customize().config_override(patience()).send().await;
        sent.map(drop).map_err(|error| failed("copy into", bucket, &error))
    }

    fn objects(&self, bucket: &str) -> Arc<dyn ObjectStore> {
        Arc::new(self.store.for_bucket(bucket))
    }
}

fn source(copy: &Copy) -> String {
    format!("{}/{}", copy.from.0, utf8_percent_encode(&copy.from.1, SOURCE_KEPT))
}

fn quoted(copy: &Copy) -> String {
    format!("\"{}\"", copy.etag.as_str())
}

fn patience() -> Builder {
    let limits =
        TimeoutConfig::builder().operation_attempt_timeout(COPY_TIME).operation_timeout(COPY_TIME * 3);
    Builder::new().timeout_config(limits.build())
}

/// What an error code of the API means for the caller.
fn kind(code: Option<&str>) -> Kind {
    match code {
        Some("NoSuchBucket" | "NoSuchKey" | "NotFound") => Kind::NotFound,
        Some("BucketAlreadyExists") => Kind::Exists,
        Some("BucketNotEmpty") => Kind::Precondition,
        Some("PreconditionFailed" | "OperationAborted") => Kind::Busy,
        Some(
            "AccessDenied"
            | "InvalidAccessKeyId"
            | "SignatureDoesNotMatch"
            | "ExpiredToken"
            | "InvalidToken"
            | "RequestTimeTooSkewed",
        ) => Kind::Denied,
        Some("SlowDown" | "ServiceUnavailable" | "InternalError" | "RequestTimeout") => Kind::Unavailable,
        Some("NotImplemented") => Kind::Unsupported,
        Some("InvalidBucketName" | "TooManyBuckets" | "InvalidLocationConstraint") => Kind::Invalid,
        Some(_) | None => Kind::Internal,
    }
}

fn failed<E: ProvideErrorMetadata + std::error::Error + 'static>(
    what: &str,
    bucket: &str,
    error: &SdkError<E>,
) -> Error {
    let kind = match error {
        SdkError::TimeoutError(_) | SdkError::DispatchFailure(_) | SdkError::ResponseError(_) => {
            Kind::Unavailable
        }
        SdkError::ConstructionFailure(_) => Kind::Denied,
        SdkError::ServiceError(_) => kind(error.code()),
        _other => Kind::Internal,
    };
    let why = match (error.code(), error.message()) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code.to_owned(),
        (None, _) => chain(error),
    };
    Error::new(kind, format!("{what} bucket {bucket}: {why}"))
}

/// An error with all its causes, for one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
