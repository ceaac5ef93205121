//! TLS of listeners and clusters, and the secrets that they name.
//!
//! A listener or cluster never has a certificate or key in it: it names secrets, which the node gets from the stream that the
//! resource came from. `default` is the workload's own certificate and `ROOTCA` the roots of the mesh; `kubernetes://NAME`
//! is a Secret of Kubernetes and `file-cert:CERTIFICATE~KEY`, `file-root:PATH` are files of the node. The names are
//! istiod's. istiod serves the secrets of workloads by another stream, that of the agent beside each proxy; there is no such
//! agent here.

mod downstream;
mod secret;
mod upstream;

pub(super) use downstream::{Terminates, gateway, inbound};
pub(super) use secret::secrets;
pub use secret::{identity_secrets, redacted};
pub(super) use upstream::Upstream;

use super::proto::{ads, any, core, matcher, tls};
use super::view::View;
use tls::common_tls_context::{CombinedCertificateValidationContext, ValidationContextType};
use tls::subject_alt_name_matcher::SanType;
use tls::tls_parameters::TlsProtocol;

/// The workload's own certificate.
pub(crate) const OWN_CERTIFICATE: &str = "default";
/// The roots of the mesh.
pub(crate) const ROOTS: &str = "ROOTCA";
/// Name of the transport socket.
const TLS: &str = "envoy.transport_sockets.tls";

/// The identity of a service account.
pub(crate) fn spiffe_id(trust_domain: &str, namespace: &str, service_account: &str) -> String {
    format!("spiffe://{trust_domain}/ns/{namespace}/sa/{service_account}")
}

/// The trust domain of the mesh and its aliases.
fn trust_domains<'a>(view: &View<'a>) -> impl Iterator<Item = &'a str> {
    let config = &view.mesh.config.mesh_config;
    std::iter::once(config.trust_domain()).chain(config.trust_domain_aliases().iter().map(String::as_str))
}

/// TLS 1.2 or 1.3, with the cipher suites, or the defaults if there are none.
fn parameters(cipher_suites: &[&str]) -> tls::TlsParameters {
    tls::TlsParameters {
        tls_minimum_protocol_version: TlsProtocol::TlSv12.into(),
        tls_maximum_protocol_version: TlsProtocol::TlSv13.into(),
        cipher_suites: cipher_suites.iter().map(|suite| (*suite).to_owned()).collect(),
        ..tls::TlsParameters::default()
    }
}

/// A secret from the stream that the referring resource came from. Secrets of the mesh are waited for without end: there
/// is no other way to serve or to call.
fn sds(name: impl Into<String>) -> tls::SdsSecretConfig {
    let name = name.into();
    let mut source = ads();
    if name != OWN_CERTIFICATE && name != ROOTS {
        source.initial_fetch_timeout = None;
    }
    tls::SdsSecretConfig { name, sds_config: Some(source) }
}

/// The roots of a secret, with what else is required of a certificate.
fn validation(roots: impl Into<String>, more: tls::CertificateValidationContext) -> ValidationContextType {
    ValidationContextType::CombinedValidationContext(CombinedCertificateValidationContext {
        default_validation_context: Some(more),
        validation_context_sds_secret_config: Some(sds(roots)),
        ..CombinedCertificateValidationContext::default()
    })
}

/// The workload's certificate, and the mesh's roots with what else is required of a peer.
fn of_mesh(more: tls::CertificateValidationContext) -> tls::CommonTlsContext {
    tls::CommonTlsContext {
        tls_certificate_sds_secret_configs: vec![sds(OWN_CERTIFICATE)],
        validation_context_type: Some(validation(ROOTS, more)),
        ..tls::CommonTlsContext::default()
    }
}

/// How a name is compared.
#[derive(Clone, Copy)]
enum Compare {
    Exact,
    Prefix,
}

/// Requires one of the names, in the current field and in the one that it replaces: gRPC clients read only the latter, and
/// Envoy prefers the former.
fn require_names(context: &mut tls::CertificateValidationContext, names: &[String], compare: Compare) {
    for name in names {
        let pattern = match compare {
            Compare::Exact => matcher::string_matcher::MatchPattern::Exact(name.clone()),
            Compare::Prefix => matcher::string_matcher::MatchPattern::Prefix(name.clone()),
        };
        let matcher = matcher::StringMatcher { match_pattern: Some(pattern), ..matcher::StringMatcher::default() };
        context.match_subject_alt_names.push(matcher.clone());
        context.match_typed_subject_alt_names.push(tls::SubjectAltNameMatcher {
            san_type: san_type(name).into(),
            matcher: Some(matcher),
            ..tls::SubjectAltNameMatcher::default()
        });
    }
}

/// What kind of name a text is: the field of certificates that can have it.
fn san_type(name: &str) -> SanType {
    if name.contains("://") {
        SanType::Uri
    } else if name.parse::<std::net::IpAddr>().is_ok() {
        SanType::IpAddress
    } else if name.contains('@') {
        SanType::Email
    } else {
        SanType::Dns
    }
}

/// A file of revoked certificates, if there is one.
fn crl(path: &str) -> Option<core::DataSource> {
    (!path.is_empty()).then(|| file(path))
}

fn file(path: &str) -> core::DataSource {
    core::DataSource {
        specifier: Some(core::data_source::Specifier::Filename(path.to_owned())),
        ..core::DataSource::default()
    }
}

fn transport_socket<M: prost::Message + prost::Name>(config: &M) -> core::TransportSocket {
    core::TransportSocket {
        name: TLS.to_owned(),
        config_type: Some(core::transport_socket::ConfigType::TypedConfig(any(config))),
    }
}

impl View<'_> {
    /// The service account of the node: its own, else that of all endpoints that can be the node, if it is one, or else `default`, as of
    /// Pods that name none.
    pub(in crate::translate) fn service_account(&self) -> &str {
        if let Some(own) = &self.node.service_account {
            return own;
        }
        let mut accounts = self.endpoints().map(|endpoint| endpoint.service_account.as_str());
        let first = accounts.next().filter(|account| !account.is_empty());
        first.filter(|first| accounts.all(|account| account == *first)).unwrap_or("default")
    }
}
