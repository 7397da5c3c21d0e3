//! What the commands `status`, `flush`, `cache` and `log-level` do: find the mount, ask it, print.

use super::client::{Client, Error as ClientError};
use super::proto::{CacheAction, MountStatus};
use super::text;
use crate::fuse::session::mountinfo;
use crate::mount::record::{Record, Registry};
use indicatif::{ProgressBar, ProgressStyle};
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Files worked on at once.
const PARALLEL: usize = 8;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No mount is there.
    #[error("{0} is not below a mount of tarn that this user made")]
    NoMount(String),
    /// A mount whose processes were killed.
    #[error(
        "{dir} is a dead mount: its processes were killed, and every call on it fails with \"Transport endpoint is not \
         connected\"; clean it up with: tarn umount {dir}; then mount again, which uploads what was closed and is \
         not in the bucket yet; the log: {log}"
    )]
    Dead {
        /// The mount point.
        dir: String,
        /// Where they logged.
        log: String,
    },
    /// The mount did not answer.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Some files failed.
    #[error("{count} files failed, first {first}")]
    Files {
        /// How many.
        count: usize,
        /// One of them, with the reason.
        first: String,
    },
    /// Anything else.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// The status of the mount at `dir`, or of all mounts of this user; JSON is a list of them.
pub async fn status(dir: Option<&Path>, json: bool, registry: &Registry) -> Result<String, Error> {
    let records = match dir {
        Some(dir) => vec![mount_of(dir, registry)?],
        None => registry.all()?,
    };
    let mut found: Vec<MountStatus> = Vec::new();
    for record in &records {
        match ask_status(record, registry).await {
            Ok(status) => found.push(status),
            Err(error) if dir.is_some() => return Err(error),
            // One of many may end while it is asked.
            Err(_) if registry.find(&record.dir)?.is_none() => {}
            Err(error) => found.push(unanswered(record, &error)),
        }
    }
    if json {
        let mut text = serde_json::to_string_pretty(&found).map_err(io::Error::from)?;
        text.push('\n');
        return Ok(text);
    }
    if found.is_empty() {
        return Ok("no mounts of this user\n".to_owned());
    }
    Ok(found.iter().map(text::status).collect::<Vec<_>>().join("\n"))
}

async fn ask_status(record: &Record, registry: &Registry) -> Result<MountStatus, Error> {
    Ok(ask(record, registry).await?.status().await?)
}

/// What is known of a mount that does not answer.
fn unanswered(record: &Record, error: &Error) -> MountStatus {
    MountStatus {
        source: record.source.clone(),
        dir: record.dir.display().to_string(),
        log: record.log.clone(),
        error: error.to_string(),
        ..MountStatus::default()
    }
}

/// Connects to the worker of a mount.
async fn ask(record: &Record, registry: &Registry) -> Result<Client, Error> {
    match Client::connect(&registry.socket_of(&record.dir)).await {
        // Without a keeper nobody brings it back.
        Err(ClientError::Connect { .. }) if !record.process.is_alive() => {
            Err(Error::Dead { dir: record.dir.display().to_string(), log: record.log.clone() })
        }
        asked => Ok(asked?),
    }
}

/// Puts everything that was written below the mount of `path` into the bucket.
pub async fn flush(path: &Path, registry: &Registry) -> Result<String, Error> {
    let record = mount_of(path, registry)?;
    let reply = ask(&record, registry).await?.flush().await?;
    match reply.failed.first() {
        None => Ok(format!(
            "{}: everything is in the bucket; {} files were committed now\n",
            record.dir.display(),
            reply.committed
        )),
        Some(first) => Err(Error::Files {
            count: reply.failed.len(),
            first: format!("{} ({})", first.path, first.reason),
        }),
    }
}

/// Changes what the mount of `path` logs, or says what it is.
pub async fn log_level(path: &Path, level: Option<&str>, registry: &Registry) -> Result<String, Error> {
    let record = mount_of(path, registry)?;
    let mut client = ask(&record, registry).await?;
    let said = match level {
        Some(level) => format!("log level {level}, was {}", client.set_log_level(level).await?),
        None => format!("log level {}", client.status().await?.log_level),
    };
    Ok(format!("{}: {said}; the log: {}\n", record.dir.display(), record.log))
}

/// Works on the local copies of all files at and below `paths`.
pub async fn cache(action: CacheAction, paths: &[PathBuf], registry: &Registry) -> Result<String, Error> {
    let mut sum = Sum::default();
    for path in paths {
        let record = mount_of(path, registry)?;
        let client = ask(&record, registry).await?;
        let bar = ProgressBar::no_length().with_style(style());
        bar.set_prefix(path.display().to_string());
        sum.add(walk(action, path, &client, &bar).await?);
        bar.finish_and_clear();
    }
    match sum.failed.first() {
        None => Ok(sum.text(action)),
        Some(first) => Err(Error::Files { count: sum.failed.len(), first: first.clone() }),
    }
}

fn style() -> ProgressStyle {
    let style = ProgressStyle::with_template("{prefix} {pos} files, {msg} {elapsed}");
    style.unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// What was found and done.
#[derive(Debug, Default)]
struct Sum {
    files: u64,
    whole: u64,
    size: u64,
    cached: u64,
    damaged: u64,
    pinned: u64,
    failed: Vec<String>,
}

impl Sum {
    fn add(&mut self, other: Self) {
        self.files += other.files;
        self.whole += other.whole;
        self.size += other.size;
        self.cached += other.cached;
        self.damaged += other.damaged;
        self.pinned += other.pinned;
        self.failed.extend(other.failed);
    }

    fn text(&self, action: CacheAction) -> String {
        let (cached, size) = (text::bytes(self.cached), text::bytes(self.size));
        let Self { files, whole, pinned, .. } = self;
        let pinned = if *pinned > 0 { format!(", {pinned} pinned") } else { String::new() };
        let there = format!("{cached} of {size} in {files} files on the local disk, {whole} whole{pinned}");
        match action {
            CacheAction::Stat | CacheAction::Warm | CacheAction::Pin | CacheAction::Unpin => {
                format!("{there}\n")
            }
            CacheAction::Drop if self.cached > 0 => {
                format!("{there}; what is open, pinned or not in the bucket yet stays\n")
            }
            CacheAction::Drop => format!("no local copy is left of {} files\n", self.files),
            CacheAction::Verify => format!("{there}; {} damaged blocks were dropped\n", self.damaged),
        }
    }
}

/// Walks the tree as any program does, so that permissions hold, and asks the mount for each file.
async fn walk(action: CacheAction, root: &Path, client: &Client, bar: &ProgressBar) -> Result<Sum, Error> {
    let mut sum = Sum::default();
    let mut open = vec![root.to_owned()];
    let mut tasks = tokio::task::JoinSet::new();
    let turns = Arc::new(tokio::sync::Semaphore::new(PARALLEL));
    while let Some(path) = open.pop() {
        let meta = fs::symlink_metadata(&path)?;
        if meta.is_dir() {
            for entry in fs::read_dir(&path)? {
                open.push(entry?.path());
            }
        } else if meta.is_file() {
            let turn = Arc::clone(&turns).acquire_owned().await.map_err(io::Error::other)?;
            let (mut client, bar) = (client.clone(), bar.clone());
            tasks.spawn(async move {
                let one = one(action, &path, &mut client).await;
                bar.inc(1);
                drop(turn);
                one
            });
        }
        while let Some(done) = tasks.try_join_next() {
            sum.add(done.map_err(io::Error::other)?);
            bar.set_message(text::bytes(sum.cached));
        }
    }
    while let Some(done) = tasks.join_next().await {
        sum.add(done.map_err(io::Error::other)?);
        bar.set_message(text::bytes(sum.cached));
    }
    Ok(sum)
}

async fn one(action: CacheAction, path: &Path, client: &mut Client) -> Sum {
    let failed = |why: String| Sum { failed: vec![format!("{} ({why})", path.display())], ..Sum::default() };
    // Held open without being opened for reading: the kernel keeps the inode's number meanwhile.
    let held = fs::OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW).open(path);
    let ino = match held.as_ref().map(|held| held.metadata().map(|meta| meta.ino())) {
        Ok(Ok(ino)) => ino,
        Ok(Err(error)) => return failed(error.to_string()),
        Err(error) => return failed(error.to_string()),
    };
    match client.cache(action, ino).await {
        Ok(reply) => Sum {
            files: 1,
            whole: u64::from(reply.cached == reply.size),
            size: reply.size,
            cached: reply.cached,
            damaged: reply.damaged,
            pinned: u64::from(reply.pinned),
            failed: Vec::new(),
        },
        Err(error) => failed(error.to_string()),
    }
}

/// The mount that `path` lies in.
fn mount_of(path: &Path, registry: &Registry) -> Result<Record, Error> {
    let missing = || Error::NoMount(path.display().to_string());
    let absolute = std::path::absolute(path)?;
    // A mount point is never looked at through the mount, which may be stuck.
    let known = |dir: &Path| registry.find(dir).map(|found| found.map(|watched| watched.record));
    if let Some(record) = known(&absolute)? {
        return Ok(record);
    }
    let real = fs::canonicalize(&absolute)?;
    let entry = mountinfo::find_containing(&real)?.filter(mountinfo::Entry::is_tarn).ok_or_else(missing)?;
    known(&entry.dir)?.ok_or_else(missing)
}
