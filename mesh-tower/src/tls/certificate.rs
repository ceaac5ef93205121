//! Certificates of this side, and what certificates say.

use std::{cell::RefCell, sync::Arc};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use hashbrown::HashSet;
use mesh_core::{
    identity::x509::Certificate,
    model::TlsCertificate,
    tls::{CertificateInfo, PeerIdentity},
};
use rustls::{crypto::CryptoProvider, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

use super::TlsError;

/// Names of peers that a thread keeps. A full set is cleared.
const MAX_NAMES: usize = 1024;

thread_local! {
    static NAMES: RefCell<HashSet<Arc<str>>> = RefCell::default();
}

/// A certificate of this side and its key.
#[derive(Debug)]
pub(super) struct LocalCertificate {
    pub(super) key: Arc<CertifiedKey>,
    pub(super) info: Arc<CertificateInfo>,
}

impl LocalCertificate {
    /// Reads a certificate and its key.
    ///
    /// # Errors
    /// If one of them is not PEM, or they do not belong together.
    pub(super) fn new(certificate: &TlsCertificate, provider: &CryptoProvider) -> Result<Self, TlsError> {
        let chain = certificates("certificate_chain", &certificate.certificate_chain)?;
        let key = PrivateKeyDer::from_pem_slice(certificate.private_key.expose());
        let key = key.map_err(|error| TlsError::Pem { field: "private_key", reason: error.to_string() })?;
        let info = Arc::new(info("certificate_chain", &chain[0])?);
        let key = CertifiedKey::from_der(chain, key, provider);
        let key = key.map_err(|error| TlsError::Refused { field: "private_key", error })?;
        Ok(Self { key: Arc::new(key), info })
    }

    /// Whether the certificate is for `name`.
    pub(super) fn is_for(&self, name: &str) -> bool {
        self.info.dns_sans.iter().any(|san| match san.strip_prefix("*.") {
            Some(parent) => name.split_once('.').is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(parent)),
            None => san.eq_ignore_ascii_case(name),
        })
    }
}

/// The certificates in `pem`, at least one.
///
/// # Errors
/// If there are none, or one is malformed.
pub(super) fn certificates(field: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let refuse = |reason: String| TlsError::Pem { field, reason };
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let certificates = certificates.map_err(|error| refuse(error.to_string()))?;
    if certificates.is_empty() {
        return Err(refuse("no certificate in PEM".to_owned()));
    }
    Ok(certificates)
}

/// What a certificate says, with its fingerprints.
///
/// # Errors
/// If it cannot be read.
pub(super) fn info(field: &'static str, der: &[u8]) -> Result<CertificateInfo, TlsError> {
    let certificate = Certificate::from_der(der).map_err(|error| TlsError::Certificate { field, error })?;
    Ok(with_fingerprints(certificate.info, der))
}

/// The identity of a peer that has presented `chain`; `None` = it cannot be read, which verification has excluded.
pub(super) fn peer_identity(chain: &[CertificateDer<'_>], is_verified: bool) -> Option<PeerIdentity> {
    let mut info = Certificate::from_der(chain.first()?).ok()?.info;
    if let Some(name) = info.uri_sans.first_mut().filter(|_| is_verified) {
        share(name);
    }
    let mut peer = PeerIdentity::default();
    peer.certificate = Arc::new(with_fingerprints(info, &chain[0]));
    peer.chain = chain.iter().map(|der| bytes::Bytes::copy_from_slice(der)).collect();
    peer.is_verified = is_verified;
    Some(peer)
}

/// Replaces a name by an equal one that earlier connections of this thread have, so that metrics find the series of a
/// peer by the address of its name.
fn share(name: &mut Arc<str>) {
    NAMES.with_borrow_mut(|names| {
        if names.len() >= MAX_NAMES {
            names.clear();
        }
        *name = Arc::clone(names.get_or_insert_with(&**name, |_| Arc::clone(name)));
    });
}

fn with_fingerprints(mut info: CertificateInfo, der: &[u8]) -> CertificateInfo {
    info.sha256_fingerprint = hex(digest(&SHA256, der).as_ref());
    info.sha1_fingerprint = hex(digest(&SHA1_FOR_LEGACY_USE_ONLY, der).as_ref());
    info
}

fn hex(bytes: &[u8]) -> Arc<str> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect::<String>().into()
}
