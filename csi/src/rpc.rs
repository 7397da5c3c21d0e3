//! What every call has in common: a span, one line in the log, and the error as a status.

use crate::error::{Error, Kind, Result};
use std::future::Future;
use tonic::{Response, Status};
use tracing::Instrument;

/// Runs one call. `about` is the volume, snapshot or name; requests as a whole are never logged, they hold secrets.
pub async fn answer<T>(
    call: &'static str,
    about: &str,
    work: impl Future<Output = Result<T>>,
) -> std::result::Result<Response<T>, Status> {
    let span = tracing::info_span!("csi", call, about = about.escape_debug().to_string());
    let result = work.instrument(span.clone()).await;
    let _entered = span.enter();
    match &result {
        Ok(_) => tracing::debug!("done"),
        Err(error) if is_expected(error.kind) => tracing::info!("{error}"),
        Err(error) => tracing::warn!("{error}"),
    }
    result.map(Response::new).map_err(Error::into)
}

/// What happens in a healthy cluster too.
fn is_expected(kind: Kind) -> bool {
    match kind {
        Kind::Busy | Kind::NotFound | Kind::BadToken | Kind::Unsupported => true,
        Kind::Invalid
        | Kind::Exists
        | Kind::OutOfRange
        | Kind::Precondition
        | Kind::Unavailable
        | Kind::Denied
        | Kind::Internal => false,
    }
}

/// Implements a service of the protocol: each call reads its request, says what it is about, and runs a method.
macro_rules! service {
    ($trait:path, $type:ty { $($call:ident: $request:ty => $response:ty, $about:expr, $method:ident;)* }) => {
        #[tonic::async_trait]
        impl $trait for $type {
            $(async fn $call(
                &self,
                request: tonic::Request<$request>,
            ) -> std::result::Result<tonic::Response<$response>, tonic::Status> {
                let request = request.into_inner();
                let about: fn(&$request) -> &str = $about;
                let about = about(&request).to_owned();
                $crate::rpc::answer(stringify!($call), &about, self.$method(request)).await
            })*
        }
    };
}
pub(crate) use service;
