//! Lists volumes or snapshots of the driver's own endpoint, page by page, in the order of bucket and record. The token of a
//! page is the last id on it, so that what is made or deleted between two pages disturbs neither.

use crate::driver::Driver;
use crate::error::{Error, Kind, Result};
use crate::notes;
use crate::record::Record;
use crate::service::Service;
use crate::volume_id::{Place, Thing, VolumeId};
use futures::{StreamExt, TryStreamExt, stream};

/// Records read at once.
const AT_ONCE: usize = 16;

/// One page.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) entries: Vec<(VolumeId, Record)>,
    /// Where the next begins; empty on the last.
    pub(super) next: String,
}

/// Lists at most `most` (0: all) that `wanted` accepts, after the place that `token` names.
pub(super) async fn list(
    driver: &Driver,
    service: &dyn Service,
    thing: Thing,
    token: &str,
    most: i32,
    wanted: impl Fn(&Record) -> bool,
) -> Result<Page> {
    let most = usize::try_from(most).map_err(|_| Error::invalid("max_entries is below zero"))?;
    let after = match token {
        "" => None,
        token => Some(VolumeId::parse(token).filter(|id| id.thing == thing).ok_or_else(|| {
            Error::new(Kind::BadToken, format!("{token:?} is no starting_token of this driver; begin anew"))
        })?),
    };
    let after = after.map(|id| id.place);
    let mut page = Page::default();
    for bucket in service.buckets().await? {
        if after.as_ref().is_some_and(|after| bucket.as_str() < after.bucket()) {
            continue;
        }
        let ids = ids_of(driver, service, thing, &bucket, after.as_ref()).await?;
        let records = ids.into_iter().map(|id| async move {
            match notes::find(service, &id).await {
                Ok(notes::Found::Ours(record)) => Ok(Some((id, record))),
                Ok(notes::Found::NoBucket | notes::Found::Unclaimed) => Ok(None),
                // A bucket of the other kind: its record has another id.
                Err(error) if error.kind == Kind::Exists => Ok(None),
                Err(error) => Err(error),
            }
        });
        let found: Vec<_> = stream::iter(records).buffered(AT_ONCE).try_collect().await?;
        for (id, record) in found.into_iter().flatten() {
            if !wanted(&record) {
                continue;
            }
            if most > 0 && page.entries.len() == most {
                page.next = page.entries.last().map(|(id, _)| id.to_string()).unwrap_or_default();
                return Ok(page);
            }
            page.entries.push((id, record));
        }
    }
    Ok(page)
}

/// The ids that a bucket may hold: itself if it has a name that we give, else those of its records.
async fn ids_of(
    driver: &Driver,
    service: &dyn Service,
    thing: Thing,
    bucket: &str,
    after: Option<&Place>,
) -> Result<Vec<VolumeId>> {
    let after = after.filter(|after| after.bucket() == bucket);
    if bucket.starts_with(&driver.bucket_prefix) {
        let id = VolumeId { thing, place: Place::Bucket { bucket: bucket.to_owned() }, endpoint: None };
        return Ok(if after.is_none() { vec![id] } else { Vec::new() });
    }
    match notes::of_bucket(service, bucket, thing, after, None).await {
        Ok(ids) => Ok(ids),
        // A bucket that went away meanwhile, or that these keys may not read, holds nothing of this driver.
        Err(error) if matches!(error.kind, Kind::NotFound | Kind::Denied) => {
            tracing::debug!(bucket, %error, "a bucket is passed over");
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}
