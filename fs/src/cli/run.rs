//! Runs a command and turns its end into an exit code: 0 done, 1 failed, 2 wrong usage.

use super::{
    CacheAction, CacheArgs, Cli, Command, DoctorArgs, FlushArgs, LogLevelArgs, MountArgs, StatusArgs,
    UmountArgs, UpgradeArgs, argv,
};
use crate::config::{self, Caller, Config, Error, Input, Layers, World};
use crate::control::{commands, proto};
use crate::mount::background::{self, Role};
use crate::mount::record::Registry;
use crate::{demo, doctor, keeper, mount};
use clap::Parser;
use std::env;
use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// The exit code of wrong usage.
const USAGE: u8 = 2;

/// Runs `tarn` with these arguments.
pub fn run(arguments: Vec<OsString>) -> ExitCode {
    let cli = match argv::normalize(arguments) {
        Ok(arguments) => Cli::try_parse_from(arguments),
        Err(text) => return fail(USAGE, &text),
    };
    match cli {
        Ok(Cli { command: Command::Mount(arguments) }) => mount(&arguments),
        Ok(Cli { command: Command::Umount(arguments) }) => umount(&arguments),
        Ok(Cli { command: Command::Upgrade(arguments) }) => upgrade(&arguments),
        Ok(Cli { command: Command::Status(StatusArgs { dir, json }) }) => {
            ask(async |registry| commands::status(dir.as_deref(), json, registry).await)
        }
        Ok(Cli { command: Command::Flush(FlushArgs { dir }) }) => {
            ask(async |registry| commands::flush(&dir, registry).await)
        }
        Ok(Cli { command: Command::Cache(CacheArgs { action, paths }) }) => {
            ask(async |registry| commands::cache(cache_action(action), &paths, registry).await)
        }
        Ok(Cli { command: Command::LogLevel(LogLevelArgs { dir, level }) }) => {
            ask(async |registry| commands::log_level(&dir, level.as_deref(), registry).await)
        }
        Ok(Cli { command: Command::Demo(arguments) }) => report(demo::run(arguments.dir.as_deref())),
        Ok(Cli { command: Command::Doctor(arguments) }) => doctor(&arguments),
        Err(error) => {
            // Help and version are such "errors" too; clap knows where each goes.
            error.print().unwrap_or_default();
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(USAGE))
        }
    }
}

fn mount(arguments: &MountArgs) -> ExitCode {
    match config::remount(&arguments.dash_o) {
        Some(Ok(change)) => return remount(arguments, change),
        Some(Err(error)) => return fail(USAGE, &error.to_string()),
        None => {}
    }
    let input = Input {
        flags: arguments.flags.0.clone(),
        dash_o: arguments.dash_o.clone(),
        sloppy: arguments.sloppy,
    };
    let config = match config(&arguments.source, &input) {
        Ok(config) => config,
        Err(error) => return fail(USAGE, &error.to_string()),
    };
    if arguments.fake {
        return report(mount::checks::check(&arguments.dir, &config).map(|_| ()));
    }
    let role = background::role(config.process.foreground);
    match role {
        Role::Parent => report(background::start()),
        // The reason has been reported where somebody reads it.
        Role::Child | Role::Foreground => ended(&keeper::run(&config, &arguments.dir, role)),
        Role::Worker => ended(&mount::work(&config, mount::open::open)),
    }
}

fn remount(arguments: &MountArgs, change: config::Remount) -> ExitCode {
    if arguments.fake {
        return ExitCode::SUCCESS;
    }
    match mount::registry() {
        Ok(registry) => report(mount::remount::remount(&arguments.dir, change, &registry)),
        Err(error) => fail(1, &error.to_string()),
    }
}

fn ended(result: &Result<(), mount::Failure>) -> ExitCode {
    if result.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn umount(arguments: &UmountArgs) -> ExitCode {
    let registry = match mount::registry() {
        Ok(registry) => registry,
        Err(error) => return fail(1, &error.to_string()),
    };
    match mount::umount::umount(&arguments.dir, arguments.force, arguments.timeout, &registry) {
        Ok(done) => {
            writeln!(std::io::stdout(), "{}: {done}", arguments.dir.display()).unwrap_or_default();
            ExitCode::SUCCESS
        }
        Err(error) => fail(1, &error.to_string()),
    }
}

fn upgrade(arguments: &UpgradeArgs) -> ExitCode {
    let asked = || {
        let dir = std::fs::canonicalize(&arguments.dir)?;
        let binary = match &arguments.binary {
            Some(binary) => std::fs::canonicalize(binary)?,
            None => env::current_exe()?,
        };
        keeper::upgrade::ask(&mount::registry()?.door_of(&dir), &binary)
    };
    let dir = arguments.dir.display();
    match asked() {
        Ok(Ok(version)) => {
            writeln!(std::io::stdout(), "{dir}: served by tarn {version} now").unwrap_or_default();
            ExitCode::SUCCESS
        }
        Ok(Err(text)) => fail(1, &format!("{dir} goes on as it was: {text}")),
        Err(error) => fail(1, &format!("{dir}: no keeper of this user answers: {error}")),
    }
}

/// Runs a command that asks a mount, and prints its answer.
fn ask(command: impl AsyncFnOnce(&Registry) -> Result<String, commands::Error>) -> ExitCode {
    let asked = mount::registry().map_err(commands::Error::from).and_then(|registry| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(command(&registry))
    });
    match asked {
        Ok(text) => {
            write!(std::io::stdout(), "{text}").unwrap_or_default();
            ExitCode::SUCCESS
        }
        Err(error) => fail(1, &error.to_string()),
    }
}

fn cache_action(action: CacheAction) -> proto::CacheAction {
    match action {
        CacheAction::Stat => proto::CacheAction::Stat,
        CacheAction::Warm => proto::CacheAction::Warm,
        CacheAction::Drop => proto::CacheAction::Drop,
        CacheAction::Verify => proto::CacheAction::Verify,
        CacheAction::Pin => proto::CacheAction::Pin,
        CacheAction::Unpin => proto::CacheAction::Unpin,
    }
}

fn doctor(arguments: &DoctorArgs) -> ExitCode {
    let input = Input { flags: arguments.flags.0.clone(), dash_o: arguments.dash_o.clone(), sloppy: false };
    match config(&arguments.source, &input) {
        Ok(config) => report(doctor::run(&config)),
        Err(error) => fail(USAGE, &error.to_string()),
    }
}

fn config(source: &str, input: &Input) -> Result<Config, Error> {
    let world = World { variable: &|name| env::var(name).ok(), read: &|path| std::fs::read_to_string(path) };
    Config::build(source, &Layers::merge(input, &world)?, &caller())
}

/// The user who runs this.
fn caller() -> Caller {
    let path = |name| env::var_os(name).map(PathBuf::from);
    Caller {
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        xdg_cache_home: path("XDG_CACHE_HOME"),
        home: path("HOME"),
    }
}

fn report<E: std::fmt::Display>(result: Result<(), E>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, &error.to_string()),
    }
}

fn fail(code: u8, text: &str) -> ExitCode {
    writeln!(std::io::stderr(), "tarn: {text}").unwrap_or_default();
    ExitCode::from(code)
}
