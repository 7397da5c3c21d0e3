//! The CSI driver on MinIO with real mounts: csi-sanity, and what it does not look at.
//!
//! Only root can mount for others, so as an ordinary user there is nothing to run here.

mod deploy;
mod ebs;
mod hot;
mod life;
mod pods;
mod quota;
mod sanity;
mod secrets;

use libtest_mimic::{Arguments, Failed, Trial};
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use tarn_tests::server::Server;
use tarn_tests::{disk, suite};

/// A test, on the server of this run.
type Test = fn(&Server) -> anyhow::Result<()>;

fn main() -> ExitCode {
    suite::enter_own_namespace();
    let arguments = Arguments::from_args();
    let server: Arc<OnceLock<Result<Server, String>>> = Arc::default();
    let suites = [
        deploy::TESTS,
        sanity::TESTS,
        life::TESTS,
        secrets::TESTS,
        pods::TESTS,
        quota::TESTS,
        hot::TESTS,
        ebs::TESTS,
    ];
    let tests = suites.into_iter().flatten().filter(|_| disk::is_root());
    let trials = tests.map(|&(name, test)| {
        let server = Arc::clone(&server);
        Trial::test(name, move || {
            let server = server.get_or_init(|| Server::start_small().map_err(|error| format!("{error:#}")));
            let server = server.as_ref().map_err(|error| Failed::from(format!("no server: {error}")))?;
            test(server).map_err(|error| Failed::from(format!("{error:#}")))
        })
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    // The trials are gone, so this is the last owner: the server ends here.
    drop(server);
    conclusion.exit_code()
}
