//! Rules for connections: `TCPRoute` and `TLSRoute`.

use ipnet::IpNet;

use super::{Destination, ListenerMatch, VirtualService, check_weights};
use crate::diagnostic::{Code, Diagnostic, Position};
use crate::document::{Context, FromNode, Located, Node, Object};
use crate::host::{Host, HostError};

/// A rule for TCP connections. Istio `TCPRoute`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TcpRoute {
    /// Its position.
    pub position: Position,
    /// Any of these must match; none means that every connection matches.
    pub matches: Vec<TcpMatch>,
    /// Where connections go.
    pub route: Vec<RouteDestination>,
}

/// A rule for TLS connections, which are passed on as they are. Istio `TLSRoute`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TlsRoute {
    /// Its position.
    pub position: Position,
    /// Any of these must match; at least one.
    pub matches: Vec<TlsMatch>,
    /// Where connections go.
    pub route: Vec<RouteDestination>,
}

/// Conditions on a connection that must all hold. Istio `L4MatchAttributes`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TcpMatch {
    /// Its position.
    pub position: Position,
    /// Networks of the address that the client connects to; none means every address. Not for gateways.
    pub destination_subnets: Vec<IpNet>,
    /// Which listeners of which nodes the match is for.
    pub listener: ListenerMatch,
}

/// Conditions on a TLS connection that must all hold. Istio `TLSMatchAttributes`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TlsMatch {
    /// Server names that the client requests, at least one. Each is covered by a host of the VirtualService.
    pub sni_hosts: Vec<Located<SniHost>>,
    /// The other conditions.
    pub connection: TcpMatch,
}

/// A destination and its share of the connections. Istio `RouteDestination`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RouteDestination {
    /// The destination.
    pub destination: Destination,
    /// Share relative to the sum of the rule's weights, default 0; a single destination gets everything.
    pub weight: u32,
}

/// A server name that a TLS client may request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SniHost {
    /// As a client requests it, in lower case; `*` for any name, `*.example.com` for the names below.
    pub name: String,
    /// As a host of a resource: a name without a dot belongs to the namespace of the resource.
    pub host: Host,
}

impl FromNode for TcpRoute {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let rule =
            Self { position: object.position(), matches: object.list("match"), route: read_destinations(&object) };
        object.finish();
        (!rule.route.is_empty()).then_some(rule)
    }
}

impl FromNode for TlsRoute {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let rule = Self {
            position: object.position(),
            matches: object.filled_list("match"),
            route: read_destinations(&object),
        };
        object.finish();
        (!rule.route.is_empty()).then_some(rule)
    }
}

fn read_destinations(object: &Object<'_>) -> Vec<RouteDestination> {
    let destinations: Option<Vec<RouteDestination>> = object.required("route");
    if let Some(destinations) = &destinations {
        check_weights(object, &destinations.iter().map(|destination| destination.weight).collect::<Vec<_>>());
    }
    destinations.unwrap_or_default()
}

impl FromNode for RouteDestination {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let destination = object.required("destination");
        let weight = object.integer("weight", 0, i32::MAX.into()).unwrap_or(0);
        object.finish();
        Some(Self { destination: destination?, weight })
    }
}

impl TcpMatch {
    /// Whether every connection that reaches the rule matches.
    pub fn is_catch_all(&self) -> bool {
        self.destination_subnets.is_empty() && self.listener.is_empty()
    }

    fn read(object: &Object<'_>) -> Self {
        // Istio ignores it.
        object.unsupported(&["sourceSubnet"]);
        let subnets: Vec<Subnet> = object.list("destinationSubnets");
        Self {
            position: object.position(),
            destination_subnets: subnets.into_iter().map(|subnet| subnet.0).collect(),
            listener: ListenerMatch::read(object),
        }
    }
}

impl FromNode for TcpMatch {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let matcher = Self::read(&object);
        object.finish();
        Some(matcher)
    }
}

impl FromNode for TlsMatch {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let sni_hosts: Vec<_> = object.filled_list("sniHosts");
        let matcher = Self { sni_hosts, connection: TcpMatch::read(&object) };
        object.finish();
        // Without a name that could be read it would match every connection.
        (!matcher.sni_hosts.is_empty()).then_some(matcher)
    }
}

/// A network, or an address that stands for itself.
struct Subnet(IpNet);

impl FromNode for Subnet {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let text = String::from_node(node, cx)?;
        let network = text.parse::<IpNet>().or_else(|_| text.parse().map(|address: std::net::IpAddr| address.into()));
        if network.is_err() {
            cx.invalid(node.mark, format!("{text:?} is not a network"), "expected an IP address or ADDRESS/LENGTH");
        }
        network.ok().map(|network| Self(network.trunc()))
    }
}

impl FromNode for SniHost {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let text = String::from_node(node, cx)?;
        let host = match Host::parse(&text, cx.namespace()) {
            Ok(host) => host,
            Err(error @ HostError::PartialWildcard) => {
                cx.unsupported(node.mark, format!("{text:?}: {error}"));
                return None;
            }
            Err(error) => {
                cx.invalid(node.mark, format!("{text:?} is not a server name: {error}"), "expected a host");
                return None;
            }
        };
        if host.is_ip() {
            let message = format!("{text:?} is an IP address, which TLS clients do not send as server name");
            let warning = Diagnostic::warning(Code::SchemaValidation, cx.position(node.mark), message);
            cx.report(warning.label("RFC 6066 allows names only"));
        }
        let name = text.strip_suffix('.').unwrap_or(&text).to_ascii_lowercase();
        Some(Self { name, host })
    }
}

/// Refuses server names that no host of the VirtualService covers.
pub(super) fn check_sni_hosts(service: &VirtualService, cx: Context<'_>) {
    let field = cx.field("tls");
    for (i, rule) in service.tls.iter().enumerate() {
        for (j, matcher) in rule.matches.iter().enumerate() {
            for (k, sni_host) in matcher.sni_hosts.iter().enumerate() {
                if service.hosts.iter().any(|host| host.covers(&sni_host.host)) {
                    continue;
                }
                let cx = field.index(i);
                let cx = cx.field("match");
                let cx = cx.index(j);
                let cx = cx.field("sniHosts");
                let message = format!("server name {:?} is not covered by any host of the resource", sni_host.name);
                cx.index(k).refuse(sni_host.position.clone(), message, "expected a name that spec.hosts covers");
            }
        }
    }
}
