//! A wrapper that bounds the requests in flight.
//!
//! A call waits for a permit and keeps it until it is answered; a GET keeps it until its body ends or is dropped,
//! because it holds its connection that long. Waiting is fair, first come first served.
//!
//! What it does not do: no rates, no bytes, no priorities.

use super::{
    Abandoned, CompleteRequest, Condition, CopyRequest, Deleted, ETag, Error, ErrorKind, GetRequest,
    GetResponse, Headers, ListPage, ListRequest, ObjectInfo, ObjectStore, Op, Part, PartKinds, PartSource,
    Result, Upload, Version,
};
use crate::name::Key;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A store with at most so many requests in flight.
#[derive(Debug)]
pub struct LimitStore {
    inner: Arc<dyn ObjectStore>,
    permits: Arc<Semaphore>,
}

impl LimitStore {
    /// Lets at most `requests` (at least one) be under way at once.
    pub fn new(inner: Arc<dyn ObjectStore>, requests: usize) -> Self {
        Self { inner, permits: Arc::new(Semaphore::new(requests.max(1))) }
    }

    /// How many more requests could start now.
    pub fn available(&self) -> usize {
        self.permits.available_permits()
    }

    async fn permit(&self, op: Op, key: Option<&Key>) -> Result<OwnedSemaphorePermit> {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        permit.map_err(|_| Error::new(ErrorKind::Unavailable, op, key, "the store is closed"))
    }
}

/// A body that gives its permit back when it ends.
struct Held {
    body: BoxStream<'static, Result<Bytes>>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Stream for Held {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let item = ready!(self.body.as_mut().poll_next(cx));
        if !matches!(item, Some(Ok(_))) {
            self.permit = None;
        }
        Poll::Ready(item)
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait::async_trait]
impl ObjectStore for LimitStore {
    async fn head(&self, key: &Key) -> Result<ObjectInfo> {
        let _permit = self.permit(Op::Head, Some(key)).await?;
        self.inner.head(key).await
    }

    async fn get(&self, key: &Key, request: GetRequest) -> Result<GetResponse> {
        let permit = self.permit(Op::Get, Some(key)).await?;
        let GetResponse { info, checked, body } = self.inner.get(key, request).await?;
        Ok(GetResponse { info, checked, body: Held { body, permit: Some(permit) }.boxed() })
    }

    async fn put(&self, key: &Key, body: Bytes, headers: &Headers, condition: Condition) -> Result<Version> {
        let _permit = self.permit(Op::Put, Some(key)).await?;
        self.inner.put(key, body, headers, condition).await
    }

    async fn copy(&self, request: CopyRequest) -> Result<Version> {
        let _permit = self.permit(Op::Copy, Some(&request.to)).await?;
        self.inner.copy(request).await
    }

    async fn delete(&self, keys: &[Key]) -> Result<Vec<Deleted>> {
        let _permit = self.permit(Op::Delete, keys.first()).await?;
        self.inner.delete(keys).await
    }

    async fn delete_version(&self, key: &Key, version: &ETag) -> Result<()> {
        let _permit = self.permit(Op::Delete, Some(key)).await?;
        self.inner.delete_version(key, version).await
    }

    async fn list(&self, request: ListRequest) -> Result<ListPage> {
        let _permit = self.permit(Op::List, None).await?;
        self.inner.list(request).await
    }

    async fn create_upload(&self, key: &Key, headers: &Headers, parts: PartKinds) -> Result<Upload> {
        let _permit = self.permit(Op::CreateUpload, Some(key)).await?;
        self.inner.create_upload(key, headers, parts).await
    }

    async fn upload_part(&self, upload: &Upload, number: u16, source: PartSource) -> Result<Part> {
        let _permit = self.permit(Op::UploadPart, Some(&upload.key)).await?;
        self.inner.upload_part(upload, number, source).await
    }

    async fn complete_upload(&self, request: CompleteRequest) -> Result<Version> {
        let _permit = self.permit(Op::CompleteUpload, Some(&request.upload.key)).await?;
        self.inner.complete_upload(request).await
    }

    async fn abort_upload(&self, abandoned: &Abandoned) -> Result<()> {
        let _permit = self.permit(Op::AbortUpload, Some(abandoned.key())).await?;
        self.inner.abort_upload(abandoned).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;

    async fn store_with(key: &Key) -> LimitStore {
        let memory = MemoryStore::new();
        memory.put(key, Bytes::from_static(b"body"), &Headers::default(), Condition::Always).await.unwrap();
        LimitStore::new(Arc::new(memory), 1)
    }

    #[tokio::test]
    async fn a_body_under_way_holds_its_permit_until_it_ends() {
        let key = Key::parse("k").unwrap();
        let store = store_with(&key).await;
        let mut answer = store.get(&key, GetRequest::default()).await.unwrap();
        assert_eq!(store.available(), 0);
        while answer.body.next().await.is_some() {}
        assert_eq!(store.available(), 1);
    }

    #[tokio::test]
    async fn a_dropped_body_gives_its_permit_back() {
        let key = Key::parse("k").unwrap();
        let store = store_with(&key).await;
        let answer = store.get(&key, GetRequest::default()).await.unwrap();
        let head = store.head(&key);
        futures::pin_mut!(head);
        assert!(futures::poll!(&mut head).is_pending());
        drop(answer);
        head.await.unwrap();
        assert_eq!(store.available(), 1);
    }
}
