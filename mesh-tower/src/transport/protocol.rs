//! The HTTP versions that connections speak.

use http::Version;
use mesh_core::model::HttpProtocol;

/// The protocol of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

impl Protocol {
    /// The version that its requests have.
    pub(crate) fn version(self) -> Version {
        match self {
            Self::Http1 => Version::HTTP_11,
            Self::Http2 => Version::HTTP_2,
        }
    }

    /// The protocol with this name in a TLS handshake (ALPN, RFC 7301); `None` = another than HTTP.
    pub(crate) fn from_alpn(name: &str) -> Option<Self> {
        match name {
            "h2" => Some(Self::Http2),
            "http/1.1" => Some(Self::Http1),
            _ => None,
        }
    }

    /// What a cluster speaks to its endpoints for a request that came as `version`.
    pub(crate) fn choose(configured: HttpProtocol, version: Version) -> Self {
        match configured {
            HttpProtocol::Http1 => Self::Http1,
            HttpProtocol::Http2 => Self::Http2,
            HttpProtocol::UseDownstream if version == Version::HTTP_2 => Self::Http2,
            HttpProtocol::UseDownstream => Self::Http1,
        }
    }
}
