//! The words that mount(8), fstab and mount.fuse put into `-o` beside the file system's own options.

use super::error::{Error, Origin, Place};
use super::value;

/// What such a word means to tarn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Nothing: it is for mount(8) or systemd, or it is what tarn does anyway.
    Ignore,
    /// It sets an option of the table.
    Set(&'static str, &'static str),
    /// It asks for something tarn does not do.
    Refuse(&'static str),
}

const WORDS: &[(&str, Meaning)] = &[
    ("rw", Meaning::Set("read-only", "false")),
    ("ro", Meaning::Set("read-only", "true")),
    ("exec", Meaning::Set("no-exec", "false")),
    ("noexec", Meaning::Set("no-exec", "true")),
    ("defaults", Meaning::Ignore),
    ("auto", Meaning::Ignore),
    ("noauto", Meaning::Ignore),
    ("user", Meaning::Ignore),
    ("nouser", Meaning::Ignore),
    ("users", Meaning::Ignore),
    ("nousers", Meaning::Ignore),
    ("owner", Meaning::Ignore),
    ("noowner", Meaning::Ignore),
    ("group", Meaning::Ignore),
    ("nogroup", Meaning::Ignore),
    ("nofail", Meaning::Ignore),
    ("netdev", Meaning::Ignore),
    ("comment", Meaning::Ignore),
    // Reading moves no access time, whichever rule is asked for.
    ("atime", Meaning::Ignore),
    ("noatime", Meaning::Ignore),
    ("diratime", Meaning::Ignore),
    ("nodiratime", Meaning::Ignore),
    ("relatime", Meaning::Ignore),
    ("norelatime", Meaning::Ignore),
    ("strictatime", Meaning::Ignore),
    ("lazytime", Meaning::Ignore),
    ("nolazytime", Meaning::Ignore),
    // Always nodev and nosuid: mount.fuse passes `dev,suid` for root whether wanted or not.
    ("dev", Meaning::Ignore),
    ("nodev", Meaning::Ignore),
    ("suid", Meaning::Ignore),
    ("nosuid", Meaning::Ignore),
    ("async", Meaning::Ignore),
    ("silent", Meaning::Ignore),
    ("loud", Meaning::Ignore),
    // The kernel checks permissions in every tarn mount, and a directory with entries is only warned about.
    ("default-permissions", Meaning::Ignore),
    ("nonempty", Meaning::Ignore),
    ("sync", Meaning::Refuse("tarn commits at close and fsync, not at every write")),
    ("dirsync", Meaning::Refuse("tarn commits at close and fsync, not at every write")),
    // Of a whole list with this word `remount` below makes something else.
    ("remount", Meaning::Refuse("it stands in -o of mount only")),
    ("bind", Meaning::Refuse("mount the bucket first, then bind the directory")),
    ("allow-root", Meaning::Refuse("use allow-other and the modes")),
    ("auto-unmount", Meaning::Refuse("tarn unmounts when it ends; see tarn umount")),
    ("fsname", Meaning::Refuse("tarn shows the bucket as the source")),
    ("subtype", Meaning::Refuse("the type of the mount is always fuse.tarn")),
    ("direct-io", Meaning::Refuse("use passthrough=off, or attr-ttl=0s")),
];

/// What `-o remount` may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Remount {
    /// `ro` or `rw`.
    pub read_only: Option<bool>,
    /// `noexec` or `exec`.
    pub no_exec: Option<bool>,
    /// `quota=SIZE`; 0 is no quota.
    pub quota: Option<u64>,
}

impl Remount {
    /// Whether the kernel has anything to change.
    pub fn concerns_kernel(&self) -> bool {
        self.read_only.is_some() || self.no_exec.is_some()
    }
}

/// What `-o` asks to change of a mount that stands, if `remount` is among its words. mount(8) repeats there what it
/// finds in fstab and in the kernel's list, then what the caller wants: the last word counts, and the options of
/// the mount stay as they are.
pub fn remount(lists: &[String]) -> Option<Result<Remount, Error>> {
    let mut words = lists.iter().flat_map(|list| list.split(',')).map(str::trim);
    words.clone().any(|word| word == "remount").then(|| {
        words.try_fold(Remount::default(), |change, word| {
            Ok(match word.split_once('=').unwrap_or((word, "")) {
                ("ro" | "rw", _) => Remount { read_only: Some(word == "ro"), ..change },
                ("noexec" | "exec", _) => Remount { no_exec: Some(word == "noexec"), ..change },
                ("quota", size) => Remount { quota: Some(quota(size)?), ..change },
                _ => change,
            })
        })
    })
}

fn quota(text: &str) -> Result<u64, Error> {
    let place = Place { origin: Origin::DashO, name: "quota".to_owned() };
    value::size(text).map_err(|expected| Error::Value {
        place,
        value: text.to_owned(),
        expected: expected.to_owned(),
        nearest: None,
    })
}

/// Looks a word up, without its value; `_` and `-` are equal. `x-*` and `X-*` belong to whoever wrote them.
pub(super) fn find(word: &str) -> Option<Meaning> {
    if word.starts_with("x-") || word.starts_with("X-") {
        return Some(Meaning::Ignore);
    }
    let word = word.replace('_', "-");
    let word = word.trim_start_matches('-');
    WORDS.iter().find(|(known, _)| *known == word).map(|(_, meaning)| *meaning)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::table;

    #[test]
    fn no_word_hides_an_option_and_every_set_names_one() {
        for (word, meaning) in WORDS {
            assert!(table::find(word).is_none(), "{word} is also an option");
            match meaning {
                Meaning::Set(name, _) => assert!(table::find(name).is_some(), "{word} sets unknown {name}"),
                Meaning::Ignore | Meaning::Refuse(_) => {}
            }
        }
    }

    #[test]
    fn the_last_word_of_a_remount_counts() {
        let asked = |list: &str| remount(&[list.to_owned()]).transpose().expect("valid");
        assert_eq!(asked("ro,noexec"), None);
        assert_eq!(asked("remount"), Some(Remount::default()));
        let expected = Remount { read_only: Some(true), no_exec: Some(false), quota: None };
        assert_eq!(asked("rw,nosuid,user_id=0,remount,noexec,ro,exec"), Some(expected));
        let lists = remount(&["rw,quota=1g".into(), "remount,ro,quota=2g".into()]);
        let change = lists.expect("a remount").expect("valid");
        assert_eq!((change.read_only, change.quota), (Some(true), Some(2 << 30)));
        assert!(!asked("remount,quota=0").expect("a remount").concerns_kernel());
        let wrong = remount(&["remount,quota=much".into()]).expect("a remount");
        assert_eq!(
            wrong.expect_err("no size").to_string(),
            "-o quota: \"much\" is not a size such as 512k, 8MiB or 1.5g"
        );
    }

    #[test]
    fn fstab_words_mean_what_they_say() {
        assert_eq!(find("ro"), Some(Meaning::Set("read-only", "true")));
        assert_eq!(find("_netdev"), Some(Meaning::Ignore));
        assert_eq!(find("x-systemd.automount"), Some(Meaning::Ignore));
        assert_eq!(find("default_permissions"), Some(Meaning::Ignore));
        assert!(matches!(find("sync"), Some(Meaning::Refuse(_))));
        assert_eq!(find("cache-dir"), None);
    }
}
