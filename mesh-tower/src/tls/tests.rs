use std::{
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use mesh_core::{
    model::{
        CertificateSource, CertificateValidationContext, CommonTlsContext, DownstreamTlsContext, KeyExchangeGroup,
        SanKind, SanMatcher, Secret, SecretValue, StringMatcher, TlsCertificate, TrustBundle, UpstreamTlsContext,
        ValidationSource,
    },
    store::Store,
    telemetry::TlsStats,
    tls::{CertificateInfo, TlsInfo, TlsVersion},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{ClientTls, ServerTls, TlsEndpoint, testing::Authority, verify::Verifier};
use crate::Protocol;

const WEB: &str = "spiffe://td/ns/a/sa/web";
const REVIEWS: &str = "spiffe://td/ns/a/sa/reviews";

fn validation(context: CertificateValidationContext) -> ValidationSource {
    let mut source = ValidationSource::default();
    source.context = context;
    source
}

/// A server with this certificate.
fn server(certificate: TlsCertificate) -> DownstreamTlsContext {
    let mut context = DownstreamTlsContext::default();
    context.common.certificates = vec![CertificateSource::Inline(certificate.into())];
    context
}

/// A server that requires clients to have a certificate that `context` accepts.
fn mutual_server(certificate: TlsCertificate, context: CertificateValidationContext) -> DownstreamTlsContext {
    let mut server = server(certificate);
    server.common.validation = Some(validation(context));
    server.require_client_certificate = true;
    server
}

/// A client that trusts the servers that `context` accepts.
fn client(certificate: Option<TlsCertificate>, context: CertificateValidationContext) -> UpstreamTlsContext {
    let mut client = UpstreamTlsContext::default();
    client.common.certificates = certificate.into_iter().map(|own| CertificateSource::Inline(own.into())).collect();
    client.common.validation = Some(validation(context));
    client
}

fn uri(matcher: StringMatcher) -> SanMatcher {
    SanMatcher { kind: SanKind::Uri, matcher }
}

/// Two sides, which may connect several times.
struct Pair {
    server: ServerTls,
    client: ClientTls,
    server_stats: TlsStats,
    client_stats: TlsStats,
}

impl Pair {
    fn new(server: &DownstreamTlsContext, client: &UpstreamTlsContext) -> Self {
        Self::in_store(&Store::new(), server, client)
    }

    fn in_store(store: &Store, server: &DownstreamTlsContext, client: &UpstreamTlsContext) -> Self {
        Self {
            server: ServerTls::new(server, store).unwrap(),
            client: ClientTls::new(client, |name| store.secret_slot(name)).unwrap(),
            server_stats: TlsStats::default(),
            client_stats: TlsStats::default(),
        }
    }

    /// Connects and exchanges a byte each way, so that a client learns whether the server has accepted it.
    async fn connect(&self, protocol: Option<Protocol>) -> Result<(TlsInfo, TlsInfo), String> {
        let (near, far) = tokio::io::duplex(16 * 1024);
        let accept = async {
            let (mut stream, info) = self.server.accept(far, &self.server_stats).await?;
            stream.write_all(b"s").await?;
            stream.flush().await?;
            stream.read_u8().await?;
            std::io::Result::Ok(info)
        };
        let connect = async {
            let address = Some(Ipv4Addr::LOCALHOST.into());
            let endpoint = TlsEndpoint { address, hostname: None, server_name: None, protocol };
            let (mut stream, info) = self.client.connect(near, endpoint, &self.client_stats).await?;
            stream.read_u8().await?;
            stream.write_all(b"c").await?;
            stream.flush().await?;
            std::io::Result::Ok(info)
        };
        let (server, client) = tokio::join!(accept, connect);
        match (server, client) {
            (Ok(server), Ok(client)) => Ok((server, client)),
            // The side that refuses the other knows why.
            (Err(error), Err(other)) if error.to_string().contains("alert") => Err(other.to_string()),
            (Err(error), _) | (_, Err(error)) => Err(error.to_string()),
        }
    }

    async fn outcome(&self) -> Result<(TlsInfo, TlsInfo), String> {
        self.connect(None).await
    }
}

#[tokio::test]
async fn both_sides_learn_who_the_other_is() {
    let ca = Authority::new("root");
    let mut client = client(Some(ca.workload(WEB)), ca.validation());
    client.sni = Some("outbound_.80_._.reviews.a.svc.cluster.local".into());
    let pair = Pair::new(&mutual_server(ca.workload(REVIEWS), ca.validation()), &client);
    let (at_server, at_client) = pair.outcome().await.unwrap();
    assert_eq!(at_server.principal().map(|id| &**id), Some(WEB));
    assert_eq!(at_client.principal().map(|id| &**id), Some(REVIEWS));
    assert_eq!(at_server.local_uri_san(), at_client.principal());
    assert_eq!(at_client.local_uri_san(), at_server.principal());
    assert_eq!(at_server.server_name.as_deref(), Some("outbound_.80_._.reviews.a.svc.cluster.local"));
    assert_eq!(at_server.version, TlsVersion::Tls13);
    assert!(at_server.cipher_suite.starts_with("TLS_AES_"), "{}", at_server.cipher_suite);
    let certificate = &at_server.peer.as_ref().unwrap().certificate;
    assert_eq!((certificate.sha256_fingerprint.len(), certificate.sha1_fingerprint.len()), (64, 40));
    assert_eq!((pair.server_stats.handshake.get(), pair.server_stats.no_certificate.get()), (1, 0));
}

#[tokio::test]
async fn clients_without_a_trusted_certificate_are_refused() {
    let (ca, other) = (Authority::new("root"), Authority::new("root"));
    let server = mutual_server(ca.workload(REVIEWS), ca.validation());
    let refused = |certificate| {
        let pair = Pair::new(&server, &client(certificate, ca.validation()));
        async move { (pair.outcome().await.unwrap_err(), pair.server_stats) }
    };
    let (error, stats) = refused(None).await;
    assert!(error.contains("no certificate"), "{error}");
    assert_eq!((stats.fail_verify_no_cert.get(), stats.handshake.get()), (1, 0));
    let (error, stats) = refused(Some(other.workload(WEB))).await;
    assert!(error.contains("BadSignature") || error.contains("UnknownIssuer"), "{error}");
    assert_eq!((stats.fail_verify_error.get(), stats.handshake.get()), (1, 0));
    let expired = ca.issue(|params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020, 1, 2);
    });
    let (error, stats) = refused(Some(expired)).await;
    assert!(error.contains("expired"), "{error}");
    assert_eq!(stats.fail_verify_error.get(), 1);
    let authority = ca.issue(|params| params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained));
    let (error, _) = refused(Some(authority)).await;
    assert!(error.contains("CaUsedAsEndEntity"), "{error}");
}

#[tokio::test]
async fn names_are_matched_and_workloads_have_the_form_of_spiffe() {
    let ca = Authority::new("root");
    let mut context = ca.validation();
    context.match_subject_alt_names = vec![uri(StringMatcher::exact(WEB))];
    let server = mutual_server(ca.workload(REVIEWS), context);
    let connect = |certificate| {
        let pair = Pair::new(&server, &client(Some(certificate), ca.validation()));
        async move { (pair.outcome().await.map(drop), pair.server_stats) }
    };
    assert_eq!(connect(ca.workload(WEB)).await.0, Ok(()));
    let (error, stats) = connect(ca.workload("spiffe://td/ns/a/sa/webx")).await;
    assert_contains(error.unwrap_err(), "no subject alternative name matches: spiffe://td/ns/a/sa/webx");
    assert_eq!(stats.fail_verify_san.get(), 1);
    // One of two identities would match.
    let two = ca.issue(|params| {
        params.subject_alt_names = [WEB, REVIEWS].map(|uri| rcgen::SanType::URI(uri.try_into().unwrap())).into();
    });
    let (error, stats) = connect(two).await;
    assert_contains(error.unwrap_err(), "one URI subject alternative name, not 2");
    assert_eq!(stats.fail_verify_error.get(), 1);
    let (error, _) = connect(ca.server("web.test")).await;
    assert_contains(error.unwrap_err(), "no subject alternative name matches: web.test");
}

#[tokio::test]
async fn a_trust_domain_has_authorities_of_its_own() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let mut context = CertificateValidationContext::default();
    let bundle =
        |name: &str, ca: &Authority| TrustBundle { trust_domain: name.parse().unwrap(), trust_bundle: ca.pem() };
    context.trust_domains = vec![bundle("td", &ours), bundle("other", &theirs)];
    let server = mutual_server(ours.workload(REVIEWS), context);
    let connect = |certificate| {
        let pair = Pair::new(&server, &client(Some(certificate), ours.validation()));
        async move { pair.outcome().await.map(drop) }
    };
    assert_eq!(connect(ours.workload(WEB)).await, Ok(()));
    assert_eq!(connect(theirs.workload("spiffe://other/a")).await, Ok(()));
    // The authority of one domain cannot issue identities of the other.
    assert_contains(connect(theirs.workload(WEB)).await.unwrap_err(), "UnknownIssuer");
    assert!(
        connect(ours.workload("spiffe://third/a")).await.unwrap_err().contains("trust domain third is not trusted")
    );
}

#[tokio::test]
async fn a_client_verifies_the_server_as_it_is_told() {
    let (ca, other) = (Authority::new("root"), Authority::new("other"));
    let server = server(ca.server("a.test"));
    let connect = |context, change: fn(&mut UpstreamTlsContext)| {
        let mut client = client(None, context);
        change(&mut client);
        let pair = Pair::new(&server, &client);
        async move { pair.outcome().await.map(|(_, info)| info.is_mutual()) }
    };
    // As in Envoy, a chain is verified only if there are authorities, a name only if one is expected.
    assert_eq!(connect(CertificateValidationContext::default(), |_| {}).await, Ok(false));
    assert_eq!(connect(ca.validation(), |_| {}).await, Ok(true));
    assert_contains(connect(other.validation(), |_| {}).await.unwrap_err(), "UnknownIssuer");
    let mut untrusted = other.validation();
    untrusted.accept_untrusted = true;
    assert_eq!(connect(untrusted, |_| {}).await, Ok(false));
    fn expect(client: &mut UpstreamTlsContext, sni: &str) {
        client.sni = Some(sni.into());
        client.auto_sni_san_validation = true;
    }
    assert_eq!(connect(ca.validation(), |client| expect(client, "a.test")).await, Ok(true));
    assert_contains(
        connect(ca.validation(), |client| expect(client, "b.test")).await.unwrap_err(),
        "not valid for name",
    );
}

#[tokio::test]
async fn pinned_certificates_and_keys_are_accepted_only() {
    let ca = Authority::new("root");
    let (pinned, other) = (ca.workload(WEB), ca.workload(WEB));
    let der = super::certificate::certificates("chain", &pinned.certificate_chain).unwrap().remove(0);
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &der).as_ref().try_into().unwrap();
    let mut context = ca.validation();
    context.verify_certificate_hash = vec![[0; 32], hash];
    let server = mutual_server(ca.workload(REVIEWS), context);
    let pair = Pair::new(&server, &client(Some(pinned), ca.validation()));
    assert!(pair.outcome().await.is_ok());
    let pair = Pair::new(&server, &client(Some(other), ca.validation()));
    assert_contains(pair.outcome().await.unwrap_err(), "pinned");
    assert_eq!(pair.server_stats.fail_verify_cert_hash.get(), 1);
}

#[tokio::test]
async fn application_protocols_are_negotiated_or_left_out() {
    let ca = Authority::new("root");
    let mut server = server(ca.server("a.test"));
    server.common.alpn_protocols = vec!["h2".into(), "http/1.1".into()];
    let mut pair = Pair::new(&server, &client(None, ca.validation()));
    let protocol = |info: (TlsInfo, TlsInfo)| {
        assert_eq!(info.0.application_protocol, info.1.application_protocol);
        info.0.application_protocol.map(|name| name.to_string())
    };
    assert_eq!(protocol(pair.connect(Some(Protocol::Http2)).await.unwrap()).as_deref(), Some("h2"));
    assert_eq!(protocol(pair.connect(Some(Protocol::Http1)).await.unwrap()).as_deref(), Some("http/1.1"));
    assert_eq!(protocol(pair.connect(None).await.unwrap()), None);
    let mut odd = client(None, ca.validation());
    odd.common.alpn_protocols = vec!["unknown".into()];
    pair.client = ClientTls::new(&odd, |_| unreachable!()).unwrap();
    assert_eq!(protocol(pair.connect(Some(Protocol::Http2)).await.unwrap()), None);
}

#[tokio::test]
async fn a_server_chooses_its_certificate_by_name_and_key() {
    let ca = Authority::new("root");
    let mut server = server(ca.server("one.test"));
    server.common.certificates.push(CertificateSource::Inline(ca.server("*.two.test").into()));
    let store = Store::new();
    let dns = |sni: Option<&str>| {
        let mut client = client(None, ca.validation());
        client.sni = sni.map(Into::into);
        let pair = Pair::in_store(&store, &server, &client);
        async move { pair.outcome().await.unwrap().1.verified_peer().unwrap().dns_sans[0].to_string() }
    };
    assert_eq!(dns(Some("one.test")).await, "one.test");
    assert_eq!(dns(Some("a.two.test")).await, "*.two.test");
    assert_eq!(dns(Some("a.b.two.test")).await, "one.test");
    assert_eq!(dns(None).await, "one.test");
}

#[tokio::test]
async fn versions_are_limited() {
    let ca = Authority::new("root");
    let mut modern = server(ca.server("a.test"));
    modern.common.min_version = Some(TlsVersion::Tls13);
    let mut old = client(None, ca.validation());
    old.common.max_version = Some(TlsVersion::Tls12);
    let pair = Pair::new(&modern, &old);
    assert!(pair.outcome().await.is_err());
    assert_eq!((pair.server_stats.handshake.get(), pair.server_stats.connection_error.get()), (0, 1));
    let pair = Pair::new(&server(ca.server("a.test")), &old);
    let (info, _) = pair.outcome().await.unwrap();
    assert_eq!((info.version, &*info.cipher_suite), (TlsVersion::Tls12, "ECDHE-ECDSA-AES256-GCM-SHA384"));
    assert_eq!((pair.server_stats.tls12.get(), pair.server_stats.no_certificate.get()), (1, 1));
}

/// The group that two sides with these groups agree on.
async fn group(of_server: &[KeyExchangeGroup], of_client: &[KeyExchangeGroup]) -> rustls::NamedGroup {
    let ca = Authority::new("root");
    let mut server = server(ca.server("a.test"));
    server.common.ecdh_curves = of_server.to_vec();
    let mut client = client(None, ca.validation());
    client.common.ecdh_curves = of_client.to_vec();
    let pair = Pair::new(&server, &client);
    let (near, far) = tokio::io::duplex(16 * 1024);
    let endpoint = TlsEndpoint { address: None, hostname: None, server_name: None, protocol: None };
    let accept = pair.server.accept(far, &pair.server_stats);
    let (accepted, connected) = tokio::join!(accept, pair.client.connect(near, endpoint, &pair.client_stats));
    let (accepted, connected) = (accepted.unwrap().0, connected.unwrap().0);
    let group = accepted.get_ref().1.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(connected.get_ref().1.negotiated_key_exchange_group().unwrap().name(), group);
    group
}

#[tokio::test]
async fn a_key_exchange_may_be_secure_against_quantum_computers() {
    use rustls::NamedGroup::{X25519, X25519MLKEM768, secp384r1};
    let hybrid = &[KeyExchangeGroup::X25519MlKem768];
    assert_eq!(group(hybrid, hybrid).await, X25519MLKEM768);
    assert_eq!(group(&[], hybrid).await, X25519MLKEM768);
    assert_eq!(group(hybrid, &[]).await, X25519MLKEM768);
    assert_eq!(group(&[KeyExchangeGroup::P384], &[]).await, secp384r1);
    let is_preferred = cfg!(feature = "prefer-post-quantum");
    assert_eq!(group(&[], &[]).await, if is_preferred { X25519MLKEM768 } else { X25519 });
}

#[tokio::test]
async fn secrets_are_waited_for_and_replaced() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let named = |name: &str| CertificateSource::Secret(name.into());
    let mut server = DownstreamTlsContext::default();
    server.common.certificates = vec![named("default")];
    server.common.validation = Some(ValidationSource::default());
    server.common.validation.as_mut().unwrap().secret = Some("ROOTCA".into());
    server.require_client_certificate = true;
    let mut client = UpstreamTlsContext::default();
    client.common = server.common.clone();
    let store = Arc::new(Store::new());
    let pair = Pair::in_store(&store, &server, &client);
    let certificate = |own: &TlsCertificate| {
        Secret::certificate("default", own.certificate_chain.clone(), own.private_key.expose().clone())
    };
    {
        let waiting = pair.outcome();
        tokio::pin!(waiting);
        assert!(futures_pending(&mut waiting).await, "there are no secrets yet");
        store.set_secret(certificate(&old.workload(WEB)));
        assert!(futures_pending(&mut waiting).await, "there are no authorities yet");
        store.set_secret(Secret::trusted_ca("ROOTCA", old.pem()));
        assert!(waiting.await.is_ok());
    }
    // In the order bundle, certificate, removal of the old authority, every handshake succeeds.
    let both = [old.pem(), new.pem()].concat();
    for secret in [
        Secret::trusted_ca("ROOTCA", both.into()),
        certificate(&new.workload(REVIEWS)),
        Secret::trusted_ca("ROOTCA", new.pem()),
    ] {
        store.set_secret(secret);
        assert!(pair.outcome().await.is_ok());
    }
    let (info, _) = pair.outcome().await.unwrap();
    assert_eq!(info.principal().map(|id| &**id), Some(REVIEWS));
    // A certificate of the old authority is refused, and an invalid secret changes nothing.
    store.set_secret(certificate(&old.workload(WEB)));
    assert_contains(pair.outcome().await.unwrap_err(), "UnknownIssuer");
    store.set_secret(certificate(&new.workload(WEB)));
    store.set_secret(Secret::certificate("default", "nonsense".into(), "nonsense".into()));
    assert!(pair.outcome().await.is_err(), "its predecessor was never used");
}

/// Whether `future` is pending after everything that is ready has run.
async fn futures_pending<F: Future>(future: &mut std::pin::Pin<&mut F>) -> bool {
    for _ in 0..50 {
        let is_ready = std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx).is_ready())).await;
        if is_ready {
            return false;
        }
        tokio::task::yield_now().await;
    }
    true
}

#[tokio::test]
async fn sessions_are_resumed_until_the_authorities_change() {
    let ca = Authority::new("root");
    let mut server = DownstreamTlsContext::default();
    server.common.certificates = vec![CertificateSource::Inline(ca.workload(REVIEWS).into())];
    server.common.validation = Some(ValidationSource::default());
    server.common.validation.as_mut().unwrap().secret = Some("ROOTCA".into());
    server.require_client_certificate = true;
    let store = Store::new();
    store.set_secret(Secret::trusted_ca("ROOTCA", ca.pem()));
    let pair = Pair::in_store(&store, &server, &client(Some(ca.workload(WEB)), ca.validation()));
    for resumed in [0, 1, 2] {
        let (info, _) = pair.outcome().await.unwrap();
        assert_eq!(info.principal().map(|id| &**id), Some(WEB));
        assert_eq!(pair.server_stats.session_reused.get(), resumed);
    }
    let other = Authority::new("other");
    store.set_secret(Secret::trusted_ca("ROOTCA", other.pem()));
    assert_contains(pair.outcome().await.unwrap_err(), "UnknownIssuer");
    assert_eq!(pair.server_stats.session_reused.get(), 2);
}

#[tokio::test]
async fn sessions_are_not_resumed_after_a_revocation() {
    let ca = Authority::new("root");
    let mut server = mutual_server(ca.workload(REVIEWS), CertificateValidationContext::default());
    server.common.validation.as_mut().unwrap().secret = Some("ROOTCA".into());
    let store = Store::new();
    let revoking = |serial| {
        let mut context = ca.validation();
        context.crl = Some(ca.revocation_list(serial));
        store.set_secret(Secret { name: "ROOTCA".into(), value: SecretValue::ValidationContext(context) });
    };
    revoking(8);
    let own = ca.issue(|params| params.serial_number = Some(7u64.into()));
    let pair = Pair::in_store(&store, &server, &client(Some(own), ca.validation()));
    for resumed in [0, 1] {
        assert!(pair.outcome().await.is_ok());
        assert_eq!(pair.server_stats.session_reused.get(), resumed);
    }
    revoking(7);
    assert_contains(pair.outcome().await.unwrap_err(), "Revoked");
    assert_eq!(pair.server_stats.session_reused.get(), 1);
}

#[tokio::test]
async fn trust_bundles_in_a_file_replace_those_of_the_context() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let bundle =
        |name: &str, ca: &Authority| TrustBundle { trust_domain: name.parse().unwrap(), trust_bundle: ca.pem() };
    let mut context = CertificateValidationContext::default();
    context.trust_domains = vec![bundle("td", &ours)];
    let mut server = mutual_server(ours.workload(REVIEWS), context);
    server.common.validation.as_mut().unwrap().trust_bundles = Some("bundles".into());
    let store = Store::new();
    let set = |bundles: &[TrustBundle]| {
        store.set_secret(Secret { name: "bundles".into(), value: SecretValue::TrustBundles(bundles.into()) });
    };
    let connect = |certificate: &TlsCertificate| {
        let pair = Pair::in_store(&store, &server, &client(Some(certificate.clone()), ours.validation()));
        async move { pair.outcome().await.map(drop) }
    };
    let (own, federated) = (ours.workload(WEB), theirs.workload("spiffe://other/a"));
    // Until the file has been read again, what was read with the context counts.
    assert_eq!(connect(&own).await, Ok(()));
    assert_contains(connect(&federated).await.unwrap_err(), "trust domain other is not trusted");
    set(&[bundle("td", &ours), bundle("other", &theirs)]);
    assert_eq!((connect(&own).await, connect(&federated).await), (Ok(()), Ok(())));
    set(&[bundle("other", &theirs)]);
    assert_contains(connect(&own).await.unwrap_err(), "trust domain td is not trusted");
}

#[track_caller]
fn assert_contains(text: impl AsRef<str>, expected: &str) {
    assert!(text.as_ref().contains(expected), "{}", text.as_ref());
}

#[test]
fn what_cannot_be_used_is_refused_with_its_field() {
    let ca = Authority::new("root");
    let store = Store::new();
    let error = |context: &DownstreamTlsContext| ServerTls::new(context, &store).unwrap_err().to_string();
    assert!(error(&DownstreamTlsContext::default()).starts_with("tls_certificates: "));
    let own = ca.workload(WEB);
    let mixed = TlsCertificate::new(own.certificate_chain.clone(), ca.workload(WEB).private_key.expose().clone());
    assert!(error(&server(mixed)).starts_with("private_key: "));
    let empty = TlsCertificate::new("".into(), own.private_key.expose().clone());
    assert!(error(&server(empty)).starts_with("certificate_chain: no certificate"));
    let mut invalid = CertificateValidationContext::default();
    invalid.trusted_ca = Some("x".into());
    assert!(error(&mutual_server(own.clone(), invalid)).starts_with("trusted_ca: "));
    let mut invalid = ca.validation();
    invalid.crl = Some("x".into());
    assert!(error(&mutual_server(own, invalid)).starts_with("crl: "));
    let mut client = client(None, ca.validation());
    client.sni = Some("a b".into());
    assert!(ClientTls::new(&client, |_| unreachable!()).unwrap_err().to_string().starts_with("sni: "));
}

#[tokio::test]
async fn the_host_of_a_request_replaces_the_server_name_of_the_context() {
    let ca = Authority::new("root");
    let mut context = client(None, ca.validation());
    context.sni = Some("context.test".into());
    context.auto_sni_san_validation = true;
    let server = ServerTls::new(&server(ca.server("host.test")), &Store::new()).unwrap();
    let client = ClientTls::new(&context, |_| unreachable!()).unwrap();
    let connect = async |server_name: Option<&Arc<str>>| {
        let (near, far) = tokio::io::duplex(16 * 1024);
        let stats = TlsStats::default();
        let endpoint =
            TlsEndpoint { address: Some(Ipv4Addr::LOCALHOST.into()), hostname: None, server_name, protocol: None };
        let (accepted, connected) = tokio::join!(server.accept(far, &stats), client.connect(near, endpoint, &stats));
        connected.map_err(|error| error.to_string())?;
        Ok::<_, String>(accepted.unwrap().1.server_name)
    };
    assert_eq!(connect(Some(&"host.test".into())).await.unwrap().as_deref(), Some("host.test"));
    assert_contains(connect(None).await.unwrap_err(), "not valid for name");
}

#[tokio::test]
async fn revoked_certificates_are_refused_and_an_authority_needs_a_list() {
    let ca = Authority::new("root");
    let revoked = ca.issue(|params| params.serial_number = Some(7u64.into()));
    let good = ca.issue(|params| params.serial_number = Some(8u64.into()));
    let mut context = ca.validation();
    context.crl = Some(ca.revocation_list(7));
    let server = mutual_server(ca.workload(REVIEWS), context.clone());
    let connect = |certificate| {
        let pair = Pair::new(&server, &client(Some(certificate), ca.validation()));
        async move { (pair.outcome().await.map(drop), pair.server_stats) }
    };
    assert_eq!(connect(good.clone()).await.0, Ok(()));
    let (outcome, stats) = connect(revoked).await;
    assert_contains(outcome.unwrap_err(), "Revoked");
    assert_eq!(stats.fail_verify_error.get(), 1);
    // The list of another authority says nothing about this one.
    context.crl = Some(Authority::new("other").revocation_list(7));
    let pair = Pair::new(&mutual_server(ca.workload(REVIEWS), context), &client(Some(good), ca.validation()));
    assert_contains(pair.outcome().await.unwrap_err(), "UnknownRevocationStatus");
}

#[test]
fn a_session_is_not_resumed_after_the_certificate_has_expired() {
    let ca = Authority::new("root");
    let provider = super::provider::provider(&CommonTlsContext::default());
    let resumed = |context, not_after| {
        let mut certificate = CertificateInfo::default();
        certificate.not_after = Some(not_after);
        Verifier::new(Some(context), &provider).unwrap().verify_resumed(&certificate)
    };
    let (past, future) = (SystemTime::UNIX_EPOCH, SystemTime::now() + Duration::from_secs(60));
    assert!(resumed(ca.validation(), past).is_err());
    assert!(resumed(ca.validation(), future).is_ok());
    let mut lenient = ca.validation();
    lenient.allow_expired_certificate = true;
    assert!(resumed(lenient, past).is_ok());
}

#[tokio::test]
async fn the_use_of_a_servers_key_is_enforced_on_request() {
    let ca = Authority::new("root");
    let server = server(ca.issue(|params| params.key_usages = vec![rcgen::KeyUsagePurpose::KeyEncipherment]));
    let mut client = client(None, ca.validation());
    assert!(Pair::new(&server, &client).outcome().await.is_ok());
    client.enforce_rsa_key_usage = true;
    assert_contains(Pair::new(&server, &client).outcome().await.unwrap_err(), "not for signatures");
}
