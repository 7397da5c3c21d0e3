//! The files the tour copies: a real tree of this machine, or one made up where there is none.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const SOURCES: &[&str] = &["/usr/include", "/usr/share"];
const FILES_MAX: usize = 400;
const BYTES_MAX: u64 = 50 << 20;
const FILE_MAX: u64 = 4 << 20;
/// Fewer files than this are no tree.
const FILES_MIN: usize = 50;

/// Copies a bounded tree into `plain`, which it makes, and says where it came from.
pub(super) fn collect(plain: &Path) -> io::Result<String> {
    for source in SOURCES {
        let files = find(Path::new(source));
        if files.len() >= FILES_MIN {
            for file in files {
                let relative = file.strip_prefix(source).map_err(io::Error::other)?;
                copy(&file, &plain.join("tree").join(relative))?;
            }
            return Ok((*source).to_owned());
        }
    }
    make_up(&plain.join("tree"))?;
    Ok("made-up data".to_owned())
}

/// Every file below `dir`, with its path relative to it, in order.
pub(super) fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(&next)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                open.push(entry.path());
            } else {
                found.push(entry.path().strip_prefix(dir).map_err(io::Error::other)?.to_owned());
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Copies one file, making its directories.
pub(super) fn copy(from: &Path, to: &Path) -> io::Result<u64> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    let (mut from, mut to) = (fs::File::open(from)?, fs::File::create(to)?);
    io::copy(&mut from, &mut to)
}

/// Regular files with plain names, within the bounds. What cannot be read is passed over.
fn find(source: &Path) -> Vec<PathBuf> {
    let (mut found, mut bytes) = (Vec::new(), 0);
    let mut open = vec![source.to_owned()];
    while let Some(dir) = open.pop() {
        let mut entries: Vec<_> = fs::read_dir(dir).into_iter().flatten().flatten().collect();
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let Ok(metadata) = entry.metadata() else { continue };
            let named = entry.file_name().to_str().is_some_and(|name| !name.contains(char::is_control));
            if metadata.is_dir() && named {
                open.push(entry.path());
            } else if metadata.is_file()
                && named
                && metadata.len() <= FILE_MAX
                && fs::File::open(entry.path()).is_ok()
            {
                if found.len() >= FILES_MAX || bytes + metadata.len() > BYTES_MAX {
                    return found;
                }
                bytes += metadata.len();
                found.push(entry.path());
            }
        }
    }
    found
}

fn make_up(tree: &Path) -> io::Result<()> {
    for number in 0..FILES_MAX {
        let size = (number * number * 7919) % (256 << 10);
        let path = tree.join(format!("dir{:02}/file{number:03}", number % 20));
        let content: Vec<u8> = (0..size).map(|at| ((at * 31 + number) % 251) as u8).collect();
        fs::create_dir_all(path.parent().unwrap_or(tree))?;
        fs::write(path, content)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_up_tree_has_its_files() {
        let temp = tempfile::tempdir().expect("temp dir");
        make_up(temp.path()).expect("made up");
        assert_eq!(files(temp.path()).expect("walked").len(), FILES_MAX);
    }

    #[test]
    fn what_is_found_stays_within_its_bounds() {
        let temp = tempfile::tempdir().expect("temp dir");
        make_up(temp.path()).expect("made up");
        fs::File::create(temp.path().join("huge")).expect("create").set_len(FILE_MAX + 1).expect("grow");
        let found = find(temp.path());
        assert_eq!(found.len(), FILES_MAX);
        assert!(!found.contains(&temp.path().join("huge")));
    }
}
