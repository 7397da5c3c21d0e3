//! Snapshots: copies that the server makes, in a bucket of their own or in the shared bucket's `.tarn-csi/` folder. They
//! live on when their volume is deleted.

use super::copies::{Copies, Progress, Site, copy_all};
use super::volumes::{now, remove};
use crate::driver::Driver;
use crate::error::{Error, Kind, Result};
use crate::notes::{self, Found};
use crate::record::{HOME, OnDelete, Record, State};
use crate::service::Service;
use crate::volume_id::{Place, Thing, VolumeId, bucket_for, slot_for};
use std::sync::Arc;

/// The id of the snapshot `name` of a volume, and its folder. Pure.
pub(super) fn place(driver: &Driver, name: &str, volume: &VolumeId) -> Result<(VolumeId, String)> {
    let (place, folder) = match &volume.place {
        Place::Bucket { .. } => {
            let bucket = bucket_for(&driver.bucket_prefix, Thing::Snapshot, name)?;
            (Place::Bucket { bucket }, String::new())
        }
        Place::Folder { bucket, slot: _ } => {
            let slot = slot_for(name)?;
            let folder = format!("{HOME}data/{slot}/");
            (Place::Folder { bucket: bucket.clone(), slot }, folder)
        }
    };
    Ok((VolumeId::new(Thing::Snapshot, place, volume.endpoint.clone())?, folder))
}

/// Takes the snapshot, or finds it taken; its record says whether it is complete.
pub(super) async fn create(
    service: Arc<dyn Service>,
    copies: &Copies,
    driver: &Driver,
    name: &str,
    volume: &VolumeId,
) -> Result<(VolumeId, Record)> {
    let (id, folder) = place(driver, name, volume)?;
    let record = match notes::find(&*service, &id).await? {
        Found::Ours(record) if record.source.as_deref() == Some(&volume.to_string()) => record,
        Found::Ours(record) => {
            return Err(Error::new(
                Kind::Exists,
                format!("a snapshot of this name exists, of {}", record.source.unwrap_or_default()),
            ));
        }
        found @ (Found::NoBucket | Found::Unclaimed) => {
            let source = notes::need(&*service, volume).await?;
            let record = Record {
                id: id.to_string(),
                state: State::Filling,
                bytes: source.bytes,
                on_delete: OnDelete::Purge,
                folder,
                source: Some(volume.to_string()),
                created_at: now(),
                parameters: String::new(),
            };
            claim(&*service, &id, &record, found).await?;
            record
        }
    };
    let record = advance(service, copies, &id, record).await?;
    Ok((id, record))
}

/// Goes on with a snapshot that is not complete, and waits for a while.
pub(super) async fn advance(
    service: Arc<dyn Service>,
    copies: &Copies,
    id: &VolumeId,
    mut record: Record,
) -> Result<Record> {
    let (State::Filling, Some(source)) = (record.state, &record.source) else { return Ok(record) };
    let volume = VolumeId::find(source, Thing::Volume)?;
    let to = Site { bucket: id.place.bucket().to_owned(), folder: record.folder.clone() };
    let from = match notes::find(&*service, &volume).await? {
        Found::Ours(found) => Site { bucket: volume.place.bucket().to_owned(), folder: found.folder },
        Found::NoBucket | Found::Unclaimed => {
            let text =
                format!("{volume} was deleted before its snapshot {id} was complete; delete the snapshot");
            return Err(Error::new(Kind::Precondition, text));
        }
    };
    if copies.run(&record.id, || copy_all(Arc::clone(&service), from, to)).await? == Progress::Done {
        record.state = State::Ready;
        notes::update(&*service, id, &record).await?;
    }
    Ok(record)
}

async fn claim(service: &dyn Service, id: &VolumeId, record: &Record, found: Found) -> Result<()> {
    let bucket = id.place.bucket();
    match (&id.place, found) {
        (Place::Bucket { .. }, Found::NoBucket) => service.create_bucket(bucket).await?,
        (Place::Bucket { .. }, Found::Unclaimed | Found::Ours(_))
            if !notes::is_empty(service, bucket, "").await? =>
        {
            let text = format!(
                "the bucket {bucket} exists, is not empty and has no mark of this driver; it is left alone"
            );
            return Err(Error::new(Kind::Exists, text));
        }
        (
            Place::Bucket { .. } | Place::Folder { .. },
            Found::NoBucket | Found::Unclaimed | Found::Ours(_),
        ) => {}
    }
    notes::claim(service, id, record).await
}

/// Deletes a snapshot; one that is not there is deleted.
pub(super) async fn delete(service: &dyn Service, copies: &Copies, id: &VolumeId) -> Result<()> {
    match notes::find(service, id).await? {
        Found::Ours(record) => {
            copies.stop(&record.id).await;
            remove(service, id, &record).await
        }
        Found::NoBucket => Ok(()),
        Found::Unclaimed => match &id.place {
            Place::Folder { .. } => Ok(()),
            Place::Bucket { bucket } => Err(Error::new(
                Kind::Precondition,
                format!("the bucket {bucket} has no mark of this driver and is not deleted"),
            )),
        },
    }
}
