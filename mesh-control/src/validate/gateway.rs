//! Servers of Gateways that compete for a port of one proxy, and those without rules.

use std::collections::HashMap;

use super::Scope;
use super::credential::{self, Need};
use crate::config::{
    Config, Gateway, GatewayName, Metadata, Server, ServerMode, ServerTlsMode, VirtualService, selects,
};
use crate::diagnostic::{Code, Diagnostic};

pub(super) fn check(scope: Scope<'_>, diagnostics: &mut Vec<Diagnostic>) {
    let mut by_port: HashMap<u16, Vec<Place<'_>>> = HashMap::new();
    let is_whole = |gateway: &&Gateway| scope.completeness.is_whole(&gateway.metadata);
    for gateway in scope.mesh.config.gateways.iter().filter(is_whole) {
        for (index, server) in gateway.servers.iter().enumerate() {
            by_port.entry(server.port).or_default().push(Place { gateway, index, server });
        }
    }
    for places in by_port.values() {
        for place in places {
            let others = places.iter().filter(|other| !std::ptr::eq(place.server, other.server));
            diagnostics.extend(others.filter_map(|other| place.conflict(other)).next());
            diagnostics.extend(place.without_rules(&scope.mesh.config));
            diagnostics.extend(place.credentials(scope));
        }
    }
}

/// A server and its place.
struct Place<'a> {
    gateway: &'a Gateway,
    index: usize,
    server: &'a Server,
}

impl Place<'_> {
    /// Warns of a server for connections that no rule forwards. An HTTP server answers requests all the same.
    fn without_rules(&self, config: &Config) -> Option<Diagnostic> {
        let (list, has_rules): (_, fn(&VirtualService) -> bool) = match self.server.mode {
            ServerMode::Http { .. } | ServerMode::Https | ServerMode::AutoPassthrough => return None,
            ServerMode::Tcp | ServerMode::Tls => ("tcp", |service| !service.tcp.is_empty()),
            ServerMode::TlsPassthrough => ("tls", |service| !service.tls.is_empty()),
        };
        let Metadata { namespace, name, .. } = &self.gateway.metadata;
        let gateway = GatewayName::Gateway { namespace: namespace.clone(), name: name.clone() };
        let is_bound = |service: &&VirtualService| service.gateways.iter().any(|bound| bound.value == gateway);
        let is_served = |service: &VirtualService| {
            let admits = |host| self.server.hosts.iter().any(|own| own.admits(&service.metadata.namespace, host));
            has_rules(service) && service.hosts.iter().any(|host| admits(&host.value))
        };
        if config.virtual_services.iter().filter(is_bound).any(is_served) {
            return None;
        }
        let message = format!("no VirtualService has {list} rules for the server, so the port is not listened on");
        Some(
            Diagnostic::warning(Code::NoEffect, self.server.position.clone(), message)
                .at(self.gateway.metadata.resource(), format!("spec.servers[{}]", self.index))
                .label("has no effect"),
        )
    }

    /// What is wrong with the Secrets of its TLS.
    fn credentials(&self, scope: Scope<'_>) -> Vec<Diagnostic> {
        let Some(tls) = &self.server.tls else { return Vec::new() };
        let field = format!("spec.servers[{}].tls", self.index);
        let at = |position| credential::Place { metadata: &self.gateway.metadata, field: &field, position };
        if tls.mode == ServerTlsMode::IstioMutual {
            return at(&self.server.position).needs_certificates(scope, "ISTIO_MUTUAL").into_iter().collect();
        }
        let certificates = tls.credential_names.iter();
        let mut found: Vec<_> =
            certificates.filter_map(|name| at(&name.position).check(scope, name, Need::Certificate)).collect();
        if matches!(tls.mode, ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual) {
            let named = Some(tls.ca_cert_credential_name.as_str()).filter(|name| !name.is_empty());
            let own = tls.credential_names.first();
            let position = own.map_or(&self.server.position, |name| &name.position);
            let name = named.or_else(|| own.map(|name| name.as_str()));
            found.extend(name.and_then(|name| at(position).check(scope, name, Need::Roots)));
        }
        found.dedup_by(|a, b| a.message == b.message);
        found
    }

    /// What is wrong if one proxy has both servers.
    fn conflict(&self, other: &Self) -> Option<Diagnostic> {
        let may_share_proxy = selects(&self.gateway.selector, &other.gateway.selector)
            || selects(&other.gateway.selector, &self.gateway.selector);
        if !may_share_proxy || self.server.bind != other.server.bind {
            return None;
        }
        let layers = (layer(self.server.mode), layer(other.server.mode));
        let what = if layers.0 != layers.1 {
            format!("is served as {}, not as {},", layers.1, layers.0)
        } else if self.server.mode == ServerMode::Tcp {
            "is served as TCP, which cannot be divided,".to_owned()
        } else if share_host(self.server, other.server) {
            "is served for the same host".to_owned()
        } else {
            return None;
        };
        let (port, gateway) = (self.server.port, other.gateway.metadata.resource());
        let message = format!("port {port} {what} by servers[{}] of {gateway}", other.index);
        Some(
            Diagnostic::error(Code::ConflictingGateways, self.server.position.clone(), message)
                .at(self.gateway.metadata.resource(), format!("spec.servers[{}]", self.index))
                .label("expected another port, host, bind or selector"),
        )
    }
}

fn layer(mode: ServerMode) -> &'static str {
    match mode {
        ServerMode::Http { .. } => "HTTP",
        ServerMode::Tcp => "TCP",
        ServerMode::TlsPassthrough | ServerMode::AutoPassthrough | ServerMode::Https | ServerMode::Tls => "TLS",
    }
}

fn share_host(a: &Server, b: &Server) -> bool {
    a.hosts.iter().any(|host| b.hosts.iter().any(|other| other.host == host.host && other.namespace == host.namespace))
}
