//! `tarn doctor`: tries what the store and this machine can do. Judging ([`judge`]) is apart from doing.

pub mod judge;
mod local;
pub mod remote;

use crate::config::Config;
use crate::mount::Failure;
use crate::mount::open::s3_config;
use crate::store::S3Store;
use judge::{Line, Status};
use std::io::Write;

/// Prints one line for each check; an error if any of them failed.
pub fn run(config: &Config) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut lines = local::check(config);
    lines.push(addressing(config));
    lines.extend(runtime.block_on(async {
        match S3Store::connect(s3_config(&config.source, &config.store)).await {
            Ok(store) => {
                let mut lines = vec![Line::ok("endpoint", store.endpoint())];
                lines.extend(remote::check(&store, &config.source.prefix).await);
                lines
            }
            Err(error) => judge::first_request(Err((error.kind, error.to_string()))),
        }
    }));
    let mut out = std::io::stdout().lock();
    for line in &lines {
        writeln!(out, "{line}")?;
    }
    let failed = lines.iter().filter(|line| line.status == Status::Fail).count();
    let degraded = lines.iter().filter(|line| line.status == Status::Degraded).count();
    writeln!(out, "{} checks, {degraded} degraded, {failed} failed", lines.len())?;
    if failed == 0 {
        Ok(())
    } else {
        Err(Failure::text(format!("{failed} checks failed for {}", config.source)))
    }
}

fn addressing(config: &Config) -> Line {
    let style = match config.store.path_style {
        Some(true) => "path style on",
        Some(false) => "path style off",
        None => "path style auto",
    };
    let region = config.store.region.as_deref().unwrap_or("from the environment");
    Line::ok("region, path style", format!("region {region}, {style}"))
}
