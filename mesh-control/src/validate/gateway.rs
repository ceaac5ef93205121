//! Gateways that compete for a port.

use std::collections::HashMap;

use super::Scope;
use crate::config::{Gateway, Kind, Server, selects};
use crate::diagnostic::{Code, Diagnostic};

/// Two gateways of the same proxies must not serve the same host on the same port.
pub(super) fn check(scope: Scope<'_>, diagnostics: &mut Vec<Diagnostic>) {
    if scope.completeness.has_partial(Kind::Gateway) {
        return;
    }
    let mut by_port: HashMap<u16, Vec<(&Gateway, usize, &Server)>> = HashMap::new();
    for gateway in &scope.mesh.config.gateways {
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
