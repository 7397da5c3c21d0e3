//! Where log lines go: stderr in the foreground; in the background the journal if there is one, else a file.
//!
//! Levels: error = data or the mount at risk, warn = someone must look, info = life cycle, debug = requests.
//! Lines of tarn follow the chosen level, those of libraries start at warn.

pub mod traces;

use opentelemetry_sdk::trace::SdkTracerProvider;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, reload};

/// The journal's native socket.
const JOURNAL: &str = "/run/systemd/journal/socket";
/// A log file that is longer at the start of a mount begins anew; the old one is kept as `.1`.
const FILE_MAX: u64 = 16 << 20;

/// Where the log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Standard error.
    Stderr,
    /// systemd's journal: `journalctl -t tarn`.
    Journal,
    /// A file.
    File(PathBuf),
}

impl Target {
    /// The place for a mount in the background.
    pub fn background(dir: &Path, state_home: &Path) -> Self {
        if Path::new(JOURNAL).exists() { Self::Journal } else { Self::File(log_file(dir, state_home)) }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stderr => f.write_str("stderr"),
            Self::Journal => f.write_str("journalctl -t tarn"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// Where log files lie: `/var/log` for root, else `$XDG_STATE_HOME` or `~/.local/state`.
pub fn state_home(uid: u32, xdg_state_home: Option<PathBuf>, home: Option<PathBuf>) -> PathBuf {
    if uid == 0 {
        return PathBuf::from("/var/log");
    }
    let given = xdg_state_home.filter(|dir| dir.is_absolute());
    given.or_else(|| home.map(|home| home.join(".local/state"))).unwrap_or_else(std::env::temp_dir)
}

fn log_file(dir: &Path, state_home: &Path) -> PathBuf {
    let name = dir.to_string_lossy().trim_matches('/').replace('/', "-");
    state_home.join("tarn").join(format!("tarn-{name}.log"))
}

/// Changes the level of a log that has been started.
#[derive(Clone)]
pub struct LevelSwitch(Arc<SetLevel>);

type SetLevel = dyn Fn(&str) -> io::Result<()> + Send + Sync;

impl std::fmt::Debug for LevelSwitch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LevelSwitch")
    }
}

impl LevelSwitch {
    /// Logs at `level` from now on.
    pub fn set(&self, level: &str) -> io::Result<()> {
        (self.0)(level)
    }
}

fn filter(level: &str) -> EnvFilter {
    EnvFilter::new(format!("warn,tarn={level},tarn_fs={level},tarn_cache={level}"))
}

/// Starts logging, and sending traces where there is somebody to send them to, once per process.
pub fn start(
    target: &Target,
    level: &str,
    json: bool,
    traces: Option<&SdkTracerProvider>,
) -> io::Result<LevelSwitch> {
    let sink = Arc::new(Sink::open(target)?);
    let (filter, handle) = reload::Layer::new(filter(level));
    let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(Lines(sink));
    // The journal stamps lines by itself.
    let lines = match (json, target) {
        (true, _) => lines.json().boxed(),
        (false, Target::Journal) => lines.without_time().with_level(false).boxed(),
        (false, Target::Stderr | Target::File(_)) => lines.boxed(),
    };
    let lines = tracing_subscriber::registry().with(lines.with_filter(filter));
    let started = lines.with(traces.map(traces::layer)).try_init();
    std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "a part of tarn has failed")));
    started.map_err(io::Error::other)?;
    let set = move |level: &str| handle.reload(self::filter(level)).map_err(io::Error::other);
    Ok(LevelSwitch(Arc::new(set)))
}

#[derive(Debug)]
enum Sink {
    Stderr,
    Journal(UnixDatagram),
    File(File),
}

impl Sink {
    fn open(target: &Target) -> io::Result<Self> {
        match target {
            Target::Stderr => Ok(Self::Stderr),
            Target::Journal => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(JOURNAL)?;
                Ok(Self::Journal(socket))
            }
            Target::File(path) => open_log(path).map(Self::File),
        }
    }
}

fn open_log(path: &Path) -> io::Result<File> {
    if let Some(dir) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    }
    if std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.len() > FILE_MAX) {
        std::fs::rename(path, path.with_extension("log.1"))?;
    }
    OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(libc::O_NOFOLLOW).open(path)
}

#[derive(Debug, Clone)]
struct Lines(Arc<Sink>);

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        Line { sink: &self.0, level: Level::INFO }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Self::Writer {
        Line { sink: &self.0, level: *metadata.level() }
    }
}

/// Takes one line in one write.
struct Line<'a> {
    sink: &'a Sink,
    level: Level,
}

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self.sink {
            Sink::Stderr => io::stderr().write(line),
            Sink::Journal(socket) => socket.send(&journal_entry(self.level, line)).map(|_| line.len()),
            Sink::File(file) => (&*file).write(line),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One entry of the journal's native protocol; the message goes with its length, so it may hold line breaks.
fn journal_entry(level: Level, line: &[u8]) -> Vec<u8> {
    let priority = match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    };
    let message = line.trim_ascii();
    let mut entry = format!("PRIORITY={priority}\nSYSLOG_IDENTIFIER=tarn\nMESSAGE\n").into_bytes();
    entry.extend((message.len() as u64).to_le_bytes());
    entry.extend_from_slice(message);
    entry.push(b'\n');
    entry
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_journal_entry_carries_line_breaks() {
        let entry = journal_entry(Level::WARN, b"two\nlines\n");
        let expected = b"PRIORITY=4\nSYSLOG_IDENTIFIER=tarn\nMESSAGE\n\x09\0\0\0\0\0\0\0two\nlines\n";
        assert_eq!(entry, expected);
    }

    #[test]
    fn a_log_file_is_private_and_never_a_link() {
        let temp = tempfile::tempdir().expect("temp dir");
        let path = log_file(Path::new("/mnt/a"), temp.path());
        assert_eq!(path, temp.path().join("tarn/tarn-mnt-a.log"));
        let file = open_log(&path).expect("opened");
        assert_eq!(file.metadata().expect("stat").mode() & 0o777, 0o600);
        let link = temp.path().join("link.log");
        std::os::unix::fs::symlink(&path, &link).expect("symlink");
        assert!(open_log(&link).is_err());
    }

    #[test]
    fn a_long_log_starts_anew() {
        let temp = tempfile::tempdir().expect("temp dir");
        let path = temp.path().join("tarn.log");
        File::create(&path).expect("create").set_len(FILE_MAX + 1).expect("grow");
        assert_eq!(open_log(&path).expect("opened").metadata().expect("stat").len(), 0);
        assert!(temp.path().join("tarn.log.1").exists());
    }
}
