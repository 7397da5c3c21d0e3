//! The tags of an object. `CopyObject` takes them along; whatever else makes an object anew has to name them.

use super::S3Store;
use super::error::Site;
use crate::name::Key;
use crate::store::{ErrorKind, Headers, Result};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

/// The tags of the object `key` for an object with these headers (`x-amz-tagging`); `None` if it has none.
pub(super) async fn of(
    store: &S3Store,
    key: &Key,
    headers: &Headers,
    site: &Site<'_>,
) -> Result<Option<String>> {
    if !headers.tagged {
        return Ok(None);
    }
    let request = store.client.get_object_tagging().bucket(store.bucket()).key(key.as_str());
    let answer = match request.send().await.map_err(|error| site.convert(error)) {
        Ok(answer) => answer,
        // Somebody has removed it: its successor is a new object.
        Err(error) if error.kind == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let escaped = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
    let pairs = answer.tag_set().iter().map(|tag| format!("{}={}", escaped(tag.key()), escaped(tag.value())));
    Ok(Some(pairs.collect::<Vec<_>>().join("&")))
}
