//! Values of `%RESPONSE_CODE_DETAILS%`: who gave the answer, and why. Envoy `StreamInfo::ResponseCodeDetails`.

/// The upstream answered.
pub const VIA_UPSTREAM: &str = "via_upstream";
/// No route takes the request, or no virtual host.
pub const ROUTE_NOT_FOUND: &str = "route_not_found";
/// The route's cluster does not exist.
pub const CLUSTER_NOT_FOUND: &str = "cluster_not_found";
/// The cluster has no healthy endpoint.
pub const NO_HEALTHY_UPSTREAM: &str = "no_healthy_upstream";
/// The route's timeout ended.
pub const RESPONSE_TIMEOUT: &str = "response_timeout";
/// The last try's timeout ended before the answer began.
pub const UPSTREAM_PER_TRY_TIMEOUT: &str = "upstream_per_try_timeout";
/// The stream's maximum duration ended before the answer began.
pub const UPSTREAM_MAX_STREAM_DURATION_REACHED: &str = "upstream_max_stream_duration_reached";
/// The request lived longer than the listener allows.
pub const MAX_DURATION_TIMEOUT: &str = "max_duration_timeout";
/// Nothing moved on the stream for too long.
pub const STREAM_IDLE_TIMEOUT: &str = "stream_idle_timeout";
/// The request did not arrive in time.
pub const REQUEST_OVERALL_TIMEOUT: &str = "request_overall_timeout";
/// The request headers did not arrive in time.
pub const REQUEST_HEADER_TIMEOUT: &str = "request_header_timeout";
/// The route answers with a fixed response, or with a redirect.
pub const DIRECT_RESPONSE: &str = "direct_response";
/// An injected failure.
pub const FAULT_FILTER_ABORT: &str = "fault_filter_abort";
/// The upgrade is not allowed.
pub const UPGRADE_FAILED: &str = "upgrade_failed";
/// The protocol version is not accepted.
pub const LOW_VERSION: &str = "low_version";
/// The request names no host.
pub const MISSING_HOST: &str = "missing_host_header";
/// The target is not an absolute path, such as that of `OPTIONS *`.
pub const ABSOLUTE_PATH_REJECTED: &str = "absolute_path_rejected";
/// The path cannot be normalized.
pub const PATH_NORMALIZATION_FAILED: &str = "path_normalization_failed";
/// More header bytes than allowed.
pub const HEADERS_TOO_LARGE: &str = "http1.headers_too_large";
/// More headers than allowed.
pub const TOO_MANY_HEADERS: &str = "http1.too_many_headers";
/// The client broke HTTP/1.1.
pub const HTTP1_CODEC_ERROR: &str = "http1.codec_error";
/// The client went away.
pub const DOWNSTREAM_REMOTE_DISCONNECT: &str = "downstream_remote_disconnect";
/// The client reset its stream.
pub const HTTP2_REMOTE_RESET: &str = "http2.remote_reset";
/// Too much load: a limit of this process.
pub const OVERLOAD: &str = "overload";
/// The request's body is larger than what must be buffered of it.
pub const REQUEST_PAYLOAD_TOO_LARGE: &str = "request_payload_too_large";
/// The response's body is larger than what must be buffered of it.
pub const RESPONSE_PAYLOAD_TOO_LARGE: &str = "response_payload_too_large";

/// The details of a reset before the answer began: `upstream_reset_before_response_started{reason|failure}`, blanks
/// as underscores. `failure` is the transport's own text and may be empty.
#[must_use]
pub fn upstream_reset_before_response_started(reason: &str, failure: &str) -> String {
    let separator = if failure.is_empty() { "" } else { "|" };
    format!("upstream_reset_before_response_started{{{reason}{separator}{failure}}}").replace(' ', "_")
}

/// The details of a reset in the midst of the answer: `upstream_reset_after_response_started{reason}`, blanks as
/// underscores.
#[must_use]
pub fn upstream_reset_after_response_started(reason: &str) -> String {
    format!("upstream_reset_after_response_started{{{reason}}}").replace(' ', "_")
}
