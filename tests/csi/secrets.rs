//! Keys: those of a volume reach its mount and nobody else, and can change while it is mounted.

use crate::Test;
use crate::life::{Volume, block};
use anyhow::{Result, ensure};
use std::collections::HashMap;
use std::path::Path;
use tarn_tests::csi::Driver;
use tarn_tests::server::{ACCESS_KEY, SECRET_KEY, Server};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("secrets::a_volumes_keys_are_in_no_argument_variable_or_log", hidden),
    ("secrets::wrong_keys_are_a_clear_error_without_the_keys", wrong),
];

fn secret(access: &str, secret: &str) -> HashMap<String, String> {
    let pairs = [("accessKeyId", access), ("secretAccessKey", secret)];
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn hidden(server: &Server) -> Result<()> {
    block(async {
        let driver = Driver::start(server, &["--bucket-prefix", "hidden-"])?;
        let mut volume = Volume::create(&driver, "pvc-1", &[]).await?;
        // The driver's own keys no longer serve, so that only the volume's own can have mounted it.
        let own = driver.state().with_file_name("keys").join("secretAccessKey");
        std::fs::write(&own, "no longer valid")?;
        volume.secrets = secret(ACCESS_KEY, SECRET_KEY);
        let target = driver.kubelet("hidden");
        volume.stage().await?;
        volume.publish(&target, false).await?;
        std::fs::write(target.join("file"), b"x")?;
        let mut seen = 0;
        for process in std::fs::read_dir("/proc")?.flatten().map(|entry| entry.path()) {
            // A process may have ended, and those of other users are none of ours.
            let read = |file: &str| std::fs::read(process.join(file)).unwrap_or_default();
            let (arguments, environment) = (read("cmdline"), read("environ"));
            let (arguments, environment) =
                (String::from_utf8_lossy(&arguments), String::from_utf8_lossy(&environment));
            if arguments.contains(&*driver.state().to_string_lossy()) {
                seen += 1;
                let shown = arguments.contains(SECRET_KEY) || environment.contains(SECRET_KEY);
                ensure!(!shown, "{} shows the secret", process.display());
            }
        }
        ensure!(seen >= 2, "neither the driver nor its mount was found");
        ensure!(!driver.log().contains(SECRET_KEY), "the log shows the secret");
        private(&driver.state())?;
        volume.unpublish(&target).await?;
        volume.unstage().await?;
        ensure!(std::fs::read_dir(driver.state())?.next().is_none(), "keys stay behind");
        volume.delete().await
    })
}

/// Nobody but the owner may read what is below a folder.
fn private(dir: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        ensure!(metadata.permissions().mode() & 0o077 == 0, "others may read {}", entry.path().display());
        if metadata.is_dir() {
            private(&entry.path())?;
        }
    }
    Ok(())
}

fn wrong(server: &Server) -> Result<()> {
    block(async {
        let driver = Driver::start(server, &["--bucket-prefix", "wrong-"])?;
        let mut volume = Volume::create(&driver, "pvc-1", &[]).await?;
        volume.secrets = secret(ACCESS_KEY, "not-the-secret");
        let text = format!("{:#}", volume.stage().await.expect_err("wrong keys"));
        ensure!(text.contains("s3://wrong-pvc-1") && !text.contains("not-the-secret"), "{text}");
        volume.secrets = HashMap::from([("accessKey".to_owned(), "x".to_owned())]);
        let text = format!("{:#}", volume.stage().await.expect_err("a key that is none"));
        ensure!(text.contains("accessKeyId"), "{text}");
        volume.secrets = HashMap::new();
        volume.delete().await
    })
}
