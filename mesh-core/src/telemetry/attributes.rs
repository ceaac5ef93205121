//! The facts of one request.

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, Method, StatusCode, Version};

use super::ResponseFlags;
use crate::{model::Metadata, request::RequestHead};

/// What is known of a request, once and for everybody: access logs, header values, metrics and policies read this one
/// value, so they cannot disagree.
///
/// Everything borrows; a value costs no allocation. A fact that does not exist, or does not exist yet, is `None`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attributes<'a> {
    /// Method of the request.
    pub method: Option<&'a Method>,
    /// Scheme of the request, `http` or `https`.
    pub scheme: Option<&'a str>,
    /// Authority of the request, as the client sent it or as it was rewritten.
    pub authority: Option<&'a str>,
    /// Path and query, as they are sent upstream.
    pub path: Option<&'a str>,
    /// Path and query before a rewrite; stands in for a missing `x-envoy-original-path`.
    pub original_path: Option<&'a str>,
    /// Request headers, as they are sent upstream.
    pub request_headers: Option<&'a HeaderMap>,
    /// Response headers.
    pub response_headers: Option<&'a HeaderMap>,
    /// Response trailers.
    pub response_trailers: Option<&'a HeaderMap>,
    /// Protocol of the downstream connection.
    pub protocol: Option<Version>,
    /// Protocol of the upstream connection.
    pub upstream_protocol: Option<Version>,
    /// Status of the response; `None` if there was none.
    pub response_code: Option<StatusCode>,
    /// Who gave the response, and why; see [`details`](super::details).
    pub response_code_details: Option<&'a str>,
    /// Why the downstream connection ended.
    pub connection_termination_details: Option<&'a str>,
    /// What happened beyond the status.
    pub response_flags: ResponseFlags,
    /// Body of a local reply.
    pub local_reply_body: Option<&'a str>,
    /// Bytes of the request body.
    pub bytes_received: u64,
    /// Bytes of the response body.
    pub bytes_sent: u64,
    /// Bytes of the request headers.
    pub request_headers_bytes: u64,
    /// Bytes of the response headers.
    pub response_headers_bytes: u64,
    /// Bytes of the response trailers.
    pub response_trailers_bytes: u64,
    /// When the request began.
    pub start_time: Option<SystemTime>,
    /// When the log line is written.
    pub emit_time: Option<SystemTime>,
    /// From the start to the last byte of the response.
    pub duration: Option<Duration>,
    /// From the start to the last byte of the request received.
    pub request_duration: Option<Duration>,
    /// From the start to the last byte of the request sent upstream.
    pub request_tx_duration: Option<Duration>,
    /// From the start to the first byte of the response received.
    pub response_duration: Option<Duration>,
    /// From the first byte of the response received to the last byte sent downstream.
    pub response_tx_duration: Option<Duration>,
    /// The client's address, which a trusted `x-forwarded-for` may tell.
    pub downstream_remote_address: Option<SocketAddr>,
    /// The peer of the downstream connection.
    pub downstream_direct_remote_address: Option<SocketAddr>,
    /// This end of the downstream connection.
    pub downstream_local_address: Option<SocketAddr>,
    /// Number of the downstream connection.
    pub connection_id: Option<u64>,
    /// Server name that the client asked for in TLS.
    pub requested_server_name: Option<&'a str>,
    /// Version of TLS on the downstream connection, such as `TLSv1.3`.
    pub downstream_tls_version: Option<&'a str>,
    /// Identity that the client proved, such as `spiffe://cluster.local/ns/default/sa/web`.
    pub downstream_peer_uri_san: Option<&'a str>,
    /// Identity that this end proved to the client.
    pub downstream_local_uri_san: Option<&'a str>,
    /// The endpoint chosen.
    pub upstream_host: Option<SocketAddr>,
    /// Host name of the endpoint chosen, if it has one.
    pub upstream_host_name: Option<&'a str>,
    /// The far end of the upstream connection, if one was made.
    pub upstream_remote_address: Option<SocketAddr>,
    /// This end of the upstream connection.
    pub upstream_local_address: Option<SocketAddr>,
    /// Name of the cluster for statistics (`alt_stat_name`, else its name).
    pub upstream_cluster: Option<&'a str>,
    /// Name of the cluster.
    pub upstream_cluster_raw: Option<&'a str>,
    /// Requests sent upstream for this one; 0 = none.
    pub upstream_request_attempt_count: u32,
    /// Why no connection was made, or why it broke.
    pub upstream_transport_failure_reason: Option<&'a str>,
    /// Name of the route.
    pub route_name: Option<&'a str>,
    /// Facts attached to the route.
    pub route_metadata: Option<&'a Metadata>,
    /// Name of the virtual host.
    pub virtual_host_name: Option<&'a str>,
    /// Name of this machine.
    pub hostname: Option<&'a str>,
    /// Trace of the request, in hexadecimal.
    pub trace_id: Option<&'a str>,
    /// When the log line is written: `DownstreamEnd`, the only kind there is.
    pub access_log_type: Option<&'a str>,
}

impl<'a> Attributes<'a> {
    /// What a request's head tells; the rest unknown.
    #[must_use]
    pub fn of_request(head: &RequestHead<'a>) -> Self {
        Self {
            method: Some(head.method),
            scheme: Some(head.scheme()),
            authority: Some(head.authority),
            path: Some(head.path_and_query),
            request_headers: Some(head.headers),
            ..Self::default()
        }
    }
}
