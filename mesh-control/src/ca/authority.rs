//! The certificate that signs, and the certificates that it signs.

use std::fmt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType,
    SerialNumber,
};

use super::certificate::{Authentic, CertificateError};
use super::{AUDIT, CaError, CaFiles, Identity};
use crate::identities::{Identities, Unavailable, WorkloadCertificate};

/// Lifetime of a certificate unless the request says another. Istio `DEFAULT_WORKLOAD_CERT_TTL`.
pub const DEFAULT_TTL: Duration = Duration::from_secs(24 * 3600);
/// Longest lifetime of a certificate. Istio `MAX_WORKLOAD_CERT_TTL`.
pub const MAX_TTL: Duration = Duration::from_secs(90 * 24 * 3600);
/// Lifetime of a self-signed root. Istio `CITADEL_SELF_SIGNED_CA_CERT_TTL`.
const ROOT_TTL: Duration = Duration::from_secs(3650 * 24 * 3600);
/// How long before it is made a certificate begins, because clocks differ. istiod's value.
const CLOCK_SKEW: Duration = Duration::from_secs(120);
/// Bytes of a serial number; at most 20 are allowed, and 8 of them must be random.
const SERIAL_BYTES: usize = 16;

/// Signs certificates of workloads. Its `Debug` output has no key.
pub struct Authority {
    certificate: Authentic,
    issuer: Issuer<'static, KeyPair>,
    /// From the one that signs to the one that the root has signed; empty if the root signs.
    intermediates: String,
    roots: String,
    /// Lifetime of the certificates that it issues as [`Identities`].
    ttl: Duration,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("certificate", &self.certificate.pem).finish_non_exhaustive()
    }
}

/// What a certificate is asked for.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Request<'a> {
    /// The identity. That in a CSR is not looked at, as in Istio: a workload does not say who it is.
    pub identity: &'a Identity,
    /// Lifetime, above zero and up to [`MAX_TTL`]; default [`DEFAULT_TTL`].
    pub ttl: Duration,
    /// Who asks, for the log.
    pub requester: &'a str,
    /// Names of hosts that the certificate is also for, of a server that clients reach by name; default none.
    pub dns_names: &'a [String],
}

impl<'a> Request<'a> {
    /// A request with the default lifetime.
    #[must_use]
    pub fn new(identity: &'a Identity, requester: &'a str) -> Self {
        Self { identity, ttl: DEFAULT_TTL, requester, dns_names: &[] }
    }

    /// The same request with another lifetime.
    #[must_use]
    pub fn with_ttl(self, ttl: Duration) -> Self {
        Self { ttl, ..self }
    }

    /// The same request with names of hosts.
    #[must_use]
    pub fn with_dns_names(self, dns_names: &'a [String]) -> Self {
        Self { dns_names, ..self }
    }
}

/// A certificate with its key. Its `Debug` output has no key.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Issued {
    /// The certificate and those between it and the root, in this order, PEM.
    pub certificate_chain: String,
    /// Its private key, PKCS#8 in PEM; empty if the request had the key.
    pub private_key: String,
    /// Serial number, hexadecimal.
    pub serial: String,
    /// When it begins, in whole seconds.
    pub not_before: SystemTime,
    /// When it ends, in whole seconds.
    pub not_after: SystemTime,
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { serial, not_before, not_after, .. } = self;
        f.debug_struct("Issued")
            .field("serial", serial)
            .field("not_before", not_before)
            .field("not_after", not_after)
            .finish_non_exhaustive()
    }
}

/// Why a certificate is not issued.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IssueError {
    /// The lifetime is zero or too long.
    #[error("a lifetime of {} s: must be above 0 and at most {} s", .0.as_secs(), MAX_TTL.as_secs())]
    Ttl(Duration),
    /// The authority's own certificate is not valid.
    #[error("the certificate of the authority has expired, or is not valid yet")]
    AuthorityNotValid,
    /// The request is not a CSR in PEM whose signature is that of its key.
    #[error("the request is not a valid CSR: {0}")]
    Csr(rcgen::Error),
    /// It could not be made.
    #[error("cannot make the certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// The operating system gives no random numbers.
    #[error("no random numbers")]
    Random,
}

impl Authority {
    /// Makes a root: ECDSA P-256, self-signed, valid for ten years.
    ///
    /// # Errors
    ///
    /// If no key can be made.
    pub fn generate(trust_domain: &str, now: SystemTime) -> Result<(Self, CaFiles), CaError> {
        let make = |error| CaError::Certificate(CertificateError::Make(error));
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(make)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, trust_domain);
        // Roots of one trust domain have different names, so that a path is found while one replaces another.
        let serial = serial_number().ok_or_else(|| make(rcgen::Error::RingUnspecified))?;
        params.distinguished_name.push(DnType::CommonName, format!("root {}", hex(&serial[..4])));
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let now = whole_seconds(now);
        params.not_before = (now - CLOCK_SKEW).into();
        params.not_after = (now + ROOT_TTL).into();
        let certificate = params.self_signed(&key).map_err(make)?.pem();
        let files = CaFiles {
            ca_key: key.serialize_pem(),
            cert_chain: certificate.clone(),
            root_cert: certificate.clone(),
            ca_cert: certificate,
        };
        Ok((Self::from_files(&files, now)?, files))
    }

    /// Reads the four files of a directory; see [`CaFiles`].
    ///
    /// # Errors
    ///
    /// If a file cannot be read, or as [`Authority::from_files`].
    pub fn open(directory: &Path, now: SystemTime) -> Result<Self, CaError> {
        Self::from_files(&CaFiles::read(directory)?, now)
    }

    /// The authority of these files.
    ///
    /// # Errors
    ///
    /// If the certificate is not that of an authority, is not valid now, has another key, or no path to a root.
    pub fn from_files(files: &CaFiles, now: SystemTime) -> Result<Self, CaError> {
        let [certificate] = Authentic::read_all("ca-cert.pem", &files.ca_cert)?
            .into_iter()
            .take(1)
            .collect::<Vec<_>>()
            .try_into()
            .map_err(|_| CertificateError::Empty { what: "ca-cert.pem" })?;
        certificate.check_authority("ca-cert.pem", now)?;
        let key = KeyPair::from_pem(&files.ca_key).map_err(|_| CertificateError::Key)?;
        if !certificate.has_key(key.public_key_raw()) {
            return Err(CertificateError::OtherKey.into());
        }
        let roots = Authentic::read_all("root-cert.pem", &files.root_cert)?;
        if roots.is_empty() {
            return Err(CertificateError::Empty { what: "root-cert.pem" }.into());
        }
        let chain = Authentic::read_all("cert-chain.pem", &files.cert_chain)?;
        let intermediates = path_to_root(&certificate, &chain, &roots).ok_or(CertificateError::NoPathToRoot)?;
        let issuer =
            Issuer::from_ca_cert_der(&certificate.der.as_slice().into(), key).map_err(CertificateError::Make)?;
        let concatenated = |all: &[Authentic]| all.iter().map(|it| it.pem.as_str()).collect::<String>();
        let (intermediates, roots) = (concatenated(&intermediates), concatenated(&roots));
        Ok(Self { intermediates, roots, certificate, issuer, ttl: DEFAULT_TTL })
    }

    /// The same authority with another lifetime of the certificates that it issues as [`Identities`]. Above zero and up to
    /// [`MAX_TTL`]; default [`DEFAULT_TTL`]. A certificate is renewed at about half of its lifetime, so one of a few seconds is for
    /// tests.
    ///
    /// # Errors
    ///
    /// If the lifetime is out of range.
    pub fn with_ttl(self, ttl: Duration) -> Result<Self, IssueError> {
        check_ttl(ttl)?;
        Ok(Self { ttl, ..self })
    }

    /// The roots that workloads trust, PEM.
    #[must_use]
    pub fn roots(&self) -> &str {
        &self.roots
    }

    /// When the certificate of the authority ends.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.certificate.not_after
    }

    /// Issues a certificate with a key that is made here.
    ///
    /// # Errors
    ///
    /// If the lifetime is out of range, the authority is not valid now, or a key cannot be made.
    pub fn issue(&self, request: Request<'_>, now: SystemTime) -> Result<Issued, IssueError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let issued = self.sign_key(&key, request, now)?;
        Ok(Issued { private_key: key.serialize_pem(), ..issued })
    }

    /// Issues a certificate for the key of a CSR in PEM. Nothing else of the CSR is looked at.
    ///
    /// # Errors
    ///
    /// If the CSR is malformed or not signed with its key, or as [`Authority::issue`].
    pub fn sign(&self, csr: &str, request: Request<'_>, now: SystemTime) -> Result<Issued, IssueError> {
        let csr = CertificateSigningRequestParams::from_pem(csr).map_err(IssueError::Csr)?;
        self.sign_key(&csr.public_key, request, now)
    }

    fn sign_key(&self, key: &impl PublicKeyData, request: Request<'_>, now: SystemTime) -> Result<Issued, IssueError> {
        check_ttl(request.ttl)?;
        let now = whole_seconds(now);
        if now < self.certificate.not_before || now >= self.certificate.not_after {
            return Err(IssueError::AuthorityNotValid);
        }
        let serial = serial_number().ok_or(IssueError::Random)?;
        // A certificate cannot outlive the one that has signed it.
        let (not_before, not_after) = (now - CLOCK_SKEW, (now + request.ttl).min(self.certificate.not_after));
        let uri = request.identity.to_string().as_str().try_into()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(uri)];
        for name in request.dns_names {
            params.subject_alt_names.push(SanType::DnsName(name.as_str().try_into()?));
        }
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = (not_before.into(), not_after.into());
        let leaf = params.signed_by(key, &self.issuer)?.pem();
        let serial = hex(&serial);
        let seconds = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        tracing::info!(
            target: AUDIT,
            outcome = "issued",
            identity = %request.identity,
            serial,
            not_before = seconds(not_before),
            not_after = seconds(not_after),
            requester = request.requester,
            "issued a certificate"
        );
        Ok(Issued {
            certificate_chain: leaf + &self.intermediates,
            private_key: String::new(),
            serial,
            not_before,
            not_after,
        })
    }
}

impl Identities for Authority {
    fn issue(&self, identity: &str, now: SystemTime) -> Result<WorkloadCertificate, Unavailable> {
        let identity = Identity::parse(identity).map_err(|error| Unavailable(error.into()))?;
        let request = Request::new(&identity, "control plane of this process").with_ttl(self.ttl);
        let issued = Self::issue(self, request, now).map_err(|error| Unavailable(error.into()))?;
        Ok(WorkloadCertificate {
            certificate_chain: issued.certificate_chain,
            private_key: issued.private_key,
            roots: self.roots.clone(),
            not_after: issued.not_after,
        })
    }
}

fn check_ttl(ttl: Duration) -> Result<(), IssueError> {
    if ttl.is_zero() || ttl > MAX_TTL { Err(IssueError::Ttl(ttl)) } else { Ok(()) }
}

/// The certificates between a signing certificate, which is included, and a root, which is not. Those of the chain that are
/// given twice, or are roots, are passed over.
fn path_to_root(signing: &Authentic, chain: &[Authentic], roots: &[Authentic]) -> Option<Vec<Authentic>> {
    let mut path: Vec<Authentic> = Vec::new();
    for next in std::iter::once(signing).chain(chain) {
        if roots.contains(next) || path.contains(next) {
            continue;
        }
        if path.last().is_some_and(|last| !last.is_signed_by(next)) {
            return None;
        }
        path.push(next.clone());
    }
    let is_rooted = path.last().is_none_or(|last| roots.iter().any(|root| last.is_signed_by(root)));
    is_rooted.then_some(path)
}

/// Certificates have no fractions of seconds.
fn whole_seconds(time: SystemTime) -> SystemTime {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

/// A positive number of random bytes.
fn serial_number() -> Option<[u8; SERIAL_BYTES]> {
    let mut serial = [0; SERIAL_BYTES];
    aws_lc_rs::rand::fill(&mut serial).ok()?;
    // Positive, and without leading zeros.
    serial[0] = serial[0] & 0x7f | 0x40;
    Some(serial)
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;

    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
