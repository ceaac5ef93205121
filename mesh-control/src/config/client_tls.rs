//! TLS of connections to a service: `tls` of a DestinationRule's policy.
//!
//! Source: `networking/v1alpha3/destination_rule.proto`, `ClientTLSSettings`; the checks are those of Istio's validation.

use crate::diagnostic::{Code, Diagnostic, Position};
use crate::document::{Context, FromNode, Node, Object};

/// Istio `ClientTLSSettings`. Files are read by the process that connects.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClientTls {
    /// Its position.
    pub position: Position,
    /// Whether TLS is used, and with whose certificate. Default `DISABLE`.
    pub mode: ClientTlsMode,
    /// File of the client's certificate chain, PEM; for `MUTUAL`.
    pub client_certificate: String,
    /// File of its private key, PEM; for `MUTUAL`.
    pub private_key: String,
    /// File of the roots that the server's certificate is verified with, PEM; without it, those of the operating system.
    pub ca_certificates: String,
    /// File of revoked certificates, PEM.
    pub ca_crl: String,
    /// Secret with the certificates, in place of files.
    pub credential_name: String,
    /// Names of which the server's certificate must have one; default those of the service.
    pub subject_alt_names: Vec<String>,
    /// Server name that the client asks for; default the host of each request.
    pub sni: String,
    /// Whether the server's certificate is not verified.
    pub insecure_skip_verify: bool,
}

/// Istio `ClientTLSSettings.TLSmode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientTlsMode {
    /// Plain text.
    Disable,
    /// TLS without a certificate of the client.
    Simple,
    /// TLS with a certificate of the client.
    Mutual,
    /// TLS with the workload's certificate of the mesh.
    IstioMutual,
}

impl ClientTlsMode {
    /// The name in resources.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "DISABLE",
            Self::Simple => "SIMPLE",
            Self::Mutual => "MUTUAL",
            Self::IstioMutual => "ISTIO_MUTUAL",
        }
    }
}

impl FromNode for ClientTls {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let table = [ClientTlsMode::Disable, ClientTlsMode::Simple, ClientTlsMode::Mutual, ClientTlsMode::IstioMutual];
        let table: Vec<_> =
            table.into_iter().zip(0..).map(|(mode, number)| (mode.as_str(), number, Some(mode))).collect();
        // The enum's zero value.
        let mode = match object.node("mode") {
            Some(node) => cx.field("mode").enumeration(node, &table),
            None => Some(ClientTlsMode::Disable),
        };
        let text = |name| object.optional::<String>(name).unwrap_or_default();
        let tls = Self {
            position: object.position(),
            mode: mode.unwrap_or(ClientTlsMode::Disable),
            client_certificate: text("clientCertificate"),
            private_key: text("privateKey"),
            ca_certificates: text("caCertificates"),
            ca_crl: text("caCrl"),
            credential_name: text("credentialName"),
            subject_alt_names: object.list("subjectAltNames"),
            sni: text("sni"),
            insecure_skip_verify: object.flag("insecureSkipVerify"),
        };
        if mode.is_some() {
            tls.check(&object);
        }
        object.finish();
        mode.map(|_| tls)
    }
}

impl ClientTls {
    fn check(&self, object: &Object<'_>) {
        match self.mode {
            ClientTlsMode::Disable => {}
            ClientTlsMode::Simple => {
                if self.insecure_skip_verify {
                    let message = "cannot specify CaCertificates or CredentialName or SubjectAltNames when InsecureSkipVerify is \
                                   set true";
                    refuse_any(object, &["caCertificates", "credentialName", "subjectAltNames"], message);
                }
                self.check_credential(object);
                warn_of_any(
                    object,
                    &["clientCertificate", "privateKey"],
                    "mode SIMPLE sends no certificate of the client",
                );
            }
            ClientTlsMode::Mutual => {
                if self.insecure_skip_verify {
                    let message =
                        "cannot specify CaCertificates or SubjectAltNames when InsecureSkipVerify is set true";
                    refuse_any(object, &["caCertificates", "subjectAltNames"], message);
                }
                self.check_credential(object);
                if self.credential_name.is_empty() {
                    require(object, "clientCertificate", &self.client_certificate, "client certificate");
                    require(object, "privateKey", &self.private_key, "private key");
                }
            }
            ClientTlsMode::IstioMutual => {
                let fields =
                    ["clientCertificate", "privateKey", "caCertificates", "credentialName", "insecureSkipVerify"];
                warn_of_any(object, &fields, "mode ISTIO_MUTUAL uses the certificates of the mesh");
            }
        }
    }

    fn check_credential(&self, object: &Object<'_>) {
        if !self.credential_name.is_empty() {
            let message = "cannot specify client certificates or CA certificate or CA CRL If credentialName is set";
            refuse_any(object, &["clientCertificate", "privateKey", "caCertificates", "caCrl"], message);
        }
    }

    /// Whether the certificate of the server is verified with roots that the rule names.
    pub(crate) fn names_roots(&self) -> bool {
        !self.ca_certificates.is_empty() || !self.credential_name.is_empty()
    }
}

fn require(object: &Object<'_>, field: &'static str, value: &str, what: &str) {
    if value.is_empty() {
        let message = format!("{what} required for mutual tls");
        object.cx.field(field).invalid(object.mark(), message, format!("expected {field}, or credentialName"));
    }
}

/// Reports the first of the fields that is there.
fn refuse_any(object: &Object<'_>, fields: &[&str], message: &str) {
    if let Some(field) = fields.iter().find(|field| object.has(field)) {
        object.cx.field(field).invalid(object.key_mark(field), message, "expected no such field");
    }
}

/// Warns of fields without effect.
pub(super) fn warn_of_any(object: &Object<'_>, fields: &[&str], reason: &str) {
    for field in fields.iter().filter(|field| object.has(field)) {
        let position = object.cx.position(object.key_mark(field));
        let warning = Diagnostic::warning(Code::SchemaValidation, position, format!("{field} has no effect: {reason}"));
        object.cx.field(field).report(warning);
    }
}
