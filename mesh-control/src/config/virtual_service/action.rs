//! Actions of a rule for requests.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::diagnostic::Position;
use crate::document::Located;
use crate::host::Host;

/// What happens to a request that a rule matches.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum HttpAction {
    /// It is sent to one of the destinations, chosen by weight for each request.
    Route(Vec<WeightedDestination>),
    /// The response is a redirect.
    Redirect(Redirect),
    /// The response is configured.
    DirectResponse(DirectResponse),
}

/// A destination and its share of the requests. Istio `HTTPRouteDestination`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WeightedDestination {
    /// The destination.
    pub destination: Destination,
    /// Share relative to the sum of the rule's weights, default 0; a single destination gets everything.
    pub weight: u32,
    /// Changes of headers for this destination.
    pub headers: Headers,
}

/// A service, or some of its endpoints.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Destination {
    /// Its position.
    pub position: Position,
    /// The service.
    pub host: Located<Host>,
    /// A subset that a DestinationRule of the host defines.
    pub subset: Option<Located<String>>,
    /// The service's port; required if it has several.
    pub port: Option<Located<u16>>,
}

/// Istio `HTTPRewrite`.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Rewrite {
    /// Change of the path.
    pub uri: Option<UriRewrite>,
    /// New `Host`.
    pub authority: Option<String>,
}

/// Change of a path.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum UriRewrite {
    /// Replaces the matched prefix, or the whole path if the match is not a prefix.
    Uri(String),
    /// Replaces every match of the expression.
    Regex {
        /// RE2 expression.
        pattern: String,
        /// Replacement with `\1` for groups.
        substitution: String,
    },
}

/// Istio `HTTPRedirect`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Redirect {
    /// New path; replaces the whole path and, unless it has one, the query.
    pub uri: Option<String>,
    /// New `Host`.
    pub authority: Option<String>,
    /// New scheme, `http` or `https`.
    pub scheme: Option<String>,
    /// New port.
    pub port: Option<RedirectPort>,
    /// 301 (default), 302, 303, 307 or 308.
    pub redirect_code: u16,
}

/// Port of a redirect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RedirectPort {
    /// This port.
    Port(u16),
    /// The port of the request: `derivePort: FROM_REQUEST_PORT`.
    FromRequest,
    /// None, so the scheme's own: `derivePort: FROM_PROTOCOL_DEFAULT`.
    ProtocolDefault,
}

/// Istio `HTTPDirectResponse`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DirectResponse {
    /// Status, 200-599.
    pub status: u16,
    /// Body, at most 1 MiB; may be empty.
    pub body: String,
}

/// Istio `HTTPRetry`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RetryPolicy {
    /// Retries after the first try; 0, the default of a policy that is given, disables retrying.
    pub attempts: u32,
    /// Time for each try; none means the route's timeout.
    pub per_try_timeout: Option<Duration>,
    /// Conditions and status codes; empty means Istio's default conditions.
    pub retry_on: Vec<String>,
    /// First interval between tries; the longest is ten times as much.
    pub backoff: Option<Duration>,
    /// Whether a retry avoids endpoints already tried; default true.
    pub retry_ignore_previous_hosts: bool,
}

impl RetryPolicy {
    /// The policy of rules that have none. Istio `MeshConfig.defaultHttpRetryPolicy`.
    pub(crate) fn istio_default() -> Self {
        Self {
            attempts: 2,
            per_try_timeout: None,
            retry_on: Vec::new(),
            backoff: None,
            retry_ignore_previous_hosts: true,
        }
    }
}

/// Istio `HTTPFaultInjection`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Fault {
    /// Delay before the request is sent.
    pub delay: Option<Delay>,
    /// Response instead of that of the service.
    pub abort: Option<Abort>,
}

/// An injected delay.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Delay {
    /// Share of requests in millionths, 0-1 000 000.
    pub parts_per_million: u32,
    /// How long.
    pub fixed_delay: Duration,
}

/// An injected response.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Abort {
    /// Share of requests in millionths, 0-1 000 000.
    pub parts_per_million: u32,
    /// The status of the response.
    pub status: FaultStatus,
}

/// Status of an injected response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultStatus {
    /// HTTP status, 200-599.
    Http(u16),
    /// gRPC status, 0-16.
    Grpc(u8),
}

/// Changes of headers in both directions. Istio `Headers`.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Headers {
    /// Changes of the request.
    pub request: HeaderOperations,
    /// Changes of the response.
    pub response: HeaderOperations,
}

/// Istio `Headers.HeaderOperations`.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct HeaderOperations {
    /// Headers that are overwritten.
    pub set: BTreeMap<String, String>,
    /// Headers that are appended.
    pub add: BTreeMap<String, String>,
    /// Headers that are removed.
    pub remove: Vec<String>,
}
