//! Lets clients in that name the socket's path as the host they call. gRPC for Go does so on a unix socket
//! (`:authority: %2Fvar%2Flib%2F...`), and with it the kubelet when it asks plugins who they are; the HTTP library here
//! refuses it as no host (RFC 3986, section 3.2.2). What a client says arrives with `localhost` in its place.
//!
//! Frames are those of RFC 9113, section 4.1; only HEADERS is looked into (RFC 7541).

use loona_hpack::{Decoder, Encoder};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::net::UnixStream;

/// `PRI * HTTP/2.0...`, which a client sends first.
const PREFACE: usize = 24;
/// Frame header: 3 bytes of length, type, flags, 4 bytes of stream.
const HEAD: usize = 9;
/// The largest frame that a client may send: this server announces no other.
const FRAME_MAX: usize = 16_384;
const HEADERS: u8 = 1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// Bytes under way in each direction.
const BUFFER: usize = 64 << 10;

/// The connection of `client` as it is to be served.
pub fn relay(client: UnixStream) -> DuplexStream {
    let (served, outer) = tokio::io::duplex(BUFFER);
    tokio::spawn(async move {
        let ((mut asked, mut told), (mut answers, mut requests)) =
            (client.into_split(), tokio::io::split(outer));
        let forth = async {
            rewrite(&mut asked, &mut requests).await?;
            requests.shutdown().await
        };
        let back = async {
            tokio::io::copy(&mut answers, &mut told).await?;
            told.shutdown().await
        };
        if let Err(error) = tokio::try_join!(forth, back) {
            tracing::debug!(%error, "a connection has ended");
        }
    });
    served
}

/// Copies what a client sends to its end, with another authority.
async fn rewrite(from: &mut (impl AsyncRead + Unpin), to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    let mut preface = [0; PREFACE];
    from.read_exact(&mut preface).await?;
    to.write_all(&preface).await?;
    let mut codec = Codec { decoder: Decoder::new(), encoder: Encoder::new() };
    let mut head = [0; HEAD];
    loop {
        match from.read_exact(&mut head).await {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            read => read?,
        };
        let [a, b, c, kind, flags, stream @ ..] = head;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        if length > FRAME_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame is larger than allowed"));
        }
        let mut payload = vec![0; length];
        from.read_exact(&mut payload).await?;
        if kind == HEADERS {
            payload = codec.relabel(flags, &payload)?;
            let [_, a, b, c] = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
            let [s, t, u, v] = stream;
            head = [a, b, c, kind, flags & !(PADDED | PRIORITY), s, t, u, v];
        }
        to.write_all(&head).await?;
        to.write_all(&payload).await?;
    }
}

/// Both ends of the compression, which remember what they have seen on a connection.
struct Codec {
    decoder: Decoder<'static>,
    encoder: Encoder<'static>,
}

impl Codec {
    /// The payload of a HEADERS frame, without padding and priority.
    fn relabel(&mut self, flags: u8, payload: &[u8]) -> io::Result<Vec<u8>> {
        let invalid = |text: &str| io::Error::new(io::ErrorKind::InvalidData, text.to_owned());
        if flags & END_HEADERS == 0 {
            return Err(invalid("the headers of a call do not fit into one frame"));
        }
        let padding = if flags & PADDED == 0 { None } else { payload.first() };
        let start = usize::from(padding.is_some()) + if flags & PRIORITY == 0 { 0 } else { 5 };
        let end = payload.len().saturating_sub(padding.copied().unwrap_or(0).into());
        let block = payload.get(start..end).ok_or_else(|| invalid("a frame is shorter than its padding"))?;
        let mut headers = self.decoder.decode(block).map_err(|error| invalid(&format!("{error:?}")))?;
        for (name, value) in &mut headers {
            if name == b":authority" {
                *value = b"localhost".to_vec();
            }
        }
        Ok(self.encoder.encode(headers.iter().map(|(name, value)| (name.as_slice(), value.as_slice()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codec() -> Codec {
        Codec { decoder: Decoder::new(), encoder: Encoder::new() }
    }

    fn call(authority: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
        let all = [(":method", "POST"), (":path", "/a/B"), (":authority", authority), ("te", "trailers")];
        all.map(|(name, value)| (name.into(), value.into())).to_vec()
    }

    #[test]
    fn each_call_of_a_connection_is_made_to_localhost() {
        let (mut codec, mut client, mut server) = (codec(), Encoder::new(), Decoder::new());
        for _ in 0..3 {
            let said = call("%2Fvar%2Flib%2Fa.sock");
            let block = client.encode(said.iter().map(|(name, value)| (name.as_slice(), value.as_slice())));
            let served = codec.relabel(END_HEADERS, &block).expect("good");
            assert_eq!(server.decode(&served).expect("headers"), call("localhost"));
        }
    }

    #[test]
    fn padding_and_priority_are_left_out() {
        let said = call("x");
        let block =
            Encoder::new().encode(said.iter().map(|(name, value)| (name.as_slice(), value.as_slice())));
        let payload = [&[3, 0, 0, 0, 0, 16], block.as_slice(), &[0; 3]].concat();
        let served = codec().relabel(END_HEADERS | PADDED | PRIORITY, &payload).expect("good");
        assert_eq!(Decoder::new().decode(&served).expect("headers"), call("localhost"));
    }

    #[test]
    fn what_no_client_may_send_is_an_error() {
        for (flags, payload) in [
            (0, &[0x82][..]),
            (END_HEADERS | PADDED, &[9, 0x82]),
            (END_HEADERS | PRIORITY, &[0]),
            (END_HEADERS, &[0xff]),
        ] {
            assert!(codec().relabel(flags, payload).is_err(), "{flags} {payload:?}");
        }
    }
}
