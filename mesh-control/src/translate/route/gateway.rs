//! Virtual hosts of a gateway: the hosts of its servers that VirtualServices are bound to.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::entry::Entry;
use super::matcher::is_catch_all;
use super::rules;
use super::virtual_host::{route_configuration, virtual_host};
use crate::config::{Gateway, GatewayName, Server, VirtualService, Visibility};
use crate::host::Host;
use crate::translate::names;
use crate::translate::proto::route as envoy;
use crate::translate::view::View;
use envoy::virtual_host::TlsRequirementType;

/// A virtual host while its routes are gathered from several VirtualServices.
#[derive(Debug, Default)]
struct Gathered {
    routes: Vec<envoy::Route>,
    requires_tls: bool,
}

/// Routes of one port of a gateway, from all servers on it.
pub(in crate::translate) fn routes(
    view: &View<'_>,
    port: u16,
    bind: Option<IpAddr>,
    servers: &[(&Gateway, &Server)],
) -> envoy::RouteConfiguration {
    let mut hosts: BTreeMap<String, Gathered> = BTreeMap::new();
    for (gateway, server) in servers {
        let name =
            GatewayName::Gateway { namespace: gateway.metadata.namespace.clone(), name: gateway.metadata.name.clone() };
        for service in &view.mesh.config.virtual_services {
            let is_visible =
                Visibility::includes(&service.export_to, &service.metadata.namespace, &view.node.namespace);
            if is_visible && service.gateways.iter().any(|bound| bound.value == name) {
                let routes = rules::routes(&Entry { view, port, gateway: &name }, service);
                for host in served_hosts(server, service) {
                    let gathered = hosts.entry(host.to_string()).or_default();
                    gathered.routes.extend(routes.iter().cloned());
                    gathered.requires_tls |= server.https_redirect;
                }
            }
        }
        // A redirect needs no route to be redirected from.
        for host in server.hosts.iter().filter(|_| server.https_redirect) {
            hosts.entry(host.host.to_string()).or_default().requires_tls = true;
        }
    }
    let virtual_hosts = hosts.into_iter().map(|(host, gathered)| build(&host, port, gathered)).collect();
    route_configuration(names::gateway_routes(port, bind), virtual_hosts)
}

/// The hosts that a server and a VirtualService have in common, in the narrower form.
fn served_hosts<'a>(server: &'a Server, service: &'a VirtualService) -> Vec<&'a Host> {
    let mut hosts: Vec<&Host> = Vec::new();
    for host in &service.hosts {
        let admitted = server.hosts.iter().filter(|entry| entry.admits(&service.metadata.namespace, &host.value));
        for entry in admitted {
            let narrower = if host.covers(&entry.host) { &entry.host } else { &host.value };
            if !hosts.contains(&narrower) {
                hosts.push(narrower);
            }
        }
    }
    hosts
}

/// Routes that take everything go last, since several VirtualServices may share a host.
fn build(host: &str, port: u16, gathered: Gathered) -> envoy::VirtualHost {
    let (last, mut routes): (Vec<_>, Vec<_>) = gathered.routes.into_iter().partition(is_catch_all);
    routes.extend(last.into_iter().take(1));
    let mut virtual_host = virtual_host(format!("{host}:{port}"), vec![host.to_owned()], routes);
    if gathered.requires_tls {
        virtual_host.set_require_tls(TlsRequirementType::All);
    }
    virtual_host
}
