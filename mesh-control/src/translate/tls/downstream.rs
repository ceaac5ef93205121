//! TLS of connections that a listener accepts: those of the mesh, and those of a gateway's clients.
//!
//! Sources: istiod `pilot/pkg/security/authn/utils/utils.go` and `pilot/pkg/networking/core/gateway.go`.

use super::{
    Compare, crl, of_mesh, parameters, require_names, sds, secret, transport_socket, trust_domains, validation,
};
use crate::config::{ServerTls, ServerTlsMode, TlsVersion};
use crate::translate::proto::{core, tls};
use crate::translate::view::View;
use tls::common_tls_context::ValidationContextType;
use tls::tls_parameters::TlsProtocol;

/// Cipher suites of TLS 1.2 within the mesh. istiod's list.
const IN_MESH_CIPHER_SUITES: [&str; 6] = [
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-GCM-SHA256",
];
/// Protocols that a server offers.
const HTTP: [&str; 2] = ["h2", "http/1.1"];
const TCP: [&str; 3] = ["istio-peer-exchange", "h2", "http/1.1"];

/// What is served in the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::translate) enum Terminates {
    /// Requests.
    Http,
    /// Bytes.
    Tcp,
}

impl Terminates {
    fn protocols(self) -> Vec<String> {
        let protocols = if self == Self::Http { &HTTP[..] } else { &TCP[..] };
        protocols.iter().map(|protocol| (*protocol).to_owned()).collect()
    }
}

/// Mutual TLS with clients of the mesh, of any identity of its trust domains.
pub(in crate::translate) fn inbound(view: &View<'_>, terminates: Terminates) -> core::TransportSocket {
    let mut context = tls::CertificateValidationContext::default();
    let of_domain = |domain: &str| format!("spiffe://{domain}/");
    let prefixes: Vec<_> = trust_domains(view).map(of_domain).collect();
    require_names(&mut context, &prefixes, Compare::Prefix);
    let common = tls::CommonTlsContext {
        alpn_protocols: terminates.protocols(),
        tls_params: Some(parameters(&IN_MESH_CIPHER_SUITES)),
        ..of_mesh(context)
    };
    transport_socket(&tls::DownstreamTlsContext {
        common_tls_context: Some(common),
        require_client_certificate: Some(true),
        ..tls::DownstreamTlsContext::default()
    })
}

/// TLS as a server of a Gateway says.
pub(in crate::translate) fn gateway(server: &ServerTls, terminates: Terminates) -> core::TransportSocket {
    let protocols = match (server.mode, terminates) {
        (ServerTlsMode::IstioMutual, Terminates::Tcp) => Terminates::Tcp.protocols(),
        _ => Terminates::Http.protocols(),
    };
    let mut context = tls::CertificateValidationContext { crl: crl(&server.ca_crl), ..Default::default() };
    require_names(&mut context, &server.subject_alt_names, Compare::Exact);
    let mut common = if server.mode == ServerTlsMode::IstioMutual {
        of_mesh(context)
    } else {
        tls::CommonTlsContext {
            tls_certificate_sds_secret_configs: certificates(server).map(sds).collect(),
            validation_context_type: verification(server, context),
            ..tls::CommonTlsContext::default()
        }
    };
    common.alpn_protocols = protocols;
    common.tls_params = own_parameters(server);
    let is_required = matches!(server.mode, ServerTlsMode::Mutual | ServerTlsMode::IstioMutual);
    transport_socket(&tls::DownstreamTlsContext {
        common_tls_context: Some(common),
        require_client_certificate: Some(is_required),
        ..tls::DownstreamTlsContext::default()
    })
}

fn verification(server: &ServerTls, context: tls::CertificateValidationContext) -> Option<ValidationContextType> {
    server.mode.verifies_clients().then(|| {
        let context = tls::CertificateValidationContext {
            verify_certificate_spki: server.verify_certificate_spki.clone(),
            verify_certificate_hash: server.verify_certificate_hash.clone(),
            ..context
        };
        validation(roots(server), context)
    })
}

/// Names of the certificates' secrets.
fn certificates(server: &ServerTls) -> impl Iterator<Item = String> {
    let files = server.certificates.iter().filter(|_| server.credential_names.is_empty());
    let files = files.map(|files| secret::file_certificate(&files.server_certificate, &files.private_key));
    files.chain(server.credential_names.iter().map(|name| secret::kubernetes(name)))
}

/// Name of the secret with the roots of clients' certificates.
fn roots(server: &ServerTls) -> String {
    let credential = server.credential_names.first().map(|name| name.as_str());
    let named = Some(server.ca_cert_credential_name.as_str()).filter(|name| !name.is_empty());
    match named.or(credential) {
        Some(name) => secret::kubernetes_roots(name),
        None => secret::file_roots(&server.ca_certificates),
    }
}

/// `None` where the data plane's defaults are meant: TLS 1.2 or 1.3.
fn own_parameters(server: &ServerTls) -> Option<tls::TlsParameters> {
    let ServerTls { min_protocol_version: min, max_protocol_version: max, cipher_suites, .. } = server;
    if min.is_none() && max.is_none() && cipher_suites.is_empty() {
        return None;
    }
    let version = |version: &Option<TlsVersion>| match version {
        None => TlsProtocol::TlsAuto,
        Some(TlsVersion::Tls12) => TlsProtocol::TlSv12,
        Some(TlsVersion::Tls13) => TlsProtocol::TlSv13,
    };
    Some(tls::TlsParameters {
        tls_minimum_protocol_version: version(min).into(),
        tls_maximum_protocol_version: version(max).into(),
        cipher_suites: cipher_suites.clone(),
        ..tls::TlsParameters::default()
    })
}

/// The secrets of a server's `tls`.
pub(super) fn names_of(server: &ServerTls) -> Vec<String> {
    if server.mode == ServerTlsMode::IstioMutual {
        return Vec::new();
    }
    certificates(server).chain(server.mode.verifies_clients().then(|| roots(server))).collect()
}
