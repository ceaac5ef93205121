//! Errors of transport security.

use std::{io, sync::Arc};

use mesh_core::{
    identity::x509::{CertificateError, SvidError},
    telemetry::TlsStats,
};
use thiserror::Error;

/// A certificate, a key or an option that cannot be used.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A PEM file has no section of this kind, or a malformed one.
    #[error("{field}: {reason}")]
    Pem {
        /// The field of the configuration.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A certificate cannot be read.
    #[error("{field}: {error}")]
    Certificate {
        /// The field of the configuration.
        field: &'static str,
        /// What is wrong with it.
        error: CertificateError,
    },
    /// rustls refuses the certificate, the key or the options.
    #[error("{field}: {error}")]
    Refused {
        /// The field of the configuration.
        field: &'static str,
        /// What is wrong with it.
        error: rustls::Error,
    },
    /// A secret has not been received.
    #[error("secret {0} has not been received")]
    MissingSecret(Arc<str>),
    /// A secret is of another kind.
    #[error("secret {name} is not a {expected}")]
    SecretKind {
        /// Its name.
        name: Arc<str>,
        /// The kind that is needed.
        expected: &'static str,
    },
    /// A server has no certificate.
    #[error("tls_certificates: a server needs a certificate")]
    NoCertificate,
    /// The operating system's authorities cannot be read.
    #[error("system_root_certs: {0}")]
    SystemRoots(String),
    /// A server name that cannot be requested.
    #[error("sni: {0:?} is not a host name")]
    ServerName(Arc<str>),
}

/// Why a peer's certificate is refused, beyond what webpki says.
#[derive(Clone, Debug, Error)]
pub(super) enum VerifyError {
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error("not a certificate of a workload: {0}")]
    Svid(#[from] SvidError),
    #[error("trust domain {0} is not trusted")]
    TrustDomain(String),
    #[error("an intermediate authority is {0}, which is not of the workload's trust domain")]
    Intermediate(String),
    #[error("no subject alternative name matches: {0}")]
    SubjectAltName(String),
    #[error("neither the certificate nor its public key is pinned")]
    Hash,
    #[error("key usage: the key is not for signatures")]
    KeyUsage,
    #[error("more than {0} intermediate certificates")]
    Depth(u32),
}

impl From<VerifyError> for rustls::Error {
    fn from(error: VerifyError) -> Self {
        rustls::CertificateError::Other(rustls::OtherError(Arc::new(error))).into()
    }
}

impl From<TlsError> for io::Error {
    fn from(error: TlsError) -> Self {
        Self::new(io::ErrorKind::InvalidInput, error)
    }
}

/// A handshake that has failed, with the reason in words.
#[derive(Debug, Error)]
#[error("TLS: {reason}")]
struct HandshakeError {
    reason: String,
    source: rustls::Error,
}

/// Counts a handshake that has failed, and says why it has.
pub(super) fn handshake_failed(stats: &TlsStats, error: io::Error) -> io::Error {
    let tls = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    let refused = match tls {
        Some(rustls::Error::InvalidCertificate(rustls::CertificateError::Other(other))) => {
            other.0.downcast_ref::<VerifyError>()
        }
        _ => None,
    };
    match (tls, refused) {
        (_, Some(VerifyError::SubjectAltName(_))) => stats.fail_verify_san.inc(),
        (_, Some(VerifyError::Hash)) => stats.fail_verify_cert_hash.inc(),
        (Some(rustls::Error::NoCertificatesPresented), _) => stats.fail_verify_no_cert.inc(),
        (Some(rustls::Error::InvalidCertificate(_)), _) => stats.fail_verify_error.inc(),
        _ => stats.connection_error.inc(),
    }
    let Some(tls) = tls else { return error };
    let reason = match (tls, refused) {
        (_, Some(refused)) => format!("the peer's certificate is refused: {refused}"),
        (rustls::Error::InvalidCertificate(reason), None) => format!("the peer's certificate is refused: {reason}"),
        (other, None) => other.to_string(),
    };
    let source = tls.clone();
    io::Error::new(error.kind(), HandshakeError { reason, source })
}
