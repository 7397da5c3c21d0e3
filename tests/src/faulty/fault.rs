//! Faults, as data, and what they make of an answer.

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use http_body_util::StreamBody;
use hyper::Response;
use hyper::body::Frame;
use hyper::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderValue};
use hyper::http::response::Parts;
use std::fmt;

/// The body of an answer.
pub(super) type Answer = StreamBody<BoxStream<'static, Result<Frame<Bytes>, Broken>>>;

/// Ends a connection in the middle.
#[derive(Debug)]
pub(super) struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("broken on purpose")
    }
}

impl std::error::Error for Broken {}

/// What happens to a request.
#[derive(Debug, Clone)]
pub enum Fault {
    /// It is answered with this status and code, and not done.
    Status(u16, &'static str),
    /// It is answered with an error under status 200, and not done.
    ErrorIn200(&'static str),
    /// The connection ends without an answer, and it is not done.
    Reset,
    /// It is done and the connection ends without an answer.
    LostAnswer,
    /// No answer ever comes, and it is not done.
    Silence,
    /// The body ends after so many bytes, and the connection with it.
    Cut(usize),
    /// The body stops after so many bytes, and the connection stays.
    Stall(usize),
    /// The body, and its length, have so many bytes more.
    Longer(usize),
    /// The body has one bit wrong, in this byte.
    Flip(usize),
    /// Another tag.
    WrongETag,
    /// Another range, of the same length.
    WrongRange,
    /// The whole object, as if no range was asked for.
    NoRange,
}

impl Fault {
    /// Whether the request is done first.
    pub(super) fn needs_answer(&self) -> bool {
        !matches!(self, Self::Status(..) | Self::ErrorIn200(_) | Self::Reset | Self::Silence)
    }

    /// The answer to a request that is not done.
    pub(super) async fn alone(&self) -> Result<Response<Answer>, Broken> {
        match self {
            Self::Status(status, code) => Ok(error(*status, code)),
            Self::ErrorIn200(code) => Ok(error(200, code)),
            Self::Silence => std::future::pending().await,
            Self::Reset
            | Self::LostAnswer
            | Self::Cut(_)
            | Self::Stall(_)
            | Self::Longer(_)
            | Self::Flip(_)
            | Self::WrongETag
            | Self::WrongRange
            | Self::NoRange => Err(Broken),
        }
    }

    /// What becomes of the answer of a request that was done.
    pub(super) fn apply(&self, mut head: Parts, body: Bytes) -> Response<Answer> {
        match self {
            Self::Cut(at) => streamed(head, body.slice(..*at), Some(Err(Broken))),
            Self::Stall(at) => {
                let begin = futures::stream::iter([Ok(Frame::data(body.slice(..*at)))]);
                Response::from_parts(head, StreamBody::new(begin.chain(futures::stream::pending()).boxed()))
            }
            Self::Longer(more) => {
                let longer = Bytes::from([&body[..], &vec![b'+'; *more]].concat());
                head.headers.insert(CONTENT_LENGTH, HeaderValue::from(longer.len()));
                streamed(head, longer, None)
            }
            Self::Flip(at) => {
                let mut flipped = body.to_vec();
                flipped[*at] ^= 1;
                streamed(head, flipped.into(), None)
            }
            Self::WrongETag => {
                head.headers.insert(ETAG, HeaderValue::from_static("\"0123456789abcdef0123456789abcdef\""));
                streamed(head, body, None)
            }
            Self::WrongRange => {
                let range = format!("bytes 1-{}/{}", body.len(), body.len() * 2);
                head.headers.insert(CONTENT_RANGE, range.parse().expect("plain ASCII"));
                streamed(head, body, None)
            }
            Self::NoRange => {
                head.headers.remove(CONTENT_RANGE);
                head.status = hyper::StatusCode::OK;
                streamed(head, body, None)
            }
            Self::LostAnswer => streamed(head, Bytes::new(), Some(Err(Broken))),
            Self::Status(..) | Self::ErrorIn200(_) | Self::Reset | Self::Silence => whole(head, body),
        }
    }
}

/// An answer as it is.
pub(super) fn whole(head: Parts, body: Bytes) -> Response<Answer> {
    streamed(head, body, None)
}

fn streamed(head: Parts, body: Bytes, end: Option<Result<Frame<Bytes>, Broken>>) -> Response<Answer> {
    let data = (!body.is_empty()).then(|| Ok(Frame::data(body)));
    // The pause between data and fault lets the data go out first.
    let end = futures::stream::iter(end).then(|end| async {
        tokio::task::yield_now().await;
        end
    });
    Response::from_parts(head, StreamBody::new(futures::stream::iter(data).chain(end).boxed()))
}

fn error(status: u16, code: &str) -> Response<Answer> {
    let body =
        format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>on purpose</Message></Error>");
    let builder = Response::builder().status(status).header(CONTENT_TYPE, "application/xml");
    let builder = builder.header(CONTENT_LENGTH, body.len());
    let (head, ()) = builder.body(()).expect("plain headers").into_parts();
    streamed(head, body.into(), None)
}
