//! The driver in a real Kubernetes of one node, installed by its own chart, used by real pods.
//!
//! `TARN_FULL=1` (`make test-k8s`) runs it, as root; without that there is one line that says so. The test program
//! starts itself again inside of `node.sh`, which brings the cluster up in namespaces of its own and ends with the
//! program; so the tests see the node's processes and mounts, and other S3 clients run beside its pods. The tests run one
//! after the other, in the order of this list, and leave nothing behind for the next.

mod cluster;
mod copies;
mod manifest;
mod node;
mod results;
mod trouble;
mod volumes;

use cluster::Cluster;
use libtest_mimic::{Arguments, Failed, Trial};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::{Arc, OnceLock};
use std::time::Instant;
use tarn_tests::{disk, paths};

/// A test, on the cluster of this run.
type Test = fn(&Cluster) -> anyhow::Result<()>;

/// Set by `node.sh` for what runs inside of it.
const INSIDE: &str = "NODE_DIR";

fn main() -> ExitCode {
    if !paths::full() || !disk::is_root() {
        println!("k8s: not run; `make test-k8s` as root does, which takes a Kubernetes and some minutes");
        return ExitCode::SUCCESS;
    }
    if std::env::var_os(INSIDE).is_none() {
        return enter();
    }
    let suites = [volumes::TESTS, copies::TESTS, trouble::TESTS, node::TESTS];
    let tests: Vec<(&'static str, Test)> = suites.into_iter().flatten().copied().collect();
    let all = tests.len();
    let shared: Arc<OnceLock<Result<Cluster, String>>> = Arc::default();
    let trials = tests.into_iter().map(|(name, test)| {
        let shared = Arc::clone(&shared);
        Trial::test(name, move || {
            let cluster = shared.get_or_init(|| Cluster::start().map_err(|error| format!("{error:#}")));
            let cluster = cluster.as_ref().map_err(|error| Failed::from(format!("no cluster: {error}")))?;
            let begun = Instant::now();
            let outcome = test(cluster);
            results::record(name, outcome.is_ok(), begun.elapsed());
            outcome.map_err(|error| Failed::from(format!("{error:#}\n{}", cluster.state())))
        })
    });
    let arguments = Arguments { test_threads: Some(1), ..Arguments::from_args() };
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    // The trials are gone, so this is the last owner: the server ends here.
    drop(shared);
    if let Err(error) = results::write(all) {
        eprintln!("the results could not be written: {error:#}");
        return ExitCode::FAILURE;
    }
    conclusion.exit_code()
}

/// Becomes `node.sh`, which runs this program again beside a cluster.
fn enter() -> ExitCode {
    let program = std::env::current_exe().expect("path of the test program");
    // target/PROFILE/deps/k8s-HASH: the binaries lie in target/PROFILE.
    let programs = program.ancestors().nth(2).unwrap_or(Path::new("/"));
    let error = Command::new(paths::root().join("tests/k8s/node.sh"))
        .arg(programs.join("k8s"))
        .arg(paths::root().join(".tools/bin"))
        .arg(programs)
        .arg(&program)
        .args(std::env::args_os().skip(1))
        .exec();
    eprintln!("tests/k8s/node.sh: {error}");
    ExitCode::FAILURE
}
