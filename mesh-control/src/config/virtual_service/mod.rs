//! `VirtualService`: how requests and connections to a host are routed.
//!
//! Source: `networking/v1alpha3/virtual_service.proto`. Delegates and mirrors are not implemented and refused by name.

mod action;
mod connection;
mod cors;
mod matcher;
mod read;
mod read_action;
mod read_headers;
mod read_resilience;

pub use action::{
    Abort, Delay, Destination, DirectResponse, Fault, FaultStatus, HeaderOperations, Headers, HttpAction, Redirect,
    RedirectPort, RetryPolicy, Rewrite, UriRewrite, WeightedDestination,
};
pub use connection::{RouteDestination, SniHost, TcpMatch, TcpRoute, TlsMatch, TlsRoute};
pub use cors::{CorsPolicy, UnmatchedPreflights};
pub use matcher::{ClaimMatch, HeaderMatch, HttpMatch, ListenerMatch};
use read::check_weights;

use std::time::Duration;

use super::metadata::Metadata;
use super::scalar::Visibility;
use crate::diagnostic::Position;
use crate::document::Located;
use crate::host::Host;

/// Name of the gateway that stands for all sidecars.
const MESH_GATEWAY: &str = "mesh";

/// Routing of requests and connections to some hosts.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct VirtualService {
    /// Name, namespace, labels.
    pub metadata: Metadata,
    /// Hosts it applies to, at least one.
    pub hosts: Vec<Located<Host>>,
    /// Gateways it applies to; the default is the mesh alone.
    pub gateways: Vec<Located<GatewayName>>,
    /// Rules for requests on HTTP ports, in order; the first that matches decides.
    pub http: Vec<HttpRoute>,
    /// Rules for connections on TLS and HTTPS ports, in order; the first that matches decides.
    pub tls: Vec<TlsRoute>,
    /// Rules for connections on other ports, in order; the first that matches decides.
    pub tcp: Vec<TcpRoute>,
    /// Namespaces that see it.
    pub export_to: Vec<Visibility>,
}

impl VirtualService {
    /// The destinations of all rules.
    pub fn destinations(&self) -> impl Iterator<Item = &Destination> {
        let http = self.http.iter().filter_map(|rule| match &rule.action {
            HttpAction::Route(destinations) => Some(destinations),
            HttpAction::Redirect(_) | HttpAction::DirectResponse(_) => None,
        });
        let connections = self.tls.iter().map(|rule| &rule.route).chain(self.tcp.iter().map(|rule| &rule.route));
        http.flatten()
            .map(|weighted| &weighted.destination)
            .chain(connections.flatten().map(|weighted| &weighted.destination))
    }

    /// Whether sidecars and library clients follow it.
    pub fn applies_to_mesh(&self) -> bool {
        self.gateways.iter().any(|gateway| gateway.value == GatewayName::Mesh)
    }
}

/// The gateway that a rule is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GatewayName {
    /// All sidecars and library clients: `mesh`.
    Mesh,
    /// A `Gateway` resource.
    Gateway {
        /// Namespace of the resource.
        namespace: String,
        /// Name of the resource.
        name: String,
    },
}

/// A rule for requests. Istio `HTTPRoute`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HttpRoute {
    /// Its position.
    pub position: Position,
    /// Name for logs and metrics; may be empty.
    pub name: String,
    /// Any of these must match; none means that every request matches.
    pub matches: Vec<HttpMatch>,
    /// What happens to a request.
    pub action: HttpAction,
    /// Changes of the request's URI and authority.
    pub rewrite: Rewrite,
    /// Time for the whole request with its retries; none means no limit.
    pub timeout: Option<Duration>,
    /// How failed requests are repeated; none means Istio's default policy.
    pub retries: Option<RetryPolicy>,
    /// Faults to inject.
    pub fault: Option<Fault>,
    /// Changes of headers.
    pub headers: Headers,
    /// Which cross-origin requests are allowed; none means that origins are not checked.
    pub cors_policy: Option<CorsPolicy>,
}
