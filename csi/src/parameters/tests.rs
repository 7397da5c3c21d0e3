use super::*;
use crate::error::Kind;

fn map(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn refused(result: Result<impl std::fmt::Debug>) -> String {
    let error = result.expect_err("refused");
    assert_eq!(error.kind, Kind::Invalid, "{error}");
    error.message
}

#[test]
fn every_option_exists_and_none_reaches_the_node() {
    let forbidden = [
        "cache-dir",
        "config",
        "profile",
        "ca-bundle",
        "sse-c-key-file",
        "foreground",
        "log-level",
        "log-format",
        "allow-other",
        "cache-min-free",
        "metrics",
        "traces",
    ];
    for spec in PARAMETERS {
        let Some(option) = spec.option else { continue };
        assert!(tarn_fs::config::table::find(option).is_some(), "{option}");
        assert!(!forbidden.contains(&option), "{option}");
    }
    for option in tarn_fs::config::table::OPTIONS {
        let ours = PARAMETERS.iter().any(|spec| spec.option == Some(option.name));
        assert!(ours != forbidden.contains(&option.name), "decide about the new option {}", option.name);
    }
}

#[test]
fn the_documentation_names_every_parameter_and_no_other() {
    let text = include_str!("../../PARAMETERS.md");
    let described: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    for spec in PARAMETERS {
        assert!(described.contains(&spec.name), "{} is not in PARAMETERS.md", spec.name);
    }
    for name in described {
        assert!(PARAMETERS.iter().any(|spec| spec.name == name), "PARAMETERS.md describes {name}");
    }
}

#[test]
fn a_class_of_each_kind() {
    let own = Class::parse(&map(&[("versioning", "true"), ("cacheSize", "10GiB")])).expect("valid");
    assert_eq!((own.bucket, own.versioning, own.on_delete), (None, true, OnDelete::Purge));
    assert_eq!(own.options.get("cache-size").map(String::as_str), Some("10GiB"));
    let parameters = map(&[
        ("bucket", "shared"),
        ("folderPattern", "teams/${pvc.namespace}/${pvc.name}-${pv.name}"),
        ("csi.storage.k8s.io/pvc/name", "data"),
        ("csi.storage.k8s.io/pvc/namespace", "blue"),
        ("onDelete", "keep"),
    ]);
    let shared = Class::parse(&parameters).expect("valid");
    assert_eq!(shared.folder("pvc-1", &parameters).expect("good"), "teams/blue/data-pvc-1/");
    assert_eq!(shared.on_delete, OnDelete::Keep);
}

#[test]
fn an_error_names_parameter_value_and_bound() {
    for (pairs, words) in [
        (&[("cachesize", "1GiB")][..], &["unknown parameter \"cachesize\"", "cacheSize"][..]),
        (&[("onDelete", "drop")][..], &["onDelete", "\"drop\"", "purge, refuse-unless-empty, keep"][..]),
        (&[("versioning", "yes")][..], &["versioning", "\"yes\"", "true, false"][..]),
        (&[("bucket", "Not_A_Bucket")][..], &["bucket", "Not_A_Bucket", "3 to 63"][..]),
        (&[("cacheTier", "warm")][..], &["cacheTier", "\"warm\"", "standard, hot"][..]),
        (&[("cachetier", "hot")][..], &["unknown parameter \"cachetier\"", "cacheTier"][..]),
        (&[("partSize", "1MiB")][..], &["part-size", "1MiB", "5MiB to 5GiB"][..]),
        (&[("umask", "999")][..], &["umask", "999", "octal"][..]),
        (&[("endpoint", "file:///etc")][..], &["endpoint", "file:///etc"][..]),
        (&[("region", "a\nb")][..], &["region", "control character"][..]),
        (&[("folderPattern", "x-${pv.name}")][..], &["folderPattern", "bucket"][..]),
        (&[("bucket", "shared"), ("folderPattern", "same")][..], &["folderPattern", "${pv.name}"][..]),
        (&[("bucket", "shared"), ("folderPattern", "${pv.name}/x")][..], &["folderPattern"][..]),
        (&[("bucket", "shared"), ("folderPattern", "../${pv.name}")][..], &["folderPattern", ".."][..]),
        (&[("bucket", "shared"), ("folderPattern", "${HOME}-${pv.name}")][..], &["folderPattern"][..]),
        (&[("bucket", "shared"), ("folderPattern", ".tarn-csi/${pv.name}")][..], &["records"][..]),
        (&[("bucket", "shared"), ("versioning", "true")][..], &["versioning"][..]),
        (&[("prefix", "x")][..], &["prefix"][..]),
        (&[("roleArn", "arn:aws:iam::1:role/x\n[other]")][..], &["roleArn", "arn:PARTITION"][..]),
    ] {
        let message = refused(Class::parse(&map(pairs)));
        for word in words {
            assert!(message.contains(word), "{pairs:?}: {message}");
        }
    }
}

#[test]
fn names_of_claims_cannot_leave_the_folder() {
    let parameters = map(&[("bucket", "shared"), ("folderPattern", "${pvc.name}-${pv.name}")]);
    let class = Class::parse(&parameters).expect("valid");
    assert!(refused(class.folder("pvc-1", &parameters)).contains("--extra-create-metadata"));
    let mut hostile = parameters.clone();
    hostile.insert("csi.storage.k8s.io/pvc/name".into(), "../other".into());
    assert!(refused(class.folder("pvc-1", &hostile)).contains(".."));
}

#[test]
fn attributes_come_back_and_hostile_ones_are_refused() {
    let context = map(&[
        ("bucket", "data"),
        ("prefix", "a/b/"),
        ("uid", "1000"),
        ("endpoint", "http://minio:9000"),
        ("storage.kubernetes.io/csiProvisionerIdentity", "x"),
    ]);
    let attributes = Attributes::parse(&context).expect("valid");
    assert_eq!(attributes.source(), "s3://data/a/b/");
    assert_eq!(Attributes::parse(&attributes.to_context()).expect("valid"), attributes);
    for pairs in [
        &[][..],
        &[("bucket", "a,b")][..],
        &[("bucket", "../x")][..],
        &[("bucket", "data\n")][..],
        &[("bucket", "data"), ("prefix", "../x")][..],
        &[("bucket", "data"), ("prefix", "a//b")][..],
        &[("bucket", "data"), ("prefix", "a\nb")][..],
        &[("bucket", "data"), ("prefix", ".tarn-csi/volumes")][..],
        &[("bucket", "data"), ("cache-dir", "/etc")][..],
        &[("bucket", "data"), ("cacheDir", "/etc")][..],
        &[("bucket", "data"), ("uid", "0,allow")][..],
        &[("bucket", "data"), ("onDelete", "purge")][..],
    ] {
        refused(Attributes::parse(&map(pairs)));
    }
}

#[test]
fn the_tier_of_the_cache_is_remembered_and_changes_nothing_for_volumes_that_name_none() {
    let class = |pairs: &[(&str, &str)]| Class::parse(&map(pairs)).expect("valid");
    let [none, standard, hot] = [&[][..], &[("cacheTier", "standard")], &[("cacheTier", "hot")]].map(class);
    assert_eq!(
        [none.tier, standard.tier, hot.tier],
        [CacheTier::Standard, CacheTier::Standard, CacheTier::Hot]
    );
    assert_eq!(none.digest(), standard.digest());
    assert_ne!(none.digest(), hot.digest());
    let read = |pairs: &[(&str, &str)]| Attributes::parse(&map(pairs)).expect("valid").to_context();
    assert_eq!(read(&[("bucket", "data"), ("cacheTier", "standard")]), map(&[("bucket", "data")]));
    let hot = map(&[("bucket", "data"), ("cacheTier", "hot")]);
    assert_eq!(Attributes::parse(&hot).expect("valid").to_context(), hot);
    refused(Attributes::parse(&map(&[("bucket", "data"), ("cacheTier", "cold")])));
}

#[test]
fn an_inline_volume_cannot_say_where_requests_go() {
    assert!(Attributes::parse_inline(&map(&[("bucket", "data"), ("uid", "1000")])).is_ok());
    for name in ["endpoint", "region", "pathStyle", "anonymous", "requesterPays"] {
        let value = match name {
            "endpoint" => "http://evil:80",
            "pathStyle" => "on",
            "region" => "x",
            _switch => "true",
        };
        assert!(
            refused(Attributes::parse_inline(&map(&[("bucket", "data"), (name, value)]))).contains("inline")
        );
    }
}

#[test]
fn mount_options_are_words_of_the_same_table() {
    let attributes = || Attributes::parse(&map(&[("bucket", "data"), ("uid", "5")])).expect("valid");
    let mut with = attributes();
    with.add_mount_flags(&["ro".into(), "uid=1000,attr_ttl=5s".into()]).expect("valid");
    let of = |name: &str| with.options.get(name).map(String::as_str);
    assert_eq!((of("read-only"), of("uid"), of("attr-ttl")), (Some("true"), Some("1000"), Some("5s")));
    for bad in [
        "allow-other",
        "cache-dir=/etc",
        "config=/etc/passwd",
        "endpoint=http://evil",
        "dev",
        "suid",
        "uid=0\ncache-dir=/",
        "uid=x",
        "log-level=trace",
        "profile=x",
    ] {
        refused(attributes().add_mount_flags(&[bad.to_owned()]));
    }
}

#[test]
fn only_what_may_change_can_be_changed() {
    assert_eq!(Changes::parse(&map(&[("onDelete", "keep")])).expect("valid").on_delete, Some(OnDelete::Keep));
    refused(Changes::parse(&map(&[("cacheSize", "1GiB")])));
    refused(Changes::parse(&map(&[("XXX_FakeKey", "XXX_FakeValue")])));
}
