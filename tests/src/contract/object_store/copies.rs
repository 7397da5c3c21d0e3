//! Copies on the server: bytes, headers, and the conditions on both ends.

use super::{Scratch, cases, expect_error, pattern};
use anyhow::{Result, ensure};
use bytes::Bytes;
use std::collections::BTreeMap;
use tarn_fs::store::{Condition, CopyRequest, ErrorKind, Headers, Version};

cases![
    a_copy_has_the_bytes_and_the_headers,
    a_copy_takes_new_headers,
    a_copy_onto_itself_changes_headers_only,
    a_copy_of_another_version_is_refused,
    a_copy_of_nothing_is_not_found,
    a_copy_keeps_its_condition,
    an_empty_copy_keeps_its_condition,
    keys_of_copies_are_encoded,
];

fn headers() -> Headers {
    Headers {
        content_type: Some("text/x-tarn".into()),
        user: BTreeMap::from([("mode".into(), "33188".into())]),
        ..Headers::default()
    }
}

fn request(scratch: &Scratch, from: &str, version: &Version, to: &str) -> CopyRequest {
    CopyRequest {
        from: scratch.key(from),
        if_match: version.etag.clone(),
        size: version.size,
        to: scratch.key(to),
        condition: Condition::Always,
        headers: None,
        log: None,
    }
}

async fn source(scratch: &Scratch, body: Bytes) -> Result<Version> {
    Ok(scratch.store.put(&scratch.key("from"), body, &headers(), Condition::Always).await?)
}

async fn a_copy_has_the_bytes_and_the_headers(scratch: Scratch) -> Result<()> {
    let body = pattern(100_000);
    let version = source(&scratch, body.clone()).await?;
    for condition in [Condition::Always, Condition::Absent] {
        let to = format!("{condition:?}");
        let request = CopyRequest { condition, ..request(&scratch, "from", &version, &to) };
        let copied = scratch.store.copy(request).await?;
        let head = scratch.head(&to).await?;
        ensure!(head.version.same_bytes(&copied), "{to}: copy {copied:?}, head {head:?}");
        ensure!(head.headers.user == headers().user, "{to}: {:?}", head.headers);
        ensure!(head.headers.content_type == headers().content_type, "{to}: {:?}", head.headers);
        scratch.expect(&to, &body).await?;
    }
    Ok(())
}

async fn a_copy_takes_new_headers(scratch: Scratch) -> Result<()> {
    let version = source(&scratch, pattern(10)).await?;
    let new = Headers { content_type: Some("text/other".into()), ..Headers::default() };
    for condition in [Condition::Always, Condition::Absent] {
        let to = format!("{condition:?}");
        let request = request(&scratch, "from", &version, &to);
        scratch.store.copy(CopyRequest { condition, headers: Some(new.clone()), ..request }).await?;
        let head = scratch.head(&to).await?.headers;
        ensure!(head == new, "{to}: {head:?}");
    }
    Ok(())
}

async fn a_copy_onto_itself_changes_headers_only(scratch: Scratch) -> Result<()> {
    let body = pattern(1000);
    let version = source(&scratch, body.clone()).await?;
    let new = Headers { user: BTreeMap::from([("mode".into(), "1".into())]), ..headers() };
    let request = request(&scratch, "from", &version, "from");
    scratch.store.copy(CopyRequest { headers: Some(new.clone()), ..request }).await?;
    let head = scratch.head("from").await?.headers;
    ensure!(head == new, "{head:?}");
    scratch.expect("from", &body).await
}

async fn a_copy_of_another_version_is_refused(scratch: Scratch) -> Result<()> {
    let old = source(&scratch, pattern(10)).await?;
    let new = source(&scratch, pattern(11)).await?;
    for condition in [Condition::Always, Condition::Absent] {
        for size in [0, old.size] {
            let version = Version { size, ..old.clone() };
            let request = request(&scratch, "from", &version, "to");
            let copied = scratch.store.copy(CopyRequest { condition: condition.clone(), ..request }).await;
            expect_error(copied, ErrorKind::Precondition, &format!("{condition:?}, {size} bytes"))?;
        }
    }
    ensure!(scratch.head("from").await?.version.same_bytes(&new));
    expect_error(scratch.store.head(&scratch.key("to")).await, ErrorKind::NotFound, "the destination")
}

async fn a_copy_of_nothing_is_not_found(scratch: Scratch) -> Result<()> {
    let version = source(&scratch, pattern(10)).await?;
    for condition in [Condition::Always, Condition::Absent] {
        let request = request(&scratch, "absent", &version, "to");
        let copied = scratch.store.copy(CopyRequest { condition: condition.clone(), ..request }).await;
        expect_error(copied, ErrorKind::NotFound, &format!("{condition:?}"))?;
    }
    Ok(())
}

async fn a_copy_keeps_its_condition(scratch: Scratch) -> Result<()> {
    keeps_its_condition(&scratch, pattern(10)).await
}

async fn an_empty_copy_keeps_its_condition(scratch: Scratch) -> Result<()> {
    keeps_its_condition(&scratch, Bytes::new()).await
}

async fn keeps_its_condition(scratch: &Scratch, body: Bytes) -> Result<()> {
    let version = source(scratch, body.clone()).await?;
    let copy =
        |condition| scratch.store.copy(CopyRequest { condition, ..request(scratch, "from", &version, "to") });
    let target = scratch.put("to", "target").await?;
    expect_error(copy(Condition::Absent).await, ErrorKind::Precondition, "absent")?;
    let stale = Condition::Matches(scratch.put("other", "other").await?.etag);
    expect_error(copy(stale).await, ErrorKind::Precondition, "stale")?;
    scratch.expect("to", b"target").await?;
    copy(Condition::Matches(target.etag)).await?;
    scratch.expect("to", &body).await
}

async fn keys_of_copies_are_encoded(scratch: Scratch) -> Result<()> {
    let from = "d ü/+%41 ?&#é";
    let version = scratch.put(from, "x").await?;
    for (condition, to) in [(Condition::Always, "to ?+%42"), (Condition::Absent, "to2 ?+%42")] {
        let request = request(&scratch, from, &version, to);
        scratch.store.copy(CopyRequest { condition, ..request }).await?;
        scratch.expect(to, b"x").await?;
    }
    Ok(())
}
