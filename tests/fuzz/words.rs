//! What a person writes: options of a mount, as mount(8) hands them on, and configuration files.

use crate::fuzz;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use tarn_fs::cli::argv;
use tarn_fs::config::{Caller, Config, Input, Layers, World};

fn build(dash_o: &str, file: &str) -> Result<Config, String> {
    let input = Input { dash_o: vec![dash_o.to_owned()], ..Input::default() };
    let world = World { variable: &|_| None, read: &|_| Ok(file.to_owned()) };
    let layers = Layers::merge(&input, &world).map_err(|error| error.to_string())?;
    let caller = Caller { uid: 1, gid: 2, xdg_cache_home: None, home: Some("/users/joe".into()) };
    Config::build("s3://data/p", &layers, &caller).map_err(|error| error.to_string())
}

/// An option is understood or refused with a reason, on the command line and in a file.
#[test]
fn mount_options() {
    fuzz("mount_options", |input| {
        let text = String::from_utf8_lossy(input);
        for built in [build(&text, ""), build("config=/some/file", &text.replace(',', "\n"))] {
            match built {
                Ok(config) => assert!(config.store.part_size >= 5 << 20 && config.store.max_requests > 0),
                Err(reason) => assert!(!reason.is_empty()),
            }
        }
        let words = input.split(|byte| *byte == b' ').map(|word| OsString::from_vec(word.to_vec()));
        let helper = std::iter::once(OsString::from("mount.tarn")).chain(words).collect();
        drop(argv::normalize(helper));
    });
}
