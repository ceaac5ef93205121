//! A server of a Gateway, and the VirtualServices that it serves.

use super::entry::Entry;
use super::view::View;
use crate::config::{
    Gateway, GatewayName, Location, NamespacedHost, Server, ServerMode, VirtualService, Visibility, selects,
};
use crate::host::Host;
use crate::registry::Service;

/// A server of a Gateway that selects the node.
#[derive(Clone, Debug)]
pub(super) struct GatewayServer<'a> {
    pub(super) server: &'a Server,
    /// The Gateway, as VirtualServices name it.
    gateway: GatewayName,
}

/// The servers of the Gateways that select the node.
pub(super) fn servers<'a>(view: &View<'a>) -> impl Iterator<Item = GatewayServer<'a>> {
    let node = view.node;
    let gateways = view.mesh.config.gateways.iter();
    // Those of Gateway API are served in their namespace only.
    let local = view.mesh.gateway_api.gateways.iter().filter(|gateway| gateway.metadata.namespace == node.namespace);
    let selecting = gateways.chain(local).filter(|gateway| selects(&gateway.selector, &node.labels));
    selecting.flat_map(|gateway| gateway.servers.iter().map(move |server| GatewayServer::new(gateway, server)))
}

impl<'a> GatewayServer<'a> {
    pub(super) fn new(gateway: &'a Gateway, server: &'a Server) -> Self {
        let (namespace, name) = (gateway.metadata.namespace.clone(), gateway.metadata.name.clone());
        Self { server, gateway: GatewayName::Gateway { namespace, name } }
    }

    pub(super) fn entry<'b>(&'b self, view: &'b View<'b>) -> Entry<'b> {
        Entry { view, port: self.server.port, gateway: &self.gateway }
    }

    /// Name of the routes of a server of HTTPS, which has its own.
    pub(super) fn route_name(&self) -> String {
        let Server { port, port_name, bind, .. } = self.server;
        let GatewayName::Gateway { namespace, name } = &self.gateway else { return String::new() };
        let bind = bind.map(|bind| format!(".{bind}")).unwrap_or_default();
        format!("https.{port}.{port_name}.{name}.{namespace}{bind}")
    }

    /// Ports and subsets of a service for which the server passes on mutual TLS between workloads; the subset may be empty.
    pub(super) fn passed_on<'b>(&self, view: &View<'b>, service: &'b Service) -> Vec<(u16, &'b str)> {
        let serves = |entry: &NamespacedHost| entry.admits(&service.namespace, &service.host);
        let is_served = self.server.mode == ServerMode::AutoPassthrough
            && service.location == Location::MeshInternal
            && self.server.hosts.iter().any(|entry| serves(entry));
        if !is_served {
            return Vec::new();
        }
        let rule = view.mesh.destination_rules.find(service, &view.node.namespace);
        let subsets = rule.into_iter().flat_map(|rule| rule.subsets.iter().map(|subset| subset.name.as_str()));
        let subsets: Vec<_> = std::iter::once("").chain(subsets).collect();
        service.ports.iter().flat_map(|port| subsets.iter().map(|subset| (port.number, *subset))).collect()
    }

    /// The VirtualServices that are bound to the Gateway and have a host that the server serves.
    pub(super) fn virtual_services<'b>(
        &'b self,
        view: &'b View<'a>,
    ) -> impl Iterator<Item = &'a VirtualService> + use<'a, 'b> {
        let mesh = view.mesh;
        mesh.virtual_services().filter(move |service| {
            Visibility::includes(&service.export_to, &service.metadata.namespace, &view.node.namespace)
                && service.gateways.iter().any(|bound| bound.value == self.gateway)
                && service.hosts.iter().any(|host| self.serves(service, host))
        })
    }

    /// Whether the server serves a host for the VirtualService.
    pub(super) fn serves(&self, service: &VirtualService, host: &Host) -> bool {
        self.server.hosts.iter().any(|entry| entry.admits(&service.metadata.namespace, host))
    }

    /// The hosts that the server and a VirtualService have in common, in the narrower form.
    pub(super) fn common_hosts(&self, service: &'a VirtualService) -> Vec<&'a Host> {
        let mut hosts: Vec<&Host> = Vec::new();
        for host in &service.hosts {
            let entries = self.server.hosts.iter();
            for entry in entries.filter(|entry| entry.admits(&service.metadata.namespace, &host.value)) {
                let narrower = if host.covers(&entry.host) { &entry.host } else { &host.value };
                if !hosts.contains(&narrower) {
                    hosts.push(narrower);
                }
            }
        }
        hosts
    }
}
