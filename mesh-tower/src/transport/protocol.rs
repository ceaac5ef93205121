//! The protocols of connections.

use http::Version;
use mesh_core::model::HttpProtocol;

/// The protocol of a connection that requests are sent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// None that this process knows: the data of the request is passed on, as for CONNECT.
    Tcp,
}

impl Protocol {
    /// The version of its requests; `None` = it is not HTTP.
    pub(crate) fn version(self) -> Option<Version> {
        match self {
            Self::Http1 => Some(Version::HTTP_11),
            Self::Http2 => Some(Version::HTTP_2),
            Self::Tcp => None,
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
