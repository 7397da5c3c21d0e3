//! Copies the objects of one volume or snapshot to another, on the server: no byte goes through the driver.
//!
//! A copy outlives the call that began it: the caller waits for a while and is then told to ask again. A driver
//! that was restarted begins anew at the next call; copying an object twice changes nothing.
//!
//! What it does not do: a copy of objects that change meanwhile is no single moment's image. Each object is whole, in
//! the version it had when its turn came.

use crate::error::{Error, Kind, Result};
use crate::notes;
use crate::service::{Copy, Service};
use futures::future::{BoxFuture, Shared};
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tarn_fs::name::Key;
use tarn_fs::store::{Depth, ErrorKind, ListRequest, Listed};
use tokio::task::AbortHandle;

/// Objects copied at once.
const AT_ONCE: usize = 32;
/// How often an object that changes while it is copied is tried.
const TRIES: usize = 5;

/// How a copy stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// All is copied.
    Done,
    /// It goes on in the background.
    Running,
}

/// The copies under way, by the id of what they fill.
#[derive(Debug)]
pub(super) struct Copies {
    jobs: Mutex<HashMap<String, Job>>,
    patience: Duration,
}

#[derive(Debug)]
struct Job {
    end: Shared<BoxFuture<'static, Result<()>>>,
    abort: AbortHandle,
}

impl Copies {
    /// A caller waits for this long.
    pub(super) fn new(patience: Duration) -> Self {
        Self { jobs: Mutex::default(), patience }
    }

    /// Waits for the copy that fills `id`, after starting it if it does not run.
    pub(super) async fn run<F>(&self, id: &str, job: impl FnOnce() -> F) -> Result<Progress>
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let end = {
            let mut jobs = self.jobs.lock();
            let job = jobs.entry(id.to_owned()).or_insert_with(|| start(job()));
            job.end.clone()
        };
        match tokio::time::timeout(self.patience, end).await {
            Ok(result) => {
                self.jobs.lock().remove(id);
                result.map(|()| Progress::Done)
            }
            Err(_) => Ok(Progress::Running),
        }
    }

    /// Stops the copy that fills `id`, if one runs, and waits for its end.
    pub(super) async fn stop(&self, id: &str) {
        let job = self.jobs.lock().remove(id);
        if let Some(job) = job {
            job.abort.abort();
            // What it ended with no longer matters to anybody.
            drop(job.end.await);
        }
    }
}

fn start(job: impl Future<Output = Result<()>> + Send + 'static) -> Job {
    let task = tokio::spawn(job);
    let abort = task.abort_handle();
    let end = async move {
        task.await
            .unwrap_or_else(|error| Err(Error::new(Kind::Busy, format!("the copy ended early: {error}"))))
    };
    Job { end: end.boxed().shared(), abort }
}

/// Bucket and folder of what is copied, or where it goes.
#[derive(Debug, Clone)]
pub(super) struct Site {
    pub(super) bucket: String,
    pub(super) folder: String,
}

/// Copies every object from one site to another.
pub(super) async fn copy_all(service: Arc<dyn Service>, from: Site, to: Site) -> Result<()> {
    let objects = service.objects(&from.bucket);
    let mut request = ListRequest::new(notes::prefix(&from.folder)?, Depth::Subtree, notes::PAGE);
    loop {
        let page = objects.list(request.clone()).await?;
        if page.unusable > 0 {
            return Err(Error::new(
                Kind::Precondition,
                format!(
                    "{} keys of {} cannot be copied: no S3 client can name them",
                    page.unusable, from.bucket
                ),
            ));
        }
        let copies = page.objects.into_iter().map(|object| copy_one(&*service, &from, &to, object));
        stream::iter(copies).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
        match page.next {
            Some(next) => request.after = Some(next),
            None => return Ok(()),
        }
    }
}

/// Copies one object; one that is gone by now is none of the copy.
async fn copy_one(service: &dyn Service, from: &Site, to: &Site, mut object: Listed) -> Result<()> {
    let name = object.key.as_str().strip_prefix(from.folder.as_str()).unwrap_or(object.key.as_str());
    let target = format!("{}{name}", to.folder);
    if target.is_empty() {
        // The marker of a folder whose copy is a whole bucket, which has none.
        return Ok(());
    }
    let mut last = None;
    for _ in 0..TRIES {
        let copy = Copy {
            from: (from.bucket.clone(), object.key.as_str().to_owned()),
            etag: object.version.etag.clone(),
            size: object.version.size,
            to: (to.bucket.clone(), target.clone()),
        };
        match service.copy(&copy).await {
            Ok(()) => return Ok(()),
            Err(error) if matches!(error.kind, Kind::Busy | Kind::NotFound) => last = Some(error),
            Err(error) => return Err(error.during(format_args!("copy {}", object.key))),
        }
        match look_again(service, &from.bucket, &object.key).await? {
            Some(listed) => object = listed,
            None => return Ok(()),
        }
    }
    let why = last.map(|error| error.message).unwrap_or_default();
    Err(Error::new(Kind::Busy, format!("{} changes faster than it can be copied: {why}", object.key)))
}

async fn look_again(service: &dyn Service, bucket: &str, key: &Key) -> Result<Option<Listed>> {
    match service.objects(bucket).head(key).await {
        Ok(info) => Ok(Some(Listed { key: key.clone(), version: info.version, headers: None })),
        Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}
