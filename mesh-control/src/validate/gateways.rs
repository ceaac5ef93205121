//! Gateways among themselves, and the VirtualServices bound to them.

use std::collections::HashMap;

use crate::config::{Config, Gaps, Gateway, GatewayName, Located, Server, VirtualService, selects};
use crate::diagnostic::{Code, Diagnostic};

pub(super) fn check(config: &Config, gaps: &Gaps, diagnostics: &mut Vec<Diagnostic>) {
    let gateways: HashMap<_, _> = config
        .gateways
        .iter()
        .map(|gateway| ((gateway.metadata.namespace.as_str(), gateway.metadata.name.as_str()), gateway))
        .collect();
    for service in &config.virtual_services {
        let mut bound = Vec::new();
        for (i, reference) in service.gateways.iter().enumerate() {
            let GatewayName::Gateway { namespace, name } = &reference.value else { continue };
            match gateways.get(&(namespace.as_str(), name.as_str())) {
                Some(&gateway) => bound.push(gateway),
                None if gaps.may_hide("Gateway") => {}
                None => diagnostics.push(missing(service, reference, format!("spec.gateways[{i}]"), &gateways)),
            }
        }
        check_hosts(service, &bound, diagnostics);
    }
    if !gaps.is_partial("Gateway") {
        check_conflicts(config, diagnostics);
    }
}

fn missing(
    service: &VirtualService,
    reference: &Located<GatewayName>,
    field: String,
    gateways: &HashMap<(&str, &str), &Gateway>,
) -> Diagnostic {
    let GatewayName::Gateway { namespace, name } = &reference.value else { unreachable!("mesh needs no resource") };
    let mut names: Vec<_> = gateways.keys().map(|(namespace, name)| format!("{namespace}/{name}")).collect();
    names.sort_unstable();
    let label =
        if names.is_empty() { "there is no Gateway".into() } else { format!("expected one of {}", names.join(", ")) };
    let message = format!("there is no Gateway {namespace}/{name}");
    Diagnostic::error(Code::ReferencedResourceNotFound, reference.position.clone(), message)
        .at(service.metadata.resource(), field)
        .label(label)
}

/// Warns of gateways that serve none of the hosts, and of hosts that nobody serves. Each of several gateways may have its
/// share of the hosts.
fn check_hosts(service: &VirtualService, gateways: &[&Gateway], diagnostics: &mut Vec<Diagnostic>) {
    let namespace = &service.metadata.namespace;
    let serves = |gateway: &Gateway, host| {
        let mut served = gateway.servers.iter().flat_map(|server| &server.hosts);
        served.any(|entry| entry.admits(namespace, host))
    };
    let is_in_mesh = service.gateways.iter().any(|reference| reference.value == GatewayName::Mesh);
    for (i, host) in service.hosts.iter().enumerate() {
        let is_served = is_in_mesh || gateways.iter().any(|gateway| serves(gateway, &host.value));
        for gateway in gateways.iter().filter(|gateway| !serves(gateway, &host.value)) {
            if is_served && service.hosts.iter().any(|host| serves(gateway, &host.value)) {
                continue;
            }
            let message = format!("{} does not serve the host {}", gateway.metadata.resource(), host.value);
            diagnostics.push(
                Diagnostic::warning(Code::VirtualServiceHostNotFoundInGateway, host.position.clone(), message)
                    .at(service.metadata.resource(), format!("spec.hosts[{i}]"))
                    .label("the gateway answers 404"),
            );
        }
    }
}

/// Two gateways of the same proxies must not serve the same host on the same port.
fn check_conflicts(config: &Config, diagnostics: &mut Vec<Diagnostic>) {
    let mut by_port: HashMap<u16, Vec<(&Gateway, usize, &Server)>> = HashMap::new();
    for gateway in &config.gateways {
        for (i, server) in gateway.servers.iter().enumerate() {
            by_port.entry(server.port).or_default().push((gateway, i, server));
        }
    }
    for servers in by_port.values() {
        for (gateway, i, server) in servers {
            let other = servers.iter().find(|(other, j, candidate)| {
                let is_same = std::ptr::eq(*other, *gateway) && j == i;
                !is_same
                    && may_share_proxy(gateway, other)
                    && server.bind == candidate.bind
                    && share_host(server, candidate)
            });
            if let Some((other, j, _)) = other {
                let message = format!(
                    "port {} is served for the same host by servers[{j}] of {}",
                    server.port,
                    other.metadata.resource()
                );
                diagnostics.push(
                    Diagnostic::error(Code::ConflictingGateways, server.position.clone(), message)
                        .at(gateway.metadata.resource(), format!("spec.servers[{i}]"))
                        .label("expected another port, host, bind or selector"),
                );
            }
        }
    }
}

fn may_share_proxy(a: &Gateway, b: &Gateway) -> bool {
    selects(&a.selector, &b.selector) || selects(&b.selector, &a.selector)
}

fn share_host(a: &Server, b: &Server) -> bool {
    a.hosts.iter().any(|host| b.hosts.iter().any(|other| other.host == host.host && other.namespace == host.namespace))
}
