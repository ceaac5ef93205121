//! The secrets that the listeners and clusters of a node name, except those of its own identity.
//!
//! A node gets Secrets of its own namespace only, as istiod serves them. Files stay where they are: the secret names them,
//! and the node reads them.

use std::collections::{BTreeMap, BTreeSet};

use super::{OWN_CERTIFICATE, ROOTS, downstream, file, upstream};
use crate::config::{Secret, TrafficPolicy};
use crate::identities::WorkloadCertificate;
use crate::translate::filter::authorization::checking_service;
use crate::translate::gateway_server::servers;
use crate::translate::proto::{core, tls};
use crate::translate::view::View;
use mesh_core::node::Role;
use tls::certificate_validation_context::SystemRootCerts;
use tls::secret::Type;

const KUBERNETES: &str = "kubernetes://";
const FILE_CERTIFICATE: &str = "file-cert:";
const FILE_ROOTS: &str = "file-root:";
/// Between the certificate and the key.
const FILE_SEPARATOR: char = '~';
/// Stands for the roots of the operating system.
const SYSTEM: &str = "system";
/// End of the names of roots.
const ROOTS_SUFFIX: &str = "-cacert";

/// Name of the certificate of a Secret.
pub(super) fn kubernetes(name: &str) -> String {
    format!("{KUBERNETES}{name}")
}

/// Name of the roots of a Secret.
pub(super) fn kubernetes_roots(name: &str) -> String {
    format!("{KUBERNETES}{}{ROOTS_SUFFIX}", name.strip_suffix(ROOTS_SUFFIX).unwrap_or(name))
}

/// Name of a certificate in files.
pub(super) fn file_certificate(certificate: &str, key: &str) -> String {
    format!("{FILE_CERTIFICATE}{certificate}{FILE_SEPARATOR}{key}")
}

/// Name of the roots in a file, or of those of the operating system if there is none.
pub(super) fn file_roots(path: &str) -> String {
    format!("{FILE_ROOTS}{}", if path.is_empty() { SYSTEM } else { path })
}

/// The secrets that the node's listeners and clusters name and that it may have.
pub(in crate::translate) fn secrets(view: &View<'_>) -> Vec<tls::Secret> {
    let own = view.mesh.config.secrets.iter().filter(|it| it.metadata.namespace == view.node.namespace);
    let own: BTreeMap<&str, &Secret> = own.map(|secret| (secret.metadata.name.as_str(), secret)).collect();
    let build = |name: String| Some(tls::Secret { r#type: Some(content(&name, &own)?), name });
    names(view).into_iter().filter_map(build).collect()
}

/// Names of all secrets that the node's listeners and clusters name.
fn names(view: &View<'_>) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    if view.node.role == Role::Gateway {
        let settings = servers(view).filter_map(|server| server.server.tls.as_ref());
        names.extend(settings.flat_map(downstream::names_of));
    }
    for service in view.services.iter().copied().chain(checking_service(view)) {
        let Some(rule) = view.mesh.destination_rules.find(service, &view.node.namespace) else { continue };
        let subsets = rule.subsets.iter().map(|subset| &subset.traffic_policy);
        for policy in std::iter::once(&rule.traffic_policy).chain(subsets) {
            names.extend(tls_of(policy).flat_map(upstream::names_of));
        }
    }
    names
}

fn tls_of(policy: &TrafficPolicy) -> impl Iterator<Item = &crate::config::ClientTls> {
    policy.tls.iter().chain(policy.port_level_settings.iter().filter_map(|port| port.tls.as_ref()))
}

/// What is in a secret; `None` if the node may not have it, or if the Secret lacks it.
fn content(name: &str, own: &BTreeMap<&str, &Secret>) -> Option<Type> {
    if let Some(files) = name.strip_prefix(FILE_CERTIFICATE) {
        let (certificate, key) = files.split_once(FILE_SEPARATOR)?;
        return Some(Type::TlsCertificate(tls::TlsCertificate {
            certificate_chain: Some(file(certificate)),
            private_key: Some(file(key)),
            ..tls::TlsCertificate::default()
        }));
    }
    if let Some(path) = name.strip_prefix(FILE_ROOTS) {
        let mut context = tls::CertificateValidationContext::default();
        if path == SYSTEM {
            context.system_root_certs = Some(SystemRootCerts {});
        } else {
            context.trusted_ca = Some(file(path));
        }
        return Some(Type::ValidationContext(context));
    }
    let name = name.strip_prefix(KUBERNETES)?;
    match name.strip_suffix(ROOTS_SUFFIX) {
        None => {
            let secret = own.get(name)?;
            Some(Type::TlsCertificate(tls::TlsCertificate {
                certificate_chain: Some(inline(secret.certificate()?)),
                private_key: Some(inline(secret.private_key()?)),
                ..tls::TlsCertificate::default()
            }))
        }
        Some(certificate) => {
            // The roots have a Secret of their own, or are in that of the certificate.
            let candidates = [own.get(name), own.get(certificate)];
            let secret = candidates.into_iter().flatten().find(|secret| secret.roots().is_some())?;
            Some(Type::ValidationContext(tls::CertificateValidationContext {
                trusted_ca: Some(inline(secret.roots()?)),
                crl: secret.crl().map(inline),
                ..tls::CertificateValidationContext::default()
            }))
        }
    }
}

fn inline(bytes: &[u8]) -> core::DataSource {
    core::DataSource {
        specifier: Some(core::data_source::Specifier::InlineBytes(bytes.to_vec().into())),
        ..core::DataSource::default()
    }
}

/// The secrets of a node's own identity: its certificate, and the roots of the mesh.
#[must_use]
pub fn identity_secrets(certificate: &WorkloadCertificate) -> Vec<tls::Secret> {
    let own = Type::TlsCertificate(tls::TlsCertificate {
        certificate_chain: Some(inline(certificate.certificate_chain.as_bytes())),
        private_key: Some(inline(certificate.private_key.as_bytes())),
        ..tls::TlsCertificate::default()
    });
    let roots = Type::ValidationContext(tls::CertificateValidationContext {
        trusted_ca: Some(inline(certificate.roots.as_bytes())),
        ..tls::CertificateValidationContext::default()
    });
    let secret = |name: &str, content| tls::Secret { name: name.to_owned(), r#type: Some(content) };
    vec![secret(OWN_CERTIFICATE, own), secret(ROOTS, roots)]
}

/// The same secret, without private keys: for display.
#[must_use]
pub fn redacted(secret: &tls::Secret) -> tls::Secret {
    const REDACTED: &str = "[redacted]";
    let hide = |source: &mut Option<core::DataSource>| {
        let is_file =
            |source: &core::DataSource| matches!(source.specifier, Some(core::data_source::Specifier::Filename(_)));
        if let Some(source) = source.as_mut().filter(|source| !is_file(source)) {
            *source = core::DataSource {
                specifier: Some(core::data_source::Specifier::InlineString(REDACTED.to_owned())),
                ..core::DataSource::default()
            };
        }
    };
    let mut shown = secret.clone();
    match &mut shown.r#type {
        Some(Type::TlsCertificate(certificate)) => {
            hide(&mut certificate.private_key);
            hide(&mut certificate.password);
            hide(&mut certificate.pkcs12);
        }
        Some(Type::ValidationContext(_)) => {}
        // Neither is made here.
        Some(Type::SessionTicketKeys(_) | Type::GenericSecret(_)) | None => shown.r#type = None,
    }
    shown
}
