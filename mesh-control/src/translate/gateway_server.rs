//! A server of a Gateway, and the VirtualServices that it serves.

use super::entry::Entry;
use super::view::View;
use crate::config::{Gateway, GatewayName, Server, VirtualService, Visibility};
use crate::host::Host;

/// A server of a Gateway that selects the node.
#[derive(Clone, Debug)]
pub(super) struct GatewayServer<'a> {
    pub(super) server: &'a Server,
    /// The Gateway, as VirtualServices name it.
    gateway: GatewayName,
}

impl<'a> GatewayServer<'a> {
    pub(super) fn new(gateway: &'a Gateway, server: &'a Server) -> Self {
        let (namespace, name) = (gateway.metadata.namespace.clone(), gateway.metadata.name.clone());
        Self { server, gateway: GatewayName::Gateway { namespace, name } }
    }

    pub(super) fn entry<'b>(&'b self, view: &'b View<'b>) -> Entry<'b> {
        Entry { view, port: self.server.port, gateway: &self.gateway }
    }

    /// The VirtualServices that are bound to the Gateway and have a host that the server serves.
    pub(super) fn virtual_services<'b>(
        &'b self,
        view: &'b View<'a>,
    ) -> impl Iterator<Item = &'a VirtualService> + use<'a, 'b> {
        let mesh = view.mesh;
        mesh.config.virtual_services.iter().filter(move |service| {
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
