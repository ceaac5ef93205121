//! Original destinations: the addresses to which connections were made before they were redirected to this process.

use std::{net::SocketAddr, num::NonZeroU16, time::Duration};

use http::{HeaderMap, HeaderName};

/// How the endpoint of a connection is found in a cluster with [`Discovery::OriginalDst`](super::Discovery::OriginalDst). Envoy
/// `Cluster.OriginalDstLbConfig`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OriginalDstOptions {
    /// The header of requests whose value is the address, if it is one. Default none. Envoy `use_http_header`, `http_header_name`.
    pub http_header_name: Option<HeaderName>,
    /// The port of all endpoints. Default that of the original destination.
    pub upstream_port_override: Option<NonZeroU16>,
    /// How long an endpoint stays that is not used. Default 5 s. Envoy `Cluster.cleanup_interval`.
    pub cleanup_interval: Duration,
}

impl OriginalDstOptions {
    /// The address for a connection that was made to `restored`, and a request with these headers.
    #[must_use]
    pub fn destination(&self, restored: Option<SocketAddr>, headers: Option<&HeaderMap>) -> Option<SocketAddr> {
        let header = self.http_header_name.as_ref().and_then(|name| headers?.get(name)?.to_str().ok()?.parse().ok());
        let mut destination: SocketAddr = header.or(restored)?;
        if let Some(port) = self.upstream_port_override {
            destination.set_port(port.get());
        }
        Some(destination)
    }
}

impl Default for OriginalDstOptions {
    fn default() -> Self {
        Self { http_header_name: None, upstream_port_override: None, cleanup_interval: Duration::from_secs(5) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_destination_is_that_of_the_header_or_of_the_connection() {
        let address = |text: &str| Some(text.parse::<SocketAddr>().unwrap());
        let mut headers = HeaderMap::new();
        headers.insert("x-envoy-original-dst-host", "10.0.0.2:90".parse().unwrap());
        let mut options = OriginalDstOptions::default();
        let restored = address("10.0.0.1:80");
        assert_eq!(options.destination(restored, Some(&headers)), restored);
        assert_eq!(options.destination(None, Some(&headers)), None);
        options.http_header_name = Some(HeaderName::from_static("x-envoy-original-dst-host"));
        assert_eq!(options.destination(restored, Some(&headers)), address("10.0.0.2:90"));
        assert_eq!(options.destination(restored, None), restored);
        headers.insert("x-envoy-original-dst-host", "db.test:90".parse().unwrap());
        assert_eq!(options.destination(restored, Some(&headers)), restored, "not an address");
        options.upstream_port_override = NonZeroU16::new(443);
        assert_eq!(options.destination(restored, None), address("10.0.0.1:443"));
    }
}
