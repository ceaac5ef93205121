//! TLS that a gateway ends: `tls` of a server.
//!
//! Source: `networking/v1alpha3/gateway.proto`, `ServerTLSSettings`; the checks are those of Istio's validation.

use super::client_tls::warn_of_any;
use crate::diagnostic::{Code, Diagnostic};
use crate::document::{Context, FromNode, Located, Node, Object};

/// Largest number of certificates for one name: one with an RSA key and one with an ECDSA key.
const MAX_CERTIFICATES: usize = 2;
/// Cipher suites that Istio knows, by BoringSSL's names. They are for TLS 1.2; those of TLS 1.3 are always the same.
const CIPHER_SUITES: [&str; 15] = [
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "AES256-GCM-SHA384",
    "AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-RSA-AES256-SHA",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-RSA-AES128-SHA",
    "AES256-SHA",
    "AES128-SHA",
    "DES-CBC3-SHA",
];

/// Istio `ServerTLSSettings` of a server that ends TLS. Files are read by the gateway.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerTls {
    /// What is asked of clients.
    pub mode: ServerTlsMode,
    /// Files of certificates: `serverCertificate` and `privateKey`, or `tlsCertificates`; at most 2.
    pub certificates: Vec<CertificateFiles>,
    /// File of the roots that clients' certificates are verified with, PEM.
    pub ca_certificates: String,
    /// File of revoked certificates, PEM.
    pub ca_crl: String,
    /// Secrets with certificates, in place of files: `credentialName` or `credentialNames`; at most 2.
    pub credential_names: Vec<Located<String>>,
    /// Secret with the roots, in place of the one with the certificate or of `NAME-cacert`.
    pub ca_cert_credential_name: String,
    /// Names of which a client's certificate must have one; none means any.
    pub subject_alt_names: Vec<String>,
    /// SHA-256 hashes of public keys of which a client must have one, base64.
    pub verify_certificate_spki: Vec<String>,
    /// SHA-256 hashes of certificates of which a client must have one, hexadecimal.
    pub verify_certificate_hash: Vec<String>,
    /// Oldest version; default TLS 1.2.
    pub min_protocol_version: Option<TlsVersion>,
    /// Newest version; default TLS 1.3.
    pub max_protocol_version: Option<TlsVersion>,
    /// Cipher suites for TLS 1.2; none means the defaults.
    pub cipher_suites: Vec<String>,
}

/// Files of a certificate chain and of its key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CertificateFiles {
    /// Path of the chain, PEM.
    pub server_certificate: String,
    /// Path of the private key, PEM.
    pub private_key: String,
}

/// Those of Istio's `ServerTLSSettings.TLSmode` that end TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerTlsMode {
    /// No certificate of the client.
    Simple,
    /// A certificate of the client is required.
    Mutual,
    /// A certificate of the client is asked for, and verified if there is one.
    OptionalMutual,
    /// The gateway's certificate of the mesh, and one of the mesh is required of clients.
    IstioMutual,
}

impl ServerTlsMode {
    /// Whether certificates of clients are verified with roots that the server names.
    pub(crate) fn verifies_clients(self) -> bool {
        matches!(self, Self::Mutual | Self::OptionalMutual)
    }
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum TlsVersion {
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// Fields that are about ending TLS.
pub(super) const TERMINATION: &[&str] = &[
    "serverCertificate",
    "privateKey",
    "caCertificates",
    "caCrl",
    "credentialName",
    "credentialNames",
    "caCertCredentialName",
    "tlsCertificates",
    "subjectAltNames",
    "verifyCertificateSpki",
    "verifyCertificateHash",
    "minProtocolVersion",
    "maxProtocolVersion",
    "cipherSuites",
];

impl ServerTls {
    /// TLS with certificates in Secrets, and without certificates of clients.
    pub(crate) fn simple(credential_names: Vec<Located<String>>) -> Self {
        Self {
            mode: ServerTlsMode::Simple,
            certificates: Vec::new(),
            ca_certificates: String::new(),
            ca_crl: String::new(),
            credential_names,
            ca_cert_credential_name: String::new(),
            subject_alt_names: Vec::new(),
            verify_certificate_spki: Vec::new(),
            verify_certificate_hash: Vec::new(),
            min_protocol_version: None,
            max_protocol_version: None,
            cipher_suites: Vec::new(),
        }
    }

    /// Reads the fields of `tls` that are about ending TLS, and checks them for the mode.
    pub(super) fn read(object: &Object<'_>, mode: ServerTlsMode) -> Self {
        let text = |name| object.optional::<String>(name).unwrap_or_default();
        object.at_most_one_of(&["credentialName", "credentialNames", "tlsCertificates", "serverCertificate"]);
        let single = object.optional("credentialName").filter(|name: &Located<String>| !name.is_empty());
        let several: Vec<Located<String>> = object.list("credentialNames");
        let (server_certificate, private_key) = (text("serverCertificate"), text("privateKey"));
        let mut certificates: Vec<CertificateFiles> = object.list("tlsCertificates");
        if !server_certificate.is_empty() || !private_key.is_empty() {
            certificates.push(CertificateFiles { server_certificate, private_key });
        }
        let tls = Self {
            mode,
            certificates,
            ca_certificates: text("caCertificates"),
            ca_crl: text("caCrl"),
            credential_names: single.into_iter().chain(several).collect(),
            ca_cert_credential_name: text("caCertCredentialName"),
            subject_alt_names: object.list("subjectAltNames"),
            verify_certificate_spki: object.list("verifyCertificateSpki"),
            verify_certificate_hash: object.list("verifyCertificateHash"),
            min_protocol_version: read_version(object, "minProtocolVersion"),
            max_protocol_version: read_version(object, "maxProtocolVersion"),
            cipher_suites: read_cipher_suites(object),
        };
        tls.check(object);
        tls
    }

    fn check(&self, object: &Object<'_>) {
        if self.min_protocol_version.zip(self.max_protocol_version).is_some_and(|(min, max)| min > max) {
            let cx = object.cx.field("minProtocolVersion");
            let message = "minProtocolVersion is newer than maxProtocolVersion";
            cx.invalid(object.value_mark("minProtocolVersion"), message, "expected an older version");
        }
        for name in ["credentialNames", "tlsCertificates"] {
            let count = object.node(name).map_or(0, |node| node.value.item_count());
            if count > MAX_CERTIFICATES {
                let message = format!("{name} has {count} items: at most {MAX_CERTIFICATES} are allowed");
                object.cx.field(name).invalid(
                    object.key_mark(name),
                    message,
                    "expected one with RSA and one with ECDSA",
                );
            }
        }
        if self.mode == ServerTlsMode::IstioMutual {
            return check_istio_mutual(object);
        }
        let about_clients =
            ["caCertificates", "caCertCredentialName", "verifyCertificateSpki", "verifyCertificateHash", "caCrl"];
        if !self.mode.verifies_clients() {
            warn_of_any(object, &about_clients, "clients are not asked for certificates");
            // A client could not satisfy it.
            if let Some(field) = Some("subjectAltNames").filter(|_| !self.subject_alt_names.is_empty()) {
                let message = "subjectAltNames needs certificates of clients";
                object.cx.field(field).invalid(object.key_mark(field), message, "use mode MUTUAL");
            }
        }
        if self.credential_names.is_empty() {
            self.check_files(object);
        } else if !self.ca_certificates.is_empty() && self.mode.verifies_clients() {
            let message = "caCertificates has no effect with credentialName";
            let cx = object.cx.field("caCertificates");
            cx.invalid(object.key_mark("caCertificates"), message, "put the roots into the Secret");
        }
    }

    fn check_files(&self, object: &Object<'_>) {
        let mode = if self.mode == ServerTlsMode::Simple { "SIMPLE" } else { "MUTUAL" };
        let missing = |field: &'static str, what: &str| {
            let message = format!("{mode} TLS requires a {what}");
            object.cx.field(field).invalid(object.mark(), message, format!("expected credentialName or {field}"));
        };
        if self.certificates.iter().all(|files| files.server_certificate.is_empty()) {
            missing("serverCertificate", "server certificate");
        }
        if self.certificates.iter().all(|files| files.private_key.is_empty()) {
            missing("privateKey", "private key");
        }
        let has_roots = !self.ca_certificates.is_empty() || !self.ca_cert_credential_name.is_empty();
        if self.mode.verifies_clients() && !has_roots {
            missing("caCertificates", "client CA bundle");
        }
    }
}

/// The mesh's certificates are used, so others cannot be.
fn check_istio_mutual(object: &Object<'_>) {
    let fields = [
        ("serverCertificate", "server certificate"),
        ("privateKey", "private key"),
        ("caCertificates", "CA bundle"),
        ("credentialName", "credentialName"),
        ("credentialNames", "credentialNames"),
        ("tlsCertificates", "tlsCertificates"),
        ("caCertCredentialName", "caCertCredentialName"),
    ];
    for (field, what) in fields.into_iter().filter(|(field, _)| object.has(field)) {
        let message = format!("ISTIO_MUTUAL TLS cannot have associated {what}");
        object.cx.field(field).invalid(object.key_mark(field), message, "expected no such field");
    }
    let unused = ["verifyCertificateSpki", "verifyCertificateHash"];
    for field in unused.into_iter().filter(|field| object.has(field)) {
        let message = format!("{field} cannot be set with mode ISTIO_MUTUAL");
        object.cx.field(field).invalid(object.key_mark(field), message, "use mode MUTUAL");
    }
}

impl FromNode for CertificateFiles {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let (server_certificate, private_key) = (object.required("serverCertificate"), object.required("privateKey"));
        object.unsupported(&["caCertificates"]);
        object.finish();
        Some(Self { server_certificate: server_certificate?, private_key: private_key? })
    }
}

/// `None` for the default. Versions before 1.2 are not implemented.
fn read_version(object: &Object<'_>, name: &'static str) -> Option<TlsVersion> {
    let table = [
        ("TLS_AUTO", 0, Some(None)),
        ("TLSV1_0", 1, None),
        ("TLSV1_1", 2, None),
        ("TLSV1_2", 3, Some(Some(TlsVersion::Tls12))),
        ("TLSV1_3", 4, Some(Some(TlsVersion::Tls13))),
    ];
    object.cx.field(name).enumeration(object.node(name)?, &table).flatten()
}

/// Suites that Istio does not know are left out with a warning, as it does.
fn read_cipher_suites(object: &Object<'_>) -> Vec<String> {
    let named: Vec<Located<String>> = object.list("cipherSuites");
    let mut suites: Vec<String> = Vec::new();
    let field = object.cx.field("cipherSuites");
    for (i, suite) in named.iter().enumerate() {
        let warn = |message: String| {
            field.index(i).report(Diagnostic::warning(Code::SchemaValidation, suite.position.clone(), message));
        };
        if suites.contains(&suite.value) {
            warn(format!("ignoring duplicate cipher suites: {:?}", suite.value));
        } else if CIPHER_SUITES.contains(&suite.as_str()) {
            suites.push(suite.value.clone());
        } else {
            warn(format!("ignoring invalid cipher suites: {:?}", suite.value));
        }
    }
    suites
}
