//! The gateways that VirtualServices are bound to.

use std::collections::HashMap;

use super::super::Scope;
use crate::config::{Gateway, GatewayName, Kind, Server, ServerMode, VirtualService};
use crate::diagnostic::{Code, Diagnostic, Position};

/// The gateways of a mesh, by namespace and name.
type Gateways<'a> = HashMap<(&'a str, &'a str), &'a Gateway>;

pub(super) fn check(scope: Scope<'_>, diagnostics: &mut Vec<Diagnostic>) {
    let config = &scope.mesh.config;
    let gateways: Gateways<'_> = config
        .gateways
        .iter()
        .map(|gateway| ((gateway.metadata.namespace.as_str(), gateway.metadata.name.as_str()), gateway))
        .collect();
    for service in &config.virtual_services {
        let (mut bound, mut is_whole) = (Vec::new(), true);
        for (i, reference) in service.gateways.iter().enumerate() {
            let GatewayName::Gateway { namespace, name } = &reference.value else { continue };
            match gateways.get(&(namespace.as_str(), name.as_str())) {
                Some(&gateway) => {
                    bound.push(gateway);
                    is_whole &= scope.completeness.is_whole(&gateway.metadata);
                    continue;
                }
                None if !scope.completeness.may_declare(&[Kind::Gateway], name) => {
                    let message = format!("there is no Gateway {namespace}/{name}");
                    let missing =
                        Diagnostic::error(Code::ReferencedResourceNotFound, reference.position.clone(), message);
                    diagnostics.push(
                        missing
                            .at(service.metadata.resource(), format!("spec.gateways[{i}]"))
                            .label(expected(&gateways)),
                    );
                }
                None => {}
            }
            is_whole = false;
        }
        check_hosts(service, &bound, diagnostics);
        if is_whole && !service.applies_to_mesh() {
            check_modes(service, &bound, diagnostics);
        }
    }
}

fn expected(gateways: &Gateways<'_>) -> String {
    let mut names: Vec<_> = gateways.keys().map(|(namespace, name)| format!("{namespace}/{name}")).collect();
    names.sort_unstable();
    if names.is_empty() { "there is no Gateway".into() } else { format!("expected one of {}", names.join(", ")) }
}

/// Warns of gateways that serve none of the hosts, and of hosts that no gateway serves. Several gateways may share the
/// hosts among them.
fn check_hosts(service: &VirtualService, gateways: &[&Gateway], diagnostics: &mut Vec<Diagnostic>) {
    let namespace = &service.metadata.namespace;
    let serves = |gateway: &Gateway, host| {
        let mut served = gateway.servers.iter().flat_map(|server| &server.hosts);
        served.any(|entry| entry.admits(namespace, host))
    };
    let is_in_mesh = service.applies_to_mesh();
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
                    .label("the gateway has no route for it"),
            );
        }
    }
}

/// Warns of rules that no server of the gateways applies, such as `tcp` rules on HTTP servers.
fn check_modes(service: &VirtualService, gateways: &[&Gateway], diagnostics: &mut Vec<Diagnostic>) {
    let mut check = |list: &str, first: Option<&Position>, expected: &str, takes: fn(&Server) -> bool| {
        let Some(position) = first else { return };
        if gateways.iter().flat_map(|gateway| &gateway.servers).any(takes) {
            return;
        }
        let message = format!("no server of the gateways applies {list} rules");
        diagnostics.push(
            Diagnostic::warning(Code::VirtualServiceUnreachableRule, position.clone(), message)
                .at(service.metadata.resource(), format!("spec.{list}"))
                .label(format!("they need a server of {expected}")),
        );
    };
    check("http", service.http.first().map(|rule| &rule.position), "protocol HTTP", |server| {
        matches!(server.mode, ServerMode::Http { .. })
    });
    check("tls", service.tls.first().map(|rule| &rule.position), "protocol TLS and mode PASSTHROUGH", |server| {
        server.mode == ServerMode::TlsPassthrough
    });
    check("tcp", service.tcp.first().map(|rule| &rule.position), "protocol TCP", |server| {
        server.mode == ServerMode::Tcp
    });
}
