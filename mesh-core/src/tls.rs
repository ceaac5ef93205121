//! The result of a TLS handshake. There is no cryptography here: the code that does the handshake fills it in.

use std::{sync::Arc, time::SystemTime};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;

/// The result of a TLS handshake. A connection in plain text has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsInfo {
    /// The version.
    pub version: TlsVersion,
    /// The cipher suite, in the notation of OpenSSL, such as `TLS_AES_256_GCM_SHA384`; empty = not known.
    pub cipher_suite: Arc<str>,
    /// The server name that the client requested (SNI, RFC 6066), in lower case.
    pub server_name: Option<Arc<str>>,
    /// The application protocol that both sides agreed on (ALPN, RFC 7301), such as `h2`.
    pub application_protocol: Option<Arc<str>>,
    /// The peer's identity; `None` = it has presented no certificate.
    pub peer: Option<PeerIdentity>,
    /// The certificate of this side; `None` = it has presented none.
    pub local: Option<Arc<CertificateInfo>>,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TlsVersion {
    /// TLS 1.2, RFC 5246.
    Tls12,
    /// TLS 1.3, RFC 8446.
    #[default]
    Tls13,
}

/// The identity of a peer that has presented a certificate.
///
/// Handlers of a library server find it in the extensions of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerIdentity {
    /// The peer's certificate.
    pub certificate: Arc<CertificateInfo>,
    /// The certificates that the peer has presented, its own first, in DER.
    pub chain: Arc<[Bytes]>,
    /// Whether a trusted authority has issued the certificate. An identity that is not verified proves nothing.
    pub is_verified: bool,
}

/// What a certificate says. RFC 5280.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CertificateInfo {
    /// Subject alternative names of type URI, such as `spiffe://cluster.local/ns/default/sa/reviews`, in the
    /// certificate's order.
    pub uri_sans: Vec<Arc<str>>,
    /// Subject alternative names of type DNS, in the certificate's order.
    pub dns_sans: Vec<Arc<str>>,
    /// Subject alternative names of type IP address, in the certificate's order.
    pub ip_sans: Vec<Arc<str>>,
    /// Subject alternative names of type email address, in the certificate's order.
    pub email_sans: Vec<Arc<str>>,
    /// The subject, as in RFC 2253, such as `CN=reviews,O=example`; may be empty.
    pub subject: Arc<str>,
    /// The issuer, as in RFC 2253.
    pub issuer: Arc<str>,
    /// The serial number, in lower-case hexadecimal.
    pub serial: Arc<str>,
    /// SHA-256 of the certificate, in lower-case hexadecimal.
    pub sha256_fingerprint: Arc<str>,
    /// SHA-1 of the certificate, in lower-case hexadecimal. For logs only.
    pub sha1_fingerprint: Arc<str>,
    /// The beginning of its validity.
    pub not_before: Option<SystemTime>,
    /// The end of its validity.
    pub not_after: Option<SystemTime>,
}

impl TlsVersion {
    /// Its name, as access logs write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tls12 => "TLSv1.2",
            Self::Tls13 => "TLSv1.3",
        }
    }
}

impl CertificateInfo {
    /// The first URI subject alternative name. SPIFFE's certificates have exactly one.
    #[must_use]
    pub fn uri_san(&self) -> Option<&Arc<str>> {
        self.uri_sans.first()
    }
}

impl TlsInfo {
    /// The certificate of the peer, if it is verified.
    #[must_use]
    pub fn verified_peer(&self) -> Option<&CertificateInfo> {
        self.peer.as_ref().filter(|peer| peer.is_verified).map(|peer| &*peer.certificate)
    }

    /// The authenticated peer: the first URI subject alternative name of a verified certificate. SPIFFE's have exactly
    /// one.
    #[must_use]
    pub fn principal(&self) -> Option<&Arc<str>> {
        self.verified_peer()?.uri_san()
    }

    /// The identity of this side: the first URI subject alternative name of its certificate.
    #[must_use]
    pub fn local_uri_san(&self) -> Option<&Arc<str>> {
        self.local.as_deref()?.uri_san()
    }

    /// Whether the peer has a verified certificate.
    #[must_use]
    pub fn is_mutual(&self) -> bool {
        self.verified_peer().is_some()
    }
}

/// PEM, in which the characters that a header or a list cannot have are escaped.
#[must_use]
pub fn url_encoded_pem(der: &[u8]) -> String {
    let base64 = STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN%20CERTIFICATE-----%0A");
    for (index, c) in base64.chars().enumerate() {
        if index > 0 && index % 64 == 0 {
            pem.push_str("%0A");
        }
        match c {
            '+' => pem.push_str("%2B"),
            '/' => pem.push_str("%2F"),
            '=' => pem.push_str("%3D"),
            other => pem.push(other),
        }
    }
    pem.push_str("%0A-----END%20CERTIFICATE-----%0A");
    pem
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_verified_peer_has_a_principal() {
        let certificate = CertificateInfo { uri_sans: vec!["spiffe://a/b".into()], ..CertificateInfo::default() };
        let peer = PeerIdentity { certificate: Arc::new(certificate), ..PeerIdentity::default() };
        let mut tls = TlsInfo { peer: Some(peer), ..TlsInfo::default() };
        assert!(tls.principal().is_none() && !tls.is_mutual());
        tls.peer.as_mut().unwrap().is_verified = true;
        assert_eq!(tls.principal().map(|principal| &**principal), Some("spiffe://a/b"));
        assert!(tls.is_mutual());
    }
}
