//! Listeners of a sidecar: those of its `Sidecar` resource. With interception it has istiod's listeners as well: one for
//! each port of the mesh, and one for all inbound connections.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::ListenerResources;
use super::http_connection_manager::{filter_chain, filters, inline, listener, manager, rds};
use super::inbound;
use super::tcp::{self, Chains};
use crate::config::{EgressListener, GatewayName, IngressListener, ListenerPort, MtlsMode, Protocol};
use crate::translate::cluster;
use crate::translate::entry::Entry;
use crate::translate::filter::Side;
use crate::translate::proto::listener as envoy;
use crate::translate::route::{self, UnknownHosts};
use crate::translate::tls::Terminates;
use crate::translate::view::View;
use mesh_core::node::Interception;

/// Port to which the kernel redirects what comes in. Istio `MeshConfig.proxyInboundListenPort`.
const INBOUND_PORT: u16 = 15_006;
const ANY_ADDRESS: &str = "0.0.0.0";

pub(super) fn build(view: &View<'_>, interception: Interception) -> ListenerResources {
    let mut resources = ListenerResources::default();
    let (ingress, egress) = view.sidecar.map_or((&[][..], &[][..]), |sidecar| (&sidecar.ingress, &sidecar.egress));
    for listener in ingress {
        add_ingress(view, listener, &mut resources);
    }
    for listener in egress {
        add_egress(view, listener, &mut resources);
    }
    if interception == Interception::Redirect {
        add_captured_outbound(view, &mut resources);
        if ingress.is_empty() {
            add_captured_inbound(view, &mut resources);
        }
    }
    resources
}

/// Adds a listener for calls to the workload, which go to the program's port.
fn add_ingress(view: &View<'_>, ingress: &IngressListener, resources: &mut ListenerResources) {
    let port = ingress.port.number;
    let own = view.address(port);
    let bind = ingress.bind.or(own).map_or_else(|| ANY_ADDRESS.to_owned(), |bind| bind.to_string());
    let target = match ingress.default_endpoint {
        // The unspecified address means the workload's own.
        Some(endpoint) if endpoint.ip().is_unspecified() => {
            SocketAddr::new(own.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), endpoint.port())
        }
        Some(endpoint) => endpoint,
        None => SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port),
    };
    let protocol = ingress.port.protocol;
    let inbound = Inbound { view, port, service_port: port, protocol, address: &bind };
    let mut listener = listener(Side::Inbound, &bind, port, inbound.chains(None));
    inbound::inspect(&mut listener, &[]);
    resources.listeners.push(listener);
    resources.clusters.push(cluster::inbound(view, port, protocol.is_http2(), Some(target)));
}

/// Connections to a port of the workload.
struct Inbound<'a> {
    view: &'a View<'a>,
    /// Port of the workload.
    port: u16,
    /// Port by which the service is called.
    service_port: u16,
    protocol: Protocol,
    /// Address that is listened on.
    address: &'a str,
}

impl Inbound<'_> {
    /// A chain for each way in which connections come in; `captured` is the port, if a listener has chains of several ports.
    fn chains(&self, captured: Option<u16>) -> Vec<envoy::FilterChain> {
        let Self { view, port, .. } = *self;
        let (terminates, filters) = self.filters();
        let mut admissions = inbound::admissions(view.inbound_mode(port), terminates);
        if let ([only], None) = (admissions.as_mut_slice(), captured) {
            only.take_any_plain_text();
        }
        admissions.into_iter().map(|it| it.chain(view, captured, terminates, filters.clone())).collect()
    }

    fn filters(&self) -> (Terminates, Vec<envoy::Filter>) {
        let Self { view, port, service_port, protocol, address } = *self;
        if !protocol.is_http() {
            return (Terminates::Tcp, tcp::to_workload(view, port, protocol));
        }
        let routes = route::inbound(service_port, port, protocol == Protocol::Grpc);
        let manager = manager(view, Side::Inbound, format!("inbound_{address}_{port}"), inline(routes));
        (Terminates::Http, filters(&manager))
    }
}

/// Adds a listener for calls of the workload, which are made to its port instead of to the service.
fn add_egress(view: &View<'_>, egress: &EgressListener, resources: &mut ListenerResources) {
    let Some(listener_port) = &egress.port else { return };
    let port = listener_port.number;
    let bind = egress.bind.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)).to_string();
    if !listener_port.protocol.is_http() {
        resources.listeners.extend(tcp_egress(view, egress, listener_port, &bind));
        return;
    }
    let unknown = UnknownHosts::of_port(view.outbound_traffic_policy());
    let mut routes = route::sidecar(view, port, &view.egress_services(egress), unknown);
    let same_port = |other: &&EgressListener| other.port.as_ref().is_some_and(|other| other.number == port);
    if view.sidecar.is_some_and(|sidecar| sidecar.egress.iter().filter(same_port).count() > 1) {
        // Each listener has its own services, so the port does not identify the routes.
        routes.name = format!("{bind}:{port}");
    }
    let manager = manager(view, Side::Outbound, format!("outbound_{bind}_{port}"), rds(routes.name.clone()));
    resources.listeners.push(listener(Side::Outbound, &bind, port, vec![filter_chain(&manager)]));
    resources.routes.push(routes);
}

/// A listener for connections of the workload. Connections that no rule and no service matches are closed, because they have
/// no original destination.
fn tcp_egress(view: &View<'_>, egress: &EgressListener, port: &ListenerPort, bind: &str) -> Option<envoy::Listener> {
    let entry = Entry { view, port: port.number, gateway: &GatewayName::Mesh };
    let mut chains = Chains::default();
    for service in view.egress_services(egress) {
        tcp::add_service(&entry, service, port.protocol, None, &mut chains);
    }
    (!chains.is_empty()).then(|| outbound(chains, bind, port.number, None))
}

fn outbound(chains: Chains, address: &str, port: u16, otherwise: Option<envoy::FilterChain>) -> envoy::Listener {
    envoy::Listener {
        // Where the server sends first, the client may send nothing for any time.
        listener_filters_timeout: Some(prost_types::Duration::default()),
        continue_on_listener_filters_timeout: true,
        ..chains.build(Side::Outbound, address, port, otherwise)
    }
}

fn add_captured_outbound(view: &View<'_>, resources: &mut ListenerResources) {
    add_captured_connections(view, resources);
    let http = view.services.iter().flat_map(|service| &service.ports).filter(|port| port.protocol.is_http());
    let ports: BTreeSet<u16> = http.map(|port| port.number).collect();
    for port in ports {
        let unknown = UnknownHosts::of_intercepted(view.outbound_traffic_policy());
        let routes = route::sidecar(view, port, &view.services, unknown);
        let manager = manager(view, Side::Outbound, format!("outbound_{ANY_ADDRESS}_{port}"), rds(routes.name.clone()));
        let mut listener = listener(Side::Outbound, ANY_ADDRESS, port, vec![filter_chain(&manager)]);
        listener.bind_to_port = Some(false);
        resources.listeners.push(listener);
        resources.routes.push(routes);
    }
}

/// Adds a listener for each address and port of services that are not HTTP. Services without an address share the listener
/// on all addresses, which distinguishes TLS connections by their server name.
fn add_captured_connections(view: &View<'_>, resources: &mut ListenerResources) {
    let mut listeners: BTreeMap<(String, u16), Chains> = BTreeMap::new();
    for &service in &view.services {
        for port in service.ports.iter().filter(|port| !port.protocol.is_http()) {
            let entry = Entry { view, port: port.number, gateway: &GatewayName::Mesh };
            let address = service.addresses.first().map_or_else(|| ANY_ADDRESS.to_owned(), ToString::to_string);
            let name = service.addresses.is_empty().then_some(service.host.as_str());
            let chains = listeners.entry((address, port.number)).or_default();
            tcp::add_service(&entry, service, port.protocol, name, chains);
        }
    }
    for ((address, port), chains) in listeners {
        let mut listener = outbound(chains, &address, port, Some(tcp::to_unknown(view)));
        listener.bind_to_port = Some(false);
        resources.listeners.push(listener);
    }
}

/// Adds the listener of what comes in, with the chains of each port of the workload.
fn add_captured_inbound(view: &View<'_>, resources: &mut ListenerResources) {
    let service = view.node.service.as_ref().and_then(|host| view.mesh.registry.find(host, &view.node.namespace));
    let Some(service) = service else { return };
    let (mut chains, mut plain) = (Vec::new(), Vec::new());
    let target_ports: BTreeSet<(u16, u16)> = view.endpoints().flat_map(|endpoint| endpoint.ports.clone()).collect();
    let mut seen = BTreeSet::new();
    for (port, target) in target_ports {
        // Several ports of a service may be served by one port of the workload.
        let Some(port) = service.port(port).filter(|_| seen.insert(target)) else { continue };
        let (service_port, protocol) = (port.number, port.protocol);
        let inbound = Inbound { view, port: target, service_port, protocol, address: ANY_ADDRESS };
        for mut chain in inbound.chains(Some(target)) {
            chain.name = crate::translate::names::listener(ANY_ADDRESS, target);
            chains.push(chain);
        }
        if view.inbound_mode(target) == MtlsMode::Disable {
            plain.push(target);
        }
        resources.clusters.push(cluster::inbound(view, target, port.protocol.is_http2(), None));
    }
    let mut listener = listener(Side::Inbound, ANY_ADDRESS, INBOUND_PORT, chains);
    listener.name = "virtualInbound".to_owned();
    inbound::inspect(&mut listener, &plain);
    resources.listeners.push(listener);
}
