//! What the relay must know of HTTP/1.1: how long the body after a head is, and which kind a request is. Pure.

use super::count::Kind;

/// How the end of a body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// There is none.
    None,
    /// So many bytes.
    Length(u64),
    /// Chunks, each with its length before it.
    Chunked,
    /// Until the connection ends.
    ToEnd,
}

/// The head of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// What it asks for.
    pub kind: Kind,
    /// What follows it.
    pub body: Body,
    /// The client sends the body after `100 Continue` only.
    pub waits: bool,
}

/// The head of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// An answer of the class 1xx; another one follows.
    pub interim: bool,
    /// What follows it.
    pub body: Body,
    /// The connection ends with it.
    pub last: bool,
}

impl Request {
    /// Reads a head; `None` if it is none.
    pub fn parse(head: &str) -> Option<Self> {
        let mut words = head.lines().next()?.split(' ');
        let kind = kind(words.next()?, words.next()?)?;
        let waits = field(head, "expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue"));
        Some(Self { kind, body: framing(head).unwrap_or(Body::None), waits })
    }
}

impl Answer {
    /// Reads the head of an answer to a request of a kind; `None` if it is none.
    pub fn parse(head: &str, to: Kind) -> Option<Self> {
        let status: u16 = head.lines().next()?.split(' ').nth(1)?.parse().ok()?;
        let interim = status / 100 == 1;
        let body = if interim || to == Kind::Head || matches!(status, 204 | 304) {
            Body::None
        } else {
            framing(head).unwrap_or(Body::ToEnd)
        };
        let closes = field(head, "connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        Some(Self { interim, body, last: closes || body == Body::ToEnd })
    }
}

/// The length of the chunk that such a line begins.
pub fn chunk_length(line: &str) -> Option<u64> {
    u64::from_str_radix(line.split(';').next()?.trim(), 16).ok()
}

/// What a request asks for: a GET of a bucket, or of the parts of an upload, is a listing.
fn kind(method: &str, target: &str) -> Option<Kind> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    match method {
        "GET" => {
            let has_key =
                path.trim_start_matches('/').split_once('/').is_some_and(|(_, key)| !key.is_empty());
            let lists = |word: &str| {
                let name = word.split('=').next().unwrap_or(word);
                matches!(name, "list-type" | "prefix" | "delimiter" | "marker" | "uploads" | "versions")
            };
            let of_bucket = !has_key && (query.is_empty() || query.split('&').any(lists));
            let of_upload = has_key && query.split('&').any(|word| word.starts_with("uploadId="));
            Some(if of_bucket || of_upload { Kind::List } else { Kind::Get })
        }
        "HEAD" => Some(Kind::Head),
        "PUT" => Some(Kind::Put),
        "POST" if query.split('&').any(|word| matches!(word, "delete" | "delete=")) => Some(Kind::Delete),
        "POST" => Some(Kind::Post),
        "DELETE" => Some(Kind::Delete),
        _ => None,
    }
}

/// How the head says that its body ends.
fn framing(head: &str) -> Option<Body> {
    if field(head, "transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        return Some(Body::Chunked);
    }
    Some(Body::Length(field(head, "content-length")?.parse().ok()?))
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_apart() {
        for (method, target, expected) in [
            ("GET", "/bucket/key", Kind::Get),
            ("GET", "/bucket/key?partNumber=3", Kind::Get),
            ("GET", "/bucket/?location=", Kind::Get),
            ("GET", "/bucket", Kind::List),
            ("GET", "/bucket?list-type=2&prefix=a%2F", Kind::List),
            ("GET", "/bucket/?delimiter=%2F&prefix=", Kind::List),
            ("GET", "/bucket/key?uploadId=1", Kind::List),
            ("HEAD", "/bucket/key", Kind::Head),
            ("PUT", "/bucket/key?partNumber=1&uploadId=1", Kind::Put),
            ("POST", "/bucket/key?uploads", Kind::Post),
            ("POST", "/bucket/?delete", Kind::Delete),
            ("POST", "/bucket?delete=", Kind::Delete),
            ("DELETE", "/bucket/key", Kind::Delete),
        ] {
            assert_eq!(kind(method, target), Some(expected), "{method} {target}");
        }
        assert_eq!(kind("BREW", "/pot"), None);
    }

    #[test]
    fn the_body_of_a_request_is_as_its_head_says() {
        let put = Request::parse("PUT /b/k HTTP/1.1\r\ncontent-Length: 7\r\nExpect: 100-continue\r\n\r\n");
        assert_eq!(put, Some(Request { kind: Kind::Put, body: Body::Length(7), waits: true }));
        let get = Request::parse("GET /b/k HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(get, Some(Request { kind: Kind::Get, body: Body::None, waits: false }));
        assert_eq!(Request::parse("nonsense"), None);
    }

    #[test]
    fn the_body_of_an_answer_depends_on_the_request() {
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n";
        let answer = |head, to| Answer::parse(head, to).unwrap();
        assert_eq!(answer(head, Kind::Get).body, Body::Length(9));
        assert_eq!(answer(head, Kind::Head).body, Body::None);
        assert!(answer("HTTP/1.1 100 Continue\r\n\r\n", Kind::Put).interim);
        assert!(answer("HTTP/1.1 200 OK\r\n\r\n", Kind::Get).last);
        let chunked = answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Kind::List);
        assert_eq!(chunked, Answer { interim: false, body: Body::Chunked, last: false });
    }

    #[test]
    fn chunks_say_their_length_in_hexadecimal() {
        assert_eq!(chunk_length("1a;signature=x\r\n"), Some(26));
        assert_eq!(chunk_length("\r\n"), None);
    }
}
