//! The kernel's list of mounts, `/proc/self/mountinfo` (proc(5)). Reading it never asks a file system anything.

use super::FS_TYPE;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The kernel's id; no other mount has it while this one stands.
    pub id: u64,
    /// `MAJOR:MINOR` of the device.
    pub device: String,
    /// The mount point.
    pub dir: PathBuf,
    /// What holds for this mount point: `rw,nosuid,nodev,relatime`.
    pub options: String,
    /// Its type, with the subtype.
    pub fs_type: String,
    /// Its source.
    pub source: String,
}

impl Entry {
    /// Whether tarn made it.
    pub fn is_tarn(&self) -> bool {
        self.fs_type == FS_TYPE
    }

    /// Whether an option holds for this mount point.
    pub fn has(&self, option: &str) -> bool {
        self.options.split(',').any(|held| held == option)
    }
}

/// Reads the list.
pub fn read() -> io::Result<Vec<Entry>> {
    // Bytes, not text: a mount point need not be UTF-8.
    Ok(parse(&std::fs::read("/proc/self/mountinfo")?))
}

/// The mount on top at `dir`, which must be canonical.
pub fn find_last(dir: &Path) -> io::Result<Option<Entry>> {
    Ok(read()?.into_iter().rfind(|entry| entry.dir == dir))
}

/// The mount that `path`, which must be canonical, lies in.
pub fn find_containing(path: &Path) -> io::Result<Option<Entry>> {
    let entries = read()?.into_iter().filter(|entry| is_below(path, &entry.dir));
    // Of two at one place the later one is on top.
    Ok(entries.max_by_key(|entry| entry.dir.as_os_str().len()))
}

/// Reads the text of mountinfo; a line that is not of its form is passed over.
pub fn parse(text: &[u8]) -> Vec<Entry> {
    text.split(|byte| *byte == b'\n').filter_map(parse_line).collect()
}

/// `36 35 98:0 /root /mnt rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
fn parse_line(line: &[u8]) -> Option<Entry> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = text(fields.next()?).parse().ok()?;
    let device = text(fields.nth(1)?);
    let dir = PathBuf::from(OsString::from_vec(unescape(fields.nth(1)?)));
    let options = text(fields.next()?);
    fields.find(|field| *field == b"-")?;
    let fs_type = text(fields.next()?);
    let source = text(fields.next()?);
    Some(Entry { id, device, dir, options, fs_type, source })
}

fn text(field: &[u8]) -> String {
    String::from_utf8_lossy(&unescape(field)).into_owned()
}

/// Turns `\040` and its like back into bytes.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let octal = tail
            .get(..3)
            .filter(|digits| *first == b'\\' && digits.iter().all(|d| (b'0'..=b'7').contains(d)));
        let value = octal.map(|digits| digits.iter().fold(0_u32, |sum, d| sum * 8 + u32::from(d - b'0')));
        match value.and_then(|value| u8::try_from(value).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    bytes
}

/// Whether `dir` is `parent` or lies below it, by their bytes.
pub fn is_below(dir: &Path, parent: &Path) -> bool {
    let (dir, parent) = (dir.as_os_str().as_bytes(), parent.as_os_str().as_bytes());
    dir.strip_prefix(parent).is_some_and(|rest| rest.is_empty() || rest[0] == b'/' || parent.ends_with(b"/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = "\
22 28 0:20 / /sys rw,nosuid - sysfs sysfs rw
41 28 0:36 / /mnt/a\\040b\\011c\\134d rw,nosuid,nodev shared:5 master:2 - fuse.tarn s3://data/x\\040y rw,user_id=0
broken line
50 28 8:1 / /mnt rw - ext4 /dev/sda1 rw
51 50 0:40 / /mnt rw - fuse.tarn s3://b rw
";

    #[test]
    fn fields_and_octal_escapes() {
        let entries = parse(TEXT.as_bytes());
        assert_eq!(entries.len(), 4);
        let expected = Entry {
            id: 41,
            device: "0:36".into(),
            dir: "/mnt/a b\tc\\d".into(),
            options: "rw,nosuid,nodev".into(),
            fs_type: "fuse.tarn".into(),
            source: "s3://data/x y".into(),
        };
        assert_eq!(entries[1], expected);
        assert!(entries[1].is_tarn() && !entries[0].is_tarn());
        assert!(entries[1].has("nodev") && !entries[1].has("ro") && !entries[1].has("suid"));
    }

    #[test]
    fn this_process_sees_its_root() {
        let root = find_last(Path::new("/")).expect("proc is mounted").expect("a root");
        assert!(!root.fs_type.is_empty());
    }

    #[test]
    fn below_means_by_component() {
        for (dir, parent, below) in [
            ("/a/b", "/a", true),
            ("/a", "/a", true),
            ("/ab", "/a", false),
            ("/a", "/", true),
            ("/", "/a", false),
        ] {
            assert_eq!(is_below(Path::new(dir), Path::new(parent)), below, "{dir} in {parent}");
        }
    }

    proptest! {
        #[test]
        fn escaping_comes_back(name in proptest::collection::vec(any::<u8>(), 1..40)) {
            let escaped: Vec<u8> = name.iter().flat_map(|byte| match byte {
                b' ' | b'\t' | b'\n' | b'\\' => format!("\\{byte:03o}").into_bytes(),
                other => vec![*other],
            }).collect();
            prop_assert_eq!(unescape(&escaped), name);
        }

        #[test]
        fn soup_never_panics(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&text);
        }
    }
}
