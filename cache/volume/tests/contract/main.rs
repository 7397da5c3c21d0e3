//! What every cloud must do, tried on the one in memory and, over the wire, on moto's EC2.

#![allow(clippy::unwrap_used, reason = "in a test, whatever fails fails the test")]

mod identity;
#[path = "../shared/moto.rs"]
mod moto;
mod suite;

use libtest_mimic::{Arguments, Trial};
use moto::Moto;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use suite::{BEHAVIOURS, Site};
use tarn_volume::cloud::fake::{Delays, FakeCloud};
use tarn_volume::state::Timestamp;
use tarn_volume::{Cloud, InstanceId, Zone};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    // On this thread, with which it ends. A run that lists or filters does without.
    let wanted =
        !arguments.list && arguments.filter.as_ref().is_none_or(|filter| !filter.starts_with("fake"));
    let moto: Arc<OnceLock<Moto>> = Arc::default();
    if wanted {
        match Moto::start() {
            Ok(started) => assert!(moto.set(started).is_ok(), "set once"),
            Err(error) => eprintln!("{error:#}"),
        }
    }
    let mut trials = vec![Trial::test("identity::an_instance_knows_itself", || {
        run(identity::an_instance_knows_itself());
        Ok(())
    })];
    for &(name, test) in BEHAVIOURS {
        trials.push(Trial::test(format!("fake::{name}"), move || {
            run(test(&fake()));
            Ok(())
        }));
        let moto = Arc::clone(&moto);
        trials.push(Trial::test(format!("moto::{name}"), move || {
            let moto = moto.get().ok_or("moto does not run")?;
            run(async { test(&real(moto).await).await });
            Ok(())
        }));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

fn fake() -> Site {
    let cloud = Arc::new(FakeCloud::new(Timestamp(1_700_000_000), Delays::SLOW));
    let (instance, zone) = (InstanceId::new("i-1"), Zone::new("a"));
    cloud.launch(&instance, &zone, 20, 1);
    let shown = Arc::clone(&cloud);
    // Twice: the first time brings it about, the second time lets the listings show it.
    let settle = Box::new(move || {
        shown.advance(Duration::from_secs(60));
        shown.advance(Duration::from_secs(60));
    });
    Site { cloud, instance, zone, settle }
}

async fn real(moto: &Moto) -> Site {
    let cloud: Arc<dyn Cloud> = Arc::new(moto.ec2().await.unwrap());
    let (instance, zone) = moto.launch().await.unwrap();
    Site { cloud, instance, zone, settle: Box::new(|| ()) }
}
