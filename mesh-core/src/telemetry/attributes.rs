//! The attributes of one request.

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, Method, StatusCode, Version};

use super::ResponseFlags;
use crate::{
    model::{Metadata, NetworkAddress},
    request::RequestHead,
    tls::TlsInfo,
};

/// The attributes of a request and its response. Access logs, header values, metrics and policies all read this value,
/// so they agree.
///
/// All fields borrow, so building it does not allocate. A field is `None` if its value does not exist or is not known
/// yet.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attributes<'a> {
    /// Method of the request.
    pub method: Option<&'a Method>,
    /// Scheme of the request, `http` or `https`.
    pub scheme: Option<&'a str>,
    /// Authority of the request: the client's, or the rewritten one.
    pub authority: Option<&'a str>,
    /// Path and query that are sent upstream.
    pub path: Option<&'a str>,
    /// Path and query before a rewrite; used if `x-envoy-original-path` is missing.
    pub original_path: Option<&'a str>,
    /// Request headers that are sent upstream.
    pub request_headers: Option<&'a HeaderMap>,
    /// Response headers.
    pub response_headers: Option<&'a HeaderMap>,
    /// Response trailers.
    pub response_trailers: Option<&'a HeaderMap>,
    /// Protocol of the downstream connection.
    pub protocol: Option<Version>,
    /// Protocol of the upstream connection.
    pub upstream_protocol: Option<Version>,
    /// Status of the response; `None` if there was no response.
    pub response_code: Option<StatusCode>,
    /// Origin and reason of the response; see [`details`](super::details).
    pub response_code_details: Option<&'a str>,
    /// Why the downstream connection ended.
    pub connection_termination_details: Option<&'a str>,
    /// Response flags.
    pub response_flags: ResponseFlags,
    /// Body of a local reply.
    pub local_reply_body: Option<&'a str>,
    /// Size of the request body in bytes.
    pub bytes_received: u64,
    /// Size of the response body in bytes.
    pub bytes_sent: u64,
    /// Size of the request headers in bytes.
    pub request_headers_bytes: u64,
    /// Size of the response headers in bytes.
    pub response_headers_bytes: u64,
    /// Size of the response trailers in bytes.
    pub response_trailers_bytes: u64,
    /// Time when the request began.
    pub start_time: Option<SystemTime>,
    /// Time when the log line is written.
    pub emit_time: Option<SystemTime>,
    /// Time from the start to the last byte of the response.
    pub duration: Option<Duration>,
    /// Time from the start until the last byte of the request was received.
    pub request_duration: Option<Duration>,
    /// Time from the start until the last byte of the request was sent upstream.
    pub request_tx_duration: Option<Duration>,
    /// Time from the start until the first byte of the response was received.
    pub response_duration: Option<Duration>,
    /// Time from the first byte of the response received to the last byte sent downstream.
    pub response_tx_duration: Option<Duration>,
    /// Address of the client, which may come from a trusted `x-forwarded-for`.
    pub downstream_remote_address: Option<SocketAddr>,
    /// Remote address of the downstream connection.
    pub downstream_direct_remote_address: Option<SocketAddr>,
    /// Local address of the downstream connection.
    pub downstream_local_address: Option<SocketAddr>,
    /// ID of the downstream connection.
    pub connection_id: Option<u64>,
    /// Server name that the client requested by TLS SNI.
    pub requested_server_name: Option<&'a str>,
    /// TLS of the downstream connection.
    pub downstream_tls: Option<&'a TlsInfo>,
    /// TLS of the upstream connection.
    pub upstream_tls: Option<&'a TlsInfo>,
    /// Address of the selected endpoint.
    pub upstream_host: Option<&'a NetworkAddress>,
    /// Host name of the selected endpoint, if it has one.
    pub upstream_host_name: Option<&'a str>,
    /// Remote address of the upstream connection, if one was established.
    pub upstream_remote_address: Option<&'a NetworkAddress>,
    /// Local address of the upstream connection.
    pub upstream_local_address: Option<SocketAddr>,
    /// Name of the cluster in statistics: `alt_stat_name`, or its name.
    pub upstream_cluster: Option<&'a str>,
    /// Name of the cluster.
    pub upstream_cluster_raw: Option<&'a str>,
    /// Number of upstream requests for this request, retries included.
    pub upstream_request_attempt_count: u32,
    /// Why the upstream connection failed.
    pub upstream_transport_failure_reason: Option<&'a str>,
    /// Name of the route.
    pub route_name: Option<&'a str>,
    /// Metadata of the route.
    pub route_metadata: Option<&'a Metadata>,
    /// Metadata that HTTP filters have set for the request. Envoy `StreamInfo::dynamicMetadata`.
    pub dynamic_metadata: Option<&'a Metadata>,
    /// Name of the virtual host.
    pub virtual_host_name: Option<&'a str>,
    /// Name of this machine.
    pub hostname: Option<&'a str>,
    /// Trace ID of the request, in hexadecimal.
    pub trace_id: Option<&'a str>,
    /// Kind of the log line. The only one is `DownstreamEnd`, written when a request has ended.
    pub access_log_type: Option<&'a str>,
}

impl<'a> Attributes<'a> {
    /// The attributes that a request's head has. All others are unknown.
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
