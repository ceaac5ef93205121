//! How the connections of a workload's port come in: in plain text, with mutual TLS, or both.
//!
//! Each way has a filter chain of its own, with the same filters; TLS is recognized by its client hello and a client of the
//! mesh by the application protocols that it offers. Source: istiod `pilot/pkg/networking/core/listener_inbound.go`.

use super::tcp::tls_inspector;
use crate::config::MtlsMode;
use crate::translate::proto::listener as envoy;
use crate::translate::tls::{self, Terminates};
use crate::translate::view::View;
use envoy::listener_filter_chain_match_predicate::{MatchSet, Rule};

/// What clients of the mesh offer for requests and for bytes.
const OF_MESH: &[&str] = &["istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2"];
/// What clients of the mesh offer for bytes.
const OF_MESH_TCP: &[&str] = &["istio-peer-exchange", "istio"];
const TLS: &str = "tls";
const RAW_BUFFER: &str = "raw_buffer";

/// One way in which connections come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Admission {
    transport_protocol: &'static str,
    application_protocols: &'static [&'static str],
    /// Whether TLS ends here, with certificates of the mesh on both sides.
    pub(super) is_mutual_tls: bool,
}

/// The ways in which connections come in. TLS that is not the mesh's cannot be understood as requests, so a port for these
/// does not take it; as bytes it goes to the workload as it is.
pub(super) fn admissions(mode: MtlsMode, terminates: Terminates) -> Vec<Admission> {
    let plain = |transport_protocol| Admission { transport_protocol, application_protocols: &[], is_mutual_tls: false };
    let mutual =
        |application_protocols| Admission { transport_protocol: TLS, application_protocols, is_mutual_tls: true };
    match (mode, terminates) {
        (MtlsMode::Strict, _) => vec![mutual(&[])],
        (MtlsMode::Permissive, Terminates::Http) => vec![mutual(OF_MESH), plain(RAW_BUFFER)],
        (MtlsMode::Permissive, Terminates::Tcp) => vec![mutual(OF_MESH_TCP), plain(TLS), plain(RAW_BUFFER)],
        (MtlsMode::Disable, Terminates::Http) => vec![plain(RAW_BUFFER)],
        (MtlsMode::Disable, Terminates::Tcp) => vec![plain("")],
    }
}

/// What clients of the mesh offer for requests and for bytes.
pub(super) fn of_mesh() -> Vec<String> {
    OF_MESH.iter().map(|protocol| (*protocol).to_owned()).collect()
}

impl Admission {
    /// Takes any connection, if it takes plain text: for a listener that has no other chain, and does not look for TLS.
    pub(super) fn take_any_plain_text(&mut self) {
        if !self.is_mutual_tls {
            self.transport_protocol = "";
        }
    }

    /// A chain for connections that come in like this, and are for the port, or for any port if there is none.
    pub(super) fn chain(
        self,
        view: &View<'_>,
        port: Option<u16>,
        terminates: Terminates,
        filters: Vec<envoy::Filter>,
    ) -> envoy::FilterChain {
        let matcher = envoy::FilterChainMatch {
            destination_port: port.map(u32::from),
            transport_protocol: self.transport_protocol.to_owned(),
            application_protocols: self.application_protocols.iter().map(|name| (*name).to_owned()).collect(),
            ..envoy::FilterChainMatch::default()
        };
        envoy::FilterChain {
            filter_chain_match: (matcher != envoy::FilterChainMatch::default()).then_some(matcher),
            transport_socket: self.is_mutual_tls.then(|| tls::inbound(view, terminates)),
            filters,
            ..envoy::FilterChain::default()
        }
    }
}

/// Makes the listener look at the first bytes of connections, if a chain is for TLS: except on the `plain` ports, where the
/// server may be the first to send. It waits for them without end, as istiod's do.
pub(super) fn inspect(listener: &mut envoy::Listener, plain: &[u16]) {
    let matchers = listener.filter_chains.iter().filter_map(|chain| chain.filter_chain_match.as_ref());
    if !matchers.clone().any(|matcher| matcher.transport_protocol == TLS) {
        return;
    }
    let mut filter = tls_inspector();
    filter.filter_disabled = disabled_for(plain);
    listener.listener_filters.push(filter);
    listener.listener_filters_timeout = Some(prost_types::Duration::default());
    listener.continue_on_listener_filters_timeout = true;
}

fn disabled_for(ports: &[u16]) -> Option<envoy::ListenerFilterChainMatchPredicate> {
    let predicate = |rule| envoy::ListenerFilterChainMatchPredicate { rule: Some(rule) };
    let range = |port: &u16| {
        let start = i32::from(*port);
        predicate(Rule::DestinationPortRange(crate::translate::proto::percent::Int32Range { start, end: start + 1 }))
    };
    match ports {
        [] => None,
        [only] => Some(range(only)),
        several => Some(predicate(Rule::OrMatch(MatchSet { rules: several.iter().map(range).collect() }))),
    }
}

impl View<'_> {
    /// How connections to a port of the node's workload come in. Without certificates, what may be mutual TLS is plain text.
    pub(super) fn inbound_mode(&self, port: u16) -> MtlsMode {
        let mesh = self.mesh;
        match mesh.peer_authentications.mode(&self.node.namespace, &self.node.labels, Some(port)) {
            MtlsMode::Permissive if !mesh.has_certificates => MtlsMode::Disable,
            mode => mode,
        }
    }
}
