//! Traces by OTLP over gRPC: a span for each request of the kernel, and below it one for each request to the bucket that it
//! made. What waits is bounded, and dropped when it is too much: tracing never holds a request up.
//!
//! Sampling, batches and headers are set by the variables of the OpenTelemetry specification: `OTEL_TRACES_SAMPLER`,
//! `OTEL_TRACES_SAMPLER_ARG`, `OTEL_BSP_*`, `OTEL_EXPORTER_OTLP_HEADERS`.

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use std::fmt::Display;
use std::io;
use std::path::Path;
use std::time::Duration;
use tracing::field::Empty;
use tracing::{Level, Span, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::registry::LookupSpan;

/// What spans are filtered by. No log level shows them.
const TARGET: &str = "span";
/// A collector that is away costs no more at the end.
const END_LIMIT: Duration = Duration::from_secs(2);

/// Sends to `collector`, an http URL. Call it inside the runtime that is to send.
pub fn start(collector: &str, source: &str, dir: &Path) -> io::Result<SdkTracerProvider> {
    let exporter = SpanExporter::builder().with_tonic().with_endpoint(collector).build();
    let exporter = exporter.map_err(io::Error::other)?;
    let resource = Resource::builder().with_service_name("tarn").with_attributes([
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("tarn.source", source.to_owned()),
        KeyValue::new("tarn.dir", dir.display().to_string()),
    ]);
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource.build()).build())
}

/// Sends what is left.
pub fn end(traces: &SdkTracerProvider) {
    if let Err(error) = traces.shutdown_with_timeout(END_LIMIT) {
        tracing::warn!(%error, "the last traces are lost");
    }
}

pub(super) fn layer<S>(traces: &SdkTracerProvider) -> impl Layer<S> + use<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let spans = Targets::new().with_target(TARGET, Level::INFO);
    tracing_opentelemetry::layer().with_tracer(traces.tracer("tarn")).with_filter(spans)
}

/// A request of the kernel, by its name and number.
pub(crate) fn request(op: &'static str, unique: u64) -> Span {
    tracing::info_span!(target: TARGET, "request", otel.name = op, otel.kind = "server", unique)
}

/// A request to the bucket about a key, a prefix, or several keys.
pub(crate) fn bucket(op: &dyn Display, on: &dyn Display) -> Span {
    let (name, on) = (tracing::field::display(op), tracing::field::display(on));
    tracing::info_span!(target: TARGET, "bucket", otel.name = name, otel.kind = "client", on, otel.status_code = Empty, otel.status_description = Empty)
}

/// Notes on a span that its request has failed.
pub(crate) fn failed(span: &Span, error: &dyn Display) {
    span.record("otel.status_code", "error");
    span.record("otel.status_description", tracing::field::display(error));
}
