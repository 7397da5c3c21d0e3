//! The steps of the tour. Everything done in the mount is done in a plain directory too; at the end both, and the
//! objects behind the mount, must hold the same bytes under the same names.

use super::measure::{LARGE, amount, large_file, rate};
use super::tree;
use crate::mount::Failure;
use crate::name::{Key, Prefix};
use crate::store::{Depth, GetRequest, ListRequest, ObjectStore};
use crc_fast::{CrcAlgorithm, Digest};
use futures::TryStreamExt;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Files that are edited and appended to.
const CHANGED: usize = 20;
const EDIT: &[u8] = b"-- edited in place by tarn demo --";
const APPENDED: &[u8] = b"\nappended by tarn demo\n";

/// Where the tour goes.
#[derive(Debug)]
pub(super) struct Places {
    /// The mount point.
    pub(super) mount: PathBuf,
    /// A directory of the local disk that goes through the same changes.
    pub(super) plain: PathBuf,
}

/// Walks the whole tour; an error if a byte differs.
pub(super) fn walk(
    places: &Places,
    client: &dyn ObjectStore,
    runtime: &tokio::runtime::Handle,
) -> Result<(), Failure> {
    let Places { mount, plain } = places;
    let source = tree::collect(plain)?;
    let files = tree::files(plain)?;

    let start = Instant::now();
    let mut bytes = 0;
    for file in &files {
        bytes += tree::copy(&plain.join(file), &mount.join(file))?;
    }
    let time = start.elapsed();
    let each = time.as_secs_f64() * 1000.0 / files.len().max(1) as f64;
    say(
        "copy in",
        &format!(
            "{} files of {source}, {} in {:.2} s ({each:.1} ms each, all in the bucket)",
            files.len(),
            amount(bytes),
            time.as_secs_f64()
        ),
    )?;

    let changed = changed(plain, &files)?;
    step("edit in place", places, &changed, edit)?;
    step("append", places, &changed, append)?;
    rename(places)?;
    speed(places)?;
    compare(places, client, runtime)
}

fn say(step: &str, text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{step:<13}  {text}")?;
    out.flush()
}

/// Files that are large enough to have a middle.
fn changed(plain: &Path, files: &[PathBuf]) -> io::Result<Vec<PathBuf>> {
    let mut changed = Vec::with_capacity(CHANGED);
    for file in files {
        if fs::metadata(plain.join(file))?.len() > 4 * EDIT.len() as u64 && changed.len() < CHANGED {
            changed.push(file.clone());
        }
    }
    Ok(changed)
}

fn step(
    name: &str,
    places: &Places,
    files: &[PathBuf],
    change: fn(&Path) -> io::Result<()>,
) -> io::Result<()> {
    for file in files {
        change(&places.plain.join(file))?;
    }
    let start = Instant::now();
    for file in files {
        change(&places.mount.join(file))?;
    }
    let each = start.elapsed().as_secs_f64() * 1000.0 / files.len().max(1) as f64;
    say(name, &format!("{} files, {each:.1} ms each", files.len()))
}

fn edit(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    file.write_all_at(EDIT, file.metadata()?.len() / 2)
}

fn append(path: &Path) -> io::Result<()> {
    OpenOptions::new().append(true).open(path)?.write_all(APPENDED)
}

fn rename(places: &Places) -> Result<(), Failure> {
    let rename = |base: &Path| fs::rename(base.join("tree"), base.join("renamed"));
    rename(&places.plain)?;
    let count = tree::files(&places.plain.join("renamed"))?.len();
    let start = Instant::now();
    rename(&places.mount)?;
    say("rename", &format!("a directory of {count} files in {:.2} s", start.elapsed().as_secs_f64()))?;
    Ok(())
}

fn speed(places: &Places) -> Result<(), Failure> {
    let local = large_file(&places.plain.join("large.bin"))?;
    let tarn = large_file(&places.mount.join("large.bin"))?;
    let beside = |tarn, local| format!("{}, local disk {}", rate(LARGE, tarn), rate(LARGE, local));
    say("write", &format!("{}: {}", amount(LARGE), beside(tarn.write, local.write)))?;
    say(
        "close",
        &format!("in the bucket {:.2} s later, {}", tarn.close.as_secs_f64(), rate(LARGE, tarn.close)),
    )?;
    say("read again", &beside(tarn.read, local.read))?;
    Ok(())
}

/// Length and CRC64NVME of a content.
type Sum = (u64, u64);

fn compare(
    places: &Places,
    client: &dyn ObjectStore,
    runtime: &tokio::runtime::Handle,
) -> Result<(), Failure> {
    let expected = sums_of(&places.plain)?;
    let start = Instant::now();
    let mounted = sums_of(&places.mount)?;
    let mount_time = start.elapsed();
    let start = Instant::now();
    let objects = runtime.block_on(sums_in_bucket(client))?;
    let api_time = start.elapsed();
    let bytes = expected.values().map(|(size, _)| size).sum();
    for (name, found) in [("the mount", &mounted), ("the S3 API", &objects)] {
        if let Some(difference) = difference(&expected, found) {
            return Err(Failure::text(format!("{name} does not agree: {difference}")));
        }
    }
    let count = expected.len();
    say("compare", &format!("{count} files through the mount, {}", rate(bytes, mount_time)))?;
    say(
        "",
        &format!(
            "{count} objects through the S3 API, {}: same names, lengths and checksums",
            rate(bytes, api_time)
        ),
    )?;
    Ok(())
}

fn sums_of(dir: &Path) -> io::Result<BTreeMap<String, Sum>> {
    let mut sums = BTreeMap::new();
    for file in tree::files(dir)? {
        let mut content = File::open(dir.join(&file))?;
        let (mut digest, mut size) = (Digest::new(CrcAlgorithm::Crc64Nvme), 0);
        let mut buffer = vec![0; 1 << 20];
        loop {
            let count = content.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            digest.update(&buffer[..count]);
            size += count as u64;
        }
        sums.insert(file.to_string_lossy().into_owned(), (size, digest.finalize()));
    }
    Ok(sums)
}

/// The objects as another client sees them; markers of directories are no files.
async fn sums_in_bucket(client: &dyn ObjectStore) -> Result<BTreeMap<String, Sum>, Failure> {
    let mut sums = BTreeMap::new();
    let mut after = None;
    loop {
        let request = ListRequest { after, ..ListRequest::new(Prefix::default(), Depth::Subtree, 1000) };
        let page = client.list(request).await?;
        for object in page.objects.iter().filter(|object| !object.key.as_str().ends_with('/')) {
            sums.insert(object.key.as_str().to_owned(), sum_of_object(client, &object.key).await?);
        }
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(sums),
        }
    }
}

async fn sum_of_object(client: &dyn ObjectStore, key: &Key) -> Result<Sum, Failure> {
    let answer = client.get(key, GetRequest::default()).await?;
    let start = (Digest::new(CrcAlgorithm::Crc64Nvme), 0_u64);
    let sum = answer.body.try_fold(start, |(mut digest, size), chunk| async move {
        digest.update(&chunk);
        Ok((digest, size + chunk.len() as u64))
    });
    let (digest, size) = sum.await?;
    Ok((size, digest.finalize()))
}

/// The first file that is missing, foreign or different.
fn difference(expected: &BTreeMap<String, Sum>, found: &BTreeMap<String, Sum>) -> Option<String> {
    let missing =
        || expected.keys().find(|name| !found.contains_key(*name)).map(|name| format!("{name} is missing"));
    let foreign = || {
        found
            .keys()
            .find(|name| !expected.contains_key(*name))
            .map(|name| format!("{name} was never written"))
    };
    let other = expected.iter().find(|(name, sum)| found.get(*name).is_some_and(|found| found != *sum));
    other.map(|(name, _)| format!("{name} holds other bytes")).or_else(missing).or_else(foreign)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_difference_is_named() {
        let sums = |list: &[(&str, Sum)]| {
            list.iter().map(|(name, sum)| ((*name).to_owned(), *sum)).collect::<BTreeMap<_, _>>()
        };
        let expected = sums(&[("a", (1, 2)), ("b", (3, 4))]);
        assert_eq!(difference(&expected, &expected), None);
        for (found, text) in [
            (sums(&[("a", (1, 2))]), "b is missing"),
            (sums(&[("a", (1, 9)), ("b", (3, 4))]), "a holds other bytes"),
            (sums(&[("a", (1, 2)), ("b", (3, 4)), ("c", (0, 0))]), "c was never written"),
        ] {
            assert_eq!(difference(&expected, &found).as_deref(), Some(text));
        }
    }
}
