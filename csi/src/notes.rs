//! Reads and writes records, wherever they are: tags of a bucket, or objects in a shared one.

use crate::error::{Error, Kind, Result};
use crate::record::{Fields, Record, without};
use crate::service::Service;
use crate::volume_id::{Place, Thing, VolumeId};
use bytes::Bytes;
use futures::TryStreamExt;
use tarn_fs::name::{Key, Prefix};
use tarn_fs::store::{
    Condition, Depth, ErrorKind, GetRequest, Headers, ListCursor, ListRequest, ObjectStore,
};

/// Keys in a page of a listing.
pub(crate) const PAGE: u16 = 1000;

/// What is where a volume or snapshot would be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Ours.
    Ours(Record),
    /// No bucket; for a folder, no shared bucket.
    NoBucket,
    /// A bucket, without a record of this id.
    Unclaimed,
}

/// Looks for the record of `id`. One with another id in its place is an error.
pub(crate) async fn find(service: &dyn Service, id: &VolumeId) -> Result<Found> {
    let bucket = id.place.bucket();
    let fields = match &id.place {
        Place::Bucket { .. } => service.tags(bucket).await?,
        Place::Folder { slot, .. } => read(&*service.objects(bucket), id.thing, slot).await?,
    };
    let Some(fields) = fields else {
        return Ok(match &id.place {
            Place::Bucket { .. } => Found::NoBucket,
            Place::Folder { .. } if service.tags(bucket).await?.is_none() => Found::NoBucket,
            Place::Folder { .. } => Found::Unclaimed,
        });
    };
    match Record::from_fields(&fields)? {
        None => Ok(Found::Unclaimed),
        Some(record) if record.id == id.to_string() => Ok(Found::Ours(record)),
        Some(record) => {
            Err(Error::new(Kind::Exists, format!("the place of {id} belongs to {} already", record.id)))
        }
    }
}

/// The record of a thing that must exist.
pub(crate) async fn need(service: &dyn Service, id: &VolumeId) -> Result<Record> {
    match find(service, id).await? {
        Found::Ours(record) => Ok(record),
        Found::NoBucket | Found::Unclaimed => {
            Err(Error::new(Kind::NotFound, format!("{id} does not exist, or is not this driver's")))
        }
    }
}

/// Writes the record of a thing for the first time; that of another, written meanwhile, is an error.
pub(crate) async fn claim(service: &dyn Service, id: &VolumeId, record: &Record) -> Result<()> {
    store(service, id, record, Condition::Absent).await
}

/// Writes a changed record.
pub(crate) async fn update(service: &dyn Service, id: &VolumeId, record: &Record) -> Result<()> {
    store(service, id, record, Condition::Always).await
}

async fn store(service: &dyn Service, id: &VolumeId, record: &Record, condition: Condition) -> Result<()> {
    let bucket = id.place.bucket();
    match &id.place {
        Place::Bucket { .. } => {
            let tags = service.tags(bucket).await?.unwrap_or_default();
            service.set_tags(bucket, &record.onto(&tags)).await
        }
        Place::Folder { slot, .. } => {
            let text = serde_json::to_vec_pretty(&record.fields());
            let text = text.map_err(|error| Error::new(Kind::Internal, error.to_string()))?;
            let key = key(&Record::key(id.thing, slot))?;
            let headers = Headers { content_type: Some("application/json".to_owned()), ..Headers::default() };
            service.objects(bucket).put(&key, Bytes::from(text), &headers, condition).await?;
            Ok(())
        }
    }
}

/// Removes the record and leaves everything else.
pub(crate) async fn forget(service: &dyn Service, id: &VolumeId) -> Result<()> {
    let bucket = id.place.bucket();
    match &id.place {
        Place::Bucket { .. } => {
            let tags = service.tags(bucket).await?.unwrap_or_default();
            service.set_tags(bucket, &without(&tags)).await
        }
        Place::Folder { slot, .. } => {
            // A record may have versions too, if the shared bucket keeps them: its note goes, its history stays.
            let key = key(&Record::key(id.thing, slot))?;
            for (_, deleted) in service.objects(bucket).delete(&[key]).await? {
                deleted?;
            }
            Ok(())
        }
    }
}

/// Reads a record of a shared bucket; `None` if there is none.
async fn read(objects: &dyn ObjectStore, thing: Thing, slot: &str) -> Result<Option<Fields>> {
    /// No record is longer.
    const MOST: usize = 64 << 10;
    let key = key(&Record::key(thing, slot))?;
    let answer = match objects.get(&key, GetRequest::default()).await {
        Ok(answer) => answer,
        Err(error) if error.kind == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if answer.info.version.size > MOST as u64 {
        return Err(Error::new(Kind::Internal, format!("{key} is no record of this driver: it is too long")));
    }
    let chunks: Vec<Bytes> = answer.body.try_collect().await?;
    let fields = serde_json::from_slice(&chunks.concat());
    fields
        .map(Some)
        .map_err(|error| Error::new(Kind::Internal, format!("{key} is no record of this driver: {error}")))
}

/// The ids of one bucket's things of a kind, in order, after `after` if it is in this bucket.
pub(crate) async fn of_bucket(
    service: &dyn Service,
    bucket: &str,
    thing: Thing,
    after: Option<&Place>,
    endpoint: Option<&str>,
) -> Result<Vec<VolumeId>> {
    let objects = service.objects(bucket);
    let start = match after {
        Some(Place::Folder { slot, .. }) => Some(ListCursor::Key(key(&Record::key(thing, slot))?)),
        Some(Place::Bucket { .. }) | None => None,
    };
    let shelf = Record::shelf(thing);
    let mut request = ListRequest { after: start, ..ListRequest::new(prefix(shelf)?, Depth::Subtree, PAGE) };
    let mut ids = Vec::new();
    loop {
        let page = objects.list(request.clone()).await?;
        let slots = page.objects.iter().filter_map(|object| object.key.as_str().strip_prefix(shelf));
        for slot in slots {
            let place = Place::Folder { bucket: bucket.to_owned(), slot: slot.to_owned() };
            ids.push(VolumeId { thing, place, endpoint: endpoint.map(str::to_owned) });
        }
        match page.next {
            Some(next) => request.after = Some(next),
            None => return Ok(ids),
        }
    }
}

/// Whether there is no object below a prefix.
pub(crate) async fn is_empty(service: &dyn Service, bucket: &str, folder: &str) -> Result<bool> {
    let request = ListRequest::new(prefix(folder)?, Depth::Subtree, 1);
    let page = service.objects(bucket).list(request).await?;
    Ok(page.objects.is_empty() && page.unusable == 0)
}

pub(crate) fn key(text: &str) -> Result<Key> {
    Key::parse(text).map_err(|error| Error::invalid(format!("{text:?}: {error}")))
}

pub(crate) fn prefix(text: &str) -> Result<Prefix> {
    Prefix::parse(text).map_err(|error| Error::invalid(format!("{text:?}: {error}")))
}
