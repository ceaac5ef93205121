//! The result of a TLS handshake. There is no cryptography here: the code that does the handshake fills it in.

use std::sync::Arc;

/// The result of a TLS handshake. A connection in plain text has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsInfo {
    /// The version.
    pub version: TlsVersion,
    /// The server name that the client requested (SNI, RFC 6066), in lower case.
    pub server_name: Option<Arc<str>>,
    /// The application protocol that both sides agreed on (ALPN, RFC 7301), such as `h2`.
    pub application_protocol: Option<Arc<str>>,
    /// The peer's identity; `None` = it has presented no certificate.
    pub peer: Option<PeerIdentity>,
    /// The identity of this side: the first URI subject alternative name of its certificate.
    pub local_uri_san: Option<Arc<str>>,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2, RFC 5246.
    Tls12,
    /// TLS 1.3, RFC 8446.
    #[default]
    Tls13,
}

/// The identity in a peer's certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerIdentity {
    /// Subject alternative names of type URI, such as `spiffe://cluster.local/ns/default/sa/reviews`, in the
    /// certificate's order.
    pub uri_sans: Vec<Arc<str>>,
    /// Subject alternative names of type DNS, in the certificate's order.
    pub dns_sans: Vec<Arc<str>>,
    /// Whether a trusted authority has issued the certificate. An identity that is not verified proves nothing.
    pub is_verified: bool,
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

impl TlsInfo {
    /// The authenticated peer: the first URI subject alternative name of a verified certificate. SPIFFE's have exactly
    /// one.
    #[must_use]
    pub fn principal(&self) -> Option<&Arc<str>> {
        self.peer.as_ref().filter(|peer| peer.is_verified)?.uri_sans.first()
    }

    /// Whether the peer has a verified certificate.
    #[must_use]
    pub fn is_mutual(&self) -> bool {
        self.peer.as_ref().is_some_and(|peer| peer.is_verified)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_verified_peer_has_a_principal() {
        let peer = PeerIdentity { uri_sans: vec!["spiffe://a/b".into()], ..PeerIdentity::default() };
        let mut tls = TlsInfo { peer: Some(peer), ..TlsInfo::default() };
        assert!(tls.principal().is_none() && !tls.is_mutual());
        tls.peer.as_mut().unwrap().is_verified = true;
        assert_eq!(tls.principal().map(|principal| &**principal), Some("spiffe://a/b"));
        assert!(tls.is_mutual());
    }
}
