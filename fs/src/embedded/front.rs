//! The operations of the S3 API, each a conversion, one call of the store, and a conversion back. What is not
//! here, s3s answers with `NotImplemented`.

use super::{answer, request};
use crate::name::{Key, Prefix};
use crate::store::{
    Abandoned, CompleteRequest, Condition, CopyRequest, Depth, ETag, GetRequest, ListCursor, ListRequest,
    ObjectStore, Part, PartKinds, PartSource, Upload,
};
use s3s::dto::{self, Timestamp};
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};
use std::sync::Arc;
use std::time::SystemTime;

/// The most entries of a page.
const PAGE: i32 = 1000;

/// A bucket behind the S3 API.
pub(super) struct Front {
    bucket: String,
    store: Arc<dyn ObjectStore>,
}

impl Front {
    pub(super) fn new(bucket: &str, store: Arc<dyn ObjectStore>) -> Self {
        Self { bucket: bucket.to_owned(), store }
    }

    fn check(&self, bucket: &str) -> S3Result<()> {
        if bucket == self.bucket { Ok(()) } else { Err(s3_error!(NoSuchBucket)) }
    }

    fn key(&self, bucket: &str, key: &str) -> S3Result<Key> {
        self.check(bucket)?;
        request::key(key)
    }

    /// The source's version: the one insisted on, or the present one.
    async fn source(
        &self,
        source: &dto::CopySource,
        if_match: Option<dto::ETagCondition>,
    ) -> S3Result<(Key, ETag, u64)> {
        let key = request::source(source, &self.bucket)?;
        let version = self.store.head(&key).await.map_err(answer::error)?.version;
        Ok((key, request::tag(if_match).unwrap_or(version.etag), version.size))
    }

    fn upload(&self, bucket: &str, key: &str, id: String) -> S3Result<Upload> {
        Ok(Upload { key: self.key(bucket, key)?, id })
    }
}

fn number(number: i32) -> S3Result<u16> {
    u16::try_from(number).map_err(|_| s3_error!(InvalidArgument, "not a part number"))
}

#[async_trait::async_trait]
impl S3 for Front {
    async fn head_bucket(
        &self,
        req: S3Request<dto::HeadBucketInput>,
    ) -> S3Result<S3Response<dto::HeadBucketOutput>> {
        self.check(&req.input.bucket)?;
        Ok(S3Response::new(dto::HeadBucketOutput::default()))
    }

    async fn list_buckets(
        &self,
        _req: S3Request<dto::ListBucketsInput>,
    ) -> S3Result<S3Response<dto::ListBucketsOutput>> {
        let bucket = dto::Bucket { name: Some(self.bucket.clone()), ..Default::default() };
        Ok(S3Response::new(dto::ListBucketsOutput { buckets: Some(vec![bucket]), ..Default::default() }))
    }

    async fn head_object(
        &self,
        req: S3Request<dto::HeadObjectInput>,
    ) -> S3Result<S3Response<dto::HeadObjectOutput>> {
        let key = self.key(&req.input.bucket, &req.input.key)?;
        let info = self.store.head(&key).await.map_err(answer::error)?;
        Ok(S3Response::new(answer::head(&info)))
    }

    async fn get_object(
        &self,
        req: S3Request<dto::GetObjectInput>,
    ) -> S3Result<S3Response<dto::GetObjectOutput>> {
        let input = req.input;
        if input.part_number.is_some() {
            return Err(s3_error!(NotImplemented, "objects are kept without their parts"));
        }
        let key = self.key(&input.bucket, &input.key)?;
        let mut if_match = request::tag(input.if_match);
        let range = match input.range {
            None => None,
            Some(range) => {
                // The range is relative to the size, so the version whose size it is must be the one read.
                let version = self.store.head(&key).await.map_err(answer::error)?.version;
                if_match = if_match.or(Some(version.etag));
                Some(range.check(version.size).map_err(|error| s3_error!(error, InvalidRange))?)
            }
        };
        let wanted = GetRequest { range: range.clone(), if_match, part: None };
        let found = self.store.get(&key, wanted).await.map_err(answer::error)?;
        Ok(S3Response::new(answer::get(found, range.as_ref())))
    }

    async fn put_object(
        &self,
        req: S3Request<dto::PutObjectInput>,
    ) -> S3Result<S3Response<dto::PutObjectOutput>> {
        let mut input = req.input;
        let key = self.key(&input.bucket, &input.key)?;
        let condition = request::condition(input.if_match.take(), input.if_none_match.take())?;
        let headers = request::headers!(input);
        let sums = request::Sums {
            md5: input.content_md5,
            crc32: input.checksum_crc32,
            crc32c: input.checksum_crc32c,
            crc64nvme: input.checksum_crc64nvme,
        };
        let body = request::body(input.body, input.content_length, &sums).await?;
        let crc = crc_fast::crc64_nvme(&body);
        let version = self.store.put(&key, body, &headers, condition).await.map_err(answer::error)?;
        Ok(S3Response::new(dto::PutObjectOutput {
            e_tag: Some(answer::tag(&version)),
            checksum_crc64nvme: Some(answer::crc(crc)),
            ..Default::default()
        }))
    }

    async fn copy_object(
        &self,
        req: S3Request<dto::CopyObjectInput>,
    ) -> S3Result<S3Response<dto::CopyObjectOutput>> {
        let mut input = req.input;
        let to = self.key(&input.bucket, &input.key)?;
        let (from, if_match, size) =
            self.source(&input.copy_source, input.copy_source_if_match.take()).await?;
        let condition = request::header_condition(&req.headers)?;
        let headers = request::copy_headers(&mut input);
        let copy = CopyRequest { from, if_match, size, to, condition, headers, log: None };
        let version = self.store.copy(copy).await.map_err(answer::error)?;
        let result = dto::CopyObjectResult {
            e_tag: Some(answer::tag(&version)),
            last_modified: Some(Timestamp::from(version.last_modified)),
            ..Default::default()
        };
        Ok(S3Response::new(dto::CopyObjectOutput { copy_object_result: Some(result), ..Default::default() }))
    }

    async fn delete_object(
        &self,
        req: S3Request<dto::DeleteObjectInput>,
    ) -> S3Result<S3Response<dto::DeleteObjectOutput>> {
        let key = self.key(&req.input.bucket, &req.input.key)?;
        match request::header_condition(&req.headers)? {
            Condition::Matches(version) => self.store.delete_version(&key, &version).await,
            Condition::Always | Condition::Absent => self.store.delete(&[key]).await.map(drop),
        }
        .map_err(answer::error)?;
        Ok(S3Response::new(dto::DeleteObjectOutput::default()))
    }

    async fn delete_objects(
        &self,
        req: S3Request<dto::DeleteObjectsInput>,
    ) -> S3Result<S3Response<dto::DeleteObjectsOutput>> {
        let objects = req.input.delete.objects;
        let keys: S3Result<Vec<Key>> =
            objects.iter().map(|object| self.key(&req.input.bucket, &object.key)).collect();
        self.store.delete(&keys?).await.map_err(answer::error)?;
        let deleted = objects.into_iter();
        let deleted =
            deleted.map(|object| dto::DeletedObject { key: Some(object.key), ..Default::default() });
        let shown = (req.input.delete.quiet != Some(true)).then(|| deleted.collect());
        Ok(S3Response::new(dto::DeleteObjectsOutput { deleted: shown, ..Default::default() }))
    }

    async fn list_objects_v2(
        &self,
        req: S3Request<dto::ListObjectsV2Input>,
    ) -> S3Result<S3Response<dto::ListObjectsV2Output>> {
        let input = req.input;
        self.check(&input.bucket)?;
        let depth = match input.delimiter.as_deref() {
            None | Some("") => Depth::Subtree,
            Some("/") => Depth::Directory,
            Some(_) => return Err(s3_error!(NotImplemented, "the delimiter can only be /")),
        };
        let after = match (&input.continuation_token, input.start_after.as_deref()) {
            (Some(token), _) => {
                let cursor =
                    answer::cursor(token).ok_or_else(|| s3_error!(InvalidArgument, "foreign token"))?;
                Some(cursor)
            }
            (None, None | Some("")) => None,
            (None, Some(key)) => Some(ListCursor::Key(request::key(key)?)),
        };
        let filter = input.prefix.clone().unwrap_or_default();
        let directory = filter.rfind('/').map_or("", |at| &filter[..=at]);
        let prefix = Prefix::parse(directory).map_err(|_| s3_error!(KeyTooLongError))?;
        let limit = input.max_keys.unwrap_or(PAGE).clamp(1, PAGE) as u16;
        let page = self
            .store
            .list(ListRequest { after, ..ListRequest::new(prefix, depth, limit) })
            .await
            .map_err(answer::error)?;
        Ok(S3Response::new(answer::list(page, input, &filter)))
    }

    async fn create_multipart_upload(
        &self,
        req: S3Request<dto::CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<dto::CreateMultipartUploadOutput>> {
        let mut input = req.input;
        let key = self.key(&input.bucket, &input.key)?;
        let headers = request::headers!(input);
        // Parts of either kind have a checksum here.
        let upload =
            self.store.create_upload(&key, &headers, PartKinds::Sent).await.map_err(answer::error)?;
        Ok(S3Response::new(dto::CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(upload.id),
            ..Default::default()
        }))
    }

    async fn upload_part(
        &self,
        req: S3Request<dto::UploadPartInput>,
    ) -> S3Result<S3Response<dto::UploadPartOutput>> {
        let input = req.input;
        let upload = self.upload(&input.bucket, &input.key, input.upload_id)?;
        let sums = request::Sums {
            md5: input.content_md5,
            crc32: input.checksum_crc32,
            crc32c: input.checksum_crc32c,
            crc64nvme: input.checksum_crc64nvme,
        };
        let body = request::body(input.body, input.content_length, &sums).await?;
        let part = self.store.upload_part(&upload, number(input.part_number)?, PartSource::Bytes(body));
        let part = part.await.map_err(answer::error)?;
        Ok(S3Response::new(dto::UploadPartOutput {
            e_tag: Some(dto::ETag::Strong(part.etag.as_str().to_owned())),
            checksum_crc64nvme: part.crc64nvme.map(answer::crc),
            ..Default::default()
        }))
    }

    async fn upload_part_copy(
        &self,
        req: S3Request<dto::UploadPartCopyInput>,
    ) -> S3Result<S3Response<dto::UploadPartCopyOutput>> {
        let input = req.input;
        let upload = self.upload(&input.bucket, &input.key, input.upload_id)?;
        let (key, if_match, size) = self.source(&input.copy_source, input.copy_source_if_match).await?;
        let range = input.copy_source_range.as_deref().map_or(Ok(0..size), request::copy_range)?;
        let source = PartSource::Copy { key, if_match, range };
        let part = self.store.upload_part(&upload, number(input.part_number)?, source).await;
        let part = part.map_err(answer::error)?;
        let result = dto::CopyPartResult {
            e_tag: Some(dto::ETag::Strong(part.etag.as_str().to_owned())),
            checksum_crc64nvme: part.crc64nvme.map(answer::crc),
            last_modified: Some(Timestamp::from(SystemTime::now())),
            ..Default::default()
        };
        Ok(S3Response::new(dto::UploadPartCopyOutput {
            copy_part_result: Some(result),
            ..Default::default()
        }))
    }

    async fn complete_multipart_upload(
        &self,
        req: S3Request<dto::CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<dto::CompleteMultipartUploadOutput>> {
        let input = req.input;
        let upload = self.upload(&input.bucket, &input.key, input.upload_id)?;
        let condition = request::condition(input.if_match, input.if_none_match)?;
        let parts = input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
        let parts: S3Result<Vec<Part>> = parts.into_iter().map(part).collect();
        let complete = CompleteRequest { upload, parts: parts?, condition };
        let version = self.store.complete_upload(complete).await.map_err(answer::error)?;
        Ok(S3Response::new(dto::CompleteMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            e_tag: Some(answer::tag(&version)),
            ..Default::default()
        }))
    }

    async fn abort_multipart_upload(
        &self,
        req: S3Request<dto::AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<dto::AbortMultipartUploadOutput>> {
        let input = req.input;
        let upload = self.upload(&input.bucket, &input.key, input.upload_id)?;
        self.store.abort_upload(&Abandoned::Upload(upload)).await.map_err(answer::error)?;
        Ok(S3Response::new(dto::AbortMultipartUploadOutput::default()))
    }
}

/// A part as the client names it; the store knows its size.
fn part(part: dto::CompletedPart) -> S3Result<Part> {
    let (Some(given), Some(etag)) = (part.part_number, part.e_tag) else {
        return Err(s3_error!(InvalidPart, "a part needs its number and its tag"));
    };
    Ok(Part { number: number(given)?, etag: ETag::new(etag.value()), crc64nvme: None, size: 0 })
}
