//! Whole objects: what is put is what is read, with its headers; deletes.

use super::{Scratch, cases, expect_error, pattern};
use anyhow::{Result, ensure};
use futures::StreamExt;
use std::collections::BTreeMap;
use tarn_fs::store::{Condition, ErrorKind, GetRequest, Headers};

cases![
    what_is_put_is_read,
    an_empty_object_is_an_object,
    headers_and_user_metadata_survive,
    every_answer_names_the_same_version,
    a_range_is_exactly_its_bytes,
    a_range_beyond_the_end_is_an_error,
    a_large_body_arrives_in_chunks_that_add_up,
    what_is_absent_is_not_found,
    delete_takes_many_and_forgives_absent_ones,
    a_marker_is_an_object_of_its_own,
];

async fn what_is_put_is_read(scratch: Scratch) -> Result<()> {
    scratch.put("a", "first").await?;
    scratch.put("a", "second").await?;
    scratch.expect("a", b"second").await
}

async fn an_empty_object_is_an_object(scratch: Scratch) -> Result<()> {
    let version = scratch.put("empty", "").await?;
    ensure!(version.size == 0 && scratch.head("empty").await?.version.size == 0);
    scratch.expect("empty", b"").await
}

async fn headers_and_user_metadata_survive(scratch: Scratch) -> Result<()> {
    let headers = Headers {
        content_type: Some("text/x-tarn".into()),
        cache_control: Some("max-age=1".into()),
        content_disposition: Some("inline".into()),
        content_encoding: Some("identity".into()),
        content_language: Some("rm".into()),
        storage_class: None,
        expires: Some("Wed, 21 Oct 2037 07:28:00 GMT".into()),
        tagged: false,
        user: BTreeMap::from([("mode".into(), "33188".into()), ("a-b".into(), "x y".into())]),
    };
    let key = scratch.key("h");
    scratch.store.put(&key, "body".into(), &headers, Condition::Always).await?;
    let head = scratch.head("h").await?.headers;
    ensure!(head == headers, "head: {head:?}");
    let got = scratch
        .store
        .get(&key, GetRequest { range: Some(0..1), ..GetRequest::default() })
        .await?
        .info
        .headers;
    ensure!(got == headers, "get: {got:?}");
    Ok(())
}

async fn every_answer_names_the_same_version(scratch: Scratch) -> Result<()> {
    let body = pattern(100_000);
    let put = scratch.put("v", body.clone()).await?;
    let head = scratch.head("v").await?;
    ensure!(head.version.same_bytes(&put), "put {put:?}, head {head:?}");
    ensure!(head.crc64nvme.is_none_or(|crc| crc == crc64nvme(&body)), "head has another CRC64NVME");
    let request = GetRequest { range: Some(5..10), if_match: Some(put.etag.clone()), part: None };
    let got = scratch.store.get(&scratch.key("v"), request).await?;
    ensure!(got.info.version.same_bytes(&put), "put {put:?}, get {got:?}");
    Ok(())
}

async fn a_range_is_exactly_its_bytes(scratch: Scratch) -> Result<()> {
    let body = pattern(70_000);
    scratch.put("r", body.clone()).await?;
    for range in [0..1, 0..70_000, 1..69_999, 65_535..65_537, 69_999..70_000] {
        let found = scratch.read_part("r", Some(range.clone()), None).await?;
        ensure!(found == body[range.start as usize..range.end as usize], "bytes {range:?} are wrong");
    }
    Ok(())
}

async fn a_range_beyond_the_end_is_an_error(scratch: Scratch) -> Result<()> {
    scratch.put("r", "12345").await?;
    let across = scratch.read_part("r", Some(3..9), None).await;
    expect_error(across, ErrorKind::Corrupt, "a range across the end")?;
    let behind = scratch.read_part("r", Some(5..9), None).await;
    expect_error(behind, ErrorKind::Rejected, "a range behind the end")
}

async fn a_large_body_arrives_in_chunks_that_add_up(scratch: Scratch) -> Result<()> {
    let body = pattern((8 << 20) + 11);
    scratch.put("large", body.clone()).await?;
    let key = scratch.key("large");
    let mut answer = scratch.store.get(&key, GetRequest::default()).await?;
    let mut at = 0;
    while let Some(chunk) = answer.body.next().await {
        let chunk = chunk?;
        ensure!(!chunk.is_empty() && body[at..].starts_with(&chunk), "the chunk at {at} is wrong");
        at += chunk.len();
    }
    ensure!(at == body.len());
    Ok(())
}

async fn what_is_absent_is_not_found(scratch: Scratch) -> Result<()> {
    expect_error(scratch.store.head(&scratch.key("no")).await, ErrorKind::NotFound, "head")?;
    expect_error(scratch.read_part("no", None, None).await, ErrorKind::NotFound, "get")?;
    expect_error(scratch.read_part("no", Some(0..1), None).await, ErrorKind::NotFound, "ranged get")
}

async fn delete_takes_many_and_forgives_absent_ones(scratch: Scratch) -> Result<()> {
    let names: Vec<String> = (0..30).map(|n| format!("d{n} & <\"'+%41>")).chain(["c\u{1}".into()]).collect();
    for name in &names {
        scratch.put(name, "x").await?;
    }
    let mut keys: Vec<_> = names.iter().map(|name| scratch.key(name)).collect();
    keys.push(scratch.key("absent"));
    let deleted = scratch.store.delete(&keys).await?;
    ensure!(deleted.len() == keys.len(), "{} keys, {} answers", keys.len(), deleted.len());
    for (key, result) in deleted {
        ensure!(result.is_ok(), "{key}: {result:?}");
        expect_error(scratch.store.head(&key).await, ErrorKind::NotFound, key.as_str())?;
    }
    ensure!(scratch.store.delete(&[scratch.key("absent")]).await?.iter().all(|(_, result)| result.is_ok()));
    ensure!(scratch.store.delete(&[]).await?.is_empty());
    Ok(())
}

async fn a_marker_is_an_object_of_its_own(scratch: Scratch) -> Result<()> {
    scratch.put("dir/", "").await?;
    scratch.put("dir/file", "x").await?;
    ensure!(scratch.head("dir/").await?.version.size == 0);
    scratch.store.delete(&[scratch.key("dir/")]).await?;
    expect_error(scratch.store.head(&scratch.key("dir/")).await, ErrorKind::NotFound, "the marker")?;
    scratch.expect("dir/file", b"x").await
}

/// CRC-64/NVME bit by bit: slow, and independent of the code under test.
pub(super) fn crc64nvme(bytes: &[u8]) -> u64 {
    let shift = |crc: u64| if crc & 1 == 1 { (crc >> 1) ^ 0x9a6c_9329_ac4b_c9b5 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u64::from(*byte), |crc, _| shift(crc)))
}
