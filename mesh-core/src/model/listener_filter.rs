//! Listener filters. Envoy `listener.v3.ListenerFilter`.

use std::{net::SocketAddr, ops::Range};

/// A filter that inspects the first bytes of a connection without consuming them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerFilter {
    /// The kind of filter and its configuration.
    pub config: ListenerFilterConfig,
    /// Connections that it does not inspect; `None` = it inspects all.
    pub disabled: Option<ListenerFilterMatch>,
}

/// The kinds of listener filters, by what they detect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerFilterConfig {
    /// TLS, its server name and application protocols. Envoy `tls_inspector`.
    TlsInspector(TlsInspector),
    /// HTTP/1.0, HTTP/1.1 and HTTP/2 without TLS. Envoy `http_inspector`.
    HttpInspector,
    /// The address that the connection was made to before the system redirected it to this process, which is found out before
    /// the other filters run. Envoy `original_dst`.
    OriginalDst,
}

/// How TLS is recognized. Envoy `filters.listener.tls_inspector.v3.TlsInspector`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsInspector {
    /// Maximum size of a client hello in bytes, at most [`Self::MAX_CLIENT_HELLO`], the default. A connection
    /// with a longer one is closed.
    pub max_client_hello_size: usize,
    /// Whether a connection is closed that does not begin with a TLS client hello, instead of being served as plain
    /// text. Default false.
    pub close_connection_on_client_hello_parsing_errors: bool,
}

/// Connections by the port that they were made to. Envoy `ListenerFilterChainMatchPredicate`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenerFilterMatch {
    /// Those that match any of these.
    Or(Vec<Self>),
    /// Those that match all of these.
    And(Vec<Self>),
    /// Those that do not match this.
    Not(Box<Self>),
    /// All.
    Any,
    /// Those to a port in this range, up to 65536.
    DestinationPorts(Range<u32>),
}

impl ListenerFilter {
    /// A filter for all connections.
    #[must_use]
    pub fn new(config: ListenerFilterConfig) -> Self {
        Self { config, disabled: None }
    }

    /// Whether it does not inspect a connection to `destination`.
    #[must_use]
    pub fn is_disabled(&self, destination: Option<SocketAddr>) -> bool {
        self.disabled.as_ref().is_some_and(|connections| connections.matches(destination))
    }
}

impl ListenerFilterMatch {
    fn matches(&self, destination: Option<SocketAddr>) -> bool {
        match self {
            Self::Or(rules) => rules.iter().any(|rule| rule.matches(destination)),
            Self::And(rules) => rules.iter().all(|rule| rule.matches(destination)),
            Self::Not(rule) => !rule.matches(destination),
            Self::Any => true,
            Self::DestinationPorts(ports) => destination.is_some_and(|address| ports.contains(&address.port().into())),
        }
    }
}

impl TlsInspector {
    /// Largest `max_client_hello_size`, in bytes.
    pub const MAX_CLIENT_HELLO: usize = 16 * 1024;
}

impl Default for TlsInspector {
    fn default() -> Self {
        Self { max_client_hello_size: Self::MAX_CLIENT_HELLO, close_connection_on_client_hello_parsing_errors: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_disabled_by_port() {
        let range = |start, end| ListenerFilterMatch::DestinationPorts(start..end);
        let but_9000 = ListenerFilterMatch::Not(Box::new(range(9000, 9001)));
        let both = ListenerFilterMatch::And(vec![range(8000, 9100), but_9000]);
        let filter = ListenerFilter {
            config: ListenerFilterConfig::HttpInspector,
            disabled: Some(ListenerFilterMatch::Or(vec![range(80, 81), both])),
        };
        let disabled = |port: u16| filter.is_disabled(Some(([127, 0, 0, 1], port).into()));
        assert_eq!([80, 81, 8000, 9000, 9100].map(disabled), [true, false, true, false, false]);
        assert!(!filter.is_disabled(None));
        assert!(!ListenerFilter::new(ListenerFilterConfig::HttpInspector).is_disabled(None));
    }
}
