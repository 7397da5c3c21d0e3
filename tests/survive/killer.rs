//! Kills workers and measures for how long nobody answers.

use rustix::process::{Pid, Signal, kill_process};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tarn_tests::data;
use tarn_tests::mount::Mount;
use tarn_tests::subject::Subject;

/// Milliseconds between two kills: at least, and what chance adds at most.
const PERIOD_MS: (u64, u64) = (200, 800);

/// What a run of kills showed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    /// From each kill to the next answer.
    pub(crate) stalls: Vec<Duration>,
    /// Requests that the kernel sent once more.
    pub(crate) resent: usize,
}

impl Tally {
    pub(crate) fn longest(&self) -> Duration {
        self.stalls.iter().max().copied().unwrap_or_default()
    }

    pub(crate) fn median(&self) -> Duration {
        let mut sorted = self.stalls.clone();
        sorted.sort();
        sorted.get(sorted.len() / 2).copied().unwrap_or_default()
    }
}

/// Runs `work` while the worker of the subject's mount is killed, and puts the mount back.
pub(crate) fn while_killing(subject: &Subject<'_>, work: impl FnOnce()) -> Tally {
    let mount = subject.take_mount();
    let killer = Killer::start(&mount);
    work();
    let stalls = killer.stop();
    let log = mount.log();
    assert!(!log.contains("ERROR tarn_fs::vfs") && !log.contains("panicked"), "{log}");
    subject.give_mount(mount);
    Tally { stalls, resent: log.matches("sent again").count() }
}

/// Kills the worker once and waits until the next one answers.
pub(crate) fn kill_once(mount: &Mount) -> Duration {
    kill(mount.worker().unwrap().unwrap(), mount.dir(), 0)
}

fn kill(worker: Pid, dir: &Path, round: u64) -> Duration {
    let started = Instant::now();
    kill_process(worker, Signal::KILL).unwrap();
    // A name that nobody has asked for: the kernel cannot answer it by itself.
    let probe: PathBuf = dir.join(format!("no such file {} {round}", worker.as_raw_nonzero()));
    assert_eq!(std::fs::symlink_metadata(probe).unwrap_err().kind(), std::io::ErrorKind::NotFound);
    started.elapsed()
}

struct Killer {
    stop: mpsc::Sender<()>,
    thread: JoinHandle<Vec<Duration>>,
}

impl Killer {
    fn start(mount: &Mount) -> Self {
        let (stop, stopped) = mpsc::channel();
        let (keeper, dir) = (mount.keeper(), mount.dir().to_owned());
        let thread = std::thread::spawn(move || {
            let mut stalls = Vec::new();
            for pause in data::numbers(keeper.as_raw_nonzero().get() as u64, PERIOD_MS.1) {
                let pause = Duration::from_millis(PERIOD_MS.0 + pause);
                if stopped.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
                    break;
                }
                // Between two workers there is none to kill.
                if let Some(worker) = tarn_tests::mount::worker_of(keeper).unwrap() {
                    stalls.push(kill(worker, &dir, stalls.len() as u64));
                }
            }
            stalls
        });
        Self { stop, thread }
    }

    fn stop(self) -> Vec<Duration> {
        drop(self.stop);
        self.thread.join().unwrap()
    }
}
