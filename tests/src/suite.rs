//! Runs behaviours: each one on every kind of subject it holds on, as tests named `mode::file::behaviour`.
//!
//! A run as root moves into a mount namespace of its own first. Whatever a test mounts is invisible to the rest of
//! the machine and gone with the test program, even if that is killed.

use crate::disk;
use crate::subject::{Mode, Site, Subject};
use libtest_mimic::{Arguments, Failed, Trial};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// A promise of the file system, and the test of it.
#[derive(Debug, Clone, Copy)]
pub struct Behaviour {
    /// The file it is in.
    pub module: &'static str,
    /// Its name.
    pub name: &'static str,
    /// Where it holds.
    pub holds: On,
    /// The test, which panics if the promise is broken.
    pub test: fn(&Subject<'_>),
}

/// Where a behaviour holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    /// On every file system: also tested on a local directory.
    EveryFileSystem,
    /// On mounts by tarn, in both modes.
    Tarn,
}

/// Lists behaviours of a module: `behaviours!(On::Tarn, first, second)`.
#[macro_export]
macro_rules! behaviours {
    ($holds:expr, $($name:ident),+ $(,)?) => {
        &[$($crate::suite::Behaviour {
            module: module_path!(),
            name: stringify!($name),
            holds: $holds,
            test: $name,
        }),+]
    };
}

/// Runs the suites as the command line asks, with `limit` for each test.
pub fn run(limit: Duration, suites: &[&'static [Behaviour]]) -> ExitCode {
    run_with(Arguments::from_args(), limit, suites)
}

/// The same, one test after the other. A test that starts a program closes, in the new process, its copies of all
/// files that other tests have open; a close commits, and a half-written file is then in the bucket.
pub fn run_in_turn(limit: Duration, suites: &[&'static [Behaviour]]) -> ExitCode {
    run_with(Arguments { test_threads: Some(1), ..Arguments::from_args() }, limit, suites)
}

fn run_with(arguments: Arguments, limit: Duration, suites: &[&'static [Behaviour]]) -> ExitCode {
    enter_own_namespace();
    let site: SharedSite = Arc::default();
    let trials = suites.iter().flat_map(|suite| suite.iter()).flat_map(|&behaviour| {
        let modes = Mode::ALL.into_iter().filter(move |&mode| holds_in(behaviour.holds, mode));
        let site = &site;
        modes.map(move |mode| trial(behaviour, mode, limit, Arc::clone(site)))
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    // The trials are gone, so this is the last owner: the server ends here.
    drop(site);
    conclusion.exit_code()
}

/// The site of a run, started by the first test that needs it.
type SharedSite = Arc<OnceLock<Result<Site, String>>>;

fn holds_in(holds: On, mode: Mode) -> bool {
    match holds {
        On::EveryFileSystem => true,
        On::Tarn => mode != Mode::Local,
    }
}

fn trial(behaviour: Behaviour, mode: Mode, limit: Duration, site: SharedSite) -> Trial {
    let module = behaviour.module.rsplit("::").next().unwrap_or(behaviour.module);
    let name = format!("{}::{module}::{}", mode.name(), behaviour.name);
    Trial::test(name, move || one(behaviour, mode, limit, &site).map_err(|e| Failed::from(format!("{e:#}"))))
}

fn one(behaviour: Behaviour, mode: Mode, limit: Duration, site: &SharedSite) -> anyhow::Result<()> {
    let subject = if mode == Mode::Local {
        Subject::local()?
    } else {
        let site = site.get_or_init(|| Site::start().map_err(|error| format!("{error:#}")));
        let site = site.as_ref().map_err(|error| anyhow::anyhow!("the server does not start: {error}"))?;
        Subject::mounted(mode, site, limit)?
    };
    (behaviour.test)(&subject);
    subject.finish()
}

/// Runs this program again inside a new mount namespace; the one who is inside returns.
pub fn enter_own_namespace() {
    const INSIDE: &str = "TARN_TESTS_NAMESPACE";
    if !disk::is_root() || std::env::var_os(INSIDE).is_some() {
        return;
    }
    let program = std::env::current_exe().expect("path of the test program");
    let error = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--"])
        .arg(program)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1")
        .exec();
    panic!("unshare: {error}");
}
