//! `tarn-csi`: the CSI driver.

use clap::Parser;
use std::io::Write;
use std::process::ExitCode;
use tarn_csi::cli::Cli;

#[tokio::main]
async fn main() -> ExitCode {
    match tarn_csi::run::run(Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            writeln!(std::io::stderr(), "tarn-csi: {error}").unwrap_or_default();
            ExitCode::FAILURE
        }
    }
}
