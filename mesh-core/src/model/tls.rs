//! Transport security of connections. Envoy `transport_sockets.tls.v3.CommonTlsContext`, `DownstreamTlsContext` and
//! `UpstreamTlsContext`.
//!
//! Certificates are part of a context or secrets, which are referred to by name. A secret may be replaced at any time; the next handshake
//! uses the new one.

use std::sync::Arc;

use super::{CertificateValidationContext, TlsCertificate};
use crate::tls::TlsVersion;

/// How connections from clients are secured. Envoy `DownstreamTlsContext`.
#[expect(clippy::struct_excessive_bools, reason = "one per boolean field of Envoy's message, under its name")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DownstreamTlsContext {
    /// What both sides have.
    pub common: CommonTlsContext,
    /// Refuse clients without a certificate. Default false. A certificate that is presented is verified in any case, if there are
    /// authorities to verify it with.
    pub require_client_certificate: bool,
    /// Never resume a session. Default false. Envoy `disable_stateless_session_resumption` and
    /// `disable_stateful_session_resumption`.
    pub disable_session_resumption: bool,
    /// Choose the cipher suite by the order of the client. Default false: by that of the server.
    pub prefer_client_ciphers: bool,
    /// If the client requests a server name that no certificate has, take the first certificate whose key the client supports,
    /// instead of looking at the first only. Default false. Envoy `full_scan_certs_on_sni_mismatch`.
    pub full_scan_certs_on_sni_mismatch: bool,
}

/// How connections to endpoints are secured. Envoy `UpstreamTlsContext`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct UpstreamTlsContext {
    /// What both sides have.
    pub common: CommonTlsContext,
    /// The server name that is requested (SNI); `None` = none, unless the host name of the endpoint is.
    pub sni: Option<Arc<str>>,
    /// Request the host name of the endpoint, if it has one. Default false.
    pub auto_host_sni: bool,
    /// The certificate must be for the server name that is requested. Default false. Envoy `auto_sni_san_validation`.
    pub auto_sni_san_validation: bool,
    /// The key usage of the endpoint's certificate must allow signatures, if it says anything. Default false.
    pub enforce_rsa_key_usage: bool,
    /// How many sessions are kept to be resumed; 0 = none. Default 1.
    pub max_session_keys: Option<u32>,
}

/// What both sides of a connection have. Envoy `CommonTlsContext`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommonTlsContext {
    /// The lowest version; `None` = TLS 1.2.
    pub min_version: Option<TlsVersion>,
    /// The highest version; `None` = TLS 1.3. Envoy's default for clients is TLS 1.2, which decoding sets.
    pub max_version: Option<TlsVersion>,
    /// Cipher suites of TLS 1.2, in the notation of OpenSSL and in order; empty = all that are supported.
    pub cipher_suites: Vec<CipherSuite>,
    /// Groups of key exchange, in order; empty = all that are supported.
    pub ecdh_curves: Vec<KeyExchangeGroup>,
    /// The certificates of this side. A server chooses by the requested name and the signatures that the client supports.
    pub certificates: Vec<CertificateSource>,
    /// How the peer's certificate is verified; `None` = a server requests none, a client trusts every server.
    pub validation: Option<ValidationSource>,
    /// Application protocols (ALPN), in order of preference; empty = a client offers that of its HTTP version, a server
    /// accepts any.
    pub alpn_protocols: Vec<Arc<str>>,
}

/// The certificate of this side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateSource {
    /// In the configuration.
    Inline(Arc<TlsCertificate>),
    /// A secret.
    Secret(Arc<str>),
}

/// How the peer's certificate is verified. If there are both, they are combined: what a secret has replaces single
/// values of the context and adds to its lists. Envoy `CombinedCertificateValidationContext`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ValidationSource {
    /// In the configuration.
    pub context: CertificateValidationContext,
    /// A secret.
    pub secret: Option<Arc<str>>,
    /// A secret of the authorities of trust domains, which replaces those of the context as soon as it exists. Envoy
    /// `SPIFFECertValidatorConfig.trust_bundles` in a file.
    pub trust_bundles: Option<Arc<str>>,
}

/// A cipher suite of TLS 1.2 that is supported. All have forward secrecy and authenticated encryption.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum CipherSuite {
    EcdheEcdsaAes128GcmSha256,
    EcdheRsaAes128GcmSha256,
    EcdheEcdsaAes256GcmSha384,
    EcdheRsaAes256GcmSha384,
    EcdheEcdsaChacha20Poly1305,
    EcdheRsaChacha20Poly1305,
}

/// A group of key exchange that is supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum KeyExchangeGroup {
    X25519,
    P256,
    P384,
    /// Secure against quantum computers.
    X25519MlKem768,
}

impl CipherSuite {
    /// All, in order of preference.
    pub const ALL: [Self; 6] = [
        Self::EcdheEcdsaAes128GcmSha256,
        Self::EcdheRsaAes128GcmSha256,
        Self::EcdheEcdsaAes256GcmSha384,
        Self::EcdheRsaAes256GcmSha384,
        Self::EcdheEcdsaChacha20Poly1305,
        Self::EcdheRsaChacha20Poly1305,
    ];

    /// Its name in the notation of OpenSSL, such as `ECDHE-ECDSA-AES128-GCM-SHA256`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EcdheEcdsaAes128GcmSha256 => "ECDHE-ECDSA-AES128-GCM-SHA256",
            Self::EcdheRsaAes128GcmSha256 => "ECDHE-RSA-AES128-GCM-SHA256",
            Self::EcdheEcdsaAes256GcmSha384 => "ECDHE-ECDSA-AES256-GCM-SHA384",
            Self::EcdheRsaAes256GcmSha384 => "ECDHE-RSA-AES256-GCM-SHA384",
            Self::EcdheEcdsaChacha20Poly1305 => "ECDHE-ECDSA-CHACHA20-POLY1305",
            Self::EcdheRsaChacha20Poly1305 => "ECDHE-RSA-CHACHA20-POLY1305",
        }
    }
}

impl KeyExchangeGroup {
    /// All, in order of preference.
    pub const ALL: [Self; 4] = [Self::X25519MlKem768, Self::X25519, Self::P256, Self::P384];

    /// Its name, such as `X25519`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::X25519 => "X25519",
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::X25519MlKem768 => "X25519MLKEM768",
        }
    }
}

impl CommonTlsContext {
    /// The names of the secrets that it refers to.
    pub fn secret_names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.required_secret_names()
            .chain(self.validation.iter().filter_map(|validation| validation.trust_bundles.as_ref()))
    }

    /// The names of the secrets without which there are no handshakes: the first of [`Self::secret_names`].
    pub fn required_secret_names(&self) -> impl Iterator<Item = &Arc<str>> {
        let certificates = self.certificates.iter().filter_map(|source| match source {
            CertificateSource::Secret(name) => Some(name),
            CertificateSource::Inline(_) => None,
        });
        certificates.chain(self.validation.iter().filter_map(|validation| validation.secret.as_ref()))
    }
}
