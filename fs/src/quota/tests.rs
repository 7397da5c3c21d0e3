use super::*;
use crate::store::{ETag, ListCursor, Listed, Version};
use std::collections::BTreeMap;

type Bucket = BTreeMap<String, u64>;

fn key(text: &str) -> Key {
    Key::parse(text).expect("a plain key")
}

fn quota(limit: u64) -> Arc<Quota> {
    let quota = Arc::new(Quota::default());
    quota.set_limit(Some(limit));
    quota
}

fn room(quota: &Quota) -> u64 {
    quota.standing().expect("a quota").room()
}

/// What a listing of `bucket` shows after `after`.
fn page(bucket: &Bucket, after: Option<&str>, limit: usize) -> ListPage {
    let rest = bucket.iter().filter(|(key, _)| after.is_none_or(|after| key.as_str() > after));
    let objects: Vec<Listed> = rest
        .clone()
        .take(limit)
        .map(|(text, size)| {
            let version =
                Version { etag: ETag::new("e"), size: *size, ..Version::unknown(SystemTime::UNIX_EPOCH) };
            Listed { key: key(text), version, headers: None }
        })
        .collect();
    let next = (rest.count() > limit).then(|| objects.last().map(|last| ListCursor::Key(last.key.clone())));
    ListPage { objects, next: next.flatten(), ..ListPage::default() }
}

#[test]
fn what_is_granted_fits_and_what_is_given_back_is_free() {
    let quota = quota(100);
    let (one, two) = (quota.claim(), quota.claim());
    one.grow(60).expect("fits");
    one.grow(50).expect("less than it has");
    assert_eq!(two.grow(41).expect_err("too much").errno(), rustix::io::Errno::NOSPC);
    two.grow(40).expect("the rest");
    assert_eq!(room(&quota), 0);
    assert!(quota.must_have_room().is_err());
    drop(one);
    assert_eq!(room(&quota), 60);
    two.give_up();
    two.grow(1000).expect("goes nowhere");
    assert_eq!(room(&quota), 100);
}

#[test]
fn a_commit_moves_a_claim_into_the_bucket() {
    let quota = quota(100);
    let claim = quota.claim();
    claim.grow(60).expect("fits");
    claim.commit(&key("f"), (None, 60), 0);
    let standing = quota.standing().expect("a quota");
    assert_eq!((standing.stored, standing.staged), (Usage { bytes: 60, files: 1 }, 0));
    claim.commit(&key("f"), (Some(60), 10), 5);
    assert_eq!(room(&quota), 100 - 10 - 5);
    quota.change(&key("f"), Some(10), None);
    assert_eq!(quota.standing().expect("a quota").stored, Usage::default());
}

#[test]
fn what_the_kernel_wrote_unseen_counts_and_is_not_granted_by_that() {
    let quota = quota(100);
    let (unseen, other) = (quota.claim(), quota.claim());
    unseen.see(150);
    assert!(other.grow(1).is_err(), "there is no room for others");
    assert!(unseen.grow(150).is_err(), "and none for itself");
    unseen.see(90);
    unseen.grow(90).expect("it became shorter");
    other.take_over(30);
    other.grow(30).expect("an earlier worker has acknowledged it");
}

#[test]
fn a_quota_can_be_changed_and_taken_away() {
    let quota = quota(10);
    let claim = quota.claim();
    assert!(claim.grow(11).is_err());
    quota.set_limit(Some(11));
    claim.grow(11).expect("fits now");
    quota.set_limit(Some(5));
    claim.grow(11).expect("what was granted stays");
    assert_eq!(room(&quota), 0);
    quota.set_limit(None);
    claim.grow(u64::MAX).expect("no quota");
    assert!(quota.standing().is_none() && !quota.is_near());
}

#[test]
fn writers_are_watched_when_little_is_left() {
    assert!(quota(NEAR).claim().quota.limit().is_some() && !quota(NEAR).is_near());
    assert!(quota(NEAR - 1).is_near());
    let large = quota(80 * NEAR);
    large.recall(Usage { bytes: 70 * NEAR, files: 1 }, None);
    assert!(!large.is_near());
    large.recall(Usage { bytes: 70 * NEAR + 1, files: 1 }, None);
    assert!(large.is_near());
}

/// SEMANTICS: "What other clients change counts from the next listing on: after five minutes and ten seconds for each
/// thousand files, or, once something was refused, after ten seconds and one for each thousand."
#[test]
fn counts_are_far_apart_and_less_so_when_something_was_refused() {
    let quota = quota(10);
    let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    assert!(quota.is_due(at(0)), "nothing was ever counted");
    quota.begin_count(at(0));
    assert!(!quota.is_due(at(1000)), "it is under way");
    quota.drop_count();
    assert!(!quota.is_due(at(10)) && quota.is_due(at(11)), "a count that failed is tried again");
    let million = Usage { bytes: 10, files: 1_000_000 };
    quota.recall(million, Some(at(0)));
    assert!(!quota.is_due(at(10_309)) && quota.is_due(at(10_310)));
    assert!(quota.must_have_room().is_err());
    assert!(!quota.is_due(at(1010)) && quota.is_due(at(1011)));
    assert!(quota.is_due(at(0) - Duration::from_secs(5)), "the clock was set back");
}

proptest::proptest! {
    /// A listing and the changes of this mount in any order: in the end the sum is what the bucket has.
    #[test]
    fn a_count_is_exact_while_the_mount_goes_on(
        steps in proptest::collection::vec((0u8..12, proptest::option::of(0u64..9), proptest::bool::ANY), 0..80),
        begins in proptest::collection::btree_map("[a-l]", 0u64..9, 0..12),
        limit in 1usize..4,
    ) {
        let quota = quota(1 << 40);
        let mut bucket: Bucket = begins;
        quota.begin_count(SystemTime::UNIX_EPOCH);
        let (mut after, mut more) = (None::<String>, true);
        let mut answer = None;
        let take = |quota: &Quota, page: ListPage, after: &mut Option<String>| {
            *after = page.objects.last().map(|last| last.key.as_str().to_owned()).or(after.take());
            quota.count_page(&page, SystemTime::UNIX_EPOCH)
        };
        for (name, size, lists) in steps {
            if lists && more {
                // The page is read by the server now and arrives here at the next such step.
                if let Some(page) = answer.take() {
                    more = take(&quota, page, &mut after);
                }
                answer = more.then(|| page(&bucket, after.as_deref(), limit));
                continue;
            }
            let name = char::from(b'a' + name).to_string();
            let old = match size {
                Some(size) => bucket.insert(name.clone(), size),
                None => bucket.remove(&name),
            };
            quota.change(&key(&name), old, size);
        }
        while more {
            let page = answer.take().unwrap_or_else(|| page(&bucket, after.as_deref(), limit));
            more = take(&quota, page, &mut after);
        }
        let counted = quota.standing().expect("a quota").stored;
        proptest::prop_assert_eq!(counted.bytes, bucket.values().sum::<u64>());
        proptest::prop_assert_eq!(counted.files, bucket.len() as u64);
    }
}
