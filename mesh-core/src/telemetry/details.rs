//! Values of `%RESPONSE_CODE_DETAILS%`: the origin of a response and the reason for it. Envoy "Response code details".

/// The response comes from the upstream.
pub const VIA_UPSTREAM: &str = "via_upstream";
/// No virtual host or no route matches the request.
pub const ROUTE_NOT_FOUND: &str = "route_not_found";
/// No filter chain matches the connection.
pub const FILTER_CHAIN_NOT_FOUND: &str = "filter_chain_not_found";
/// The route's cluster does not exist.
pub const CLUSTER_NOT_FOUND: &str = "cluster_not_found";
/// `drop_overloads` of the cluster drops a share of the requests.
pub const DROP_OVERLOAD: &str = "drop_overload";
/// `drop_overloads` of the cluster drops all requests.
pub const UNCONDITIONAL_DROP_OVERLOAD: &str = "unconditional_drop_overload";
/// The cluster has no healthy endpoint.
pub const NO_HEALTHY_UPSTREAM: &str = "no_healthy_upstream";
/// The route timeout expired.
pub const RESPONSE_TIMEOUT: &str = "response_timeout";
/// The per-try timeout of the last try expired before the response began.
pub const UPSTREAM_PER_TRY_TIMEOUT: &str = "upstream_per_try_timeout";
/// The stream's maximum duration was reached before the response began.
pub const UPSTREAM_MAX_STREAM_DURATION_REACHED: &str = "upstream_max_stream_duration_reached";
/// The listener's maximum stream duration was reached.
pub const MAX_DURATION_TIMEOUT: &str = "max_duration_timeout";
/// The idle timeout of the stream expired.
pub const STREAM_IDLE_TIMEOUT: &str = "stream_idle_timeout";
/// The request was not received in time.
pub const REQUEST_OVERALL_TIMEOUT: &str = "request_overall_timeout";
/// The request headers were not received in time.
pub const REQUEST_HEADER_TIMEOUT: &str = "request_header_timeout";
/// The route has a direct response or a redirect.
pub const DIRECT_RESPONSE: &str = "direct_response";
/// The CORS filter answered a preflight request.
pub const CORS_RESPONSE: &str = "cors_response";
/// The fault filter aborted the request.
pub const FAULT_FILTER_ABORT: &str = "fault_filter_abort";
/// The authorization service denied the request.
pub const EXT_AUTHZ_DENIED: &str = "ext_authz_denied";
/// The authorization service failed.
pub const EXT_AUTHZ_ERROR: &str = "ext_authz_error";
/// The authorization service sent a header or path that is not valid.
pub const EXT_AUTHZ_INVALID: &str = "ext_authz_invalid";
/// The upgrade is not allowed.
pub const UPGRADE_FAILED: &str = "upgrade_failed";
/// The protocol version is not accepted.
pub const LOW_VERSION: &str = "low_version";
/// The request has no host.
pub const MISSING_HOST: &str = "missing_host_header";
/// The host of an HTTP/1 request has invalid characters.
pub const HTTP_INVALID_AUTHORITY: &str = "http.invalid_authority";
/// The target of an HTTP/1 request has an invalid authority, or is of a form that its method does not have.
pub const HTTP1_INVALID_URL: &str = "http1.invalid_url";
/// The scheme of an absolute HTTP/1 target is neither `http` nor `https`.
pub const HTTP1_INVALID_SCHEME: &str = "http1.invalid_scheme";
/// The `connection` header nominates headers that a client may not remove, or too many.
pub const HTTP1_CONNECTION_HEADER_REJECTED: &str = "http1.connection_header_rejected";
/// A field of an HTTP/2 request has an invalid value.
pub const HTTP2_INVALID_HEADER_FIELD: &str = "http2.invalid.header.field";
/// The fields of an HTTP/2 request do not make a request.
pub const HTTP2_VIOLATION_OF_MESSAGING_RULE: &str = "http2.violation.of.messaging.rule";
/// The request target is not an absolute path, as in `OPTIONS *`.
pub const ABSOLUTE_PATH_REJECTED: &str = "absolute_path_rejected";
/// The path cannot be normalized.
pub const PATH_NORMALIZATION_FAILED: &str = "path_normalization_failed";
/// The request headers are larger than the limit.
pub const HEADERS_TOO_LARGE: &str = "http1.headers_too_large";
/// The request has more headers than the limit.
pub const TOO_MANY_HEADERS: &str = "http1.too_many_headers";
/// The client violated HTTP/1.1.
pub const HTTP1_CODEC_ERROR: &str = "http1.codec_error";
/// The head of a request has a control character.
pub const HTTP1_INVALID_CHARACTERS: &str = "http1.invalid_characters";
/// The name of a header of an HTTP/1 request has an underscore.
pub const HTTP1_UNEXPECTED_UNDERSCORE: &str = "http1.unexpected_underscore";
/// The name of a header of an HTTP/2 request has an underscore.
pub const HTTP2_UNEXPECTED_UNDERSCORE: &str = "http2.unexpected_underscore";
/// A request has a transfer coding other than chunked.
pub const HTTP1_INVALID_TRANSFER_ENCODING: &str = "http1.invalid_transfer_encoding";
/// A request has both `transfer-encoding` and `content-length`.
pub const HTTP1_CHUNKED_CONTENT_LENGTH: &str = "http1.content_length_and_chunked_not_allowed";
/// A request has a body that its method does not allow.
pub const HTTP1_BODY_DISALLOWED: &str = "http1.body_disallowed";
/// The endpoint has answered a request for a WebSocket with a status below 400 other than 101.
pub const WEBSOCKET_HANDSHAKE_UNSUCCESSFUL: &str = "websocket_handshake_unsuccessful";
/// The client disconnected.
pub const DOWNSTREAM_REMOTE_DISCONNECT: &str = "downstream_remote_disconnect";
/// The client reset its stream.
pub const HTTP2_REMOTE_RESET: &str = "http2.remote_reset";
/// A limit of this process was reached.
pub const OVERLOAD: &str = "overload";
/// The request body must be buffered and is larger than the buffer.
pub const REQUEST_PAYLOAD_TOO_LARGE: &str = "request_payload_too_large";
/// The response body must be buffered and is larger than the buffer.
pub const RESPONSE_PAYLOAD_TOO_LARGE: &str = "response_payload_too_large";

/// The details of a request without a valid token: `jwt_authn_access_denied{reason}`, with underscores for spaces.
#[must_use]
pub fn jwt_authn_access_denied(reason: &str) -> String {
    format!("jwt_authn_access_denied{{{reason}}}").replace(' ', "_")
}

/// The details of a reset before the response began: `upstream_reset_before_response_started{reason|failure}`, with
/// underscores for spaces. `failure` is the transport's error and may be empty.
#[must_use]
pub fn upstream_reset_before_response_started(reason: &str, failure: &str) -> String {
    let separator = if failure.is_empty() { "" } else { "|" };
    format!("upstream_reset_before_response_started{{{reason}{separator}{failure}}}").replace(' ', "_")
}

/// The details of a request or connection that access control has denied because of a policy, or of none that matches:
/// `rbac_access_denied_matched_policy[policy]`, with underscores for spaces.
#[must_use]
pub fn rbac_access_denied(policy: Option<&str>) -> String {
    let policy = policy.unwrap_or("none");
    format!("rbac_access_denied_matched_policy[{}]", policy.replace(|c: char| c.is_ascii_whitespace(), "_"))
}

/// The details of a reset after the response began: `upstream_reset_after_response_started{reason}`, with underscores for
/// spaces.
#[must_use]
pub fn upstream_reset_after_response_started(reason: &str) -> String {
    format!("upstream_reset_after_response_started{{{reason}}}").replace(' ', "_")
}
