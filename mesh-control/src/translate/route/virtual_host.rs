//! Virtual hosts of sidecars and libraries: one for each service of a port.

use std::collections::HashSet;

use super::action::{default_action, inline_string};
use super::retry::inbound_retry_policy;
use super::rules;
use crate::config::{GatewayName, OutboundTrafficPolicy};
use crate::host::Host;
use crate::registry::Service;
use crate::translate::entry::Entry;
use crate::translate::names::{PASSTHROUGH_CLUSTER, inbound_cluster, outbound_cluster};
use crate::translate::proto::route as envoy;
use crate::translate::view::View;
use envoy::route::Action;
use envoy::route_action::ClusterSpecifier;
use envoy::route_match::PathSpecifier;

/// Largest direct response, in bytes. istiod's value.
const MAX_DIRECT_RESPONSE_BODY_SIZE_BYTES: u32 = 1 << 20;
/// The port on which hosts are served that have a VirtualService and no service.
const HTTP_PORT: u16 = 80;

/// What a client gets for a host that nothing declares, if it would be forwarded to the original destination and there is
/// none. `REGISTRY_ONLY` has no text, as in Istio.
const NO_ORIGINAL_DESTINATION: &str = "nothing in the mesh declares this host, and outboundTrafficPolicy ALLOW_ANY cannot \
     pass the request on: it came to a port of its own, so its original destination is unknown; declare the host in a \
     ServiceEntry\n";

/// What happens to requests for hosts that nothing declares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::translate) enum UnknownHosts {
    /// They go to their original destination.
    Pass,
    /// They are answered with 502.
    Block,
    /// They would pass, but have no original destination: they are answered with 502 and the reason.
    CannotPass,
}

impl UnknownHosts {
    /// For intercepted requests.
    pub(in crate::translate) fn of_intercepted(policy: OutboundTrafficPolicy) -> Self {
        match policy {
            OutboundTrafficPolicy::AllowAny => Self::Pass,
            OutboundTrafficPolicy::RegistryOnly => Self::Block,
        }
    }

    /// For requests to a listener with a port of its own.
    pub(in crate::translate) fn of_port(policy: OutboundTrafficPolicy) -> Self {
        match policy {
            OutboundTrafficPolicy::AllowAny => Self::CannotPass,
            OutboundTrafficPolicy::RegistryOnly => Self::Block,
        }
    }
}

/// Routes of a port for a sidecar: its services, hosts that only have a VirtualService, and what is unknown.
pub(in crate::translate) fn sidecar(
    view: &View<'_>,
    port: u16,
    services: &[&Service],
    unknown_hosts: UnknownHosts,
) -> envoy::RouteConfiguration {
    let mut virtual_hosts: Vec<_> = services
        .iter()
        .filter(|service| has_http(service, port))
        .map(|service| of_service(view, service, port))
        .collect();
    if port == HTTP_PORT {
        virtual_hosts.extend(hosts_without_service(view, services));
    }
    virtual_hosts.sort_by(|a, b| a.name.cmp(&b.name));
    remove_duplicate_domains(&mut virtual_hosts);
    virtual_hosts.push(unknown(unknown_hosts));
    route_configuration(port.to_string(), virtual_hosts)
}

/// Routes of one service's port for a library.
pub(in crate::translate) fn library(view: &View<'_>, service: &Service, port: u16) -> envoy::RouteConfiguration {
    let mut virtual_host = of_service(view, service, port);
    let with_port = |domain: String| [format!("{domain}:{port}"), domain];
    virtual_host.domains = virtual_host.domains.into_iter().flat_map(with_port).collect();
    // A library adds no headers of proxies.
    virtual_host.include_request_attempt_count = false;
    route_configuration(outbound_cluster(port, "", &service.host), vec![virtual_host])
}

/// Routes between a sidecar and its workload.
pub(in crate::translate) fn inbound(service_port: u16, port: u16, is_grpc: bool) -> envoy::RouteConfiguration {
    let action = envoy::RouteAction {
        timeout: Some(prost_types::Duration::default()),
        retry_policy: (!is_grpc).then(inbound_retry_policy),
        cluster_specifier: Some(ClusterSpecifier::Cluster(inbound_cluster(port))),
        ..envoy::RouteAction::default()
    };
    let virtual_host = envoy::VirtualHost {
        name: format!("inbound|http|{service_port}"),
        domains: vec!["*".to_owned()],
        routes: vec![every_request("default", Action::Route(action))],
        ..envoy::VirtualHost::default()
    };
    envoy::RouteConfiguration {
        name: inbound_cluster(port),
        virtual_hosts: vec![virtual_host],
        validate_clusters: Some(false),
        ..envoy::RouteConfiguration::default()
    }
}

/// What all route configurations have in common.
pub(super) fn route_configuration(name: String, virtual_hosts: Vec<envoy::VirtualHost>) -> envoy::RouteConfiguration {
    envoy::RouteConfiguration {
        name,
        virtual_hosts,
        validate_clusters: Some(false),
        ignore_port_in_host_matching: true,
        max_direct_response_body_size_bytes: Some(MAX_DIRECT_RESPONSE_BODY_SIZE_BYTES),
        ..envoy::RouteConfiguration::default()
    }
}

/// A virtual host whose requests have the header `x-envoy-attempt-count`.
pub(super) fn virtual_host(name: String, domains: Vec<String>, routes: Vec<envoy::Route>) -> envoy::VirtualHost {
    envoy::VirtualHost { name, domains, routes, include_request_attempt_count: true, ..envoy::VirtualHost::default() }
}

fn has_http(service: &Service, port: u16) -> bool {
    service.port(port).is_some_and(|port| port.protocol.is_http())
}

fn of_service(view: &View<'_>, service: &Service, port: u16) -> envoy::VirtualHost {
    let entry = Entry { view, port, gateway: &GatewayName::Mesh };
    let routes = match view.routes.find(&service.host) {
        Some(rules) => rules::routes(&entry, rules),
        None => {
            let cluster = outbound_cluster(port, "", &service.host);
            vec![every_request("default", default_action(cluster))]
        }
    };
    let domains = domains(service, &view.node.namespace);
    virtual_host(format!("{}:{port}", service.host), domains, routes)
}

/// Hosts of VirtualServices that none of the port's services has.
fn hosts_without_service(view: &View<'_>, services: &[&Service]) -> Vec<envoy::VirtualHost> {
    let known: HashSet<&Host> =
        services.iter().filter(|service| has_http(service, HTTP_PORT)).map(|service| &service.host).collect();
    let entry = Entry { view, port: HTTP_PORT, gateway: &GatewayName::Mesh };
    let hosts = view.routes.hosts().into_iter().filter(|(host, _)| !known.contains(host));
    hosts
        .map(|(host, rules)| {
            virtual_host(format!("{host}:{HTTP_PORT}"), vec![host.to_string()], rules::routes(&entry, rules))
        })
        .collect()
}

fn unknown(hosts: UnknownHosts) -> envoy::VirtualHost {
    let (name, action) = match hosts {
        UnknownHosts::Pass => {
            let action = envoy::RouteAction {
                timeout: Some(prost_types::Duration::default()),
                max_grpc_timeout: Some(prost_types::Duration::default()),
                cluster_specifier: Some(ClusterSpecifier::Cluster(PASSTHROUGH_CLUSTER.to_owned())),
                ..envoy::RouteAction::default()
            };
            ("allow_any", Action::Route(action))
        }
        UnknownHosts::Block | UnknownHosts::CannotPass => {
            let body = (hosts == UnknownHosts::CannotPass).then(|| inline_string(NO_ORIGINAL_DESTINATION));
            let response = envoy::DirectResponseAction { status: 502, body, ..envoy::DirectResponseAction::default() };
            ("block_all", Action::DirectResponse(response))
        }
    };
    virtual_host(name.to_owned(), vec!["*".to_owned()], vec![every_request(name, action)])
}

fn every_request(name: &str, action: Action) -> envoy::Route {
    let matcher = envoy::RouteMatch {
        path_specifier: Some(PathSpecifier::Prefix("/".to_owned())),
        ..envoy::RouteMatch::default()
    };
    envoy::Route { name: name.to_owned(), r#match: Some(matcher), action: Some(action), ..envoy::Route::default() }
}

/// Names by which clients of the namespace call the service, those of its aliases, and its addresses.
fn domains(service: &Service, namespace: &str) -> Vec<String> {
    let mut domains: Vec<_> = service.hosts(namespace).flat_map(|host| names(host, namespace)).collect();
    domains.extend(service.addresses.iter().map(|address| match address {
        std::net::IpAddr::V4(address) => address.to_string(),
        std::net::IpAddr::V6(address) => format!("[{address}]"),
    }));
    domains
}

fn names(host: &Host, namespace: &str) -> Vec<String> {
    let mut names = vec![host.to_string()];
    if !host.is_ip() {
        names.push(format!("{host}."));
    }
    if let Some((name, owner)) = host.kubernetes_service() {
        if owner == namespace {
            names.push(name.to_owned());
        }
        names.push(format!("{name}.{owner}.svc"));
        names.push(format!("{name}.{owner}"));
    }
    names
}

/// A domain belongs to the first virtual host that has it: Envoy refuses a route configuration with duplicate domains.
fn remove_duplicate_domains(virtual_hosts: &mut Vec<envoy::VirtualHost>) {
    let mut seen = HashSet::new();
    for virtual_host in virtual_hosts.iter_mut() {
        virtual_host.domains.retain(|domain| seen.insert(domain.to_ascii_lowercase()));
    }
    virtual_hosts.retain(|virtual_host| !virtual_host.domains.is_empty());
}
