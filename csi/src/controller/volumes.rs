//! Volumes: made, deleted, listed, grown. Every step can be done again: whoever was interrupted, or never heard the
//! answer, asks once more and gets the same volume.
//!
//! The order makes it so. A bucket is claimed by its record before anything is put into it, and the record says
//! `filling` until the content is complete. A deletion removes the record last.

use super::copies::{Copies, Progress, Site, copy_all};
use crate::driver::Driver;
use crate::error::{Error, Kind, Result};
use crate::notes::{self, Found};
use crate::parameters::{Attributes, CacheTier, Changes, Class, Options};
use crate::proto::CapacityRange;
use crate::record::{OnDelete, Record, State};
use crate::service::Service;
use crate::volume_id::{Place, Thing, VolumeId, bucket_for, slot_for};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// The size of a volume for which none is asked.
const DEFAULT_BYTES: u64 = 1 << 30;

/// What a volume is asked to be.
#[derive(Debug)]
pub(super) struct Wish<'a> {
    pub(super) name: &'a str,
    pub(super) parameters: &'a HashMap<String, String>,
    pub(super) changes: Changes,
    pub(super) capacity: Option<&'a CapacityRange>,
    /// The volume or snapshot whose content it begins with.
    pub(super) source: Option<VolumeId>,
}

/// A volume as it is told to Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Made {
    pub(super) id: VolumeId,
    pub(super) record: Record,
    pub(super) attributes: Attributes,
}

/// What a wish comes down to, before anything is asked of the store. Pure.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) id: VolumeId,
    pub(super) class: Class,
    folder: String,
    bytes: u64,
    on_delete: OnDelete,
}

pub(super) fn plan(driver: &Driver, wish: &Wish<'_>) -> Result<Plan> {
    let class = Class::parse(wish.parameters)?;
    let bytes = size(wish.capacity)?;
    let (place, folder) = match &class.bucket {
        Some(bucket) => {
            let slot = slot_for(wish.name)?;
            let folder = class.folder(&slot, wish.parameters)?;
            (Place::Folder { bucket: bucket.clone(), slot }, folder)
        }
        None => {
            let bucket = bucket_for(&driver.bucket_prefix, Thing::Volume, wish.name)?;
            (Place::Bucket { bucket }, String::new())
        }
    };
    let id = VolumeId::new(Thing::Volume, place, driver.own_endpoint(&class.options))?;
    if let Some(source) = wish.source.as_ref().filter(|source| source.endpoint != id.endpoint) {
        return Err(Error::invalid(format!("{source} is at another endpoint; a copy is made by one store")));
    }
    let on_delete = wish.changes.on_delete.unwrap_or(class.on_delete);
    Ok(Plan { id, class, folder, bytes, on_delete })
}

/// The size that is asked for, in bytes.
pub(super) fn size(range: Option<&CapacityRange>) -> Result<u64> {
    let Some(range) = range else { return Ok(DEFAULT_BYTES) };
    let bytes = |value: i64| {
        u64::try_from(value)
            .map_err(|_| Error::new(Kind::OutOfRange, "a size below zero bytes was asked for"))
    };
    let (required, limit) = (bytes(range.required_bytes)?, bytes(range.limit_bytes)?);
    if limit > 0 && limit < required {
        let text = format!("the limit of {limit} bytes is below the required {required} bytes");
        return Err(Error::new(Kind::OutOfRange, text));
    }
    match (required, limit) {
        (0, 0) => Ok(DEFAULT_BYTES),
        (0, limit) => Ok(DEFAULT_BYTES.min(limit)),
        (required, _) => Ok(required),
    }
}

/// Makes the volume, or finds it made.
pub(super) async fn create(
    service: Arc<dyn Service>,
    copies: &Copies,
    plan: Plan,
    wish: &Wish<'_>,
) -> Result<Made> {
    let wanted = Record {
        id: plan.id.to_string(),
        state: if wish.source.is_some() { State::Filling } else { State::Ready },
        bytes: plan.bytes,
        on_delete: plan.on_delete,
        folder: plan.folder.clone(),
        source: wish.source.as_ref().map(VolumeId::to_string),
        created_at: now(),
        parameters: plan.class.digest(),
    };
    let found = notes::find(&*service, &plan.id).await?;
    let complete = matches!(&found, Found::Ours(record) if record.state == State::Ready);
    let source = match &wish.source {
        Some(source) if !complete => Some(ready_source(&*service, source).await?),
        Some(_) | None => None,
    };
    let mut record = match found {
        Found::Ours(record) => same(record, &wanted, wish.capacity)?,
        found @ (Found::NoBucket | Found::Unclaimed) => {
            claim(&*service, &plan, &wanted, found).await?;
            wanted
        }
    };
    if let (State::Filling, Some(from)) = (record.state, source) {
        let to = Site { bucket: plan.id.place.bucket().to_owned(), folder: record.folder.clone() };
        let job = || copy_all(Arc::clone(&service), from, to);
        if copies.run(&record.id, job).await? == Progress::Running {
            let text = format!("the content of {} is being copied; ask again", record.id);
            return Err(Error::new(Kind::Busy, text));
        }
        record.state = State::Ready;
        notes::update(&*service, &plan.id, &record).await?;
    }
    let (role, tier) = (plan.class.role.clone(), plan.class.tier);
    let options = plan.class.options_for(record.bytes);
    let attributes = Attributes { role, tier, ..attributes(&plan.id, &record, options) };
    Ok(Made { id: plan.id, record, attributes })
}

/// What a node must know of a volume.
pub(super) fn attributes(id: &VolumeId, record: &Record, options: Options) -> Attributes {
    Attributes {
        bucket: id.place.bucket().to_owned(),
        prefix: record.folder.clone(),
        role: None,
        tier: CacheTier::default(),
        options,
    }
}

/// The bucket and folder of a source, which must be complete.
async fn ready_source(service: &dyn Service, id: &VolumeId) -> Result<Site> {
    let record = notes::need(service, id).await?;
    match record.state {
        State::Ready => Ok(Site { bucket: id.place.bucket().to_owned(), folder: record.folder }),
        State::Filling => Err(Error::new(Kind::Busy, format!("{id} is not complete yet; ask again"))),
    }
}

/// Whether a volume of the same name is the one that is asked for.
fn same(found: Record, wanted: &Record, range: Option<&CapacityRange>) -> Result<Record> {
    let differs = |what: &str| {
        Err(Error::new(
            Kind::Exists,
            format!("a volume of this name exists ({}) with another {what}", found.id),
        ))
    };
    let limit = range.map_or(0, |range| range.limit_bytes.unsigned_abs());
    if found.bytes < wanted.bytes
        || (limit > 0 && found.bytes > limit)
        || (limit == 0 && found.bytes != wanted.bytes)
    {
        return differs("size");
    }
    if found.source != wanted.source {
        return differs("source");
    }
    if found.parameters != wanted.parameters || found.folder != wanted.folder {
        return differs("set of parameters");
    }
    Ok(found)
}

async fn claim(service: &dyn Service, plan: &Plan, wanted: &Record, found: Found) -> Result<()> {
    let bucket = plan.id.place.bucket();
    match (&plan.id.place, found) {
        (Place::Folder { .. }, Found::NoBucket) => {
            return Err(Error::invalid(format!(
                "the bucket {bucket} of the StorageClass does not exist; make it first, or leave the parameter bucket out"
            )));
        }
        (Place::Folder { .. }, Found::Unclaimed | Found::Ours(_)) => {
            if !notes::is_empty(service, bucket, &plan.folder).await? {
                let text = format!(
                    "s3://{bucket}/{} holds objects that no volume claims; remove them first",
                    plan.folder
                );
                return Err(Error::new(Kind::Exists, text));
            }
        }
        (Place::Bucket { .. }, Found::NoBucket) => service.create_bucket(bucket).await?,
        (Place::Bucket { .. }, Found::Unclaimed | Found::Ours(_)) => {
            // Ours if we were interrupted between making and claiming it, and then it is empty.
            if !notes::is_empty(service, bucket, "").await? {
                let text = format!(
                    "the bucket {bucket} exists, is not empty and has no mark of this driver; it is left alone"
                );
                return Err(Error::new(Kind::Exists, text));
            }
        }
    }
    if plan.class.versioning {
        service.keep_versions(bucket).await?;
    }
    notes::claim(service, &plan.id, wanted).await
}

/// Deletes a volume; one that is not there is deleted.
pub(super) async fn delete(service: &dyn Service, copies: &Copies, id: &VolumeId) -> Result<()> {
    let record = match notes::find(service, id).await? {
        Found::NoBucket => return Ok(()),
        Found::Unclaimed => match &id.place {
            Place::Folder { .. } => return Ok(()),
            Place::Bucket { bucket } => {
                return Err(Error::new(
                    Kind::Precondition,
                    format!(
                        "the bucket {bucket} has no mark of this driver and is not deleted; delete it yourself, or set the volume's reclaim policy to Retain"
                    ),
                ));
            }
        },
        Found::Ours(record) => record,
    };
    copies.stop(&record.id).await;
    let bucket = id.place.bucket();
    match record.on_delete {
        OnDelete::Keep => return notes::forget(service, id).await,
        OnDelete::RefuseUnlessEmpty => {
            if !notes::is_empty(service, bucket, &record.folder).await? {
                return Err(Error::new(
                    Kind::Precondition,
                    format!(
                        "s3://{bucket}/{} still holds objects and its StorageClass says onDelete: refuse-unless-empty; empty it first",
                        record.folder
                    ),
                ));
            }
        }
        OnDelete::Purge => {}
    }
    remove(service, id, &record).await
}

/// Removes the objects of a thing, then what says that it is there.
pub(super) async fn remove(service: &dyn Service, id: &VolumeId, record: &Record) -> Result<()> {
    let bucket = id.place.bucket();
    match &id.place {
        Place::Bucket { .. } => {
            service.purge(bucket, "").await?;
            service.delete_bucket(bucket).await
        }
        Place::Folder { .. } if record.folder.is_empty() => {
            Err(Error::new(Kind::Internal, format!("the record of {id} names no folder; nothing is removed")))
        }
        Place::Folder { .. } => {
            service.purge(bucket, &record.folder).await?;
            notes::forget(service, id).await
        }
    }
}

/// Gives a volume another size, never a smaller one; the size it has then, in bytes.
pub(super) async fn expand(service: &dyn Service, id: &VolumeId, range: &CapacityRange) -> Result<u64> {
    let wanted = size(Some(range))?;
    let mut record = notes::need(service, id).await?;
    if record.bytes < wanted {
        record.bytes = wanted;
        notes::update(service, id, &record).await?;
    }
    Ok(record.bytes)
}

/// Changes what may change while a volume lives.
pub(super) async fn modify(service: &dyn Service, id: &VolumeId, changes: Changes) -> Result<()> {
    let mut record = notes::need(service, id).await?;
    match changes.on_delete {
        Some(on_delete) if on_delete != record.on_delete => {
            record.on_delete = on_delete;
            notes::update(service, id, &record).await
        }
        Some(_) | None => Ok(()),
    }
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
