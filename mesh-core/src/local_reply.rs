//! Local replies: responses that the mesh gives instead of an endpoint, with the status, body, response flags and details
//! of Envoy 1.40.
//!
//! The reply to a gRPC request is HTTP 200 with `grpc-status`, and with the text in `grpc-message` instead of the body.
//! Envoy "Local reply modification".

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header::CONTENT_TYPE};

use crate::{
    cluster::Dropped,
    filter::fault::FaultAbort,
    grpc,
    telemetry::{ResponseFlags, details},
};

/// `x-envoy-overloaded`: sent if a circuit breaker threshold overflows.
pub const X_ENVOY_OVERLOADED: HeaderName = HeaderName::from_static("x-envoy-overloaded");
/// `x-envoy-drop-overload`: sent if a share of the requests is dropped because of an overload.
pub const X_ENVOY_DROP_OVERLOAD: HeaderName = HeaderName::from_static("x-envoy-drop-overload");
/// `x-envoy-unconditional-drop-overload`: sent if all requests are dropped because of an overload.
pub const X_ENVOY_UNCONDITIONAL_DROP_OVERLOAD: HeaderName =
    HeaderName::from_static("x-envoy-unconditional-drop-overload");

/// A local reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalReply {
    /// HTTP status.
    pub status: StatusCode,
    /// Body.
    pub body: Cow<'static, str>,
    /// Response flags to set.
    pub flags: ResponseFlags,
    /// `%RESPONSE_CODE_DETAILS%`.
    pub details: Cow<'static, str>,
    /// gRPC status for gRPC requests; `None` = the one that `status` is mapped to.
    pub grpc_status: Option<u32>,
    /// A header of Envoy that is sent with the value `true`, such as [`X_ENVOY_OVERLOADED`].
    pub envoy_header: Option<HeaderName>,
}

/// Why an upstream request ended before a response began. Envoy `StreamResetReason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamReset {
    /// The connection was refused or the endpoint is unreachable.
    RemoteConnectionFailure,
    /// The connection failed locally.
    LocalConnectionFailure,
    /// The connection was not established in time.
    ConnectionTimeout,
    /// The upstream closed the connection.
    ConnectionTermination,
    /// The upstream reset the stream.
    RemoteReset,
    /// The upstream refused the stream without processing it.
    RemoteRefusedStreamReset,
    /// The stream was reset locally.
    LocalReset,
    /// A circuit breaker threshold overflowed.
    Overflow,
    /// The upstream violated the protocol.
    ProtocolError,
}

impl UpstreamReset {
    /// Envoy's text for the reason.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RemoteConnectionFailure => "remote connection failure",
            Self::LocalConnectionFailure => "local connection failure",
            Self::ConnectionTimeout => "connection timeout",
            Self::ConnectionTermination => "connection termination",
            Self::RemoteReset => "remote reset",
            Self::RemoteRefusedStreamReset => "remote refused stream reset",
            Self::LocalReset => "local reset",
            Self::Overflow => "overflow",
            Self::ProtocolError => "protocol error",
        }
    }

    /// The response flag for the reason.
    #[must_use]
    pub const fn flag(self) -> ResponseFlags {
        match self {
            Self::RemoteConnectionFailure | Self::LocalConnectionFailure | Self::ConnectionTimeout => {
                ResponseFlags::UPSTREAM_CONNECTION_FAILURE
            }
            Self::ConnectionTermination => ResponseFlags::UPSTREAM_CONNECTION_TERMINATION,
            Self::RemoteReset | Self::RemoteRefusedStreamReset => ResponseFlags::UPSTREAM_REMOTE_RESET,
            Self::LocalReset => ResponseFlags::LOCAL_RESET,
            Self::Overflow => ResponseFlags::UPSTREAM_OVERFLOW,
            Self::ProtocolError => ResponseFlags::UPSTREAM_PROTOCOL_ERROR,
        }
    }
}

impl LocalReply {
    /// No virtual host or no route matches the request.
    pub const ROUTE_NOT_FOUND: Self =
        Self::new(StatusCode::NOT_FOUND, "", ResponseFlags::NO_ROUTE_FOUND, details::ROUTE_NOT_FOUND);
    /// The cluster has no healthy endpoint.
    pub const NO_HEALTHY_UPSTREAM: Self = Self::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "no healthy upstream",
        ResponseFlags::NO_HEALTHY_UPSTREAM,
        details::NO_HEALTHY_UPSTREAM,
    );
    /// The route timeout expired.
    pub const RESPONSE_TIMEOUT: Self = Self::new(
        StatusCode::GATEWAY_TIMEOUT,
        "upstream request timeout",
        ResponseFlags::UPSTREAM_REQUEST_TIMEOUT,
        details::RESPONSE_TIMEOUT,
    );
    /// The per-try timeout of the last try expired.
    pub const PER_TRY_TIMEOUT: Self = Self::new(
        StatusCode::GATEWAY_TIMEOUT,
        "upstream request timeout",
        ResponseFlags::UPSTREAM_REQUEST_TIMEOUT,
        details::UPSTREAM_PER_TRY_TIMEOUT,
    );
    /// The stream's maximum duration was reached.
    pub const MAX_DURATION_TIMEOUT: Self = Self::new(
        StatusCode::GATEWAY_TIMEOUT,
        "downstream duration timeout",
        ResponseFlags::NONE,
        details::MAX_DURATION_TIMEOUT,
    );
    /// The idle timeout expired after the request was complete.
    pub const STREAM_IDLE_TIMEOUT: Self = Self::new(
        StatusCode::GATEWAY_TIMEOUT,
        "stream timeout",
        ResponseFlags::STREAM_IDLE_TIMEOUT,
        details::STREAM_IDLE_TIMEOUT,
    );
    /// The idle timeout expired before the request was complete.
    pub const REQUEST_IDLE_TIMEOUT: Self = Self::new(
        StatusCode::REQUEST_TIMEOUT,
        "stream timeout",
        ResponseFlags::STREAM_IDLE_TIMEOUT,
        details::STREAM_IDLE_TIMEOUT,
    );
    /// The request was not received in time.
    pub const REQUEST_TIMEOUT: Self = Self::new(
        StatusCode::REQUEST_TIMEOUT,
        "request timeout",
        ResponseFlags::NONE,
        details::REQUEST_OVERALL_TIMEOUT,
    );
    /// The request headers were not received in time.
    pub const REQUEST_HEADER_TIMEOUT: Self = Self::new(
        StatusCode::REQUEST_TIMEOUT,
        "request header timeout",
        ResponseFlags::NONE,
        details::REQUEST_HEADER_TIMEOUT,
    );
    /// The upgrade is not allowed.
    pub const UPGRADE_FAILED: Self = Self::new(StatusCode::FORBIDDEN, "", ResponseFlags::NONE, details::UPGRADE_FAILED);
    /// HTTP/1.0 is not accepted.
    pub const UPGRADE_REQUIRED: Self = Self::new(
        StatusCode::UPGRADE_REQUIRED,
        "Upgrade Required",
        ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR,
        details::LOW_VERSION,
    );
    /// The request has no host.
    pub const MISSING_HOST: Self = Self::new(StatusCode::BAD_REQUEST, "", ResponseFlags::NONE, details::MISSING_HOST);
    /// The request target is not an absolute path.
    pub const ABSOLUTE_PATH_REJECTED: Self =
        Self::new(StatusCode::NOT_FOUND, "", ResponseFlags::NONE, details::ABSOLUTE_PATH_REJECTED);
    /// The path cannot be normalized.
    pub const PATH_NORMALIZATION_FAILED: Self =
        Self::new(StatusCode::BAD_REQUEST, "", ResponseFlags::NONE, details::PATH_NORMALIZATION_FAILED);
    /// The client violated HTTP/1.1.
    pub const BAD_REQUEST: Self = Self::bad_request(details::HTTP1_CODEC_ERROR);
    /// The request headers are larger than the limit.
    pub const HEADERS_TOO_LARGE: Self = Self::new(
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        "Request Header Fields Too Large",
        ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR,
        details::HEADERS_TOO_LARGE,
    );
    /// The request has more headers than the limit.
    pub const TOO_MANY_HEADERS: Self = Self::new(
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        "Request Header Fields Too Large",
        ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR,
        details::TOO_MANY_HEADERS,
    );
    /// The request body must be buffered and is larger than the buffer.
    pub const PAYLOAD_TOO_LARGE: Self = Self::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "Payload Too Large",
        ResponseFlags::NONE,
        details::REQUEST_PAYLOAD_TOO_LARGE,
    );
    /// The CORS filter answers a preflight request.
    pub const CORS_RESPONSE: Self = Self::new(StatusCode::OK, "", ResponseFlags::NONE, details::CORS_RESPONSE);
    /// A limit of this process was reached.
    pub const OVERLOAD: Self = Self::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "envoy overloaded",
        ResponseFlags::OVERLOAD_MANAGER,
        details::OVERLOAD,
    );

    /// Creates a reply.
    #[must_use]
    pub const fn new(status: StatusCode, body: &'static str, flags: ResponseFlags, details: &'static str) -> Self {
        let (body, details) = (Cow::Borrowed(body), Cow::Borrowed(details));
        Self { status, body, flags, details, grpc_status: None, envoy_header: None }
    }

    /// The client violated the protocol.
    #[must_use]
    pub const fn bad_request(details: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "Bad Request", ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR, details)
    }

    /// `drop_overloads` of the cluster has dropped the request.
    #[must_use]
    pub fn drop_overload(dropped: Dropped) -> Self {
        let (body, flag, details, header) = match dropped {
            Dropped::Share => {
                ("drop overload", ResponseFlags::DROP_OVERLOAD, details::DROP_OVERLOAD, X_ENVOY_DROP_OVERLOAD)
            }
            Dropped::All => (
                "unconditional drop overload",
                ResponseFlags::UNCONDITIONAL_DROP_OVERLOAD,
                details::UNCONDITIONAL_DROP_OVERLOAD,
                X_ENVOY_UNCONDITIONAL_DROP_OVERLOAD,
            ),
        };
        Self { envoy_header: Some(header), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, body, flag, details) }
    }

    /// The route's cluster does not exist. `status` is the route's `cluster_not_found_response_code`.
    #[must_use]
    pub const fn cluster_not_found(status: StatusCode) -> Self {
        Self::new(status, "", ResponseFlags::NO_CLUSTER_FOUND, details::CLUSTER_NOT_FOUND)
    }

    /// The fault filter aborted the request.
    #[must_use]
    pub fn fault(abort: FaultAbort) -> Self {
        let (status, grpc_status) = match abort {
            FaultAbort::Http(status) => (status, None),
            FaultAbort::Grpc(status) => (StatusCode::OK, Some(status)),
        };
        let text = "fault filter abort";
        let reply = Self::new(status, text, ResponseFlags::FAULT_INJECTED, details::FAULT_FILTER_ABORT);
        Self { grpc_status, ..reply }
    }

    /// Access control denied the request because of a policy, or because none matches.
    #[must_use]
    pub fn rbac_access_denied(policy: Option<&str>) -> Self {
        let details = details::rbac_access_denied(policy).into();
        Self { details, ..Self::new(StatusCode::FORBIDDEN, "RBAC: access denied", ResponseFlags::NONE, "") }
    }

    /// An upstream request ended before a response began. `failure` is the transport's error, which may be empty;
    /// `retried` is whether the request was retried before.
    #[must_use]
    pub fn upstream_reset(reset: UpstreamReset, failure: &str, retried: bool) -> Self {
        let label = if retried { "retried and the latest reset reason" } else { "reset reason" };
        let reason = reset.as_str();
        let status = match reset {
            UpstreamReset::ProtocolError => StatusCode::BAD_GATEWAY,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self {
            status,
            body: format!("upstream connect error or disconnect/reset before headers. {label}: {reason}").into(),
            flags: reset.flag(),
            details: details::upstream_reset_before_response_started(reason, failure).into(),
            grpc_status: None,
            envoy_header: (reset == UpstreamReset::Overflow).then_some(X_ENVOY_OVERLOADED),
        }
    }

    /// The response. `is_grpc` is whether the request is gRPC. The codec adds `content-length`.
    #[must_use]
    pub fn into_response(self, is_grpc: bool) -> Response<Bytes> {
        let mut headers = HeaderMap::new();
        let (status, body) = if is_grpc {
            headers.insert(CONTENT_TYPE, grpc::APPLICATION_GRPC);
            let grpc_status = self.grpc_status.unwrap_or_else(|| grpc::status_of_http(self.status));
            headers.insert(grpc::GRPC_STATUS, grpc_status.into());
            if !self.body.is_empty() {
                headers.insert(grpc::GRPC_MESSAGE, grpc::message_value(&self.body));
            }
            (StatusCode::OK, Bytes::new())
        } else {
            if !self.body.is_empty() {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
            }
            let body = match self.body {
                Cow::Borrowed(text) => Bytes::from_static(text.as_bytes()),
                Cow::Owned(text) => Bytes::from(text),
            };
            (self.status, body)
        };
        if let Some(name) = self.envoy_header {
            headers.insert(name, HeaderValue::from_static("true"));
        }
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(reply: &LocalReply) -> String {
        format!("{} {} {} {}", reply.status.as_u16(), reply.flags, reply.details, reply.body)
    }

    #[test]
    fn replies_are_envoys() {
        let refused = "delayed connect error: Connection refused";
        for (reply, expected) in [
            (LocalReply::NO_HEALTHY_UPSTREAM, "503 UH no_healthy_upstream no healthy upstream"),
            (LocalReply::RESPONSE_TIMEOUT, "504 UT response_timeout upstream request timeout"),
            (LocalReply::cluster_not_found(StatusCode::SERVICE_UNAVAILABLE), "503 NC cluster_not_found "),
            (LocalReply::ROUTE_NOT_FOUND, "404 NR route_not_found "),
            (
                LocalReply::rbac_access_denied(Some("ns[a]-policy[b c]-rule[0]")),
                "403 - rbac_access_denied_matched_policy[ns[a]-policy[b_c]-rule[0]] RBAC: access denied",
            ),
            (LocalReply::rbac_access_denied(None), "403 - rbac_access_denied_matched_policy[none] RBAC: access denied"),
            (
                LocalReply::fault(FaultAbort::Http(StatusCode::IM_A_TEAPOT)),
                "418 FI fault_filter_abort fault filter abort",
            ),
            (
                LocalReply::upstream_reset(UpstreamReset::RemoteConnectionFailure, refused, false),
                "503 UF upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:\
                 _Connection_refused} upstream connect error or disconnect/reset before headers. reset reason: \
                 remote connection failure",
            ),
            (
                LocalReply::upstream_reset(UpstreamReset::RemoteConnectionFailure, "", true),
                "503 UF upstream_reset_before_response_started{remote_connection_failure} upstream connect error or \
                 disconnect/reset before headers. retried and the latest reset reason: remote connection failure",
            ),
            (
                LocalReply::upstream_reset(UpstreamReset::Overflow, "", false),
                "503 UO upstream_reset_before_response_started{overflow} upstream connect error or \
                 disconnect/reset before headers. reset reason: overflow",
            ),
        ] {
            assert_eq!(text(&reply), expected);
        }
    }

    fn response(reply: LocalReply, is_grpc: bool) -> String {
        let response = reply.into_response(is_grpc);
        let mut headers: Vec<_> =
            response.headers().iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        headers.sort();
        let body = std::str::from_utf8(response.body()).unwrap();
        format!("{} [{}] {body}", response.status().as_u16(), headers.join(", "))
    }

    #[test]
    fn replies_to_http_have_a_body() {
        let overflow = LocalReply::upstream_reset(UpstreamReset::Overflow, "", false);
        assert_eq!(
            response(overflow, false),
            "503 [content-type: text/plain, x-envoy-overloaded: true] upstream connect error or disconnect/reset \
             before headers. reset reason: overflow"
        );
        assert_eq!(response(LocalReply::ROUTE_NOT_FOUND, false), "404 [] ");
    }

    #[test]
    fn replies_to_grpc_are_trailers_only() {
        let overflow = LocalReply::upstream_reset(UpstreamReset::Overflow, "", false);
        assert_eq!(
            response(overflow, true),
            "200 [content-type: application/grpc, grpc-message: upstream connect error or disconnect/reset before \
             headers. reset reason: overflow, grpc-status: 14, x-envoy-overloaded: true] "
        );
        assert_eq!(
            response(LocalReply::ROUTE_NOT_FOUND, true),
            "200 [content-type: application/grpc, grpc-status: 12] "
        );
        let abort = LocalReply::fault(FaultAbort::Grpc(9));
        assert_eq!(
            response(abort, true),
            "200 [content-type: application/grpc, grpc-message: fault filter abort, grpc-status: 9] "
        );
    }
}
