//! The operators of the format language.

use http::HeaderName;

use super::{TimeFormat, TlsSource};
use crate::value::HeaderKey;

/// The operator of a command: what it writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `REQ(X?Y)`: request header X, or Y if X is missing.
    Request(HeaderSource),
    /// `RESP(X?Y)`: response header X, or Y if X is missing.
    Response(FieldSource),
    /// `TRAILER(X?Y)`: response trailer X, or Y if X is missing.
    Trailer(FieldSource),
    /// `START_TIME(FORMAT)`: the time when the request began.
    StartTime(TimeFormat),
    /// `EMIT_TIME(FORMAT)`: the time when the line is written.
    EmitTime(TimeFormat),
    /// `PATH(QUERY:SOURCE)`: the path, with or without its query.
    Path {
        /// Whether the query is written.
        with_query: bool,
        /// Which path.
        source: PathSource,
    },
    /// `QUERY_PARAM(X)`: the first query parameter called X.
    QueryParam(Box<str>),
    /// `METADATA(ROUTE:NAMESPACE:KEY:…)`, `DYNAMIC_METADATA(NAMESPACE:KEY:…)`: metadata of the route, or of filters.
    Metadata {
        /// Whose metadata.
        source: MetadataSource,
        /// The metadata namespace.
        namespace: Box<str>,
        /// Keys of the value and of the objects that contain it, outermost first.
        path: Box<[Box<str>]>,
    },
    /// `GRPC_STATUS(STYLE)`, `GRPC_STATUS_NUMBER`: status of a gRPC response.
    GrpcStatus(GrpcStatusStyle),
    /// `DOWNSTREAM_TLS_VERSION`, `UPSTREAM_PEER_SUBJECT` and so on.
    Tls(TlsSource),
    /// A command without an argument.
    Attribute(Attribute),
}

/// A request header and an alternative.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderSource {
    /// The header.
    pub main: HeaderKey,
    /// The header that is used if `main` is missing.
    pub alternative: Option<HeaderKey>,
}

/// A response header or trailer and an alternative.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldSource {
    /// The header.
    pub main: HeaderName,
    /// The header that is used if `main` is missing.
    pub alternative: Option<HeaderName>,
}

/// Whose metadata a command reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetadataSource {
    /// The route's.
    Route,
    /// What filters have left for the request.
    Filters,
}

/// The path that `PATH` writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathSource {
    /// `ORIG`: the path before a rewrite, if it was rewritten.
    Original,
    /// `PATH`: the path sent upstream.
    Path,
    /// `ORIG_OR_PATH`: the path before a rewrite, or the path sent upstream if it was not rewritten. The default.
    OriginalOrPath,
}

/// How a gRPC status is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrpcStatusStyle {
    /// `InvalidArgument`. The default.
    CamelString,
    /// `INVALID_ARGUMENT`.
    SnakeString,
    /// `3`.
    Number,
}

macro_rules! attributes {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// A command without an argument.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Attribute {
            $(#[doc = concat!("`", $text, "`.")] $(#[$doc])* $name,)*
        }

        impl Attribute {
            /// The command called `name`.
            #[must_use]
            pub fn parse(name: &str) -> Option<Self> {
                match name {
                    $($text => Some(Self::$name),)*
                    _ => None,
                }
            }
        }
    };
}

attributes! {
    Protocol = "PROTOCOL";
    UpstreamProtocol = "UPSTREAM_PROTOCOL";
    ResponseCode = "RESPONSE_CODE";
    ResponseCodeDetails = "RESPONSE_CODE_DETAILS";
    ConnectionTerminationDetails = "CONNECTION_TERMINATION_DETAILS";
    ResponseFlags = "RESPONSE_FLAGS";
    ResponseFlagsLong = "RESPONSE_FLAGS_LONG";
    LocalReplyBody = "LOCAL_REPLY_BODY";
    BytesReceived = "BYTES_RECEIVED";
    BytesSent = "BYTES_SENT";
    RequestHeadersBytes = "REQUEST_HEADERS_BYTES";
    ResponseHeadersBytes = "RESPONSE_HEADERS_BYTES";
    ResponseTrailersBytes = "RESPONSE_TRAILERS_BYTES";
    Duration = "DURATION";
    RequestDuration = "REQUEST_DURATION";
    RequestTxDuration = "REQUEST_TX_DURATION";
    ResponseDuration = "RESPONSE_DURATION";
    ResponseTxDuration = "RESPONSE_TX_DURATION";
    DownstreamRemoteAddress = "DOWNSTREAM_REMOTE_ADDRESS";
    DownstreamRemoteAddressWithoutPort = "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT";
    DownstreamRemotePort = "DOWNSTREAM_REMOTE_PORT";
    DownstreamDirectRemoteAddress = "DOWNSTREAM_DIRECT_REMOTE_ADDRESS";
    DownstreamDirectRemoteAddressWithoutPort = "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT";
    DownstreamDirectRemotePort = "DOWNSTREAM_DIRECT_REMOTE_PORT";
    DownstreamLocalAddress = "DOWNSTREAM_LOCAL_ADDRESS";
    DownstreamLocalAddressWithoutPort = "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT";
    DownstreamLocalPort = "DOWNSTREAM_LOCAL_PORT";
    ConnectionId = "CONNECTION_ID";
    RequestedServerName = "REQUESTED_SERVER_NAME";
    UpstreamHost = "UPSTREAM_HOST";
    UpstreamHostName = "UPSTREAM_HOST_NAME";
    UpstreamRemoteAddress = "UPSTREAM_REMOTE_ADDRESS";
    UpstreamRemoteAddressWithoutPort = "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT";
    UpstreamRemotePort = "UPSTREAM_REMOTE_PORT";
    UpstreamLocalAddress = "UPSTREAM_LOCAL_ADDRESS";
    UpstreamLocalAddressWithoutPort = "UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT";
    UpstreamLocalPort = "UPSTREAM_LOCAL_PORT";
    UpstreamCluster = "UPSTREAM_CLUSTER";
    UpstreamClusterRaw = "UPSTREAM_CLUSTER_RAW";
    UpstreamRequestAttemptCount = "UPSTREAM_REQUEST_ATTEMPT_COUNT";
    UpstreamTransportFailureReason = "UPSTREAM_TRANSPORT_FAILURE_REASON";
    RouteName = "ROUTE_NAME";
    VirtualHostName = "VIRTUAL_HOST_NAME";
    /// Always missing: virtual clusters are not supported and their configuration is refused.
    VirtualClusterName = "VIRTUAL_CLUSTER_NAME";
    Hostname = "HOSTNAME";
    TraceId = "TRACE_ID";
    AccessLogType = "ACCESS_LOG_TYPE";
}
