//! Certificates that are not those of workloads, one for each rule of SPIFFE-ID and X509-SVID, and some that are.

use std::{sync::Arc, time::Duration};

use mesh_core::{
    model::{
        CertificateSource, CertificateValidationContext, CommonTlsContext, DownstreamTlsContext, SanKind, SanMatcher,
        StringMatcher, StringPattern, TrustBundle,
    },
    store::Store,
    telemetry::TlsStats,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};
use rustls::{client::danger::ServerCertVerifier as _, server::danger::ClientCertVerifier as _};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{ServerTls, provider::provider, testing::Authority, verify::Verifier};

const ID: &str = "spiffe://td/ns/a/sa/b";
/// The first second of 2026-01-02 and of 2027-01-02.
const VALIDITY: (u64, u64) = (1_767_312_000, 1_798_848_000);

/// A value in DER.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    let head = match content.len() {
        0..=0x7f => vec![tag, length[1]],
        0x80..=0xff => vec![tag, 0x81, length[1]],
        _ => vec![tag, 0x82, length[0], length[1]],
    };
    [head, content.to_vec()].concat()
}

/// Subject alternative names, of any bytes.
fn names(names: &[Vec<u8>]) -> CustomExtension {
    CustomExtension::from_oid_content(&[2, 5, 29, 17], der(0x30, &names.concat()))
}

fn uri(text: impl AsRef<[u8]>) -> Vec<u8> {
    der(0x86, text.as_ref())
}

/// The parameters of a valid certificate of a workload with these names.
fn workload(sans: &[Vec<u8>]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.not_before = rcgen::date_time_ymd(2026, 1, 2);
    params.not_after = rcgen::date_time_ymd(2027, 1, 2);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.custom_extensions = vec![names(sans)];
    params
}

/// An authority with this name.
fn authority(name: &str, change: impl FnOnce(&mut CertificateParams)) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = authority_params(name);
    change(&mut params);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn issue(params: &CertificateParams, issuer: &CertifiedIssuer<'_, KeyPair>) -> CertificateDer<'static> {
    params.signed_by(&KeyPair::generate().unwrap(), issuer).unwrap().der().clone()
}

/// What a peer may be: a workload of `td` or `other`, issued by the authority of that domain.
fn verifier(authorities: [&CertifiedIssuer<'_, KeyPair>; 2]) -> Verifier {
    let mut context = CertificateValidationContext::default();
    context.trust_domains = ["td", "other"]
        .iter()
        .zip(authorities)
        .map(|(name, ca)| TrustBundle { trust_domain: name.parse().unwrap(), trust_bundle: ca.pem().into() })
        .collect();
    Verifier::new(Some(context), &provider(&CommonTlsContext::default())).unwrap()
}

fn text(error: rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(rustls::CertificateError::Other(other)) => {
            format!("{} {:?}", other.0, other.0)
        }
        other => format!("{other:?}"),
    }
}

fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

/// A trust domain with an authority, to which peers present certificates.
struct Domain {
    root: CertifiedIssuer<'static, KeyPair>,
    other: CertifiedIssuer<'static, KeyPair>,
    verifier: Verifier,
}

impl Domain {
    fn new() -> Self {
        let (root, other) = (authority("root", |_| {}), authority("other", |_| {}));
        Self { verifier: verifier([&root, &other]), root, other }
    }

    /// As a client and as a server, both of which must have the same outcome.
    fn presents(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: u64,
    ) -> Result<(), String> {
        let client = self.client(leaf, intermediates, now);
        let name = ServerName::try_from("a.test").unwrap();
        let server = self.verifier.verify_server_cert(leaf, intermediates, &name, &[], at(now));
        assert_eq!(client.is_ok(), server.is_ok(), "{client:?} {server:?}");
        client
    }

    fn client(&self, leaf: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>], now: u64) -> Result<(), String> {
        let verified = self.verifier.verify_client_cert(leaf, intermediates, at(now));
        verified.map(drop).map_err(text)
    }

    /// A certificate with these names.
    fn named(&self, sans: &[Vec<u8>]) -> Result<(), String> {
        self.presents(&issue(&workload(sans), &self.root), &[], VALIDITY.0)
    }

    /// A certificate that is changed before it is signed.
    fn changed(&self, change: impl FnOnce(&mut CertificateParams)) -> Result<(), String> {
        let mut params = workload(&[uri(ID)]);
        change(&mut params);
        self.presents(&issue(&params, &self.root), &[], VALIDITY.0)
    }
}

#[track_caller]
fn refused(result: Result<(), String>, reason: &str) {
    let error = result.unwrap_err();
    assert!(error.contains(reason), "{reason}: {error}");
}

#[test]
fn s1_one_spiffe_id_and_a_key_for_signatures_are_a_workloads() {
    assert_eq!(Domain::new().named(&[uri(ID)]), Ok(()));
}

#[test]
fn s2_a_workload_has_one_name_that_is_a_uri_of_spiffe() {
    let domain = Domain::new();
    let dns = der(0x82, b"a.test");
    refused(domain.named(std::slice::from_ref(&dns)), "not 0");
    for two in [[uri(ID), uri("spiffe://td/x")], [uri("spiffe://td/x"), uri(ID)], [uri(ID), uri(ID)]] {
        refused(domain.named(&two), "not 2");
    }
    refused(domain.named(&[uri(ID), uri("https://a.test/")]), "not 2");
    refused(domain.named(&[uri("https://td/ns/a/sa/b")]), "begins with spiffe://");
    refused(domain.named(&[uri("")]), "begins with spiffe://");
    assert_eq!(domain.named(&[dns, uri(ID)]), Ok(()), "names of other kinds do no harm");
}

#[test]
fn s3_to_s5_ids_are_canonical() {
    let domain = Domain::new();
    for (id, reason) in [
        ("spiffe://td", "has no path"),
        ("spiffe://td/", "empty segment"),
        ("spiffe://td/a/", "empty segment"),
        ("spiffe://td/a//b", "empty segment"),
        ("spiffe://td/./a", "the segment ."),
        ("spiffe://td/a/../b", "the segment .."),
        ("spiffe://td/%61", "'%'"),
        ("spiffe://t%64/a", "trust domain with '%'"),
        ("spiffe://TD/a", "trust domain with 'T'"),
        ("spiffe://td:443/a", "trust domain with ':'"),
        ("spiffe://user@td/a", "trust domain with '@'"),
        ("spiffe://[::1]/a", "trust domain with '['"),
        ("spiffe://td?q/a", "trust domain with '?'"),
        ("spiffe://td/a?q", "'?'"),
        ("spiffe://td/a#f", "'#'"),
        ("spiffe://td/~a", "'~'"),
        ("spiffe://td/a!", "'!'"),
        ("spiffe://td/a:b", "':'"),
        ("spiffe://td/a@b", "'@'"),
        ("spiffe://td/a+b", "'+'"),
        ("spiffe://td/a b", "' '"),
        ("spiffe://td/a\0", "the byte 0x00"),
        ("spiffe://td/a\r\nb", "the byte 0x0d"),
        ("spiffe://td/a\u{e9}", ""),
        ("spiffe://td/\u{430}", ""),
        ("spiffe:/td/a", "begins with spiffe://"),
    ] {
        refused(domain.named(&[uri(id)]), reason);
    }
    refused(domain.named(&[uri(b"spiffe://td/a\xff")]), "");
    assert_eq!(domain.named(&[uri("SPIFFE://td/ns/a/sa/b")]), Ok(()), "the scheme has no case");
    let mut context = CertificateValidationContext::default();
    context.trust_domains =
        vec![TrustBundle { trust_domain: "10.0.0.1".parse().unwrap(), trust_bundle: domain.root.pem().into() }];
    let verifier = Verifier::new(Some(context), &provider(&CommonTlsContext::default())).unwrap();
    let leaf = issue(&workload(&[uri("spiffe://10.0.0.1/a")]), &domain.root);
    assert!(verifier.verify_client_cert(&leaf, &[], at(VALIDITY.0)).is_ok(), "digits and dots are a trust domain");
}

#[test]
fn s6_ids_and_trust_domains_are_of_limited_length() {
    let domain = Domain::new();
    let id = |length: usize| format!("{ID}{}", "x".repeat(length - ID.len()));
    assert_eq!(domain.named(&[uri(id(2048))]), Ok(()));
    refused(domain.named(&[uri(id(2049))]), "2049 bytes");
    // That a trust domain of the maximum length is not trusted shows that it has been read.
    refused(domain.named(&[uri(format!("spiffe://{}/a", "x".repeat(255)))]), "is not trusted");
    refused(domain.named(&[uri(format!("spiffe://{}/a", "x".repeat(256)))]), "trust domain of 256 bytes");
}

#[test]
fn s7_the_key_is_for_connections_only() {
    let domain = Domain::new();
    refused(domain.changed(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)), "of an authority");
    for usage in [KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign] {
        refused(domain.changed(|params| params.key_usages.push(usage)), "key usage");
    }
    refused(domain.changed(|params| params.key_usages.clear()), "key usage");
    refused(domain.changed(|params| params.key_usages = vec![KeyUsagePurpose::KeyEncipherment]), "key usage");
    let server_only = |params: &mut CertificateParams| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    };
    let mut params = workload(&[uri(ID)]);
    server_only(&mut params);
    refused(domain.client(&issue(&params, &domain.root), &[], VALIDITY.0), "not for a client");
    let name = ServerName::try_from("a.test").unwrap();
    let as_server = |params: &CertificateParams| {
        let leaf = issue(params, &domain.root);
        domain.verifier.verify_server_cert(&leaf, &[], &name, &[], at(VALIDITY.0)).map(drop).map_err(text)
    };
    assert_eq!(as_server(&params), Ok(()));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    refused(as_server(&params), "not for a server");
    assert_eq!(domain.changed(|params| params.extended_key_usages.clear()), Ok(()), "nothing is said of it");
}

#[test]
fn s8_a_chain_stays_within_its_trust_domain() {
    let domain = Domain::new();
    let leaf = workload(&[uri(ID)]);
    let intermediate = |sans: &[Vec<u8>], issuer: &CertifiedIssuer<'_, KeyPair>| {
        let mut params = authority_params("intermediate");
        if !sans.is_empty() {
            params.custom_extensions = vec![names(sans)];
        }
        CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), issuer).unwrap()
    };
    let through = |intermediate: &CertifiedIssuer<'_, KeyPair>| {
        domain.presents(&issue(&leaf, intermediate), &[intermediate.der().clone()], VALIDITY.0)
    };
    assert_eq!(through(&intermediate(&[], &domain.root)), Ok(()));
    assert_eq!(through(&intermediate(&[uri("spiffe://td")], &domain.root)), Ok(()));
    assert_eq!(through(&intermediate(&[uri("https://a.test/")], &domain.root)), Ok(()));
    for other in ["spiffe://other", "spiffe://tdx", "SPIFFE://other", "spiffe://TD"] {
        refused(through(&intermediate(&[uri(other)], &domain.root)), "not of the workload's trust domain");
    }
    refused(domain.presents(&issue(&leaf, &domain.other), &[], VALIDITY.0), "UnknownIssuer");
    refused(through(&intermediate(&[uri("spiffe://td")], &domain.other)), "UnknownIssuer");
    refused(domain.named(&[uri("spiffe://third/a")]), "trust domain third is not trusted");
}

#[test]
fn s8_the_constraints_of_an_authority_hold() {
    let domain = Domain::new();
    let leaf = workload(&[uri(ID)]);
    let below = |params: CertificateParams, issuer: &CertifiedIssuer<'_, KeyPair>| {
        CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), issuer).unwrap()
    };
    let mut last = authority_params("last");
    last.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let last = below(last, &domain.root);
    assert_eq!(domain.presents(&issue(&leaf, &last), &[last.der().clone()], VALIDITY.0), Ok(()));
    let too_deep = below(authority_params("too deep"), &last);
    let chain = [too_deep.der().clone(), last.der().clone()];
    refused(domain.presents(&issue(&leaf, &too_deep), &chain, VALIDITY.0), "PathLenConstraintViolated");

    // Permitted are the URIs of another host only.
    let permitted = der(0x30, &der(0xa0, &der(0x30, &uri("else.test"))));
    let mut params = authority_params("constrained");
    params.custom_extensions = vec![CustomExtension::from_oid_content(&[2, 5, 29, 30], permitted)];
    let constrained = below(params, &domain.root);
    let chain = [constrained.der().clone()];
    refused(domain.presents(&issue(&leaf, &constrained), &chain, VALIDITY.0), "NameConstraint");
}

#[test]
fn s9_certificates_are_valid_to_the_second() {
    let domain = Domain::new();
    let leaf = issue(&workload(&[uri(ID)]), &domain.root);
    let (begin, end) = VALIDITY;
    refused(domain.presents(&leaf, &[], begin - 1), "NotValidYet");
    for now in [begin, end - 1, end] {
        assert_eq!(domain.presents(&leaf, &[], now), Ok(()));
    }
    let error = domain.presents(&leaf, &[], end + 1).unwrap_err();
    assert!(error.contains("Expired") && error.contains("1798848000") && error.contains("1798848001"), "{error}");
}

#[test]
fn s10_names_that_mislead_are_refused() {
    let domain = Domain::new();
    // 1.2.3.4 = a UTF-8 text with NUL.
    let other = |text: &[u8]| der(0xa0, &[der(0x06, &[0x2a, 3, 4]), der(0xa0, &der(0x0c, text))].concat());
    refused(domain.named(&[uri(ID), other(b"a\0b")]), "the byte 0x00");
    assert_eq!(domain.named(&[uri(ID), other(b"ab")]), Ok(()));
    refused(domain.named(&[uri(ID), der(0x82, b"a.test\0.b")]), "the byte 0x00");
    refused(domain.named(&[uri(ID), der(0x81, b"a@b\0.c")]), "the byte 0x00");
    refused(domain.named(&[uri(ID), der(0x87, &[1, 2, 3])]), "3 bytes");
    let critical = |params: &mut CertificateParams| params.custom_extensions[0].set_criticality(true);
    assert_eq!(domain.changed(critical), Ok(()), "as RFC 5280 requires without a subject");
}

#[test]
fn s11_names_are_equal_or_not() {
    let domain = Domain::new();
    let expects = |matcher: StringMatcher| {
        let mut context = CertificateValidationContext::default();
        context.trusted_ca = Some(domain.root.pem().into());
        context.match_subject_alt_names = vec![SanMatcher { kind: SanKind::Uri, matcher }];
        Verifier::new(Some(context), &provider(&CommonTlsContext::default())).unwrap()
    };
    let verifier = expects(StringMatcher::exact("spiffe://td/ns/a/sa/a.b"));
    let accepts = |verifier: &Verifier, id: &str| {
        verifier.verify_client_cert(&issue(&workload(&[uri(id)]), &domain.root), &[], at(VALIDITY.0)).is_ok()
    };
    assert!(accepts(&verifier, "spiffe://td/ns/a/sa/a.b"));
    for id in
        ["spiffe://td/ns/a/sa/aXb", "spiffe://td/ns/a/sa/A.b", "spiffe://td/ns/a/sa/a.bc", "spiffe://td/ns/a/sa/a.b/c"]
    {
        assert!(!accepts(&verifier, id), "{id}");
    }
    let verifier = expects(StringMatcher::new(StringPattern::Prefix("spiffe://td/ns/foo/".into()), false));
    assert!(accepts(&verifier, "spiffe://td/ns/foo/sa/a"));
    for id in ["spiffe://td/ns/foobar/sa/a", "spiffe://td/ns/foo", "spiffe://tdx/ns/foo/sa/a"] {
        assert!(!accepts(&verifier, id), "{id}");
    }
}

#[test]
fn s12_a_key_may_have_several_certificates() {
    let domain = Domain::new();
    let key = KeyPair::generate().unwrap();
    for id in [ID, ID, "spiffe://td/ns/a/sa/c"] {
        let leaf = workload(&[uri(id)]).signed_by(&key, &domain.root).unwrap().der().clone();
        assert_eq!(domain.presents(&leaf, &[], VALIDITY.0), Ok(()));
    }
}

/// A client's first message of TLS 1.1, with one cipher suite.
fn hello_of_tls_11() -> Vec<u8> {
    let signature_algorithms = [0, 8, 0, 13, 0, 4, 0, 2, 4, 3];
    let body = [&[3, 2][..], &[7; 32], &[0, 0, 2, 0xc0, 0x13, 1, 0], &signature_algorithms].concat();
    let length = u8::try_from(body.len()).unwrap();
    [&[22, 3, 1, 0, length + 4, 1, 0, 0, length][..], &body].concat()
}

#[tokio::test]
async fn s13_there_are_no_old_versions() {
    let ca = Authority::new("root");
    let mut context = DownstreamTlsContext::default();
    context.common.certificates = vec![CertificateSource::Inline(ca.server("a.test").into())];
    let (server, stats) = (ServerTls::new(&context, &Store::new()).unwrap(), TlsStats::default());
    let (mut near, far) = tokio::io::duplex(16 * 1024);
    near.write_all(&hello_of_tls_11()).await.unwrap();
    let error = server.accept(far, &stats).await.map(drop).unwrap_err().to_string();
    assert!(error.contains("incompatible") && error.contains("Tls12NotOffered"), "{error}");
}

#[tokio::test]
async fn s13_there_is_no_early_data() {
    let ca = Authority::new("root");
    let mut context = DownstreamTlsContext::default();
    context.common.certificates = vec![CertificateSource::Inline(ca.server("a.test").into())];
    let (server, stats) = (ServerTls::new(&context, &Store::new()).unwrap(), TlsStats::default());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&ca.pem()).unwrap()).unwrap();
    let provider = provider(&CommonTlsContext::default());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.enable_early_data = true;
    let config = Arc::new(config);
    let connector = tokio_rustls::TlsConnector::from(Arc::clone(&config));
    let name = || ServerName::try_from("a.test").unwrap();
    for resumed in [0, 1] {
        let (near, far) = tokio::io::duplex(16 * 1024);
        let accept = async {
            let (mut stream, _) = server.accept(far, &stats).await.unwrap();
            stream.write_all(b"s").await.unwrap();
            stream.read_u8().await.unwrap();
        };
        let connect = async {
            let mut stream = connector.connect(name(), near).await.unwrap();
            stream.write_all(b"c").await.unwrap();
            stream.flush().await.unwrap();
            stream.read_u8().await.unwrap();
        };
        tokio::join!(accept, connect);
        assert_eq!(stats.session_reused.get(), resumed);
    }
    let mut third = rustls::ClientConnection::new(config, name()).unwrap();
    assert!(third.early_data().is_none(), "the session may be resumed, without early data");
}
