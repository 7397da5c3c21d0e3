//! Where the checkout, its tools and the binary under test are.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

/// The root of the checkout.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package is a folder of the workspace")
}

/// A tool that tests/tools.sh installed, by its path below `.tools/`.
pub fn tool(path: &str) -> Result<PathBuf> {
    let tool = root().join(".tools").join(path);
    if !tool.exists() {
        bail!("{} is missing: run `make tools`", tool.display());
    }
    Ok(tool)
}

/// The `tarn` binary: `$TARN_BIN`, or the one that was built beside this program.
pub fn tarn() -> Result<PathBuf> {
    match std::env::var_os("TARN_BIN") {
        Some(path) => Ok(path.into()),
        None => program("tarn"),
    }
}

/// A binary of this workspace that was built beside this program, or above `deps` if this is a test.
pub fn program(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("path of this program")?;
    let folder = own.parent().context("this program is in no folder")?;
    let profile = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    let program = profile.join(name);
    if !program.exists() {
        bail!("{} is missing: run `cargo build --workspace`", program.display());
    }
    Ok(program)
}

/// Whether the long versions of the tests are wanted (`TARN_FULL=1`).
pub fn full() -> bool {
    std::env::var_os("TARN_FULL").is_some_and(|value| value == "1")
}
