//! The `tarn` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    tarn_fs::cli::run(std::env::args_os().collect())
}
