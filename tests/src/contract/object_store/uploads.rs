//! Multipart uploads.

use super::objects::crc64nvme;
use super::{Scratch, cases, expect_error, pattern};
use anyhow::{Result, ensure};
use bytes::Bytes;
use std::collections::BTreeMap;
use tarn_fs::store::{
    Abandoned, CompleteRequest, Condition, ErrorKind, Headers, Part, PartKinds, PartSource, Upload, Version,
};

cases![
    parts_become_one_object_whatever_their_order,
    an_upload_of_one_small_part,
    an_upload_brings_its_headers,
    the_last_sent_part_counts,
    a_copied_part_is_a_range_of_its_version,
    an_upload_keeps_its_condition,
    an_unfinished_upload_is_no_object,
    an_aborted_upload_is_gone,
    a_part_below_the_minimum_is_refused,
];

const MIN_PART: usize = 5 << 20;

async fn begin(scratch: &Scratch, name: &str) -> Result<Upload> {
    Ok(scratch.store.create_upload(&scratch.key(name), &Headers::default(), PartKinds::Sent).await?)
}

async fn send(scratch: &Scratch, upload: &Upload, number: u16, body: impl Into<Bytes>) -> Result<Part> {
    Ok(scratch.store.upload_part(upload, number, PartSource::Bytes(body.into())).await?)
}

fn complete(upload: &Upload, parts: &[Part], condition: Condition) -> CompleteRequest {
    CompleteRequest { upload: upload.clone(), parts: parts.to_vec(), condition }
}

async fn check(scratch: &Scratch, name: &str, version: &Version, body: &[u8]) -> Result<()> {
    let head = scratch.head(name).await?;
    ensure!(head.version.same_bytes(version), "completed {version:?}, head {head:?}");
    ensure!(head.crc64nvme.is_none_or(|crc| crc == crc64nvme(body)), "head has another CRC64NVME");
    scratch.expect(name, body).await
}

async fn parts_become_one_object_whatever_their_order(scratch: Scratch) -> Result<()> {
    let body = pattern(2 * MIN_PART + 1234);
    let upload = begin(&scratch, "k").await?;
    let mut parts = Vec::new();
    for number in [3, 1, 2] {
        let start = (usize::from(number) - 1) * MIN_PART;
        let part = body.slice(start..body.len().min(start + MIN_PART));
        let expected = (part.len() as u64, crc64nvme(&part));
        let part = send(&scratch, &upload, number, part).await?;
        ensure!((part.size, part.crc64nvme.unwrap_or(expected.1)) == expected, "{part:?}");
        parts.push(part);
    }
    parts.sort_by_key(|part| part.number);
    let version = scratch.store.complete_upload(complete(&upload, &parts, Condition::Always)).await?;
    check(&scratch, "k", &version, &body).await
}

async fn an_upload_of_one_small_part(scratch: Scratch) -> Result<()> {
    for body in ["", "x"] {
        let upload = begin(&scratch, "k").await?;
        let part = send(&scratch, &upload, 1, body).await?;
        let version = scratch.store.complete_upload(complete(&upload, &[part], Condition::Always)).await?;
        check(&scratch, "k", &version, body.as_bytes()).await?;
    }
    Ok(())
}

async fn an_upload_brings_its_headers(scratch: Scratch) -> Result<()> {
    let headers = Headers {
        content_type: Some("text/x-tarn".into()),
        user: BTreeMap::from([("mode".into(), "33188".into())]),
        ..Headers::default()
    };
    scratch.put("k", "before").await?;
    let upload = scratch.store.create_upload(&scratch.key("k"), &headers, PartKinds::Sent).await?;
    let part = send(&scratch, &upload, 1, "body").await?;
    scratch.store.complete_upload(complete(&upload, &[part], Condition::Always)).await?;
    let head = scratch.head("k").await?.headers;
    ensure!(head == headers, "{head:?}");
    Ok(())
}

async fn the_last_sent_part_counts(scratch: Scratch) -> Result<()> {
    let upload = begin(&scratch, "k").await?;
    send(&scratch, &upload, 1, "first").await?;
    let part = send(&scratch, &upload, 1, "again").await?;
    scratch.store.complete_upload(complete(&upload, &[part], Condition::Always)).await?;
    scratch.expect("k", b"again").await
}

async fn a_copied_part_is_a_range_of_its_version(scratch: Scratch) -> Result<()> {
    let body = pattern(MIN_PART + 5000);
    let source = scratch.put("from", body.clone()).await?;
    let upload =
        scratch.store.create_upload(&scratch.key("k"), &Headers::default(), PartKinds::Copied).await?;
    let copied = |etag, range| {
        let source = PartSource::Copy { key: scratch.key("from"), if_match: etag, range };
        scratch.store.upload_part(&upload, 1, source)
    };
    let stale = scratch.put("other", "other").await?.etag;
    expect_error(copied(stale, 0..10).await, ErrorKind::Precondition, "another version")?;
    let first = copied(source.etag, 1000..MIN_PART as u64 + 1000).await?;
    ensure!(first.size == MIN_PART as u64, "{first:?}");
    let second = send(&scratch, &upload, 2, "end").await?;
    let version =
        scratch.store.complete_upload(complete(&upload, &[first, second], Condition::Always)).await?;
    let expected = [&body[1000..MIN_PART + 1000], b"end"].concat();
    check(&scratch, "k", &version, &expected).await
}

async fn an_upload_keeps_its_condition(scratch: Scratch) -> Result<()> {
    let target = scratch.put("k", "target").await?;
    let stale = scratch.put("other", "other").await?.etag;
    let upload = begin(&scratch, "k").await?;
    let parts = [send(&scratch, &upload, 1, "new").await?];
    for condition in [Condition::Absent, Condition::Matches(stale)] {
        let completed = scratch.store.complete_upload(complete(&upload, &parts, condition.clone())).await;
        expect_error(completed, ErrorKind::Precondition, &format!("{condition:?}"))?;
    }
    scratch.expect("k", b"target").await?;
    scratch.store.abort_upload(&Abandoned::Upload(upload.clone())).await?;

    let upload = begin(&scratch, "k").await?;
    let parts = [send(&scratch, &upload, 1, "new").await?];
    let matches = Condition::Matches(target.etag.clone());
    scratch.store.complete_upload(complete(&upload, &parts, matches)).await?;
    scratch.expect("k", b"new").await?;

    let upload = begin(&scratch, "absent").await?;
    let parts = [send(&scratch, &upload, 1, "new").await?];
    let matches = Condition::Matches(target.etag);
    let completed = scratch.store.complete_upload(complete(&upload, &parts, matches)).await;
    expect_error(completed, ErrorKind::Precondition, "over nothing")?;
    scratch.store.abort_upload(&Abandoned::Upload(upload.clone())).await?;

    let upload = begin(&scratch, "absent").await?;
    let parts = [send(&scratch, &upload, 1, "new").await?];
    scratch.store.complete_upload(complete(&upload, &parts, Condition::Absent)).await?;
    scratch.expect("absent", b"new").await
}

async fn an_unfinished_upload_is_no_object(scratch: Scratch) -> Result<()> {
    let upload = begin(&scratch, "k").await?;
    send(&scratch, &upload, 1, "body").await?;
    expect_error(scratch.store.head(&scratch.key("k")).await, ErrorKind::NotFound, "head")?;
    Ok(scratch.store.abort_upload(&Abandoned::Upload(upload.clone())).await?)
}

async fn an_aborted_upload_is_gone(scratch: Scratch) -> Result<()> {
    let upload = begin(&scratch, "k").await?;
    let part = send(&scratch, &upload, 1, "body").await?;
    scratch.store.abort_upload(&Abandoned::Upload(upload.clone())).await?;
    scratch.store.abort_upload(&Abandoned::Upload(upload.clone())).await?;
    let more = scratch.store.upload_part(&upload, 2, PartSource::Bytes("x".into())).await;
    expect_error(more, ErrorKind::NotFound, "a part")?;
    let completed = scratch.store.complete_upload(complete(&upload, &[part], Condition::Always)).await;
    expect_error(completed, ErrorKind::NotFound, "completion")
}

async fn a_part_below_the_minimum_is_refused(scratch: Scratch) -> Result<()> {
    let upload = begin(&scratch, "k").await?;
    let parts = [send(&scratch, &upload, 1, "small").await?, send(&scratch, &upload, 2, "last").await?];
    let completed = scratch.store.complete_upload(complete(&upload, &parts, Condition::Always)).await;
    expect_error(completed, ErrorKind::Rejected, "completion")?;
    Ok(scratch.store.abort_upload(&Abandoned::Upload(upload.clone())).await?)
}
