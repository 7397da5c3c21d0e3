//! From a page of keys to the entries of a directory. Pure.
//!
//! A directory goes before an object of its name, which then shows as `%=name`; the bytes of the directory's own
//! marker show as `%=`. Both may stand on different pages: keys that sort between `a` and `a/` begin with `a` and
//! go on with a character below the slash.

use crate::inode::Child;
use crate::name::{Name, NameError, Prefix};
use crate::store::{ListPage, Listed};
use std::collections::BTreeMap;

/// The entries of a directory by name.
pub(super) type Entries = BTreeMap<Name, Child>;

/// What one page shows.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// Entries that nothing later in the listing changes.
    pub(super) entries: Entries,
    /// Objects whose directory may be on the next page: they belong to it.
    pub(super) held: Vec<Listed>,
    /// Keys that no file name can show, or that do not belong here.
    pub(super) unusable: usize,
}

/// The entries of the page of `prefix` that `held` of the page before comes with.
pub(super) fn of_page(prefix: &Prefix, held: Vec<Listed>, page: ListPage) -> Page {
    let mut shown = Page { unusable: page.unusable, ..Page::default() };
    let last = page.objects.last().map(|listed| listed.key.as_str());
    let last = last.max(page.prefixes.last().map(Prefix::as_str));
    let last = last.filter(|_| page.next.is_some()).map(str::to_owned);
    for listed in held.into_iter().chain(page.objects) {
        let key = listed.key.as_str();
        if last.as_deref().is_some_and(|last| directory_may_follow(key, last)) {
            shown.held.push(listed);
        } else if key != prefix.as_str() {
            let name = component(prefix, key).and_then(Name::of);
            let put = name.and_then(|name| put(&mut shown.entries, name, Child::Object(listed.version)));
            shown.unusable += usize::from(put.is_err());
        } else if listed.version.size > 0 {
            shown.entries.insert(Name::own(), Child::Object(listed.version));
        }
    }
    for inner in &page.prefixes {
        let text = inner.as_str();
        let name = component(prefix, text.strip_suffix('/').unwrap_or(text)).and_then(Name::of);
        let put = name.and_then(|name| put(&mut shown.entries, name, Child::Directory));
        shown.unusable += usize::from(put.is_err());
    }
    shown
}

/// Puts an entry beside what has its name already. An error leaves out an object that has no name beside its
/// directory.
pub(super) fn put(entries: &mut Entries, name: Name, child: Child) -> Result<(), NameError> {
    match (entries.get(&name), &child) {
        (Some(Child::Directory), Child::Object(_)) => {
            entries.insert(name.other()?, child);
        }
        (Some(Child::Object(_)), Child::Directory) => {
            let object = entries.insert(name.clone(), child);
            entries.extend(object.map(|object| Ok((name.other()?, object))).transpose()?);
        }
        (None, _)
        | (Some(Child::Object(_)), Child::Object(_))
        | (Some(Child::Directory), Child::Directory) => {
            entries.insert(name, child);
        }
    }
    Ok(())
}

/// Whether `key/` can still come in a sorted listing that has come to `last`.
fn directory_may_follow(key: &str, last: &str) -> bool {
    last.strip_prefix(key).is_some_and(|rest| rest < "/")
}

/// The one component of `key` below `prefix`.
fn component<'a>(prefix: &Prefix, key: &'a str) -> Result<&'a str, NameError> {
    let inside = key.strip_prefix(prefix.as_str()).filter(|rest| !rest.contains('/'));
    inside.ok_or(NameError::Invalid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::Key;
    use crate::store::{ETag, ListCursor, Version};
    use std::time::SystemTime;

    fn listed(key: &str, size: u64) -> Listed {
        let version =
            Version { etag: ETag::new(key), size, last_modified: SystemTime::UNIX_EPOCH, version_id: None };
        Listed { key: Key::parse(key).expect("short"), version, headers: None }
    }

    fn page(objects: &[&str], prefixes: &[&str], more: bool) -> ListPage {
        ListPage {
            objects: objects.iter().map(|key| listed(key, 1)).collect(),
            prefixes: prefixes.iter().map(|text| Prefix::parse(text).expect("short")).collect(),
            unusable: 0,
            next: more.then(|| ListCursor::Token("more".into())),
        }
    }

    /// Names as `ls -p` shows them, and how many keys were left out.
    fn shown(page: &Page) -> (Vec<String>, usize) {
        let text = |(name, child): (&Name, &Child)| match child {
            Child::Object(_) => name.to_string(),
            Child::Directory => format!("{name}/"),
        };
        (page.entries.iter().map(text).collect(), page.unusable)
    }

    fn of(prefix: &str, page: ListPage) -> (Vec<String>, usize) {
        shown(&of_page(&Prefix::parse(prefix).expect("short"), Vec::new(), page))
    }

    #[test]
    fn an_object_beside_a_directory_of_its_name_gets_a_mark() {
        let page = page(&["d/a", "d/a.b", "d/z"], &["d/a/", "d/q/"], false);
        assert_eq!(of("d", page), (["%=a", "a/", "a.b", "q/", "z"].map(String::from).to_vec(), 0));
    }

    #[test]
    fn only_a_marker_with_bytes_shows() {
        let mut page = page(&["d/x"], &[], false);
        page.objects.push(listed("d/", 0));
        assert_eq!(of("d", page.clone()).0, ["x"]);
        page.objects.push(listed("d/", 3));
        assert_eq!(of("d", page).0, ["%=", "x"]);
    }

    #[test]
    fn odd_components_show_encoded() {
        let page = page(&["d/.", "d/a\0"], &["d//", "d/../", "d/%=x/"], false);
        assert_eq!(of("d", page).0, ["%:/", "%:%25=x/", "%:.", "%:../", "%:a%00"]);
    }

    #[test]
    fn what_has_no_name_or_does_not_belong_here_is_counted() {
        let (long, nearly) = ("\0".repeat(400), "y".repeat(1021));
        let objects =
            [format!("d/{long}"), format!("d/{nearly}"), "e/f".into(), "d/g/h".into(), "d/i".into()];
        let prefixes = [format!("d/{long}/"), format!("d/{nearly}/"), "d/j/k/".into(), "d/".into()];
        let objects: Vec<&str> = objects.iter().map(|text| &**text).collect();
        let prefixes: Vec<&str> = prefixes.iter().map(|text| &**text).collect();
        let (names, unusable) = of("d", page(&objects, &prefixes, false));
        assert_eq!(names, [format!("%={nearly}"), "i".to_owned(), format!("{nearly}/")]);
        assert_eq!(unusable, 6);
    }

    #[test]
    fn an_object_waits_for_a_directory_on_the_next_page() {
        let prefix = Prefix::parse("d").expect("short");
        let first = of_page(&prefix, Vec::new(), page(&["d/a", "d/a-", "d/a-b"], &[], true));
        assert_eq!(shown(&first).0, ["a-"]);
        let second = of_page(&prefix, first.held, page(&["d/a.c"], &[], true));
        assert_eq!(shown(&second).0, ["a-b"]);
        let third = of_page(&prefix, second.held, page(&["d/b"], &["d/a/"], false));
        assert_eq!(shown(&third).0, ["%=a", "a/", "a.c", "b"]);
    }

    #[test]
    fn order_and_repetition_do_not_matter() {
        let expected = of("d", page(&["d/a", "d/b"], &["d/a/", "d/c/"], false));
        assert_eq!(of("d", page(&["d/b", "d/a", "d/a", "d/b"], &["d/c/", "d/a/", "d/c/"], false)), expected);
    }
}
