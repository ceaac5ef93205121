//! Envoy's statistics of connections that are not HTTP, or not yet: listener filters and TCP proxies.

use mesh_core::telemetry::Counter;

use super::{
    http_stats::stats,
    stat::{Scope, StatValue, StatVisitor},
};

stats! {
    /// Statistics of the listener filter that recognizes TLS, for all listeners. Envoy `tls_inspector.`.
    TlsInspectorStats {
        counters {
            /// Connections that begin with a TLS client hello.
            tls_found = "tls_inspector.tls_found",
            /// Connections that do not.
            tls_not_found = "tls_inspector.tls_not_found",
            /// Client hellos with a server name.
            sni_found = "tls_inspector.sni_found",
            /// Client hellos without one.
            sni_not_found = "tls_inspector.sni_not_found",
            /// Client hellos with application protocols.
            alpn_found = "tls_inspector.alpn_found",
            /// Client hellos without any.
            alpn_not_found = "tls_inspector.alpn_not_found",
            /// Connections closed because their client hello is too large.
            client_hello_too_large = "tls_inspector.client_hello_too_large",
        }
        gauges {}
        histograms {}
    }
}

stats! {
    /// Statistics of the listener filter that recognizes HTTP, for all listeners. Envoy `http_inspector.`.
    HttpInspectorStats {
        counters {
            /// Connections that begin with an HTTP/1.0 request.
            http10_found = "http_inspector.http10_found",
            /// Connections that begin with an HTTP/1.1 request.
            http11_found = "http_inspector.http11_found",
            /// Connections that begin with the preface of HTTP/2.
            http2_found = "http_inspector.http2_found",
            /// Connections that begin with something else.
            http_not_found = "http_inspector.http_not_found",
            /// Connections closed because their request line is too long.
            read_error = "http_inspector.read_error",
        }
        gauges {}
        histograms {}
    }
}

stats! {
    /// Statistics of the codecs of all listeners. Envoy `http1.` and `http2.`.
    CodecStats {
        counters {
            /// Headers and trailers of HTTP/1 requests that were dropped because their names have an underscore.
            http1_dropped_headers_with_underscores = "http1.dropped_headers_with_underscores",
            /// HTTP/1 requests that were refused for such a header.
            http1_requests_rejected_with_underscores_in_headers = "http1.requests_rejected_with_underscores_in_headers",
            /// Headers and trailers of HTTP/2 requests that were dropped because their names have an underscore.
            http2_dropped_headers_with_underscores = "http2.dropped_headers_with_underscores",
            /// HTTP/2 requests that were refused for such a header.
            http2_requests_rejected_with_underscores_in_headers = "http2.requests_rejected_with_underscores_in_headers",
        }
        gauges {}
        histograms {}
    }
}

stats! {
    /// Statistics of the TCP proxies with one `stat_prefix`. Envoy `tcp.<stat_prefix>.`.
    TcpStats {
        counters {
            /// Connections accepted.
            downstream_cx_total = "downstream_cx_total",
            /// Connections whose cluster does not exist.
            downstream_cx_no_route = "downstream_cx_no_route",
            /// Bytes received.
            downstream_cx_rx_bytes_total = "downstream_cx_rx_bytes_total",
            /// Bytes sent.
            downstream_cx_tx_bytes_total = "downstream_cx_tx_bytes_total",
            /// Connections closed by the idle timeout.
            idle_timeout = "idle_timeout",
            /// Connections closed because they lasted too long.
            max_downstream_connection_duration = "max_downstream_connection_duration",
        }
        gauges {}
        histograms {}
    }
}
