//! The options of the table as clap arguments.

use crate::config::table::{Heading, Kind, OPTIONS, Spec};
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

/// Every option: `tarn mount`.
#[derive(Debug, Clone, Default)]
pub(super) struct MountFlags(pub(super) Vec<(&'static str, String)>);

/// Those that reach a bucket and the cache: `tarn doctor`.
#[derive(Debug, Clone, Default)]
pub(super) struct ReachFlags(pub(super) Vec<(&'static str, String)>);

fn reaches(option: &Spec) -> bool {
    match option.heading {
        Heading::Store | Heading::Objects | Heading::Cache | Heading::Transfer => true,
        Heading::Files | Heading::Mount => false,
        Heading::Process => option.name == "config",
    }
}

fn argument(option: &Spec) -> Arg {
    let arg = Arg::new(option.name)
        .long(option.name)
        .value_name(option.value)
        .help(option.help)
        .help_heading(option.heading.title())
        .action(ArgAction::Set);
    let arg = match option.kind {
        Kind::Switch => {
            let short = (option.name == "foreground").then_some('f');
            let arg = arg
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true")
                .hide_possible_values(true);
            short.map_or(arg.clone(), |short| arg.short(short))
        }
        Kind::Text
        | Kind::Path
        | Kind::Word(_)
        | Kind::Size
        | Kind::Share
        | Kind::Time
        | Kind::Mode
        | Kind::Number => arg,
    };
    match option.env {
        // Named in the help only: its value is read with the other sources, so that their order holds.
        Some(variable) => arg.help(format!("{} [env: {variable}]", option.help)),
        None => arg,
    }
}

fn collect(matches: &ArgMatches, wanted: fn(&Spec) -> bool) -> Vec<(&'static str, String)> {
    let given = OPTIONS.iter().filter(|option| wanted(option));
    given.filter_map(|option| Some((option.name, matches.get_one::<String>(option.name)?.clone()))).collect()
}

macro_rules! flags {
    ($name:ident, $wanted:expr) => {
        impl Args for $name {
            fn augment_args(command: Command) -> Command {
                command.args(OPTIONS.iter().filter(|option| $wanted(option)).map(argument))
            }

            fn augment_args_for_update(command: Command) -> Command {
                Self::augment_args(command)
            }
        }

        impl FromArgMatches for $name {
            fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
                Ok(Self(collect(matches, $wanted)))
            }

            fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
                self.0 = collect(matches, $wanted);
                Ok(())
            }
        }
    };
}

fn every(_: &Spec) -> bool {
    true
}

flags!(MountFlags, every);
flags!(ReachFlags, reaches);
