//! What every [`ObjectStore`] must do, as small named cases.
//!
//! [`suite`] takes any store and a prefix that it may write below. Cases share nothing: each has a prefix of its
//! own, and all of them run even if one fails. Limits are S3's, so that the cases hold on real servers.

mod conditions;
mod copies;
mod listing;
mod objects;
mod uploads;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use tarn_fs::name::{Key, Prefix};
use tarn_fs::store::{
    self, Condition, ETag, ErrorKind, GetRequest, Headers, ListPage, ObjectInfo, ObjectStore, Version,
};

/// A store and the keys that one case may use.
#[derive(Debug, Clone)]
pub struct Scratch {
    store: Arc<dyn ObjectStore>,
    prefix: String,
}

type Case = (&'static str, fn(Scratch) -> BoxFuture<'static, Result<()>>);

/// Names the cases of a module.
macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        /// The cases of this module.
        pub(super) const CASES: &[super::Case] =
            &[$((stringify!($name), |scratch| Box::pin($name(scratch)))),*];
    };
}
use cases;

/// Runs every case and fails with the names and reasons of those that fail.
pub async fn suite(store: Arc<dyn ObjectStore>, scratch_prefix: &str) {
    let cases = [objects::CASES, conditions::CASES, copies::CASES, listing::CASES, uploads::CASES].concat();
    let mut failed = Vec::new();
    for (name, case) in &cases {
        let scratch = Scratch { store: Arc::clone(&store), prefix: format!("{scratch_prefix}{name}/") };
        if let Err(error) = case(scratch).await {
            failed.push(format!("{name}: {error:#}"));
        }
    }
    assert!(failed.is_empty(), "{} of {} cases failed:\n{}", failed.len(), cases.len(), failed.join("\n"));
}

impl Scratch {
    fn key(&self, name: &str) -> Key {
        Key::parse(&format!("{}{name}", self.prefix)).expect("a short name")
    }

    fn prefix(&self, name: &str) -> Prefix {
        Prefix::parse(&format!("{}{name}", self.prefix)).expect("a short name")
    }

    /// Writes an object without condition and headers.
    async fn put(&self, name: &str, body: impl Into<Bytes>) -> Result<Version> {
        self.put_if(name, body, Condition::Always).await.with_context(|| format!("put {name}"))
    }

    async fn put_if(
        &self,
        name: &str,
        body: impl Into<Bytes>,
        condition: Condition,
    ) -> store::Result<Version> {
        self.store.put(&self.key(name), body.into(), &Headers::default(), condition).await
    }

    async fn head(&self, name: &str) -> Result<ObjectInfo> {
        self.store.head(&self.key(name)).await.with_context(|| format!("head {name}"))
    }

    async fn read(&self, name: &str) -> Result<Bytes> {
        self.read_part(name, None, None).await.with_context(|| format!("get {name}"))
    }

    async fn read_part(
        &self,
        name: &str,
        range: Option<Range<u64>>,
        if_match: Option<ETag>,
    ) -> store::Result<Bytes> {
        let mut answer = self.store.get(&self.key(name), GetRequest { range, if_match, part: None }).await?;
        let mut body = Vec::new();
        while let Some(chunk) = answer.body.next().await {
            body.extend_from_slice(&chunk?);
        }
        Ok(body.into())
    }

    /// Fails unless the object holds exactly these bytes.
    async fn expect(&self, name: &str, body: &[u8]) -> Result<()> {
        let found = self.read(name).await?;
        ensure!(found == body, "{name} holds {} bytes that are not the {} expected", found.len(), body.len());
        Ok(())
    }
}

/// Fails unless the result is an error of this kind.
fn expect_error<T: fmt::Debug>(result: store::Result<T>, kind: ErrorKind, what: &str) -> Result<()> {
    match result {
        Err(error) if error.kind == kind => Ok(()),
        Err(error) => bail!("{what}: expected {kind:?}, got {:?} ({error})", error.kind),
        Ok(value) => bail!("{what}: expected {kind:?}, got {value:?}"),
    }
}

/// Bytes that repeat nowhere within a MiB, so that a shifted body is noticed.
fn pattern(length: usize) -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes.into()
}

/// The keys of a page below `prefix`, without it.
fn names(page: &ListPage, prefix: &Prefix) -> Vec<String> {
    let keys = page.objects.iter().map(|listed| listed.key.as_str());
    let dirs = page.prefixes.iter().map(Prefix::as_str);
    keys.chain(dirs).map(|text| text.strip_prefix(prefix.as_str()).unwrap_or(text).to_owned()).collect()
}
