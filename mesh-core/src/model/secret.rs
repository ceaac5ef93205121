//! Certificates and keys. Envoy `transport_sockets.tls.v3.Secret`.
//!
//! The bytes are PEM and are not parsed here; the code that does handshakes parses them.

use std::{fmt, sync::Arc};

use bytes::Bytes;

/// A named secret, to which transport sockets refer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// Unique name, such as `default`.
    pub name: Arc<str>,
    /// The secret.
    pub value: SecretValue,
}

/// A kind of secret and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SecretValue {
    /// The certificate that this side presents to its peers.
    TlsCertificate(TlsCertificate),
    /// The authorities that this side trusts.
    ValidationContext(CertificateValidationContext),
}

/// A certificate and its key. Envoy `transport_sockets.tls.v3.TlsCertificate`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsCertificate {
    /// The certificate, then the intermediate ones up to a trusted authority.
    pub certificate_chain: Bytes,
    /// Its private key.
    pub private_key: PrivateKey,
}

/// A private key, whose `Debug` output does not contain it.
#[derive(Clone, PartialEq, Eq)]
pub struct PrivateKey(Bytes);

/// How a peer's certificate is verified. Envoy `transport_sockets.tls.v3.CertificateValidationContext`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CertificateValidationContext {
    /// Certificates of the trusted authorities.
    pub trusted_ca: Bytes,
}

impl Secret {
    /// A certificate and its key.
    #[must_use]
    pub fn certificate(name: &str, certificate_chain: Bytes, private_key: Bytes) -> Self {
        let private_key = PrivateKey(private_key);
        let value = SecretValue::TlsCertificate(TlsCertificate { certificate_chain, private_key });
        Self { name: name.into(), value }
    }

    /// Trusted authorities.
    #[must_use]
    pub fn trusted_ca(name: &str, trusted_ca: Bytes) -> Self {
        let value = SecretValue::ValidationContext(CertificateValidationContext { trusted_ca });
        Self { name: name.into(), value }
    }
}

impl PrivateKey {
    /// The key itself.
    #[must_use]
    pub fn expose(&self) -> &Bytes {
        &self.0
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_key_is_not_shown() {
        let secret = Secret::certificate("default", "chain".into(), "-----BEGIN".into());
        let shown = format!("{secret:?}");
        assert!(shown.contains("chain") && shown.contains("[redacted]") && !shown.contains("BEGIN"), "{shown}");
    }
}
