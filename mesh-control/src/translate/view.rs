//! The mesh as one node sees it: the Sidecar that applies to it, and the services and VirtualServices in its scope.

use std::collections::{HashMap, HashSet};

use crate::config::{Config, EgressListener, OutboundTrafficPolicy, Sidecar, VirtualService, Visibility, selects};
use crate::host::Host;
use crate::mesh::Mesh;
use crate::registry::{Registry, Service};
use mesh_core::node::{Node, Role};

/// The mesh as one node sees it.
#[derive(Debug)]
pub(super) struct View<'a> {
    pub(super) node: &'a Node,
    pub(super) mesh: &'a Mesh,
    /// `None` for gateways.
    pub(super) sidecar: Option<&'a Sidecar>,
    /// Services that the node may call, oldest first.
    pub(super) services: Vec<&'a Service>,
    pub(super) routes: MeshRoutes<'a>,
}

impl<'a> View<'a> {
    pub(super) fn new(mesh: &'a Mesh, node: &'a Node) -> Self {
        let Mesh { config, registry, .. } = mesh;
        let sidecar = if node.role == Role::Gateway { None } else { sidecar(config, node) };
        let visible = registry.visible_to(&node.namespace);
        let mut services: Vec<_> =
            visible.filter(|service| sidecar.is_none_or(|sidecar| imports(sidecar, service))).collect();
        let routes = MeshRoutes::new(mesh, &node.namespace);
        if sidecar.is_some() {
            add_destinations(&mut services, &routes, registry);
        }
        Self { node, mesh, sidecar, services, routes }
    }

    /// The services of the scope that an egress listener offers: those of its hosts that have its port.
    pub(super) fn egress_services(&self, listener: &EgressListener) -> Vec<&'a Service> {
        let is_offered = |service: &Service| {
            let has_port = listener.port.as_ref().is_none_or(|port| service.port(port.number).is_some());
            has_port && listener.hosts.iter().any(|host| host.admits(&service.namespace, &service.host))
        };
        self.services.iter().copied().filter(|service| is_offered(service)).collect()
    }

    /// Whether calls to unknown hosts are forwarded. A listener with its own port has no original destination to forward to.
    pub(super) fn outbound_traffic_policy(&self) -> OutboundTrafficPolicy {
        let policy = self.sidecar.and_then(|sidecar| sidecar.outbound_traffic_policy);
        let of_mesh = self.mesh.config.mesh_config.outbound_traffic_policy;
        policy.or(of_mesh).unwrap_or(OutboundTrafficPolicy::AllowAny)
    }
}

/// The Sidecar that selects the node, else its namespace's, else the mesh's.
fn sidecar<'a>(config: &'a Config, node: &Node) -> Option<&'a Sidecar> {
    let of = |namespace: &'a str| config.sidecars.iter().filter(move |it| it.metadata.namespace == namespace);
    let own = || config.sidecars.iter().filter(|it| it.metadata.namespace == node.namespace);
    let selecting = own()
        .find(|sidecar| sidecar.workload_selector.as_ref().is_some_and(|selector| selects(selector, &node.labels)));
    let is_default = |sidecar: &&Sidecar| sidecar.workload_selector.is_none();
    selecting.or_else(|| own().find(is_default)).or_else(|| of(config.mesh_config.root_namespace()).find(is_default))
}

/// Whether the Sidecar's `egress` has the service; without `egress` it has all.
fn imports(sidecar: &Sidecar, service: &Service) -> bool {
    let mut hosts = sidecar.egress.iter().flat_map(|listener| &listener.hosts);
    sidecar.egress.is_empty() || hosts.any(|host| host.admits(&service.namespace, &service.host))
}

/// Adds the services that the VirtualServices of services in scope send requests and connections to.
fn add_destinations<'a>(services: &mut Vec<&'a Service>, routes: &MeshRoutes<'a>, registry: &'a Registry) {
    let mut known: HashSet<(&Host, &str)> =
        services.iter().map(|service| (&service.host, service.namespace.as_str())).collect();
    let mut added = Vec::new();
    let rules =
        |service: &&'a Service| routes.find(&service.host).into_iter().chain(routes.of_connections(&service.host));
    for rules in services.iter().flat_map(rules) {
        let hosts = rules.destinations().map(|destination| &destination.host.value);
        for found in hosts.filter_map(|host| registry.find(host, &rules.metadata.namespace)) {
            if known.insert((&found.host, &found.namespace)) {
                added.push(found);
            }
        }
    }
    services.extend(added);
}

/// VirtualServices for the mesh with rules for requests, found by host, and those with rules for connections.
#[derive(Debug, Default)]
pub(super) struct MeshRoutes<'a> {
    /// Those with rules for connections, in order of precedence.
    connections: Vec<&'a VirtualService>,
    exact: HashMap<&'a Host, &'a VirtualService>,
    /// Most specific first.
    wildcard: Vec<(&'a Host, &'a VirtualService)>,
}

impl<'a> MeshRoutes<'a> {
    fn new(mesh: &'a Mesh, namespace: &str) -> Self {
        let mut routes = Self::default();
        let is_visible = |service: &&VirtualService| {
            Visibility::includes(&service.export_to, &service.metadata.namespace, namespace)
        };
        // In order of precedence: private, exported to the client, public; the oldest first.
        let mut services: Vec<_> =
            mesh.virtual_services().filter(|service| service.applies_to_mesh()).filter(is_visible).collect();
        services.sort_by_key(|service| visibility_rank(&service.export_to));
        routes.connections.extend(services.iter().filter(|it| !it.tls.is_empty() || !it.tcp.is_empty()));
        for service in services.into_iter().filter(|service| !service.http.is_empty()) {
            for host in &service.hosts {
                if host.is_wildcard() {
                    routes.wildcard.push((&host.value, service));
                } else {
                    routes.exact.entry(&host.value).or_insert(service);
                }
            }
        }
        routes.wildcard.sort_by(|(a, _), (b, _)| a.by_specificity(b));
        routes
    }

    /// The VirtualServices for the connections to a host, in order of precedence: all that have it or a wildcard for it.
    pub(super) fn of_connections(&self, host: &Host) -> impl Iterator<Item = &'a VirtualService> {
        self.connections.iter().copied().filter(|service| service.hosts.iter().any(|own| own.intersects(host)))
    }

    /// The VirtualService for the requests to a host: that of its own name, or else of the most specific wildcard.
    pub(super) fn find(&self, host: &Host) -> Option<&'a VirtualService> {
        self.exact
            .get(host)
            .copied()
            .or_else(|| self.wildcard.iter().find(|(wildcard, _)| wildcard.covers(host)).map(|(_, service)| *service))
    }

    /// All hosts with a VirtualService of their own, sorted by name.
    pub(super) fn hosts(&self) -> Vec<(&'a Host, &'a VirtualService)> {
        let mut hosts: Vec<_> = self.exact.iter().map(|(host, service)| (*host, *service)).collect();
        hosts.extend(&self.wildcard);
        hosts.sort_by_key(|(host, _)| host.as_str());
        hosts
    }
}

fn visibility_rank(export_to: &[Visibility]) -> u8 {
    if export_to.is_empty() || export_to.contains(&Visibility::All) {
        2
    } else if export_to.iter().any(|entry| matches!(entry, Visibility::Namespace(_))) {
        1
    } else {
        0
    }
}
