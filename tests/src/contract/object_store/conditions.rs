//! Conditions of reads and writes.

use super::{Scratch, cases, expect_error};
use anyhow::{Context as _, Result};
use tarn_fs::store::{Condition, ErrorKind};

cases![
    a_read_of_another_version_is_refused,
    absent_writes_a_new_key_only,
    matches_writes_over_its_version_only,
    matches_never_writes_a_new_key,
    a_version_is_deleted,
    a_delete_of_another_version_is_refused_or_a_plain_delete,
];

async fn a_read_of_another_version_is_refused(scratch: Scratch) -> Result<()> {
    let old = scratch.put("k", "old").await?;
    scratch.read_part("k", Some(0..3), Some(old.etag.clone())).await?;
    scratch.put("k", "new").await?;
    let stale = scratch.read_part("k", Some(0..3), Some(old.etag.clone())).await;
    expect_error(stale, ErrorKind::Precondition, "ranged")?;
    expect_error(scratch.read_part("k", None, Some(old.etag)).await, ErrorKind::Precondition, "whole")
}

async fn absent_writes_a_new_key_only(scratch: Scratch) -> Result<()> {
    scratch.put_if("k", "first", Condition::Absent).await?;
    let second = scratch.put_if("k", "second", Condition::Absent).await;
    expect_error(second, ErrorKind::Precondition, "the second put")?;
    scratch.expect("k", b"first").await
}

async fn matches_writes_over_its_version_only(scratch: Scratch) -> Result<()> {
    let first = scratch.put("k", "first").await?;
    let matches = || Condition::Matches(first.etag.clone());
    scratch.put_if("k", "second", matches()).await?;
    expect_error(scratch.put_if("k", "third", matches()).await, ErrorKind::Precondition, "a stale put")?;
    scratch.expect("k", b"second").await
}

async fn matches_never_writes_a_new_key(scratch: Scratch) -> Result<()> {
    let other = scratch.put("other", "x").await?;
    let put = scratch.put_if("k", "x", Condition::Matches(other.etag)).await;
    expect_error(put, ErrorKind::Precondition, "a put over nothing")?;
    expect_error(scratch.store.head(&scratch.key("k")).await, ErrorKind::NotFound, "head")
}

async fn a_version_is_deleted(scratch: Scratch) -> Result<()> {
    let (key, put) = (scratch.key("k"), scratch.put("k", "x").await?);
    scratch.store.delete_version(&key, &put.etag).await?;
    expect_error(scratch.store.head(&key).await, ErrorKind::NotFound, "head")?;
    scratch.store.delete_version(&key, &put.etag).await.context("what is gone is deleted")
}

/// Not every server looks at the version; the probe finds out.
async fn a_delete_of_another_version_is_refused_or_a_plain_delete(scratch: Scratch) -> Result<()> {
    let (key, old) = (scratch.key("k"), scratch.put("k", "old").await?);
    scratch.put("k", "new").await?;
    match scratch.store.delete_version(&key, &old.etag).await {
        Ok(()) => expect_error(scratch.store.head(&key).await, ErrorKind::NotFound, "head"),
        refused => {
            expect_error(refused, ErrorKind::Precondition, "a stale delete")?;
            scratch.expect("k", b"new").await
        }
    }
}
