//! The HTTP versions of connections.

use http::Version;
use mesh_core::model::HttpProtocol;

/// The HTTP version of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

impl Protocol {
    /// The version of its requests.
    pub(crate) fn version(self) -> Version {
        match self {
            Self::Http1 => Version::HTTP_11,
            Self::Http2 => Version::HTTP_2,
        }
    }

    /// The protocol with this ALPN name (RFC 7301); `None` = not HTTP.
    pub(crate) fn from_alpn(name: &str) -> Option<Self> {
        match name {
            "h2" => Some(Self::Http2),
            "http/1.1" => Some(Self::Http1),
            _ => None,
        }
    }

    /// The protocol for a request of version `version` to a cluster that is configured with `configured`.
    pub(crate) fn choose(configured: HttpProtocol, version: Version) -> Self {
        match configured {
            HttpProtocol::Http1 => Self::Http1,
            HttpProtocol::Http2 => Self::Http2,
            HttpProtocol::UseDownstream if version == Version::HTTP_2 => Self::Http2,
            HttpProtocol::UseDownstream => Self::Http1,
        }
    }
}
