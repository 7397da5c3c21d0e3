//! One page of a listing over sorted keys, pure.
//!
//! A cursor is the last entry of the page before, so that a page never depends on what changed behind it.
//! After a common prefix the walk jumps over everything below it, as S3 does.

use super::Object;
use crate::name::{Key, Prefix};
use crate::store::{Depth, Error, ErrorKind, ListCursor, ListPage, ListRequest, Listed, Op, Result};
use std::collections::BTreeMap;
use std::ops::Bound;

/// The page of `objects` that the request asks for, at most `limit` entries.
pub(super) fn page(
    objects: &BTreeMap<String, Object>,
    request: &ListRequest,
    limit: usize,
) -> Result<ListPage> {
    let prefix = request.prefix.as_str();
    let mut page = ListPage::default();
    let mut from = start(request)?;
    let mut last = None;
    let mut entries = 0;
    while let Some((key, object)) = objects.range::<str, _>((bound(&from), Bound::Unbounded)).next() {
        let Some(rest) = key.strip_prefix(prefix) else { break };
        if entries == limit {
            page.next = last.map(ListCursor::Token);
            break;
        }
        entries += 1;
        let folded = match request.depth {
            Depth::Directory => rest.find('/').map(|at| &key[..=prefix.len() + at]),
            Depth::Subtree => None,
        };
        match folded {
            Some(dir) => {
                from = Bound::Included(after_all_below(dir));
                last = Some(dir.to_owned());
                push(&mut page.prefixes, Prefix::parse(dir).ok(), &mut page.unusable);
            }
            None => {
                from = Bound::Excluded(key.clone());
                last = Some(key.clone());
                let listed = Key::parse(key).ok();
                let headers = request.headers.then(|| object.info.headers.clone());
                let version = object.info.version.clone();
                let listed = listed.map(|key| Listed { key, version, headers });
                push(&mut page.objects, listed, &mut page.unusable);
            }
        }
    }
    Ok(page)
}

/// Where the walk starts: behind the cursor, and never before the prefix.
fn start(request: &ListRequest) -> Result<Bound<String>> {
    let prefix = request.prefix.as_str();
    let from = match &request.after {
        None => return Ok(Bound::Included(prefix.to_owned())),
        Some(ListCursor::Key(key)) => Bound::Excluded(key.as_str().to_owned()),
        Some(ListCursor::Token(token)) => {
            let Some(rest) = token.strip_prefix(prefix) else {
                return Err(Error::new(
                    ErrorKind::Rejected,
                    Op::List,
                    None,
                    "InvalidArgument: foreign token",
                ));
            };
            match request.depth {
                Depth::Directory if rest.ends_with('/') => Bound::Included(after_all_below(token)),
                Depth::Directory | Depth::Subtree => Bound::Excluded(token.clone()),
            }
        }
    };
    Ok(match from {
        Bound::Excluded(key) if key.as_str() < prefix => Bound::Included(prefix.to_owned()),
        from @ (Bound::Excluded(_) | Bound::Included(_) | Bound::Unbounded) => from,
    })
}

/// The first text that sorts behind every key that starts with `dir`, which ends in `/`: `0` follows `/`.
fn after_all_below(dir: &str) -> String {
    format!("{}0", &dir[..dir.len() - 1])
}

fn bound(from: &Bound<String>) -> Bound<&str> {
    match from {
        Bound::Included(key) => Bound::Included(key),
        Bound::Excluded(key) => Bound::Excluded(key),
        Bound::Unbounded => Bound::Unbounded,
    }
}

fn push<T>(list: &mut Vec<T>, item: Option<T>, unusable: &mut usize) {
    match item {
        Some(item) => list.push(item),
        None => *unusable += 1,
    }
}
