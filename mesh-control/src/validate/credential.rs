//! Secrets that Gateways and DestinationRules name, and policies that need certificates of the mesh.

use super::Scope;
use crate::config::{Config, Kind, Metadata, Secret};
use crate::diagnostic::{Code, Diagnostic, Position};

/// The beginning of every certificate in PEM.
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";

/// What a Secret is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// A certificate and its key.
    Certificate,
    /// Roots: in a Secret `NAME-cacert`, or in that of the certificate.
    Roots,
}

/// A place that names a Secret.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) metadata: &'a Metadata,
    pub(super) field: &'a str,
    pub(super) position: &'a Position,
}

impl Place<'_> {
    /// What is wrong with the Secret of this name. Which namespace the node is in is not known here, so any is looked in.
    pub(super) fn check(self, scope: Scope<'_>, name: &str, need: Need) -> Option<Diagnostic> {
        let candidates = match need {
            Need::Certificate => vec![name.to_owned()],
            Need::Roots => vec![format!("{}-cacert", name.strip_suffix("-cacert").unwrap_or(name)), name.to_owned()],
        };
        let found: Vec<_> = candidates.iter().flat_map(|name| named(&scope.mesh.config, name)).collect();
        if found.is_empty() {
            let may_be_there = |name: &String| scope.completeness.may_declare(&[Kind::Secret], name);
            if candidates.iter().any(may_be_there) {
                return None;
            }
            let message = format!("there is no Secret {name} in any namespace");
            return Some(self.report(Code::ReferencedResourceNotFound, message));
        }
        let problems: Vec<_> = found.iter().map(|secret| problem(secret, need)).collect();
        // One that is as it should be is enough.
        let problem = problems.into_iter().collect::<Option<Vec<_>>>()?.into_iter().next()?;
        Some(self.report(Code::InvalidGatewayCredential, format!("Secret {name} {problem}")))
    }

    fn report(self, code: Code, message: String) -> Diagnostic {
        Diagnostic::error(code, self.position.clone(), message)
            .at(self.metadata.resource(), self.field)
            .label("TLS cannot be served without it")
    }

    /// Reports a policy that needs the certificates of the mesh, if there are none.
    pub(super) fn needs_certificates(self, scope: Scope<'_>, mode: &str) -> Option<Diagnostic> {
        (!scope.mesh.has_certificates).then(|| {
            let message =
                format!("mode {mode} needs certificates of the workloads, and there is no certificate authority");
            Diagnostic::error(Code::Unsupported, self.position.clone(), message)
                .at(self.metadata.resource(), self.field)
                .label("cannot be enforced")
                .help("start with --ca DIR, which `mesh-control ca init DIR` makes; a program calls MeshBuilder::certificate_authority")
        })
    }
}

fn named<'a>(config: &'a Config, name: &str) -> impl Iterator<Item = &'a Secret> {
    config.secrets.iter().filter(move |secret| secret.metadata.name == name)
}

fn problem(secret: &Secret, need: Need) -> Option<&'static str> {
    let is_pem = |bytes: &[u8]| String::from_utf8_lossy(bytes).contains(CERTIFICATE);
    let is_key = |bytes: &[u8]| String::from_utf8_lossy(bytes).contains("PRIVATE KEY-----");
    match need {
        Need::Certificate => match (secret.certificate(), secret.private_key()) {
            (None, _) => Some("has no certificate: expected tls.crt, or cert"),
            (_, None) => Some("has no private key: expected tls.key, or key"),
            (Some(certificate), _) if !is_pem(certificate) => Some("has a certificate that is not PEM"),
            (_, Some(key)) if !is_key(key) => Some("has a private key that is not PEM"),
            _ => None,
        },
        Need::Roots => match secret.roots() {
            None => Some("has no roots: expected ca.crt, or cacert"),
            Some(roots) if !is_pem(roots) => Some("has roots that are not PEM"),
            Some(_) => None,
        },
    }
}
