use super::*;
use proptest::prelude::*;

fn parse(pairs: &[(&str, &str)]) -> Result<Spec, SpecError> {
    Spec::parse(&pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect())
}

#[test]
fn nothing_said_is_a_gp3_volume_of_100_gib_that_may_grow() {
    let spec = parse(&[]).unwrap();
    assert_eq!(spec, Spec::default());
    assert_eq!((spec.volume_type, spec.size_min, spec.size_max), (VolumeType::Gp3, Gib(100), Gib(1_024)));
}

#[test]
fn every_parameter_is_read() {
    let spec = parse(&[
        ("type", "io2"),
        ("iopsPerGB", "20"),
        ("minSize", "50Gi"),
        ("maxSize", "2Ti"),
        ("kmsKeyId", "alias/cache"),
        ("encrypted", "true"),
        ("csi.storage.k8s.io/fsType", "xfs"),
        ("highWater", "70"),
        ("tagSpecification_1", "team=web"),
        ("tagSpecification_2", "cost=12 = x"),
        ("zone", "eu-central-1a"),
        ("reservedSlots", "5"),
        ("orphanGrace", "2h"),
        ("modifyCoolDown", "12h"),
    ])
    .unwrap();
    assert_eq!(spec.iops, Some(Iops::PerGib(20)));
    assert_eq!((spec.size_min, spec.size_max), (Gib(50), Gib(2_048)));
    assert_eq!(spec.encryption, Encryption::Encrypted(Some("alias/cache".into())));
    assert_eq!(spec.file_system, FileSystem::Xfs);
    assert_eq!((spec.high_water, spec.reserved_slots), (70, 5));
    assert_eq!(spec.tags["cost"], "12 = x");
    assert_eq!(spec.zone, Some(Zone::new("eu-central-1a")));
    assert_eq!(spec.orphan_grace, Duration::from_secs(7_200));
    assert_eq!(spec.modify_cool_down, Duration::from_secs(43_200));
}

#[test]
fn a_refusal_names_parameter_value_and_bound() {
    let table: &[(&[(&str, &str)], &str)] = &[
        (&[("throughtput", "200")], "unknown parameter throughtput; did you mean throughput?"),
        (&[("IOPS", "200")], "unknown parameter IOPS; did you mean iops?"),
        (&[("colour", "red")], "unknown parameter colour"),
        (&[("type", "gp33")], "type is gp33, allowed is gp3, io2, io1, st1, sc1; did you mean gp3?"),
        (
            &[("type", "gp3"), ("maxSize", "100Ti")],
            "maxSize is 102400 GiB, allowed is 1 to 65536 GiB for gp3",
        ),
        (
            &[("minSize", "200Gi"), ("maxSize", "100Gi")],
            "maxSize is 100 GiB, allowed is at least minSize, 200 GiB",
        ),
        (&[("minSize", "100")], "minSize is 100, allowed is whole GiB or TiB, as 100Gi or 2Ti"),
        (&[("minSize", "1.5Ti")], "minSize is 1.5Ti, allowed is whole GiB or TiB, as 100Gi or 2Ti"),
        (&[("type", "st1"), ("minSize", "100Gi")], "minSize is 100 GiB, allowed is 125 to 16384 GiB for st1"),
        (&[("iops", "2000")], "iops is 2000, allowed is 3000 to 80000 for gp3"),
        (
            &[("iops", "16000"), ("minSize", "10Gi")],
            "iops is 16000, allowed is at most 5000: gp3 has 500 for each GiB of minSize, 10 GiB",
        ),
        (&[("type", "io1")], "iops is nothing, allowed is 100 to 64000 for io1, or iopsPerGB"),
        (&[("type", "io1"), ("iopsPerGB", "51")], "iopsPerGB is 51, allowed is 1 to 50 for io1"),
        (&[("type", "sc1"), ("iops", "100")], "iops is 100, allowed is nothing: sc1 has no IOPS to buy"),
        (&[("iops", "3000"), ("iopsPerGB", "3")], "iops and iopsPerGB exclude each other"),
        (&[("throughput", "100")], "throughput is 100, allowed is 125 to 2000 MiB/s for gp3"),
        (
            &[("throughput", "1000")],
            "throughput is 1000, allowed is at most 750 MiB/s: 3000 IOPS, 4 for each",
        ),
        (
            &[("type", "io2"), ("iops", "3000"), ("throughput", "200")],
            "throughput is 200, allowed is nothing: io2 has no throughput to buy",
        ),
        (&[("encrypted", "yes")], "encrypted is yes, allowed is true, false"),
        (
            &[("encrypted", "false"), ("kmsKeyId", "k")],
            "kmsKeyId is k, allowed is nothing while encrypted is false",
        ),
        (
            &[("csi.storage.k8s.io/fsType", "ext3")],
            "csi.storage.k8s.io/fsType is ext3, allowed is ext4, xfs; did you mean ext4?",
        ),
        (&[("highWater", "99")], "highWater is 99, allowed is 10 to 95 percent"),
        (&[("highWater", "300")], "highWater is 300, allowed is a whole number"),
        (&[("orphanGrace", "20")], "orphanGrace is 20, allowed is a time with its unit, as 30m or 6h"),
        (
            &[("tagSpecification_1", "tarn:owner=me")],
            "tagSpecification is tarn:owner, allowed is a key not starting with tarn: or aws:",
        ),
        (
            &[("tagSpecification_1", "novalue")],
            "tagSpecification_1 is novalue, allowed is KEY=VALUE, of at most 128 and 256 characters",
        ),
    ];
    for (parameters, message) in table {
        assert_eq!(parse(parameters).unwrap_err().to_string(), *message);
    }
}

#[test]
fn a_type_without_a_size_gets_one_it_accepts() {
    assert_eq!(parse(&[("type", "st1")]).unwrap().size_min, Gib(125));
    assert_eq!(parse(&[("minSize", "2Ti")]).unwrap().size_max, Gib(2_048));
}

#[test]
fn growth_is_by_half_or_to_what_is_needed_and_stops_at_the_ceiling() {
    let spec = parse(&[("maxSize", "400Gi"), ("highWater", "80")]).unwrap();
    assert_eq!(spec.grown(Gib(100), 81 << 30), Gib(150));
    assert_eq!(spec.grown(Gib(1), 100 << 30), Gib(125));
    assert_eq!(spec.grown(Gib(300), 290 << 30), Gib(400));
    assert!(!spec.is_over_mark(80, 100));
    assert!(spec.is_over_mark(81, 100));
}

#[test]
fn a_key_is_known_by_id_and_by_arn() {
    let arn = "arn:aws:kms:eu-central-1:1:key/abc";
    assert!(same_key(arn, arn) && same_key(arn, "abc") && same_key(arn, "alias/cache"));
    assert!(!same_key(arn, "abd"));
}

#[test]
fn a_spec_is_read_from_json_by_the_same_door() {
    let spec: Spec = serde_json::from_str(r#"{"type": "sc1"}"#).unwrap();
    assert_eq!(spec.volume_type, VolumeType::Sc1);
    let refused = serde_json::from_str::<Spec>(r#"{"type": "sc2"}"#).unwrap_err().to_string();
    assert!(refused.contains("did you mean sc1?"), "{refused}");
}

proptest! {
    #[test]
    fn what_is_accepted_is_within_the_services_bounds_at_every_size(
        kind in proptest::sample::select(VolumeType::ALL.to_vec()),
        iops in proptest::option::of(1_u32..300_000),
        per_gib in proptest::option::of(1_u32..1_100),
        throughput in proptest::option::of(100_u32..2_100),
        least in 1_u32..70_000,
        most in 1_u32..70_000,
        size in 1_u32..70_000,
    ) {
        let mut parameters = BTreeMap::from([
            ("type".to_owned(), kind.name().to_owned()),
            ("minSize".to_owned(), format!("{least}Gi")),
            ("maxSize".to_owned(), format!("{most}Gi")),
        ]);
        for (name, value) in [("iops", iops), ("iopsPerGB", per_gib), ("throughput", throughput)] {
            parameters.extend(value.map(|value| (name.to_owned(), value.to_string())));
        }
        let Ok(spec) = Spec::parse(&parameters) else { return Ok(()) };
        let size = Gib(size.clamp(spec.size_min.0, spec.size_max.0));
        let bounds = kind.bounds();
        prop_assert!(bounds.size.contains(&size.0));
        if let (Some(bounds), Some(iops)) = (bounds.iops, spec.iops_at(size)) {
            prop_assert!(bounds.range.contains(&iops) && iops <= bounds.most(size));
        }
        let grown = spec.grown(size, u64::from(size.0) << 30);
        prop_assert!(grown >= size && grown <= spec.size_max);
    }
}
