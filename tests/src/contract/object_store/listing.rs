//! Listings: complete, in order, in pages of any size, with any key.

use super::{Scratch, cases, names, pattern};
use anyhow::{Result, ensure};
use std::collections::BTreeMap;
use tarn_fs::name::Prefix;
use tarn_fs::store::{Condition, Depth, Headers, ListCursor, ListPage, ListRequest, Listed};

cases![
    a_directory_folds_what_is_below,
    a_subtree_shows_everything,
    pages_of_any_size_add_up,
    more_keys_than_a_page_holds,
    a_listing_goes_on_after_a_key,
    an_absent_prefix_is_empty,
    any_key_comes_back_as_it_was,
    a_listed_version_is_that_of_head,
    listed_headers_are_those_of_head,
];

async fn page(
    scratch: &Scratch,
    prefix: &Prefix,
    depth: Depth,
    limit: u16,
    after: Option<ListCursor>,
) -> Result<ListPage> {
    let request = ListRequest { after, ..ListRequest::new(prefix.clone(), depth, limit) };
    Ok(scratch.store.list(request).await?)
}

/// All pages as one; fails if one is larger than it may be, or is not in order.
async fn walk(scratch: &Scratch, dir: &str, depth: Depth, limit: u16) -> Result<Vec<String>> {
    let prefix = scratch.prefix(dir);
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let page = page(scratch, &prefix, depth, limit, after).await?;
        ensure!(page.objects.len() + page.prefixes.len() <= usize::from(limit), "a page is too large");
        ensure!(page.objects.is_sorted_by_key(|listed| listed.key.clone()), "a page is not in order");
        ensure!(page.unusable == 0, "{} keys are unusable", page.unusable);
        all.extend(names(&page, &prefix));
        after = page.next;
        if after.is_none() {
            all.sort();
            return Ok(all);
        }
    }
}

async fn fill(scratch: &Scratch, keys: &[&str]) -> Result<()> {
    for key in keys {
        scratch.put(key, "x").await?;
    }
    Ok(())
}

async fn a_directory_folds_what_is_below(scratch: Scratch) -> Result<()> {
    fill(&scratch, &["d/a", "d/b/1", "d/b/2/3", "d/b0", "d/b-", "d0", "e/x"]).await?;
    scratch.put("d/", "").await?;
    let found = walk(&scratch, "d", Depth::Directory, 1000).await?;
    ensure!(found == ["", "a", "b-", "b/", "b0"], "{found:?}");
    Ok(())
}

async fn a_subtree_shows_everything(scratch: Scratch) -> Result<()> {
    fill(&scratch, &["d/a", "d/b/1", "d/b/2/3", "d0", "e/x"]).await?;
    let found = walk(&scratch, "d", Depth::Subtree, 1000).await?;
    ensure!(found == ["a", "b/1", "b/2/3"], "{found:?}");
    Ok(())
}

async fn pages_of_any_size_add_up(scratch: Scratch) -> Result<()> {
    fill(&scratch, &["a", "b/1", "b/2", "b/3/4", "b0", "c/1", "c/2", "d"]).await?;
    for limit in 1..=6 {
        let found = walk(&scratch, "", Depth::Directory, limit).await?;
        ensure!(found == ["a", "b/", "b0", "c/", "d"], "directory by {limit}: {found:?}");
        let found = walk(&scratch, "", Depth::Subtree, limit).await?;
        ensure!(
            found == ["a", "b/1", "b/2", "b/3/4", "b0", "c/1", "c/2", "d"],
            "subtree by {limit}: {found:?}"
        );
    }
    Ok(())
}

async fn more_keys_than_a_page_holds(scratch: Scratch) -> Result<()> {
    let expected: Vec<String> = (0..1030).map(|n| format!("f{n:04}")).collect();
    for names in expected.chunks(16) {
        futures::future::try_join_all(names.iter().map(|name| scratch.put(name, "x"))).await?;
    }
    ensure!(walk(&scratch, "", Depth::Directory, 5000).await? == expected, "directory");
    ensure!(walk(&scratch, "", Depth::Subtree, 400).await? == expected, "subtree");
    Ok(())
}

async fn a_listing_goes_on_after_a_key(scratch: Scratch) -> Result<()> {
    fill(&scratch, &["a", "b", "c/1", "d"]).await?;
    let prefix = scratch.prefix("");
    for depth in [Depth::Directory, Depth::Subtree] {
        let after = Some(ListCursor::Key(scratch.key("a")));
        let mut found = names(&page(&scratch, &prefix, depth, 2, after).await?, &prefix);
        found.sort();
        let second = if depth == Depth::Directory { "c/" } else { "c/1" };
        ensure!(found == ["b", second], "{depth:?}: {found:?}");
    }
    let after = Some(ListCursor::Key(scratch.key("d")));
    ensure!(page(&scratch, &prefix, Depth::Subtree, 2, after).await?.objects.is_empty());
    Ok(())
}

async fn an_absent_prefix_is_empty(scratch: Scratch) -> Result<()> {
    scratch.put("ab", "x").await?;
    let page = page(&scratch, &scratch.prefix("a"), Depth::Directory, 10, None).await?;
    ensure!(page.objects.is_empty() && page.prefixes.is_empty() && page.next.is_none(), "{page:?}");
    Ok(())
}

async fn any_key_comes_back_as_it_was(scratch: Scratch) -> Result<()> {
    let names = [
        "a b",
        "a+b",
        "a%20b",
        "a%2Bb",
        "&<>\"'",
        "\u{1}control",
        "tab\there",
        "ünïcödé",
        "e\u{301}",
        "日本",
        "*?[]",
        "~-_.",
        "=,;:@$!",
        "{|}^`",
        "#frag",
        "trailing ",
        " leading",
        "back\\slash",
    ];
    for name in names {
        scratch.put(&format!("f/{name}"), name.to_owned()).await?;
        scratch.put(&format!("d/{name}/x"), "x").await?;
        scratch.expect(&format!("f/{name}"), name.as_bytes()).await?;
    }
    let mut expected: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    expected.sort();
    let found = walk(&scratch, "f", Depth::Directory, 7).await?;
    ensure!(found == expected, "files: {found:?}");
    let mut expected: Vec<String> = names.iter().map(|name| format!("{name}/")).collect();
    expected.sort();
    let found = walk(&scratch, "d", Depth::Directory, 7).await?;
    ensure!(found == expected, "directories: {found:?}");
    let found = walk(&scratch, "d/a+b", Depth::Subtree, 7).await?;
    ensure!(found == ["x"], "in a directory: {found:?}");
    Ok(())
}

async fn a_listed_version_is_that_of_head(scratch: Scratch) -> Result<()> {
    scratch.put("v", pattern(12_345)).await?;
    let head = scratch.head("v").await?.version;
    let page = page(&scratch, &scratch.prefix(""), Depth::Directory, 10, None).await?;
    let listed = &page.objects[0].version;
    ensure!(listed.same_bytes(&head), "listed {listed:?}, head {head:?}");
    let apart = listed.last_modified.duration_since(head.last_modified).unwrap_or_default();
    ensure!(apart.as_secs() < 2, "listed {listed:?}, head {head:?}");
    Ok(())
}

/// A server need not list them, nor `Expires` and tags with them.
async fn listed_headers_are_those_of_head(scratch: Scratch) -> Result<()> {
    let user = |value: &str| BTreeMap::from([("file-mode".to_owned(), value.to_owned())]);
    let plain = Headers { content_type: Some("text/plain".into()), ..Headers::default() };
    let all = Headers {
        cache_control: Some("max-age=1".into()),
        content_disposition: Some("attachment; filename=\"a<b>&c\"".into()),
        content_encoding: Some("gzip".into()),
        content_language: Some("rm".into()),
        user: user("a <b> & 'c' \"d\""),
        ..plain.clone()
    };
    let dated = Headers { expires: Some("Wed, 21 Oct 2037 07:28:00 GMT".into()), ..plain.clone() };
    let empty = Headers { user: user(""), ..plain.clone() };
    let odd = Headers { user: [("a&b'c$d".to_owned(), "1".to_owned())].into(), ..plain.clone() };
    for (name, headers) in
        [("bare", Headers::default()), ("plain", plain), ("all", all), ("dated", dated), ("empty", empty)]
    {
        scratch.store.put(&scratch.key(name), "x".into(), &headers, Condition::Always).await?;
    }
    let prefix = scratch.prefix("");
    let mut request = ListRequest { headers: true, ..ListRequest::new(prefix, Depth::Directory, 100) };
    let mut compare = async || {
        let mut count = 0;
        loop {
            let page = scratch.store.list(request.clone()).await?;
            count += page.objects.len();
            for Listed { key, headers, .. } in page.objects {
                let Some(headers) = headers else { continue };
                let head = scratch.store.head(&key).await?.headers;
                let expires = headers.expires.clone().or(head.expires.clone());
                ensure!(Headers { expires, ..headers.clone() } == head, "{key}: {headers:?}, head {head:?}");
            }
            request.after = page.next;
            if request.after.is_none() {
                return anyhow::Ok(count);
            }
        }
    };
    ensure!(compare().await? == 5, "not all are listed");
    // A name that is no XML: the listing stays whole.
    let odd = scratch.store.put(&scratch.key("odd"), "x".into(), &odd, Condition::Always).await;
    ensure!(compare().await? == 5 + usize::from(odd.is_ok()), "the odd one hides others");
    Ok(())
}
