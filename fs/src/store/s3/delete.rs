//! Deletes, in batches of a thousand. An absent key is deleted.
//!
//! A key with a control character cannot stand in the XML of a batch and is deleted by a request of its own.

use super::error::kind;
use super::{S3Store, quoted};
use crate::name::Key;
use crate::store::{Deleted, ETag, Error, ErrorKind, Op, Result};
use aws_sdk_s3::config::http::HttpRequest;
use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt;
use md5::{Digest, Md5};
use std::collections::HashMap;

/// Keys in one request, at most.
const BATCH: usize = 1000;
/// Requests at once.
const AT_ONCE: usize = 8;

pub(super) async fn delete(store: &S3Store, keys: &[Key]) -> Result<Vec<Deleted>> {
    let (batched, single): (Vec<Key>, Vec<Key>) =
        keys.iter().cloned().partition(|key| keys.len() > 1 && fits_xml(key));
    let mut requests: Vec<Vec<Key>> = batched.chunks(BATCH).map(<[Key]>::to_vec).collect();
    requests.extend(single.into_iter().map(|key| vec![key]));
    let answers = futures::stream::iter(requests).map(|keys| request(store, keys));
    let answers: Vec<(Vec<Key>, Result<Vec<Deleted>>)> = answers.buffered(AT_ONCE).collect().await;
    let mut failed = None;
    let mut deleted = Vec::with_capacity(keys.len());
    let all_failed = answers.iter().all(|(_, answer)| answer.is_err());
    for (keys, answer) in answers {
        match answer {
            Ok(answered) => deleted.extend(answered),
            Err(error) => {
                let copy = |key: &Key| Error::new(error.kind, Op::Delete, Some(key), error.message.clone());
                deleted.extend(keys.iter().map(|key| (key.clone(), Err(copy(key)))));
                failed = Some(error);
            }
        }
    }
    match failed {
        Some(error) if all_failed => Err(error),
        Some(_) | None => Ok(deleted),
    }
}

/// Sends one request, and says for which keys.
async fn request(store: &S3Store, keys: Vec<Key>) -> (Vec<Key>, Result<Vec<Deleted>>) {
    let answer = match keys.as_slice() {
        [key] => delete_object(store, key, None).await.map(|()| vec![(key.clone(), Ok(()))]),
        keys => delete_batch(store, keys).await,
    };
    (keys, answer)
}

/// Deletes one, whatever it is or only if it has this version.
pub(super) async fn delete_object(store: &S3Store, key: &Key, version: Option<&ETag>) -> Result<()> {
    let site = store.site(Op::Delete, Some(key));
    let request = store.client.delete_object().bucket(store.bucket()).key(key.as_str());
    let answer = request.set_if_match(version.map(quoted)).send().await;
    match answer.map_err(|error| site.convert(error)) {
        Ok(_) => Ok(()),
        Err(error) if error.kind == ErrorKind::NotFound && !error.message.starts_with("NoSuchBucket") => {
            Ok(())
        }
        Err(error) => Err(error),
    }
}

async fn delete_batch(store: &S3Store, keys: &[Key]) -> Result<Vec<Deleted>> {
    let site = store.site(Op::Delete, None);
    let objects: std::result::Result<Vec<_>, _> =
        keys.iter().map(|key| ObjectIdentifier::builder().key(key.as_str()).build()).collect();
    let delete = objects.and_then(|objects| Delete::builder().set_objects(Some(objects)).quiet(true).build());
    let delete = delete.map_err(|error| site.error(ErrorKind::Rejected, error.to_string()))?;
    let request = store.client.delete_objects().bucket(store.bucket()).delete(delete);
    let answer = request.customize().mutate_request(add_md5).send().await;
    let answer = answer.map_err(|error| site.convert(error))?;
    let mut failed: HashMap<&str, Error> = HashMap::new();
    for error in answer.errors() {
        let kind = kind(error.code(), 400);
        let key = error.key().unwrap_or_default();
        if kind != ErrorKind::NotFound {
            let message =
                format!("{}: {}", error.code().unwrap_or("Error"), error.message().unwrap_or_default());
            failed.insert(key, Error::new(kind, Op::Delete, Key::parse(key).ok().as_ref(), message));
        }
    }
    let deleted = |key: &Key| (key.clone(), failed.remove(key.as_str()).map_or(Ok(()), Err));
    Ok(keys.iter().map(deleted).collect())
}

/// The SDK sends a CRC32, which older servers do not take for the `Content-MD5` that this request must have.
fn add_md5(request: &mut HttpRequest) {
    if let Some(body) = request.body().bytes() {
        let digest = STANDARD.encode(Md5::digest(body));
        request.headers_mut().insert("content-md5", digest);
    }
}

/// Whether XML 1.0 can hold the key.
fn fits_xml(key: &Key) -> bool {
    !key.as_str().chars().any(|char| char.is_control() || matches!(char, '\u{fffe}' | '\u{ffff}'))
}
