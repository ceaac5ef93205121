//! The service as a client calls it, in process. Tokens are signed here with keys of another implementation's making.

use std::path::PathBuf;
use std::{env, fs};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use mesh_xds::proto::istio::v1::auth::istio_certificate_service_client::IstioCertificateServiceClient;
use mesh_xds::proto::istio::v1::auth::istio_certificate_service_server::IstioCertificateServiceServer;
use prost_types::Value;
use rcgen::{CertificateParams, KeyPair, SanType};
use tonic::Code;
use x509_parser::pem::Pem;

use super::*;

pub(crate) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
const CALLER: &str = "spiffe://cluster.local/ns/shop/sa/reviews";
pub(crate) const SUBJECT: &str = "system:serviceaccount:shop:reviews";

/// A key that signs tokens.
pub(crate) struct Signer(EcdsaKeyPair);

impl Signer {
    pub(crate) fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    pub(crate) fn jwks(&self) -> String {
        let point = self.0.public_key().as_ref();
        let [x, y] = [&point[1..33], &point[33..]].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part));
        format!(r#"{{"keys":[{{"kty":"EC","crv":"P-256","kid":"k","x":"{x}","y":"{y}"}}]}}"#)
    }

    fn pem(&self) -> String {
        use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};

        let der: PublicKeyX509Der<'_> = self.0.public_key().as_der().unwrap();
        let text = base64::prelude::BASE64_STANDARD.encode(der.as_ref());
        format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")
    }

    fn sign(&self, header: &str, claims: &str) -> String {
        let [header, claims] = [header, claims].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part));
        let signed = format!("{header}.{claims}");
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }

    pub(crate) fn token(&self, subject: &str, audience: &str, exp: u64) -> String {
        let claims = format!(r#"{{"iss":"{ISSUER}","sub":"{subject}","aud":["{audience}"],"exp":{exp}}}"#);
        self.sign(r#"{"alg":"ES256","kid":"k"}"#, &claims)
    }
}

/// A file that is deleted after the test.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let path = env::temp_dir().join(format!("mesh-ca-service-{name}-{}", std::process::id()));
        fs::write(&path, text).unwrap();
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

const IN_AN_HOUR: u64 = 1_800_003_600;

fn verify(verifier: &TokenVerifier, token: &str) -> Result<String, String> {
    verifier.verify(token, now()).map(|identity| identity.to_string()).map_err(|error| error.to_string())
}

#[test]
fn a_token_of_a_service_account_proves_its_identity() {
    let signer = Signer::new();
    for (name, text) in [("jwks", signer.jwks()), ("pem", signer.pem())] {
        let file = File::new(name, &text);
        let verifier = TokenVerifier::open(&TokenSettings::new(&file.0, ISSUER), "cluster.local").unwrap();
        assert_eq!(verify(&verifier, &signer.token(SUBJECT, "istio-ca", IN_AN_HOUR)).as_deref(), Ok(CALLER), "{name}");
        for (token, expected) in [
            (signer.token(SUBJECT, "vault", IN_AN_HOUR), "AudienceNotAllowed"),
            (signer.token(SUBJECT, "istio-ca", 1_799_999_000), "Expired"),
            (signer.token("shop:reviews", "istio-ca", IN_AN_HOUR), "its subject is not"),
            (signer.token("system:serviceaccount:a:b:c", "istio-ca", IN_AN_HOUR), "\"b:c\" cannot be in an identity"),
            (signer.token("system:serviceaccount:a:..", "istio-ca", IN_AN_HOUR), "\"..\" cannot be in an identity"),
            (Signer::new().token(SUBJECT, "istio-ca", IN_AN_HOUR), "VerificationFail"),
            (signer.sign(r#"{"alg":"ES256","kid":"k"}"#, r#"{"iss":"other"}"#), "UnknownIssuer"),
            (
                signer.sign(
                    r#"{"alg":"ES256","kid":"k"}"#,
                    &format!(r#"{{"iss":"{ISSUER}","sub":"{SUBJECT}","aud":"istio-ca"}}"#),
                ),
                "VerificationFail",
            ),
        ] {
            let error = verify(&verifier, &token).unwrap_err();
            assert!(error.contains(expected), "{name}: {error}, expected {expected}");
        }
    }
}

#[test]
fn keys_of_tokens_are_read_again_and_the_last_good_ones_stay() {
    let (old, new) = (Signer::new(), Signer::new());
    let file = File::new("rotated", &old.jwks());
    let verifier = TokenVerifier::open(&TokenSettings::new(&file.0, ISSUER), "cluster.local").unwrap();
    let token = |signer: &Signer| signer.token(SUBJECT, "istio-ca", IN_AN_HOUR);
    let replace = |text: &str, seconds| {
        fs::write(&file.0, text).unwrap();
        // The clock of a file system may be coarse.
        fs::File::options()
            .write(true)
            .open(&file.0)
            .unwrap()
            .set_modified(now() + Duration::from_secs(seconds))
            .unwrap();
    };
    replace(&new.jwks(), 1);
    assert!(verify(&verifier, &token(&new)).is_ok());
    assert!(verify(&verifier, &token(&old)).is_err());
    replace("{}", 2);
    assert!(verify(&verifier, &token(&new)).is_ok());
    assert!(TokenVerifier::open(&TokenSettings::new(&file.0, ISSUER), "cluster.local").is_err());
    replace(r#"{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}"#, 3);
    let error = TokenVerifier::open(&TokenSettings::new(&file.0, ISSUER), "cluster.local").unwrap_err();
    assert!(matches!(error, TokenError::Keys { source: KeysError::NoneUsable, .. }), "shared secrets: {error}");
}

#[test]
fn any_issuer_or_audience_is_not_enough() {
    let file = File::new("empty", &Signer::new().jwks());
    let refused = |settings: TokenSettings| TokenVerifier::open(&settings, "cluster.local").unwrap_err().to_string();
    assert_eq!(refused(TokenSettings::new(&file.0, "")), "the issuer of tokens is empty");
    let mut settings = TokenSettings::new(&file.0, ISSUER);
    settings.audiences.clear();
    assert_eq!(refused(settings), "an audience of tokens is empty");
}

/// Believes what a test says.
#[derive(Debug)]
struct Believes(Option<&'static str>);

impl Authenticate for Believes {
    fn authenticate(&self, _: &MetadataMap, _: &Extensions, _: SystemTime) -> Result<Authenticated, Unproven> {
        let identity = Identity::parse(self.0.ok_or(Unproven::Nothing)?)?;
        Ok(Authenticated { identity, proof: Proof::Token })
    }
}

struct Bench {
    roots: String,
    client: IstioCertificateServiceClient<IstioCertificateServiceServer<CertificateService>>,
}

impl Bench {
    fn new(caller: Option<&'static str>) -> Self {
        let authority = Arc::new(Authority::generate("cluster.local", SystemTime::now()).unwrap().0);
        let roots = authority.roots().to_owned();
        let lifetimes = Lifetimes::new(Duration::from_secs(3600), Duration::from_secs(7200)).unwrap();
        let service = CertificateService::new(authority, Arc::new(Believes(caller)), lifetimes);
        Self { roots, client: IstioCertificateServiceClient::new(IstioCertificateServiceServer::new(service)) }
    }

    async fn ask(&mut self, request: IstioCertificateRequest) -> Result<Vec<String>, Status> {
        Ok(self.client.create_certificate(request).await?.into_inner().cert_chain)
    }
}

/// A request whose CSR asks for an identity that the caller does not have.
pub(crate) fn request(validity_duration: i64) -> IstioCertificateRequest {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI("spiffe://cluster.local/ns/bank/sa/admin".try_into().unwrap())];
    let csr = params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
    IstioCertificateRequest { csr, validity_duration, metadata: None }
}

/// URIs of a certificate, and its seconds from now until its end.
pub(crate) fn read(pem: &str) -> (Vec<String>, u64) {
    use x509_parser::extensions::GeneralName;

    let pem = Pem::iter_from_buffer(pem.as_bytes()).next().unwrap().unwrap();
    let certificate = pem.parse_x509().unwrap();
    let names = certificate.subject_alternative_name().unwrap().unwrap().value.general_names.iter();
    let uris = names.filter_map(|name| if let GeneralName::URI(uri) = name { Some((*uri).to_owned()) } else { None });
    (uris.collect(), certificate.validity().time_to_expiration().unwrap().whole_seconds().try_into().unwrap())
}

#[tokio::test]
async fn a_caller_gets_a_certificate_of_its_own_identity_whatever_the_csr_says() {
    let mut bench = Bench::new(Some(CALLER));
    for (asked, expected) in [(0, 3600), (-1, 3600), (600, 600), (7200, 7200)] {
        let chain = bench.ask(request(asked)).await.unwrap();
        assert_eq!(chain.len(), 2, "the certificate and the roots");
        assert_eq!(chain[1], bench.roots);
        let (uris, left) = read(&chain[0]);
        assert_eq!(uris, [CALLER]);
        assert!((expected - 30..=expected).contains(&left), "{asked}: {left}");
    }
}

#[tokio::test]
async fn refusals_have_the_codes_of_istiod() {
    let with = |key: &str, value: Kind| {
        let fields = [(key.to_owned(), Value { kind: Some(value) })].into();
        IstioCertificateRequest { metadata: Some(Struct { fields }), ..request(0) }
    };
    let text = |text: &str| Kind::StringValue(text.to_owned());
    let mut bench = Bench::new(Some(CALLER));
    for (request, code, message) in [
        (request(7201), Code::InvalidArgument, "CSR signing error (requested TTL 7201 s is greater than the max"),
        (request(i64::MAX), Code::InvalidArgument, "CSR signing error (requested TTL"),
        (
            IstioCertificateRequest { csr: "no".into(), ..request(0) },
            Code::InvalidArgument,
            "CSR signing error (the request",
        ),
        (
            with("ImpersonatedIdentity", text("spiffe://cluster.local/ns/a/sa/b")),
            Code::Unauthenticated,
            "request impers",
        ),
        (with("ImpersonatedIdentity", Kind::BoolValue(true)), Code::Unauthenticated, "request impersonation"),
        (
            with("CertSigner", text("other")),
            Code::InvalidArgument,
            "CSR signing error (metadata has the key CertSigner",
        ),
    ] {
        let status = bench.ask(request).await.unwrap_err();
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().starts_with(message), "{status}");
    }
    assert!(bench.ask(with("CertSigner", text(""))).await.is_ok(), "it asks for nothing");
    let status = Bench::new(None).ask(request(0)).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unauthenticated, "request authenticate failure"));
}

#[test]
fn lifetimes_are_bounded() {
    let second = Duration::from_secs(1);
    assert!(Lifetimes::new(second, MAX_TTL).is_ok());
    for (default, max) in [(Duration::ZERO, MAX_TTL), (second * 2, second), (second, MAX_TTL + second)] {
        assert!(Lifetimes::new(default, max).is_err(), "{default:?} {max:?}");
    }
}
