//! The status as OpenMetrics text, and the endpoint that serves it: `GET /metrics` on a loopback address or on a
//! unix socket. Off unless `--metrics` names one.

use super::proto::MountStatus;
use super::server::Desk;
use crate::config::Listen;
use crate::mount::record;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinHandle;

/// `Content-Type` of OpenMetrics 1.0.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Labels = Vec<(&'static str, String)>;

/// The status in OpenMetrics text. Every metric carries the mount's directory and source.
pub(super) fn render(status: &MountStatus) -> Result<String, fmt::Error> {
    let labels = [("dir", &status.dir), ("source", &status.source)]
        .map(|(name, value)| (name.into(), escape(value).into()))
        .into_iter();
    let mut registry = Registry::with_prefix_and_labels("tarn", labels);
    let mut gauge = |name: &str, help: &str, value: u64| {
        let gauge = Gauge::<i64>::default();
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        registry.register(name, help, gauge);
    };
    let (dirty, cache) = (status.dirty.unwrap_or_default(), status.cache.clone().unwrap_or_default());
    let (serving, transfer) =
        (status.serving.clone().unwrap_or_default(), status.transfer.unwrap_or_default());
    gauge("up_seconds", "Seconds since the serving process began", status.up_seconds);
    gauge("memory_bytes", "Memory of the serving process in RAM", status.memory);
    gauge("passthrough", "1 if the kernel serves local files by itself", u64::from(serving.passthrough));
    gauge("keeper", "1 while somebody would replace the serving process", u64::from(!status.keeper_gone));
    gauge("inodes", "Files and directories that the kernel knows", status.inodes);
    gauge("handles", "Open files and directories", status.handles);
    gauge("dirty_files", "Files with bytes that the bucket does not have", dirty.files);
    gauge("dirty_bytes", "Bytes on disk of these files", dirty.bytes);
    gauge(
        "dirty_oldest_seconds",
        "Age of the last write to the one that waits longest",
        dirty.oldest_seconds,
    );
    gauge("conflicts", "Conflicts since the serving process began", status.conflicts.len() as u64);
    gauge("cache_used_bytes", "Bytes of clean objects on the local disk", cache.used);
    gauge("cache_pinned_bytes", "Bytes of pinned objects", cache.pinned);
    gauge("cache_limit_bytes", "Bytes they may take", cache.limit);
    gauge("cache_disk_free_bytes", "Bytes that may still be written to the local disk", cache.free);
    gauge("cache_disk_floor_bytes", "Nothing more is kept while fewer are free", cache.floor);
    if let Some(quota) = &status.quota {
        gauge("quota_bytes", "Bytes that what is mounted may hold", quota.limit);
        gauge(
            "quota_used_bytes",
            "Bytes that it holds, with those not in the bucket yet",
            quota.stored + quota.staged,
        );
        gauge("quota_files", "Files that it holds", quota.files);
    }
    let mut counter = |name: &str, help: &str, value: u64| {
        let counter = Counter::<u64>::default();
        counter.inc_by(value);
        registry.register(name, help, counter);
    };
    counter("restarts", "Serving processes that died and were replaced", status.restarts);
    counter("cache_hits", "Reads answered from the local disk", cache.hits);
    counter("cache_misses", "Reads that found a block missing", cache.misses);
    counter("cache_bad_blocks", "Blocks found damaged on the local disk", cache.bad_blocks);
    counter("cache_evicted_bytes", "Bytes freed to make room", cache.evicted);
    counter("received_bytes", "Bytes of object data received", transfer.received);
    counter("sent_bytes", "Bytes of object data sent", transfer.sent);
    counter("panics", "Requests of the kernel that ran into a bug and got EIO", status.panics);
    kernel_calls(&mut registry, status);
    store_calls(&mut registry, status);
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

/// A label's value as the format wants it; the library leaves that to its caller.
fn escape(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n")
}

fn kernel_calls(registry: &mut Registry, status: &MountStatus) {
    let calls = Family::<Labels, Counter>::default();
    let seconds = Family::<Labels, Counter<f64, std::sync::atomic::AtomicU64>>::default();
    for call in &status.kernel_calls {
        let labels = vec![("op", call.op.clone())];
        calls.get_or_create(&labels).inc_by(call.count);
        seconds.get_or_create(&labels).inc_by(call.nanos as f64 / 1e9);
    }
    registry.register("kernel_calls", "Requests of the kernel by kind", calls);
    registry.register_with_unit("kernel_calls", "Time until they were answered", Unit::Seconds, seconds);
}

fn store_calls(registry: &mut Registry, status: &MountStatus) {
    let (calls, failed) = (Family::<Labels, Counter>::default(), Family::<Labels, Counter>::default());
    let seconds = Family::<Labels, Counter<f64, std::sync::atomic::AtomicU64>>::default();
    for call in &status.store_calls {
        let labels = vec![("op", call.op.clone())];
        calls.get_or_create(&labels).inc_by(call.count);
        failed.get_or_create(&labels).inc_by(call.errors);
        seconds.get_or_create(&labels).inc_by(call.nanos as f64 / 1e9);
    }
    registry.register("store_calls", "Calls of the object store by operation", calls);
    registry.register("store_failures", "Those that failed; 404 and 412 are answers", failed);
    registry.register_with_unit("store_calls", "Time until they had answered", Unit::Seconds, seconds);
}

/// Serves `GET /metrics` until the task is aborted.
pub(crate) async fn serve(address: &Listen, desk: Arc<Desk>) -> io::Result<JoinHandle<()>> {
    match address {
        Listen::Tcp(address) => {
            let listener = TcpListener::bind(address).await?;
            Ok(tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(converse(stream, Arc::clone(&desk)));
                }
            }))
        }
        Listen::Unix(path) => {
            record::remove(path)?;
            let listener = UnixListener::bind(path)?;
            Ok(tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(converse(stream, Arc::clone(&desk)));
                }
            }))
        }
    }
}

async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, desk: Arc<Desk>) {
    let service = service_fn(|request| std::future::ready(Ok::<_, Infallible>(answer(&request, &desk))));
    if let Err(error) = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "a connection for metrics broke");
    }
}

fn answer(request: &Request<Incoming>, desk: &Desk) -> Response<Full<Bytes>> {
    let plain = |code, text: &'static str| {
        let mut response = Response::new(Full::from(text));
        *response.status_mut() = code;
        response
    };
    if (request.method(), request.uri().path()) != (&Method::GET, "/metrics") {
        return plain(StatusCode::NOT_FOUND, "GET /metrics\n");
    }
    let Ok(text) = render(&desk.status()) else {
        return plain(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written\n");
    };
    let mut response = Response::new(Full::from(text));
    response
        .headers_mut()
        .insert(hyper::header::CONTENT_TYPE, hyper::header::HeaderValue::from_static(CONTENT_TYPE));
    response
}

#[cfg(test)]
mod tests {
    use super::super::proto::{CacheUse, Calls};
    use super::*;

    #[test]
    fn metrics_carry_the_mount_and_the_figures() {
        let status = MountStatus {
            dir: "/mnt/a \"b\"".into(),
            source: "s3://b".into(),
            cache: Some(CacheUse { hits: 3, ..CacheUse::default() }),
            store_calls: vec![Calls { op: "get".into(), count: 4, errors: 1, nanos: 2_500_000_000 }],
            kernel_calls: vec![Calls { op: "read".into(), count: 7, errors: 0, nanos: 500_000_000 }],
            panics: 2,
            ..MountStatus::default()
        };
        let text = render(&status).expect("rendered");
        for line in [
            r#"tarn_cache_hits_total{dir="/mnt/a \"b\"",source="s3://b"} 3"#,
            r#"tarn_store_calls_total{dir="/mnt/a \"b\"",source="s3://b",op="get"} 4"#,
            r#"tarn_store_calls_seconds_total{dir="/mnt/a \"b\"",source="s3://b",op="get"} 2.5"#,
            r#"tarn_kernel_calls_total{dir="/mnt/a \"b\"",source="s3://b",op="read"} 7"#,
            r#"tarn_kernel_calls_seconds_total{dir="/mnt/a \"b\"",source="s3://b",op="read"} 0.5"#,
            r#"tarn_panics_total{dir="/mnt/a \"b\"",source="s3://b"} 2"#,
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
