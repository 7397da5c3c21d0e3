//! Programs that wait for a server which hangs or is away.

use crate::COMMITS;
use rustix::process::{Signal, kill_process};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tarn_tests::proxy::Proxy;
use tarn_tests::subject::Subject;
use tarn_tests::suite::{Behaviour, On};
use tarn_tests::wait::{self, eventually};
use tarn_tests::{behaviours, data, run};

pub(crate) const TARN: &[Behaviour] = behaviours!(
    On::Tarn,
    a_killed_reader_does_not_wait_for_a_server_that_hangs,
    who_handles_the_signal_waits,
    a_killed_writer_does_not_wait_and_its_file_arrives,
    a_new_program_closes_the_files_of_the_old_one,
    programs_wait_for_a_server_that_is_away_if_they_are_told_to,
);

/// More than enough for a killed program, and less than a request's own limit.
const SOON: Duration = Duration::from_secs(15);
const PATIENCE: Duration = Duration::from_secs(120);

/// Mounts through a relay.
fn through(subject: &Subject<'_>, options: &[&str], work: impl FnOnce(&Proxy)) {
    subject.take_mount().unmount().unwrap();
    let proxy = Proxy::start(subject.server().address()).unwrap();
    let mut plan = subject.plan().clone().with(options);
    plan.endpoint = proxy.endpoint();
    let mount = plan.mount().unwrap();
    work(&proxy);
    mount.unmount().unwrap();
    subject.mount_again().unwrap();
}

fn start(command: &mut Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn under_way(proxy: &Proxy) {
    let asked = || Ok((!proxy.take_requests().is_empty()).then_some(()));
    eventually(PATIENCE, "the request is under way", asked).unwrap();
}

/// Sends a signal to a program whose request hangs at the server.
fn end(proxy: &Proxy, mut program: Child, signal: Signal) {
    under_way(proxy);
    assert!(program.try_wait().unwrap().is_none(), "it waits");
    kill_process(wait::pid(&program), signal).unwrap();
    let status = eventually(SOON, "it leaves", || Ok(program.try_wait()?)).unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(signal.as_raw()));
}

/// SEMANTICS: "A program that a signal ends while one of its calls waits for the server leaves within a second; what the
/// call was to do goes on."
fn a_killed_reader_does_not_wait_for_a_server_that_hangs(subject: &Subject<'_>) {
    for name in ["a", "b", "c"] {
        subject.bucket().put(name, &data::bytes(1, 50_000)).unwrap();
    }
    through(subject, &["--request-timeout", "60s"], |proxy| {
        for (name, signal) in [("a", Signal::KILL), ("b", Signal::INT), ("c", Signal::TERM)] {
            fs::metadata(subject.path(name)).unwrap();
            proxy.hang(true);
            proxy.take_requests();
            end(proxy, start(run::command("cat").arg(subject.path(name))), signal);
            proxy.hang(false);
            assert!(fs::read(subject.path(name)).unwrap() == data::bytes(1, 50_000), "{signal:?}");
        }
    });
}

/// SEMANTICS: "One that handles the signal waits for the call's end first."
fn who_handles_the_signal_waits(subject: &Subject<'_>) {
    subject.bucket().put("f", b"body").unwrap();
    through(subject, &["--request-timeout", "60s"], |proxy| {
        fs::metadata(subject.path("f")).unwrap();
        proxy.hang(true);
        proxy.take_requests();
        let script = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: None); open(sys.argv[1], 'rb').read()";
        let mut program = start(run::command("python3").args(["-c", script]).arg(subject.path("f")));
        under_way(proxy);
        kill_process(wait::pid(&program), Signal::TERM).unwrap();
        eventually(Duration::from_secs(2), "it leaves", || Ok(program.try_wait()?)).unwrap_err();
        proxy.hang(false);
        assert!(program.wait().unwrap().success());
    });
}

fn a_killed_writer_does_not_wait_and_its_file_arrives(subject: &Subject<'_>) {
    let script =
        "import os, sys; file = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT); os.write(file, b'written')
print('written', flush=True); sys.stdin.readline(); os.fsync(file)";
    for commit in COMMITS {
        let options = [commit[0], commit[1], "--request-timeout", "60s"];
        through(subject, &options, |proxy| {
            let mut command = run::command("python3");
            command.args(["-c", script]).arg(subject.path("new"));
            let mut program = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            let mut said = String::new();
            BufReader::new(program.stdout.take().unwrap()).read_line(&mut said).unwrap();
            proxy.hang(true);
            proxy.take_requests();
            program.stdin.as_mut().unwrap().write_all(b"go on\n").unwrap();
            end(proxy, program, Signal::KILL);
            proxy.hang(false);
            let arrives = || Ok(subject.bucket().get("new").ok().filter(|body| body == b"written"));
            eventually(PATIENCE, "the file arrives", arrives).unwrap();
            fs::remove_file(subject.path("new")).unwrap();
        });
    }
}

/// The kernel holds back whoever asks for `/proc/PID/stat` while execve(2) closes files.
fn a_new_program_closes_the_files_of_the_old_one(subject: &Subject<'_>) {
    subject.bucket().put("other", &data::bytes(1, 50_000)).unwrap();
    let script =
        "import os, sys; file = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT); os.write(file, b'written')
os.execv('/bin/true', ['true'])";
    let execs = |name| start(run::command("python3").args(["-c", script]).arg(subject.path(name)));
    through(subject, &["--request-timeout", "60s"], |proxy| {
        fs::metadata(subject.path("other")).unwrap();
        fs::write(subject.path("new"), b"before").unwrap();
        proxy.hang(true);
        proxy.take_requests();
        let mut program = execs("new");
        under_way(proxy);
        // That it was killed is seen after all who waited before it have been looked at.
        end(proxy, start(run::command("cat").arg(subject.path("other"))), Signal::KILL);
        proxy.hang(false);
        let status = eventually(SOON, "the new program runs", || Ok(program.try_wait()?)).unwrap();
        assert!(status.success());
        proxy.hang(true);
        proxy.take_requests();
        end(proxy, execs("new"), Signal::KILL);
        proxy.hang(false);
    });
    assert_eq!(subject.bucket().get("new").unwrap(), b"written");
}

/// SEMANTICS: "With `--retry-for` it waits that long, and goes on when the server is back."
fn programs_wait_for_a_server_that_is_away_if_they_are_told_to(subject: &Subject<'_>) {
    subject.bucket().put("f", &data::bytes(1, 50_000)).unwrap();
    through(subject, &["--retry-for", "10m", "--request-timeout", "1s"], |proxy| {
        proxy.cut(true);
        std::thread::scope(|scope| {
            let read = scope.spawn(|| fs::read(subject.path("f")));
            let written = scope.spawn(|| fs::write(subject.path("new"), b"written"));
            // Without the option four attempts are the end.
            let asks = || Ok((proxy.refused() > 16 || read.is_finished()).then_some(()));
            let asked = eventually(PATIENCE, "they ask again and again", asks);
            proxy.cut(false);
            asked.unwrap();
            assert!(read.join().unwrap().unwrap() == data::bytes(1, 50_000));
            written.join().unwrap().unwrap();
        });
    });
    assert_eq!(subject.bucket().get("new").unwrap(), b"written");
}
