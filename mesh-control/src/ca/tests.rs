//! Certificates as another implementation sees them: rustls verifies paths, x509-parser reads extensions.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::*;
use crate::ca::FileError;

const ID: &str = "spiffe://cluster.local/ns/default/sa/reviews";

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(1_800_000_000_700)
}

fn identity() -> Identity {
    Identity::parse(ID).unwrap()
}

fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap).collect()
}

/// Whether rustls accepts the chain of a client at a time.
fn is_accepted(chain: &str, roots: &str, at: SystemTime) -> bool {
    let mut store = RootCertStore::empty();
    certificates(roots).into_iter().for_each(|root| store.add(root).unwrap());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider).build().unwrap();
    let chain = certificates(chain);
    let at = UnixTime::since_unix_epoch(at.duration_since(UNIX_EPOCH).unwrap());
    verifier.verify_client_cert(&chain[0], &chain[1..], at).is_ok()
}

/// An authority whose certificate is signed by a root, and the root's PEM. `inner` is how many certificates are between them.
fn intermediate(inner: usize) -> (CaFiles, String) {
    let (root, root_key) = make_authority("root", None);
    let (mut issuer, mut chain) = (Issuer::from_ca_cert_pem(&root, root_key).unwrap(), Vec::new());
    for i in 0..inner {
        let (pem, key) = make_authority(&format!("inner {i}"), Some(&issuer));
        issuer = Issuer::from_ca_cert_pem(&pem, key).unwrap();
        chain.insert(0, pem);
    }
    let (ca_cert, key) = make_authority("signing", Some(&issuer));
    chain.push(root.clone());
    let files = CaFiles { ca_key: key.serialize_pem(), cert_chain: chain.concat(), root_cert: root.clone(), ca_cert };
    (files, root)
}

fn make_authority(name: &str, issuer: Option<&Issuer<'_, KeyPair>>) -> (String, KeyPair) {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    (params.not_before, params.not_after) =
        ((now() - Duration::from_secs(9)).into(), (now() + Duration::from_secs(7200)).into());
    let certificate = match issuer {
        Some(issuer) => params.signed_by(&key, issuer),
        None => params.self_signed(&key),
    };
    (certificate.unwrap().pem(), key)
}

#[test]
fn a_workload_has_the_certificate_that_spiffe_requires() {
    let (authority, _) = Authority::generate("cluster.local", now()).unwrap();
    let issued = authority.issue(Request::new(&identity(), "test"), now()).unwrap();
    let der = certificates(&issued.certificate_chain);
    let (_, x509) = X509Certificate::from_der(&der[0]).unwrap();
    let san = x509.subject_alternative_name().unwrap().unwrap();
    assert!(san.critical, "there is no subject");
    assert_eq!(x509.subject().iter().count(), 0);
    assert!(matches!(san.value.general_names.as_slice(), [GeneralName::URI(ID)]), "{:?}", san.value);
    let usage = x509.key_usage().unwrap().unwrap();
    assert!(usage.critical && usage.value.digital_signature());
    assert_eq!(usage.value.flags.count_ones(), 1, "neither keyCertSign nor cRLSign");
    let extended = x509.extended_key_usage().unwrap().unwrap().value;
    assert!(extended.client_auth && extended.server_auth && !extended.any);
    let constraints = x509.basic_constraints().unwrap().unwrap();
    assert!(constraints.critical && !constraints.value.ca);
    let validity = x509.validity();
    assert_eq!(validity.not_before.timestamp(), 1_800_000_000 - 120);
    assert_eq!(validity.not_after.timestamp(), 1_800_000_000 + 24 * 3600);
    assert_eq!(x509.raw_serial_as_string().replace(':', ""), issued.serial);
    assert_eq!(issued.serial.len(), 32);
    let other = authority.issue(Request::new(&identity(), "test"), now()).unwrap();
    assert_ne!((&issued.serial, &issued.private_key), (&other.serial, &other.private_key));
}

#[test]
fn another_implementation_accepts_it_while_it_is_valid() {
    let (authority, _) = Authority::generate("cluster.local", now()).unwrap();
    let issued = authority.issue(Request::new(&identity(), "test"), now()).unwrap();
    let (other, _) = Authority::generate("cluster.local", now()).unwrap();
    let accepts = |roots: &str, at| is_accepted(&issued.certificate_chain, roots, at);
    assert!(accepts(authority.roots(), now()));
    assert!(!accepts(other.roots(), now()));
    let both = [authority.roots(), other.roots()].concat();
    assert!(accepts(&both, now()), "during a rotation there are two roots");
    assert!(accepts(authority.roots(), issued.not_before) && accepts(authority.roots(), issued.not_after));
    let second = Duration::from_secs(1);
    assert!(!accepts(authority.roots(), issued.not_before - second));
    assert!(!accepts(authority.roots(), issued.not_after + second));
}

#[test]
fn a_root_is_that_of_an_authority_for_ten_years() {
    let (authority, files) = Authority::generate("td", now()).unwrap();
    let der = certificates(&files.root_cert);
    let (_, x509) = X509Certificate::from_der(&der[0]).unwrap();
    assert!(x509.is_ca() && x509.key_usage().unwrap().unwrap().value.key_cert_sign());
    assert_eq!(authority.not_after(), whole_seconds(now()) + Duration::from_secs(3650 * 24 * 3600));
    assert!(files.ca_key.contains("PRIVATE KEY") && !format!("{files:?} {authority:?}").contains("PRIVATE KEY"));
}

#[test]
fn the_chain_is_sent_from_the_workload_to_the_root_without_it() {
    for inner in 0..3 {
        let (files, root) = intermediate(inner);
        let authority = Authority::from_files(&files, now()).unwrap();
        let issued = authority.issue(Request::new(&identity(), "test"), now()).unwrap();
        let chain = certificates(&issued.certificate_chain);
        assert_eq!(chain.len(), inner + 2);
        let names: Vec<_> = chain
            .iter()
            .map(|der| X509Certificate::from_der(der).unwrap().1)
            .map(|x509| (x509.subject().to_string(), x509.issuer().to_string()))
            .collect();
        for pair in names.windows(2) {
            assert_eq!(pair[0].1, pair[1].0, "each is signed by the next: {names:?}");
        }
        assert_eq!(names.last().unwrap().1, "CN=root");
        assert!(is_accepted(&issued.certificate_chain, &root, now()));
    }
}

#[test]
fn no_certificate_outlives_the_one_that_has_signed_it() {
    let (files, _) = intermediate(0);
    let authority = Authority::from_files(&files, now()).unwrap();
    let id = identity();
    let request = Request::new(&id, "test");
    let issued = authority.issue(request, now()).unwrap();
    assert_eq!(issued.not_after, authority.not_after());
    let expired = authority.issue(request, authority.not_after());
    assert!(matches!(expired, Err(IssueError::AuthorityNotValid)), "{expired:?}");
}

#[test]
fn lifetimes_are_bounded() {
    let (authority, _) = Authority::generate("td", now()).unwrap();
    let id = identity();
    let issue = |ttl| authority.issue(Request::new(&id, "test").with_ttl(ttl), now());
    assert!(issue(MAX_TTL).is_ok() && issue(Duration::from_secs(1)).is_ok());
    for ttl in [Duration::ZERO, MAX_TTL + Duration::from_secs(1)] {
        assert!(matches!(issue(ttl), Err(IssueError::Ttl(_))), "{ttl:?}");
    }
}

#[test]
fn of_a_request_only_the_key_is_taken() {
    let (authority, _) = Authority::generate("td", now()).unwrap();
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI("spiffe://td/ns/kube-system/sa/admin".try_into().unwrap())];
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let csr = params.serialize_request(&key).unwrap().pem().unwrap();
    let issued = authority.sign(&csr, Request::new(&identity(), "test"), now()).unwrap();
    assert!(issued.private_key.is_empty());
    let der = certificates(&issued.certificate_chain);
    let (_, x509) = X509Certificate::from_der(&der[0]).unwrap();
    assert_eq!(&*x509.public_key().subject_public_key.data, key.public_key_raw());
    let names = &x509.subject_alternative_name().unwrap().unwrap().value.general_names;
    assert!(matches!(names.as_slice(), [GeneralName::URI(ID)]) && !x509.is_ca(), "{names:?}");
    let broken = csr.replace("-----BEGIN CERTIFICATE REQUEST-----\nM", "-----BEGIN CERTIFICATE REQUEST-----\nN");
    for csr in ["", "not PEM", &broken] {
        let refused = authority.sign(csr, Request::new(&identity(), "test"), now());
        assert!(matches!(refused, Err(IssueError::Csr(_))), "{refused:?}");
    }
}

#[test]
fn files_that_do_not_belong_together_are_refused() {
    let (good, _) = intermediate(2);
    let (other, _) = intermediate(2);
    assert!(Authority::from_files(&good, now()).is_ok());
    let error = |change: &dyn Fn(&mut CaFiles), at| {
        let mut files = good.clone();
        change(&mut files);
        Authority::from_files(&files, at).unwrap_err().to_string()
    };
    let (authority, _) = Authority::generate("td", now()).unwrap();
    let leaf = authority.issue(Request::new(&identity(), "test"), now()).unwrap().certificate_chain;
    assert_eq!(
        error(&|files| files.ca_key.clone_from(&other.ca_key), now()),
        "ca-key.pem is not the key of ca-cert.pem"
    );
    assert_eq!(
        error(&|files| "x".clone_into(&mut files.ca_key), now()),
        "ca-key.pem: cannot be read as a private key in PEM"
    );
    assert_eq!(error(&|files| files.ca_cert.clear(), now()), "ca-cert.pem has no certificate");
    assert!(
        error(&|files| files.ca_cert.clone_from(&leaf), now()).starts_with("ca-cert.pem is not the certificate of")
    );
    assert!(error(&|_| {}, now() + Duration::from_secs(7200)).starts_with("ca-cert.pem is not valid at this time"));
    let no_path = "ca-cert.pem is not signed by a root";
    assert!(error(&|files| files.root_cert.clone_from(&other.root_cert), now()).starts_with(no_path));
    assert!(error(&|files| files.cert_chain.clear(), now()).starts_with(no_path));
    assert!(error(&|files| files.cert_chain.clone_from(&other.cert_chain), now()).starts_with(no_path));
    assert_eq!(error(&|files| files.root_cert.clear(), now()), "root-cert.pem has no certificate");
}

/// A folder of its own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("mesh-control-ca-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn files_are_written_once_and_keys_for_their_owner() {
    let folder = Folder::new("files");
    let (authority, files) = Authority::generate("td", now()).unwrap();
    files.write(&folder.0).unwrap();
    assert_eq!(CaFiles::read(&folder.0).unwrap(), files);
    assert_eq!(Authority::open(&folder.0, now()).unwrap().roots(), authority.roots());
    let again = files.write(&folder.0).unwrap_err();
    assert!(matches!(&again, FileError::Exists { path } if path.ends_with("ca-cert.pem")), "{again}");
    let issued = authority.issue(Request::new(&identity(), "test"), now()).unwrap();
    // Of the names of a workload's files, two are those of an authority.
    assert!(matches!(issued.write(authority.roots(), &folder.0), Err(FileError::Exists { .. })));
    assert!(!folder.0.join("key.pem").exists(), "all or none are written");
    let of_workload = folder.0.join("workload");
    issued.write(authority.roots(), &of_workload).unwrap();
    #[cfg(unix)]
    for (path, expected) in [(folder.0.join("ca-key.pem"), 0o600), (of_workload.join("key.pem"), 0o600)] {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, expected);
    }
}
