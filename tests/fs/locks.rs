//! Locks between processes. They belong to the kernel, and so to one node: tarn never sees them.
//!
//! The other process is Python, which has all kinds of lock: a script that says what it does line by line.

use rustix::process::{Signal, kill_process};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use tarn_tests::mount::CHANGE_LIMIT;
use tarn_tests::subject::Subject;
use tarn_tests::suite::{Behaviour, On};
use tarn_tests::{behaviours, run, wait};

pub(crate) const ALL: &[Behaviour] = behaviours!(
    On::EveryFileSystem,
    a_lock_keeps_other_processes_out_until_it_is_released,
    shared_locks_go_together_and_keep_an_exclusive_one_out,
    ranges_lock_apart_from_each_other,
    a_killed_process_loses_its_locks,
    who_waits_for_a_lock_gets_it_when_it_is_free,
    a_signal_interrupts_who_waits_for_a_lock,
    a_record_lock_ends_with_any_close_and_an_open_file_lock_does_not,
    a_lock_survives_a_rename_and_guards_the_file,
    a_lock_file_made_exclusively_is_made_by_one,
);

/// Commands for the other process, one a line, each answered by one line.
const SCRIPT: &str = r#"
import fcntl, os, signal, struct, sys
path = sys.argv[1]
file = open(path, "r+b", buffering=0)
class Interrupted(Exception):
    pass
def interrupted(*_):
    raise Interrupted
signal.signal(signal.SIGUSR1, interrupted)
KINDS = {"shared": fcntl.F_RDLCK, "exclusive": fcntl.F_WRLCK, "unlock": fcntl.F_UNLCK}
FLOCKS = {"shared": fcntl.LOCK_SH, "exclusive": fcntl.LOCK_EX, "unlock": fcntl.LOCK_UN}
COMMANDS = {"record": (fcntl.F_SETLK, fcntl.F_SETLKW), "open": (fcntl.F_OFD_SETLK, fcntl.F_OFD_SETLKW)}
def act(family, kind, wait, start, length):
    if family == "flock":
        fcntl.flock(file, FLOCKS[kind] | (0 if wait else fcntl.LOCK_NB))
    else:
        lock = struct.pack("hhqqi4x", KINDS[kind], os.SEEK_SET, start, length, 0)
        fcntl.fcntl(file, COMMANDS[family][wait], lock)
print("ready", flush=True)
for line in sys.stdin:
    words = line.split()
    try:
        if words[0] == "reopen":
            open(path, "rb").close()
        else:
            if words[2] == "wait":
                print("waits", flush=True)
            act(words[0], words[1], words[2] == "wait", int(words[3]), int(words[4]))
        print("ok", flush=True)
    except BlockingIOError:
        print("busy", flush=True)
    except Interrupted:
        print("interrupted", flush=True)
"#;

/// All kinds of lock that Linux has.
const FAMILIES: [&str; 3] = ["flock", "record", "open"];

/// Another process with the file open.
struct Other {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    path: PathBuf,
}

impl Other {
    fn start(subject: &Subject<'_>, name: &str) -> Self {
        let mut command = run::command("python3");
        command.args(["-c", SCRIPT]).arg(subject.path(name));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (commands, answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut other = Self { child, commands, answers, path: subject.path(name) };
        assert_eq!(other.answer(), "ready");
        other
    }

    fn tell(&mut self, command: &str) {
        writeln!(self.commands, "{command}").unwrap();
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    fn ask(&mut self, command: &str) -> String {
        self.tell(command);
        self.answer()
    }

    /// Waits until the kernel shows that somebody waits for a lock on this file.
    fn wait_until_it_waits(&self) {
        let meta = fs::metadata(&self.path).unwrap();
        let device = rustix::fs::Dev::from(meta.dev());
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        let file = format!(" {major:02x}:{minor:02x}:{} ", meta.ino());
        let waits = || {
            let locks = fs::read_to_string("/proc/locks")?;
            Ok(locks.lines().any(|line| line.contains("->") && line.contains(&file)).then_some(()))
        };
        wait::eventually(CHANGE_LIMIT, "a process waits for the lock", waits).unwrap();
    }

    fn signal(&self, signal: Signal) {
        kill_process(wait::pid(&self.child), signal).unwrap();
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // It may still wait for a lock.
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn two(subject: &Subject<'_>) -> (Other, Other) {
    fs::write(subject.path("f"), b"guarded").unwrap();
    (Other::start(subject, "f"), Other::start(subject, "f"))
}

/// SEMANTICS: "`flock`, `fcntl` record locks and open file description locks are the kernel's own: they hold
/// between all processes of a node, end with the process, and a waiting one can be interrupted."
fn a_lock_keeps_other_processes_out_until_it_is_released(subject: &Subject<'_>) {
    for family in FAMILIES {
        let (mut one, mut other) = two(subject);
        assert_eq!(one.ask(&format!("{family} exclusive try 0 0")), "ok", "{family}");
        assert_eq!(other.ask(&format!("{family} exclusive try 0 0")), "busy", "{family}");
        assert_eq!(other.ask(&format!("{family} shared try 0 0")), "busy", "{family}");
        assert_eq!(one.ask(&format!("{family} unlock try 0 0")), "ok", "{family}");
        assert_eq!(other.ask(&format!("{family} exclusive try 0 0")), "ok", "{family}");
    }
}

fn shared_locks_go_together_and_keep_an_exclusive_one_out(subject: &Subject<'_>) {
    for family in FAMILIES {
        let (mut one, mut other) = two(subject);
        assert_eq!(one.ask(&format!("{family} shared try 0 0")), "ok", "{family}");
        assert_eq!(other.ask(&format!("{family} shared try 0 0")), "ok", "{family}");
        assert_eq!(other.ask(&format!("{family} exclusive try 0 0")), "busy", "{family}");
    }
}

fn ranges_lock_apart_from_each_other(subject: &Subject<'_>) {
    for family in ["record", "open"] {
        let (mut one, mut other) = two(subject);
        assert_eq!(one.ask(&format!("{family} exclusive try 0 3")), "ok", "{family}");
        assert_eq!(other.ask(&format!("{family} exclusive try 3 4")), "ok", "{family}");
        assert_eq!(other.ask(&format!("{family} exclusive try 2 1")), "busy", "{family}");
    }
}

/// SEMANTICS: "`flock`, `fcntl` record locks and open file description locks are the kernel's own: they hold
/// between all processes of a node, end with the process, and a waiting one can be interrupted."
fn a_killed_process_loses_its_locks(subject: &Subject<'_>) {
    for family in FAMILIES {
        let (mut one, mut other) = two(subject);
        assert_eq!(one.ask(&format!("{family} exclusive try 0 0")), "ok", "{family}");
        one.signal(Signal::KILL);
        one.child.wait().unwrap();
        assert_eq!(other.ask(&format!("{family} exclusive try 0 0")), "ok", "{family}");
    }
}

fn who_waits_for_a_lock_gets_it_when_it_is_free(subject: &Subject<'_>) {
    for family in FAMILIES {
        let (mut one, mut other) = two(subject);
        assert_eq!(one.ask(&format!("{family} exclusive try 0 0")), "ok", "{family}");
        assert_eq!(other.ask(&format!("{family} exclusive wait 0 0")), "waits", "{family}");
        other.wait_until_it_waits();
        assert_eq!(one.ask(&format!("{family} unlock try 0 0")), "ok", "{family}");
        assert_eq!(other.answer(), "ok", "{family}");
    }
}

/// SEMANTICS: "`flock`, `fcntl` record locks and open file description locks are the kernel's own: they hold
/// between all processes of a node, end with the process, and a waiting one can be interrupted."
fn a_signal_interrupts_who_waits_for_a_lock(subject: &Subject<'_>) {
    for family in FAMILIES {
        let (mut one, mut other) = two(subject);
        assert_eq!(one.ask(&format!("{family} exclusive try 0 0")), "ok", "{family}");
        assert_eq!(other.ask(&format!("{family} exclusive wait 0 0")), "waits", "{family}");
        other.wait_until_it_waits();
        other.signal(Signal::USR1);
        assert_eq!(other.answer(), "interrupted", "{family}");
        assert_eq!(other.ask(&format!("{family} exclusive try 0 0")), "busy", "{family}");
    }
}

fn a_record_lock_ends_with_any_close_and_an_open_file_lock_does_not(subject: &Subject<'_>) {
    for (family, after) in [("record", "ok"), ("open", "busy"), ("flock", "busy")] {
        let (mut one, mut other) = two(subject);
        assert_eq!(one.ask(&format!("{family} exclusive try 0 0")), "ok", "{family}");
        assert_eq!(one.ask("reopen"), "ok");
        assert_eq!(other.ask(&format!("{family} exclusive try 0 0")), after, "{family}");
    }
}

fn a_lock_survives_a_rename_and_guards_the_file(subject: &Subject<'_>) {
    for family in FAMILIES {
        let (mut one, _other) = two(subject);
        assert_eq!(one.ask(&format!("{family} exclusive try 0 0")), "ok", "{family}");
        fs::rename(subject.path("f"), subject.path("renamed")).unwrap();
        let mut late = Other::start(subject, "renamed");
        assert_eq!(late.ask(&format!("{family} exclusive try 0 0")), "busy", "{family}");
    }
}

fn a_lock_file_made_exclusively_is_made_by_one(subject: &Subject<'_>) {
    let script =
        "n=0; for i in $(seq 60); do (set -C; : > \"lock-$i\") 2>/dev/null && n=$((n+1)); done; echo $n";
    let made: u32 = std::thread::scope(|scope| {
        let racers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut command = run::command("bash");
                    command.args(["-c", script]).current_dir(subject.root());
                    run::must(&mut command, CHANGE_LIMIT).unwrap()
                })
            })
            .collect();
        racers.into_iter().map(|racer| racer.join().unwrap().trim().parse::<u32>().unwrap()).sum()
    });
    assert_eq!(made, 60, "each is made once");
}
