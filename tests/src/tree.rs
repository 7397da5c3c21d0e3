//! What a folder holds, and whether a bucket holds the same.

use crate::foreign::Object;
use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// One entry of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A directory.
    Dir,
    /// A file with its size and the SHA-256 of its bytes.
    File {
        /// Length in bytes.
        size: u64,
        /// In hexadecimal.
        sha256: String,
    },
    /// A symbolic link and what it points to.
    Link(PathBuf),
    /// A pipe, a socket or a device.
    Special {
        /// Its mode, with the format bits.
        mode: u32,
        /// The number of a device.
        rdev: u64,
    },
}

/// Every entry below a folder, by its path relative to it.
pub type Tree = BTreeMap<String, Entry>;

/// Reads a whole tree.
pub fn read(root: &Path) -> Result<Tree> {
    let mut tree = Tree::new();
    collect(root, "", &mut tree)?;
    Ok(tree)
}

fn collect(dir: &Path, prefix: &str, tree: &mut Tree) -> Result<()> {
    let entries = match std::fs::read_dir(dir) {
        // Listed all the same, perhaps by the server: see `Subject::leave_out_phantoms`.
        Err(error) if error.kind() == ErrorKind::NotFound && !prefix.is_empty() => return Ok(()),
        entries => entries.with_context(|| format!("list {}", dir.display()))?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().into_string().ok().context("a name that is not UTF-8")?;
        let (path, relative) = (entry.path(), format!("{prefix}{name}"));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            collect(&path, &format!("{relative}/"), tree)?;
            tree.insert(relative, Entry::Dir);
        } else if kind.is_symlink() {
            tree.insert(relative, Entry::Link(std::fs::read_link(&path)?));
        } else if !kind.is_file() {
            let metadata = entry.metadata()?;
            tree.insert(relative, Entry::Special { mode: metadata.mode(), rdev: metadata.rdev() });
        } else {
            tree.insert(relative, file(&path)?);
        }
    }
    Ok(())
}

/// Directories of which the bucket has no key, not even a marker.
pub fn without_keys(tree: &Tree, objects: &[Object]) -> Vec<String> {
    let is_below = |key: &str, path: &str| key.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
    let has_key = |path: &str| objects.iter().any(|object| is_below(&object.key, path));
    let directories = tree.iter().filter(|(_, entry)| **entry == Entry::Dir);
    directories.map(|(path, _)| path.clone()).filter(|path| !has_key(path)).collect()
}

/// Size and checksum of one file.
pub fn file(path: &Path) -> Result<Entry> {
    let read = || -> std::io::Result<Entry> {
        let (mut file, mut sum, mut size) = (File::open(path)?, Sha256::new(), 0);
        let mut buffer = vec![0; 1 << 20];
        loop {
            let count = file.read(&mut buffer)?;
            if count == 0 {
                return Ok(Entry::File { size, sha256: hex(&sum.finalize()) });
            }
            sum.update(&buffer[..count]);
            size += count as u64;
        }
    };
    read().with_context(|| format!("read {}", path.display()))
}

/// SHA-256 of some bytes, in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Says how a tree and a bucket differ, if they do. Each file must be an object of the same bytes. A directory may
/// have an empty marker object `dir/`. Nothing else may be in the bucket.
pub fn compare(tree: &Tree, objects: &[Object]) -> Result<()> {
    let mut wrong = Vec::new();
    let mut found: BTreeMap<&str, &Object> = objects.iter().map(|object| (&*object.key, object)).collect();
    for (path, entry) in tree {
        match entry {
            Entry::Dir => {
                if found.remove(&*format!("{path}/")).is_some_and(|marker| marker.size != 0) {
                    wrong.push(format!("the marker of {path} is not empty"));
                }
            }
            Entry::File { size, sha256 } => match found.remove(&**path) {
                None => wrong.push(format!("no object for the file {path}")),
                Some(object) if object.size != *size || object.sha256 != *sha256 => {
                    wrong.push(format!("{path}: {size} bytes in the file, {} in the object", object.size));
                }
                Some(_) => {}
            },
            Entry::Link(_) | Entry::Special { .. } => {
                if found.remove(&**path).is_none() {
                    wrong.push(format!("no object for {path}"));
                }
            }
        }
    }
    wrong.extend(found.keys().map(|key| format!("an object without a file: {key}")));
    report("the bucket differs from the files", &wrong)
}

/// Says how two trees differ, if they do.
pub fn same(before: &Tree, after: &Tree) -> Result<()> {
    let mut wrong = Vec::new();
    for (path, entry) in before {
        if after.get(path) != Some(entry) {
            wrong.push(format!("{path}: {entry:?} became {:?}", after.get(path)));
        }
    }
    wrong
        .extend(after.keys().filter(|path| !before.contains_key(*path)).map(|path| format!("{path} is new")));
    report("the trees differ", &wrong)
}

fn report(what: &str, wrong: &[String]) -> Result<()> {
    if wrong.is_empty() {
        return Ok(());
    }
    let shown: Vec<&str> = wrong.iter().take(20).map(String::as_str).collect();
    bail!("{what} in {} places:\n  {}", wrong.len(), shown.join("\n  "))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes everything");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(key: &str, body: &[u8]) -> Object {
        Object { key: key.into(), size: body.len() as u64, sha256: sha256(body) }
    }

    fn tree(files: &[(&str, &[u8])]) -> Tree {
        let dir = tempfile::tempdir().unwrap();
        for (path, body) in files {
            std::fs::create_dir_all(dir.path().join(path).parent().unwrap()).unwrap();
            std::fs::write(dir.path().join(path), body).unwrap();
        }
        read(dir.path()).unwrap()
    }

    #[test]
    fn equal_content_compares_equal_with_and_without_markers() {
        let tree = tree(&[("a", b"1"), ("d/b", b"2")]);
        compare(&tree, &[object("a", b"1"), object("d/b", b"2")]).unwrap();
        compare(&tree, &[object("a", b"1"), object("d/", b""), object("d/b", b"2")]).unwrap();
    }

    #[test]
    fn a_missing_a_different_and_an_extra_object_are_each_seen() {
        let tree = tree(&[("a", b"1"), ("d/b", b"2")]);
        let all = [object("a", b"1"), object("d/b", b"2")];
        compare(&tree, &all[..1]).unwrap_err();
        compare(&tree, &[object("a", b"9"), all[1].clone()]).unwrap_err();
        compare(&tree, &[all[0].clone(), all[1].clone(), object("c", b"")]).unwrap_err();
        compare(&tree, &[all[0].clone(), all[1].clone(), object("gone/", b"")]).unwrap_err();
    }
}
