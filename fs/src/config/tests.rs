use super::*;
use std::path::Path;

fn caller(uid: u32) -> Caller {
    Caller { uid, gid: uid + 1, xdg_cache_home: None, home: Some("/users/joe".into()) }
}

fn layers(dash_o: &str) -> Layers {
    let input = Input { dash_o: vec![dash_o.to_owned()], ..Input::default() };
    Layers::merge(&input, &World { variable: &|_| None, read: &|_| Ok(String::new()) }).expect(dash_o)
}

fn config(dash_o: &str) -> Result<Config, Error> {
    Config::build("s3://data/p", &layers(dash_o), &caller(1000))
}

fn message(dash_o: &str) -> String {
    config(dash_o).expect_err(dash_o).to_string()
}

/// SEMANTICS: "With `--commit=close`, the default, `close` answers when the bucket has the file."
#[test]
fn the_defaults_are_the_documented_ones() {
    let config = config("").expect("defaults are valid");
    assert_eq!(config.store.part_size, 8 << 20);
    assert_eq!(config.store.max_requests, 32);
    assert_eq!(config.store.encryption, Encryption::BucketDefault);
    assert_eq!(config.store.path_style, None);
    assert_eq!(config.cache.dir, Path::new("/users/joe/.cache/tarn"));
    let expected = FileSettings {
        uid: 1000,
        gid: 1001,
        file_mode: 0o644,
        dir_mode: 0o755,
        fixed_attributes: false,
        attr_ttl: Duration::from_secs(1),
        read_only: false,
        allow_other: false,
        no_exec: false,
        passthrough: true,
        always_checked: false,
        memory_limit: 96 << 20,
        commit: Commit::Close,
        exclusive: Exclusive::Bucket,
        quota: None,
    };
    assert_eq!(config.files, expected);
    assert_eq!(
        config.process,
        ProcessSettings {
            foreground: false,
            log_level: "info".into(),
            log_json: false,
            metrics: None,
            traces: None
        }
    );
}

#[test]
fn root_caches_in_var() {
    let config = Config::build("s3://data", &layers(""), &caller(0)).expect("valid");
    assert_eq!(config.cache.dir, Path::new("/var/cache/tarn"));
}

#[test]
fn every_option_of_the_table_is_read() {
    let layers = layers("");
    let reader = Reader::new(&layers);
    Config::read("s3://data", &reader, &caller(0)).expect("valid");
    let read = reader.read.into_inner();
    for option in table::OPTIONS {
        assert!(read.contains(option.name), "nothing reads {}", option.name);
    }
    assert_eq!(read.len(), table::OPTIONS.len(), "an option is read that the table does not have");
}

#[test]
fn path_style_is_left_to_the_endpoint_unless_given() {
    assert_eq!(config("endpoint=http://127.0.0.1:9000").expect("valid").store.path_style, None);
    assert_eq!(config("endpoint=http://h,path-style=off").expect("valid").store.path_style, Some(false));
    assert_eq!(config("path_style=on").expect("valid").store.path_style, Some(true));
}

#[test]
fn contradictions_are_refused() {
    for (options, part) in [
        ("anonymous,profile=x", "profile cannot be used"),
        ("sse=c", "needs sse-c-key-file"),
        ("sse-c-key-file=/k", "needs sse=c"),
        ("sse-kms-key-id=k", "needs sse=kms"),
        ("sse=s3,sse-kms-key-id=k", "needs sse=kms"),
        ("part-size=4MiB", "5MiB to 5GiB"),
        ("part-size=6GiB", "5MiB to 5GiB"),
        ("part-size=64MiB,memory-limit=96MiB", "does not hold two parts"),
        ("max-requests=0", "1 to 1024"),
        ("memory-limit=1MiB", "32MiB"),
        ("cache-size=1MiB", "at least 64MiB"),
        ("endpoint=127.0.0.1:9000", "a URL"),
        ("endpoint=http://key:secret@h", "a URL"),
        ("commit=later", "close, async"),
        ("backlog-size=1GiB", "needs commit=async"),
        ("backlog-age=1m", "needs commit=async"),
        ("uid=joe", "a whole number"),
        ("umask=999", "octal"),
        ("attr-ttl=2d", "0s to 1d"),
        ("ca-bundle=/nonexistent.pem", "/nonexistent.pem"),
    ] {
        let text = message(options);
        assert!(text.contains(part), "{options}: {text}");
    }
}

#[test]
fn a_wrong_word_names_the_nearest() {
    assert_eq!(
        message("log-level=inof"),
        "-o log-level: \"inof\" is not error, warn, info, debug, trace; did you mean \"info\"?"
    );
}

#[test]
fn the_umask_gives_the_modes_that_are_not_given() {
    let files = config("umask=077").expect("valid").files;
    assert_eq!((files.file_mode, files.dir_mode), (0o600, 0o700));
    let files = config("umask=077,file-mode=0664").expect("valid").files;
    assert_eq!((files.file_mode, files.dir_mode), (0o664, 0o700));
}

#[test]
fn the_memory_holds_two_parts_unless_it_is_given() {
    let limit = |options: &str| config(options).expect("valid").files.memory_limit;
    assert_eq!(["", "part-size=5MiB", "part-size=64MiB"].map(limit), [96 << 20, 96 << 20, 128 << 20]);
    assert_eq!(limit("part-size=64MiB,memory-limit=200MiB"), 200 << 20);
}

#[test]
fn the_cache_budget_follows_the_disk() {
    let cache = config("").expect("valid").cache;
    assert_eq!(cache.max_bytes(100 << 30), 10 << 30);
    assert_eq!(cache.max_bytes(1 << 30), 1 << 30);
    assert_eq!(cache.max_bytes(4 << 40), 50 << 30);
    assert_eq!([100 << 30, 1 << 40].map(|total| cache.min_free_bytes(total)), [5 << 30, 10 << 30]);
    assert_eq!(config("cache-size=50%").expect("valid").cache.max_bytes(10 << 30), 5 << 30);
}

#[test]
fn secrets_show_nowhere() {
    let file = tempfile::NamedTempFile::new().expect("temp file");
    std::fs::write(file.path(), [b'S'; 32]).expect("write");
    let config = config(&format!("sse=c,sse-c-key-file={}", file.path().display())).expect("valid");
    let shown = format!("{config:?}");
    assert!(!shown.contains("SSSS") && !shown.contains("83, 83"), "{shown}");
}
