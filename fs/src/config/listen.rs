//! Where a service of the mount listens: on this machine only.

use std::net::SocketAddr;
use std::path::PathBuf;

/// An address that only this machine reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// A loopback address.
    Tcp(SocketAddr),
    /// A unix socket, absolute.
    Unix(PathBuf),
}

impl Listen {
    /// Reads `127.0.0.1:9464` or `unix:/run/tarn/metrics.sock`; the error says what was expected.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        const EXPECTED: &str = "a loopback address such as 127.0.0.1:9464, or unix:/PATH";
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.starts_with('/') { Ok(Self::Unix(path.into())) } else { Err(EXPECTED) };
        }
        match text.parse::<SocketAddr>() {
            Ok(address) if address.ip().is_loopback() => Ok(Self::Tcp(address)),
            Ok(_) | Err(_) => Err(EXPECTED),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_listened_on() {
        assert_eq!(Listen::parse("127.0.0.1:9464"), Ok(Listen::Tcp(([127, 0, 0, 1], 9464).into())));
        assert_eq!(Listen::parse("unix:/run/m.sock"), Ok(Listen::Unix("/run/m.sock".into())));
        for wrong in ["0.0.0.0:9464", "9464", "unix:m.sock", "example.org:80"] {
            assert!(Listen::parse(wrong).is_err(), "{wrong}");
        }
    }
}
