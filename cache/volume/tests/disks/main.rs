//! Real file systems on loop devices, as root: the host alone, and the whole life of a volume with moto's EC2.
//!
//! The run moves into a mount namespace of its own first. What it mounts is invisible to the rest of the machine and
//! gone with it. Loop devices are of the whole machine; they go when their last user does.

#![allow(clippy::unwrap_used, reason = "in a test, whatever fails fails the test")]

mod bench;
mod host;
mod life;
#[path = "../shared/moto.rs"]
mod moto;
mod tenants;

use libtest_mimic::{Arguments, Trial};
use moto::Moto;
use std::process::{Command, ExitCode};
use std::sync::{Arc, OnceLock};

const OWN_NAMESPACE: &str = "TARN_VOLUME_TEST_NAMESPACE";

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    if !rustix::process::geteuid().is_root() {
        eprintln!("loop devices and mounts need root: nothing is tested here");
        return ExitCode::SUCCESS;
    }
    if std::env::var_os(OWN_NAMESPACE).is_none() {
        return in_own_namespace();
    }
    let moto: Arc<OnceLock<Moto>> = Arc::default();
    if !arguments.list && arguments.filter.as_ref().is_none_or(|filter| !filter.starts_with("host")) {
        match Moto::start() {
            Ok(started) => assert!(moto.set(started).is_ok(), "set once"),
            Err(error) => eprintln!("{error:#}"),
        }
    }
    let mut trials = Vec::new();
    for &(name, test) in host::BEHAVIOURS {
        trials.push(Trial::test(format!("host::{name}"), move || {
            run(test());
            Ok(())
        }));
    }
    for &(name, test) in life::BEHAVIOURS {
        let moto = Arc::clone(&moto);
        trials.push(Trial::test(format!("life::{name}"), move || {
            let moto = moto.get().ok_or("moto does not run")?;
            run(test(moto));
            Ok(())
        }));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

fn in_own_namespace() -> ExitCode {
    let this = std::env::current_exe().unwrap();
    let status = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--"])
        .arg(this)
        .args(std::env::args_os().skip(1))
        .env(OWN_NAMESPACE, "1")
        .status()
        .unwrap();
    if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
