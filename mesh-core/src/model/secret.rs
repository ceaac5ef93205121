//! Certificates and keys. Envoy `transport_sockets.tls.v3.Secret`.
//!
//! The bytes are PEM and are not parsed here; the code that does handshakes parses them.

use std::{fmt, sync::Arc};

use bytes::Bytes;

use super::{StringMatcher, StringPattern, TrustBundle};
use crate::tls::CertificateInfo;

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
    /// The authorities of trust domains, in a file. Envoy `SPIFFECertValidatorConfig.trust_bundles`.
    TrustBundles(Vec<TrustBundle>),
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

#[expect(clippy::struct_excessive_bools, reason = "one per boolean field of Envoy's message, under its name")]
/// How a peer's certificate is verified. Envoy `transport_sockets.tls.v3.CertificateValidationContext`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CertificateValidationContext {
    /// Certificates of the trusted authorities; `None` = the chain is not verified, so the peer is not authenticated.
    pub trusted_ca: Option<Bytes>,
    /// Trust the authorities that the operating system trusts. Default false. Envoy `system_root_certs`.
    pub system_root_certs: bool,
    /// Authorities by trust domain, instead of `trusted_ca`: a peer must be a workload of one of these domains, and issued
    /// by an authority of that domain. Envoy `SPIFFECertValidatorConfig`.
    pub trust_domains: Vec<TrustBundle>,
    /// A peer must have one of these names; empty = any. Envoy `match_typed_subject_alt_names`.
    pub match_subject_alt_names: Vec<SanMatcher>,
    /// A peer's certificate must have one of these SHA-256 hashes, or its public key one of `verify_certificate_spki`;
    /// empty = any.
    pub verify_certificate_hash: Vec<[u8; 32]>,
    /// A peer's public key info must have one of these SHA-256 hashes; see `verify_certificate_hash`.
    pub verify_certificate_spki: Vec<[u8; 32]>,
    /// Revocation lists; a certificate in one is refused. If there are any, each authority of a chain must have one, unless
    /// `only_verify_leaf_cert_crl`.
    pub crl: Option<Bytes>,
    /// Look up the peer's own certificate in revocation lists only. Default false.
    pub only_verify_leaf_cert_crl: bool,
    /// Accept certificates that have expired. Default false.
    pub allow_expired_certificate: bool,
    /// Accept peers whose chain cannot be verified; they are not authenticated. Default false. Envoy
    /// `trust_chain_verification: ACCEPT_UNTRUSTED`.
    pub accept_untrusted: bool,
    /// The maximum number of certificates between the peer's and the authority's; `None` = as many as the library verifies.
    pub max_verify_depth: Option<u32>,
    /// Do not tell clients which authorities are trusted. Default false.
    pub suppress_client_ca_list: bool,
}

/// A matcher of one kind of subject alternative names. Envoy `transport_sockets.tls.v3.SubjectAltNameMatcher`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SanMatcher {
    /// The kind.
    pub kind: SanKind,
    /// The name. A DNS name that must be equal to it may be a wildcard in the certificate.
    pub matcher: StringMatcher,
}

/// A kind of subject alternative names. RFC 5280 section 4.2.1.6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SanKind {
    /// A DNS name.
    Dns,
    /// A URI.
    Uri,
    /// An email address.
    Email,
    /// An IP address.
    IpAddress,
}

impl Secret {
    /// A certificate and its key.
    #[must_use]
    pub fn certificate(name: &str, certificate_chain: Bytes, private_key: Bytes) -> Self {
        let value = SecretValue::TlsCertificate(TlsCertificate::new(certificate_chain, private_key));
        Self { name: name.into(), value }
    }

    /// Trusted authorities.
    #[must_use]
    pub fn trusted_ca(name: &str, trusted_ca: Bytes) -> Self {
        let context = CertificateValidationContext { trusted_ca: Some(trusted_ca), ..Default::default() };
        Self { name: name.into(), value: SecretValue::ValidationContext(context) }
    }
}

impl TlsCertificate {
    /// A certificate and its key.
    #[must_use]
    pub fn new(certificate_chain: Bytes, private_key: Bytes) -> Self {
        Self { certificate_chain, private_key: PrivateKey(private_key) }
    }
}

impl CertificateValidationContext {
    /// This context with what `other` has: its values replace those of this one, its lists are added.
    #[must_use]
    pub fn combined(&self, other: &Self) -> Self {
        let mut all = self.clone();
        all.trusted_ca = other.trusted_ca.clone().or(all.trusted_ca);
        all.system_root_certs |= other.system_root_certs;
        all.trust_domains.extend_from_slice(&other.trust_domains);
        all.match_subject_alt_names.extend_from_slice(&other.match_subject_alt_names);
        all.verify_certificate_hash.extend_from_slice(&other.verify_certificate_hash);
        all.verify_certificate_spki.extend_from_slice(&other.verify_certificate_spki);
        all.crl = other.crl.clone().or(all.crl);
        all.only_verify_leaf_cert_crl |= other.only_verify_leaf_cert_crl;
        all.allow_expired_certificate |= other.allow_expired_certificate;
        all.accept_untrusted |= other.accept_untrusted;
        all.max_verify_depth = other.max_verify_depth.or(all.max_verify_depth);
        all.suppress_client_ca_list |= other.suppress_client_ca_list;
        all
    }

    /// Whether there are authorities, so that a peer's chain is verified.
    #[must_use]
    pub fn verifies_chain(&self) -> bool {
        self.trusted_ca.is_some() || self.system_root_certs || !self.trust_domains.is_empty()
    }
}

impl SanMatcher {
    /// Whether one of the certificate's names matches.
    #[must_use]
    pub fn matches(&self, certificate: &CertificateInfo) -> bool {
        match self.kind {
            SanKind::Dns => certificate.dns_sans.iter().any(|name| self.matches_dns(name)),
            SanKind::Uri => certificate.uri_sans.iter().any(|name| self.matcher.matches(name)),
            SanKind::Email => certificate.email_sans.iter().any(|name| self.matcher.matches(name)),
            SanKind::IpAddress => certificate.ip_sans.iter().any(|ip| self.matcher.matches(ip)),
        }
    }

    /// A wildcard in the certificate, `*.example.com`, stands for one label. RFC 6125 section 6.4.3.
    fn matches_dns(&self, name: &str) -> bool {
        let StringPattern::Exact(expected) = self.matcher.pattern() else { return self.matcher.matches(name) };
        match name.strip_prefix("*.") {
            Some(parent) => expected
                .split_once('.')
                .is_some_and(|(label, rest)| !label.is_empty() && rest.eq_ignore_ascii_case(parent)),
            None => expected.eq_ignore_ascii_case(name),
        }
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
    fn a_wildcard_in_a_certificate_stands_for_one_label() {
        let certificate =
            CertificateInfo { dns_sans: vec!["*.example.com".into(), "A.test".into()], ..Default::default() };
        let matches =
            |name: &str| SanMatcher { kind: SanKind::Dns, matcher: StringMatcher::exact(name) }.matches(&certificate);
        assert!(matches("a.example.com") && matches("A.Example.com") && matches("a.test"));
        for other in ["example.com", "a.b.example.com", "aexample.com", ".example.com", "b.test"] {
            assert!(!matches(other), "{other}");
        }
        let uri = SanMatcher { kind: SanKind::Uri, matcher: StringMatcher::exact("a.test") };
        assert!(!uri.matches(&certificate), "kinds of names are not mixed");
    }

    #[test]
    fn a_private_key_is_not_shown() {
        let secret = Secret::certificate("default", "chain".into(), "-----BEGIN".into());
        let shown = format!("{secret:?}");
        assert!(shown.contains("chain") && shown.contains("[redacted]") && !shown.contains("BEGIN"), "{shown}");
    }
}
