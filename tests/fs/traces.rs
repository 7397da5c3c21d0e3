//! Traces, where somebody collects them.

use std::fs;
use tarn_tests::behaviours;
use tarn_tests::collector::{Collector, text};
use tarn_tests::server::free_port;
use tarn_tests::subject::Subject;
use tarn_tests::suite::{Behaviour, On};

pub(crate) const TARN: &[Behaviour] = behaviours!(
    On::Tarn,
    a_request_to_the_bucket_stands_below_the_call_that_made_it,
    a_collector_that_is_away_holds_nothing_up,
);

fn a_request_to_the_bucket_stands_below_the_call_that_made_it(subject: &Subject<'_>) {
    subject.take_mount().unmount().unwrap();
    subject.bucket().put("cold", &[7; 100_000]).unwrap();
    let collector = Collector::start().unwrap();
    let mount = subject.plan().clone().with(&["--traces", &collector.url()]).mount().unwrap();
    assert_eq!(fs::read(subject.path("cold")).unwrap().len(), 100_000);
    fs::create_dir(subject.path("made")).unwrap();
    mount.unmount().unwrap();
    let spans = collector.spans();
    let child = |name: &str, on: &str| {
        let child = spans.iter().find(|span| span.name == name && text(span, "on") == Some(on));
        let child = child.unwrap_or_else(|| panic!("no {name} on {on} in {spans:#?}"));
        let parent = spans.iter().find(|span| span.span_id == child.parent_span_id);
        let parent = parent.unwrap_or_else(|| panic!("nobody above {child:#?}"));
        assert_eq!(parent.trace_id, child.trace_id);
        assert!(parent.start_time_unix_nano <= child.start_time_unix_nano);
        parent.name.clone()
    };
    assert_eq!(child("put", "made/"), "mkdir");
    let reader = child("get", "cold");
    assert!(["read", "open"].contains(&reader.as_str()), "{reader}");
    subject.mount_again().unwrap();
}

fn a_collector_that_is_away_holds_nothing_up(subject: &Subject<'_>) {
    subject.take_mount().unmount().unwrap();
    let nobody = format!("http://{}", free_port().unwrap());
    let mount = subject.plan().clone().with(&["--traces", &nobody]).mount().unwrap();
    fs::write(subject.path("f"), b"written").unwrap();
    mount.unmount().unwrap();
    assert_eq!(subject.bucket().get("f").unwrap(), b"written");
    subject.mount_again().unwrap();
}
