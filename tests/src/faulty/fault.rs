//! Faults, as data, and what they make of an answer.

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use http_body_util::StreamBody;
use hyper::body::Frame;
use hyper::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderValue, LOCATION};
use hyper::http::response::Parts;
use hyper::{Response, StatusCode};
use std::fmt;
use std::time::Duration;

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
    /// It is answered with this status and a page for people, as proxies do, and not done.
    Page(u16),
    /// It is answered with this status and no body, and not done.
    Bare(u16),
    /// It is sent elsewhere, with this status, and not done.
    Redirect(u16),
    /// It is answered with an error under status 200, and not done.
    ErrorIn200(&'static str),
    /// The connection ends without an answer, and it is not done.
    Reset,
    /// It is done and the connection ends without an answer.
    LostAnswer,
    /// No answer ever comes, and it is not done.
    Silence,
    /// It is done and answered so much later, also if nobody waits for it any more.
    Late(Duration),
    /// It is done twice, and answered as the second time.
    Twice,
    /// It is not done if it is a listing: the answer is that of the last time.
    Stale,
    /// The body ends after so many bytes, and the connection with it.
    Cut(usize),
    /// The body stops after so many bytes, and the connection stays.
    Stall(usize),
    /// The body, and its length, have so many bytes more.
    Longer(usize),
    /// The body, and its length, have so many bytes less.
    Shorter(usize),
    /// The body has one bit wrong, this one.
    Flip(usize),
    /// The body has other bytes, as many.
    Garbage,
    /// No body.
    Empty,
    /// Another tag.
    WrongETag,
    /// No tag.
    NoETag,
    /// Another range, of the same length.
    WrongRange,
    /// The whole object, as if no range was asked for.
    NoRange,
}

impl Fault {
    /// The answer to a request that is not done; `None` if it is to be done.
    pub(super) async fn instead(&self) -> Option<Result<Response<Answer>, Broken>> {
        Some(match self {
            Self::Status(status, code) => Ok(error(*status, code)),
            Self::ErrorIn200(code) => Ok(error(200, code)),
            Self::Page(status) => Ok(page(*status, "text/html", "<html><body><h1>Oh no<br></body></html>")),
            Self::Bare(status) => Ok(page(*status, "text/plain", "")),
            Self::Redirect(status) => {
                let mut answer = page(*status, "text/plain", "");
                // A port of this machine that nothing listens on.
                answer.headers_mut().insert(LOCATION, HeaderValue::from_static("http://127.0.0.1:1/"));
                Ok(answer)
            }
            Self::Silence => std::future::pending().await,
            Self::Reset => Err(Broken),
            Self::LostAnswer
            | Self::Late(_)
            | Self::Twice
            | Self::Stale
            | Self::Cut(_)
            | Self::Stall(_)
            | Self::Longer(_)
            | Self::Shorter(_)
            | Self::Flip(_)
            | Self::Garbage
            | Self::Empty
            | Self::WrongETag
            | Self::NoETag
            | Self::WrongRange
            | Self::NoRange => return None,
        })
    }

    /// What becomes of the answer of a request that was done.
    pub(super) fn apply(&self, mut head: Parts, body: Bytes) -> Result<Response<Answer>, Broken> {
        Ok(match self {
            // The length that the answer to HEAD has is that of the object.
            Self::Longer(_) | Self::Shorter(_) | Self::Empty | Self::Garbage | Self::Flip(_)
                if body.is_empty() =>
            {
                whole(head, body)
            }
            Self::Cut(at) => streamed(head, body.slice(..body.len().min(*at)), Some(Err(Broken))),
            Self::Stall(at) => {
                let begin = body.slice(..body.len().min(*at));
                let begin = futures::stream::iter([Ok(Frame::data(begin))]);
                Response::from_parts(head, StreamBody::new(begin.chain(futures::stream::pending()).boxed()))
            }
            Self::Longer(more) => resized(head, [&body[..], &vec![b'+'; *more]].concat()),
            Self::Shorter(less) => resized(head, body[..body.len().saturating_sub(*less)].to_vec()),
            Self::Empty => resized(head, Vec::new()),
            Self::Garbage => resized(head, vec![b'#'; body.len()]),
            Self::Flip(bit) => {
                let mut flipped = body.to_vec();
                flipped[bit / 8 % body.len()] ^= 1 << (bit % 8);
                whole(head, flipped.into())
            }
            Self::WrongETag => {
                head.headers.insert(ETAG, HeaderValue::from_static("\"0123456789abcdef0123456789abcdef\""));
                whole(head, body)
            }
            Self::NoETag => {
                head.headers.remove(ETAG);
                whole(head, body)
            }
            Self::WrongRange => {
                let range = format!("bytes 1-{}/{}", body.len(), body.len() * 2);
                head.headers.insert(CONTENT_RANGE, range.parse().expect("plain ASCII"));
                whole(head, body)
            }
            Self::NoRange => {
                head.headers.remove(CONTENT_RANGE);
                head.status = StatusCode::OK;
                whole(head, body)
            }
            Self::LostAnswer => return Err(Broken),
            Self::Status(..)
            | Self::Page(_)
            | Self::Bare(_)
            | Self::Redirect(_)
            | Self::ErrorIn200(_)
            | Self::Reset
            | Self::Silence
            | Self::Late(_)
            | Self::Twice
            | Self::Stale => whole(head, body),
        })
    }
}

/// An answer as it is.
pub(super) fn whole(head: Parts, body: Bytes) -> Response<Answer> {
    streamed(head, body, None)
}

/// An answer with another body, of the length that its header says.
fn resized(mut head: Parts, body: Vec<u8>) -> Response<Answer> {
    head.headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    whole(head, body.into())
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
    page(status, "application/xml", &body)
}

fn page(status: u16, kind: &str, body: &str) -> Response<Answer> {
    let builder = Response::builder().status(status).header(CONTENT_TYPE, kind);
    let builder = builder.header(CONTENT_LENGTH, body.len());
    let (head, ()) = builder.body(()).expect("plain headers").into_parts();
    whole(head, Bytes::copy_from_slice(body.as_bytes()))
}
