//! Headers in a listing: MinIO's extension `metadata=true` of `ListObjectsV2`, which saves one HEAD for each object.
//!
//! Invariant: what is taken from a listing is what a HEAD would say, but for `Expires`, which is not there, and for tags,
//! which are not there for who may not read them. What the two may write differently is left to the HEAD.

use crate::store::Headers;
use aws_sdk_s3::config::interceptors::AfterDeserializationInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use parking_lot::Mutex;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What the SDK leaves out of the answer to one LIST.
#[derive(Debug, Clone)]
pub(super) struct Extras {
    /// Whether the listing was asked for metadata.
    told: bool,
    headers: Arc<Mutex<HashMap<String, Headers>>>,
    /// Learns whether the server could be asked.
    is_minio: Arc<AtomicBool>,
}

impl Extras {
    pub(super) fn new(told: bool, is_minio: &Arc<AtomicBool>) -> Self {
        Self { told, headers: Arc::default(), is_minio: Arc::clone(is_minio) }
    }

    /// The headers by key, as the listing writes that.
    pub(super) fn take(&self) -> HashMap<String, Headers> {
        std::mem::take(&mut *self.headers.lock())
    }
}

impl Intercept for Extras {
    fn name(&self) -> &'static str {
        "Extras"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response();
        if response.headers().get("server").is_some_and(|server| server.starts_with("MinIO")) {
            self.is_minio.store(true, Ordering::Relaxed);
        }
        if let (true, Some(body)) = (self.told && context.output_or_error().is_ok(), response.body().bytes())
        {
            *self.headers.lock() = read(body);
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct Document {
    #[serde(rename = "Contents", default)]
    objects: Vec<Contents>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Contents {
    key: String,
    user_metadata: Option<BTreeMap<String, String>>,
    #[serde(default)]
    user_tags: String,
}

/// The headers of those objects whose metadata the document tells. None, if it cannot be read.
fn read(document: &[u8]) -> HashMap<String, Headers> {
    let document: Result<Document, _> = quick_xml::de::from_reader(document);
    let objects = document.map(|document| document.objects).unwrap_or_else(|error| {
        tracing::debug!(%error, "the metadata in a listing cannot be read");
        Vec::new()
    });
    let told =
        |object: Contents| Some((object.key, headers(object.user_metadata?, !object.user_tags.is_empty())?));
    objects.into_iter().filter_map(told).collect()
}

/// What a HEAD would make of it; `None` where that may differ: MinIO encodes text that is not plain.
fn headers(metadata: BTreeMap<String, String>, tagged: bool) -> Option<Headers> {
    let mut headers = Headers { tagged, ..Headers::default() };
    for (name, value) in metadata {
        let name = name.to_ascii_lowercase();
        if value.bytes().any(|byte| !matches!(byte, b' '..=b'~')) {
            return None;
        }
        let field = match name.as_str() {
            "content-type" => &mut headers.content_type,
            "cache-control" => &mut headers.cache_control,
            "content-disposition" => &mut headers.content_disposition,
            "content-encoding" => &mut headers.content_encoding,
            "content-language" => &mut headers.content_language,
            "x-amz-storage-class" => &mut headers.storage_class,
            _ => {
                if let Some(name) = name.strip_prefix("x-amz-meta-") {
                    headers.user.insert(name.to_owned(), value);
                }
                continue;
            }
        };
        *field = Some(value);
    }
    Some(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(objects: &str) -> String {
        format!(
            "<?xml version=\"1.0\"?>\n<ListBucketResult xmlns=\"http://s3\"><Name>b</Name>{objects}\
             <CommonPrefixes><Prefix>d/</Prefix></CommonPrefixes></ListBucketResult>"
        )
    }

    fn object(key: &str, metadata: &str) -> String {
        format!(
            "<Contents><Key>{key}</Key><ETag>&#34;e&#34;</ETag><UserMetadata>{metadata}</UserMetadata></Contents>"
        )
    }

    #[test]
    fn headers_are_read_as_a_head_tells_them() {
        let metadata = "<X-Amz-Meta-File-Mode>33188 &lt;x&gt; &amp;</X-Amz-Meta-File-Mode>\
            <content-type>text/plain</content-type><Cache-Control></Cache-Control><X-Minio-Other>1</X-Minio-Other>";
        let tagged = "<Contents><Key>t</Key><UserMetadata><content-type>a</content-type></UserMetadata>\
            <UserTags>a=b</UserTags></Contents>";
        let told = read(listing(&(object("a%20b", metadata) + tagged)).as_bytes());
        let user = [("file-mode".to_owned(), "33188 <x> &".to_owned())].into();
        let (content_type, cache_control) = (Some("text/plain".into()), Some(String::new()));
        assert_eq!(told["a%20b"], Headers { user, content_type, cache_control, ..Headers::default() });
        assert!(told["t"].tagged);
    }

    #[test]
    fn what_a_head_may_tell_otherwise_is_left_to_it() {
        let odd = object("latin", "<X-Amz-Meta-A>caf\u{e9}</X-Amz-Meta-A>")
            + "<Contents><Key>denied</Key></Contents>"
            + &object("plain", "<X-Amz-Meta-A>1</X-Amz-Meta-A>");
        let told = read(listing(&odd).as_bytes());
        assert_eq!(told.keys().collect::<Vec<_>>(), ["plain"]);
    }

    #[test]
    fn a_document_that_is_something_else_tells_nothing() {
        for odd in
            ["", "x", "<a/>", "<a><Contents/></a>", "<a><Contents><Key>k</Key><UserMetadata><a><b/></a>"]
        {
            assert!(read(odd.as_bytes()).is_empty(), "{odd}");
        }
    }
}
