//! TLS of connections to a service.
//!
//! A DestinationRule says what is done, or else each endpoint decides: one that accepts mutual TLS of the mesh is called with
//! it, others in plain text. Source: istiod `pilot/pkg/networking/core/cluster_tls.go`.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Compare, OWN_CERTIFICATE, crl, of_mesh, parameters, require_names, sds, secret, spiffe_id, transport_socket,
    trust_domains, validation,
};
use crate::config::{ClientTls, ClientTlsMode, Location, MtlsMode};
use crate::registry::{Endpoint, Service};
use crate::translate::names::sni;
use crate::translate::proto::{any, cluster as envoy, core, object, raw_buffer, string, tls};
use crate::translate::traffic_policy::Policy;
use crate::translate::view::View;
use envoy::cluster::TransportSocketMatch;
use prost_types::Struct;
use tls::common_tls_context::ValidationContextType;

/// Protocols that a peer of the mesh recognizes: with its own certificate, and whether it may exchange metadata.
const IN_MESH: [&str; 2] = ["istio-peer-exchange", "istio"];
/// Key in the metadata of endpoints that chooses a transport socket.
const TRANSPORT_SOCKET_MATCH: &str = "envoy.transport_socket_match";
/// Field in it.
const TLS_MODE: &str = "tlsMode";
/// Its value for endpoints that accept mutual TLS of the mesh.
const ISTIO: &str = "istio";

/// A port of a service, or of a subset of it, as a node calls it.
#[derive(Clone, Copy, Debug)]
pub(in crate::translate) struct Upstream<'a> {
    pub(in crate::translate) view: &'a View<'a>,
    pub(in crate::translate) service: &'a Service,
    pub(in crate::translate) port: u16,
    pub(in crate::translate) subset: &'a str,
    pub(in crate::translate) policy: Policy<'a>,
}

impl Upstream<'_> {
    /// Writes the transport sockets into the cluster.
    pub(in crate::translate) fn write(&self, cluster: &mut envoy::Cluster) {
        let is_http2 = self.is_http2();
        match self.policy.tls {
            Some(rule) => {
                cluster.transport_socket = self.by_rule(rule, is_http2).map(|context| transport_socket(&context));
            }
            None if self.is_automatic() => {
                let context = self.in_mesh(&[], "", "");
                cluster.transport_socket_matches = vec![
                    TransportSocketMatch {
                        name: format!("tlsMode-{ISTIO}"),
                        r#match: Some(object([(TLS_MODE, string(ISTIO))])),
                        transport_socket: Some(transport_socket(&context)),
                    },
                    TransportSocketMatch {
                        name: "tlsMode-disabled".to_owned(),
                        r#match: Some(Struct::default()),
                        transport_socket: Some(plain_text()),
                    },
                ];
            }
            None => {}
        }
    }

    /// The metadata by which an endpoint gets its transport socket.
    pub(in crate::translate) fn endpoint_metadata(&self, endpoint: &Endpoint, port: u16) -> BTreeMap<String, Struct> {
        let accepts = || {
            let policies = &self.view.mesh.peer_authentications;
            let mode = policies.mode(&endpoint.namespace, &endpoint.labels, Some(port));
            endpoint.accepts_mtls && mode != MtlsMode::Disable
        };
        let is_mtls = self.view.mesh.has_certificates
            && match self.policy.tls.map(|tls| tls.mode) {
                Some(ClientTlsMode::Disable) => false,
                Some(ClientTlsMode::IstioMutual) => endpoint.accepts_mtls,
                Some(ClientTlsMode::Simple | ClientTlsMode::Mutual) | None => accepts(),
            };
        if !is_mtls {
            return BTreeMap::new();
        }
        BTreeMap::from([(TRANSPORT_SOCKET_MATCH.to_owned(), object([(TLS_MODE, string(ISTIO))]))])
    }

    /// Whether proxies must not replace the list of application protocols, because the peer is not one of the mesh.
    pub(in crate::translate) fn keeps_alpn(&self) -> bool {
        self.policy.tls.is_some_and(|tls| matches!(tls.mode, ClientTlsMode::Simple | ClientTlsMode::Mutual))
    }

    fn is_http2(&self) -> bool {
        let port = self.service.port(self.port);
        self.policy.is_http2(port.is_some_and(|port| port.protocol.is_http2()))
    }

    /// Whether each endpoint decides.
    fn is_automatic(&self) -> bool {
        let mesh = self.view.mesh;
        mesh.has_certificates
            && mesh.config.mesh_config.enable_auto_mtls()
            && self.service.location == Location::MeshInternal
    }

    fn by_rule(&self, rule: &ClientTls, is_http2: bool) -> Option<tls::UpstreamTlsContext> {
        let certificate = match rule.mode {
            ClientTlsMode::Disable => return None,
            ClientTlsMode::IstioMutual => return Some(self.in_mesh(&rule.subject_alt_names, &rule.sni, &rule.ca_crl)),
            ClientTlsMode::Simple => None,
            ClientTlsMode::Mutual if rule.credential_name.is_empty() => {
                Some(secret::file_certificate(&rule.client_certificate, &rule.private_key))
            }
            ClientTlsMode::Mutual => Some(secret::kubernetes(&rule.credential_name)),
        };
        let names = if rule.subject_alt_names.is_empty() { self.names() } else { rule.subject_alt_names.clone() };
        let common = tls::CommonTlsContext {
            tls_params: Some(parameters(&[])),
            tls_certificate_sds_secret_configs: certificate.into_iter().map(sds).collect(),
            alpn_protocols: if is_http2 { vec!["h2".to_owned()] } else { Vec::new() },
            validation_context_type: Some(verification(rule, &names)),
            ..tls::CommonTlsContext::default()
        };
        Some(tls::UpstreamTlsContext {
            common_tls_context: Some(common),
            sni: rule.sni.clone(),
            ..tls::UpstreamTlsContext::default()
        })
    }

    /// TLS with the certificates of the mesh.
    fn in_mesh(&self, names: &[String], server_name: &str, crl_file: &str) -> tls::UpstreamTlsContext {
        let mut context = tls::CertificateValidationContext { crl: crl(crl_file), ..Default::default() };
        let own_names = if names.is_empty() { self.names() } else { names.to_vec() };
        require_names(&mut context, &own_names, Compare::Exact);
        let mut common = of_mesh(context);
        common.tls_params = Some(parameters(&[]));
        let protocols = IN_MESH.into_iter().chain(self.is_http2().then_some("h2"));
        common.alpn_protocols = protocols.map(str::to_owned).collect();
        let own_server_name = || sni(self.port, self.subset, &self.service.host);
        tls::UpstreamTlsContext {
            common_tls_context: Some(common),
            sni: if server_name.is_empty() { own_server_name() } else { server_name.to_owned() },
            ..tls::UpstreamTlsContext::default()
        }
    }

    /// The identities of the service's workloads in each trust domain, and the names that the service gives.
    fn names(&self) -> Vec<String> {
        let mut names: BTreeSet<String> = self.service.subject_alt_names.iter().cloned().collect();
        for endpoint in self.service.endpoints.iter().filter(|endpoint| !endpoint.service_account.is_empty()) {
            for trust_domain in trust_domains(self.view) {
                names.insert(spiffe_id(trust_domain, &endpoint.namespace, &endpoint.service_account));
            }
        }
        names.into_iter().collect()
    }
}

/// How the certificate of a server outside of the mesh is verified.
fn verification(rule: &ClientTls, names: &[String]) -> ValidationContextType {
    if rule.insecure_skip_verify {
        return ValidationContextType::ValidationContext(tls::CertificateValidationContext::default());
    }
    let mut context = tls::CertificateValidationContext { crl: crl(&rule.ca_crl), ..Default::default() };
    require_names(&mut context, names, Compare::Exact);
    let roots = if rule.credential_name.is_empty() {
        secret::file_roots(&rule.ca_certificates)
    } else {
        secret::kubernetes_roots(&rule.credential_name)
    };
    validation(roots, context)
}

fn plain_text() -> core::TransportSocket {
    core::TransportSocket {
        name: "envoy.transport_sockets.raw_buffer".to_owned(),
        config_type: Some(core::transport_socket::ConfigType::TypedConfig(any(&raw_buffer::RawBuffer {}))),
    }
}

/// The secrets of a DestinationRule's `tls`.
pub(super) fn names_of(rule: &ClientTls) -> Vec<String> {
    let (has_certificate, is_verified) = match rule.mode {
        ClientTlsMode::Disable | ClientTlsMode::IstioMutual => return Vec::new(),
        ClientTlsMode::Simple => (false, !rule.insecure_skip_verify),
        ClientTlsMode::Mutual => (true, !rule.insecure_skip_verify),
    };
    let (certificate, roots) = if rule.credential_name.is_empty() {
        let certificate = secret::file_certificate(&rule.client_certificate, &rule.private_key);
        (certificate, secret::file_roots(&rule.ca_certificates))
    } else {
        (secret::kubernetes(&rule.credential_name), secret::kubernetes_roots(&rule.credential_name))
    };
    debug_assert_ne!(certificate, OWN_CERTIFICATE);
    has_certificate.then_some(certificate).into_iter().chain(is_verified.then_some(roots)).collect()
}
