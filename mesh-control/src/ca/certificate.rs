//! Certificates of authorities: what is needed of them, and whether they belong together.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use x509_parser::certificate::X509Certificate;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer as _;

/// Why certificates or a key cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// It is not PEM, or not a certificate.
    #[error("{what}: cannot be read as certificates in PEM")]
    Malformed {
        /// Which file.
        what: &'static str,
    },
    /// There is none.
    #[error("{what} has no certificate")]
    Empty {
        /// Which file.
        what: &'static str,
    },
    /// It may not sign others.
    #[error("{what} is not the certificate of an authority: expected CA:TRUE and the key usage keyCertSign")]
    NotAnAuthority {
        /// Which file.
        what: &'static str,
    },
    /// It is not valid at this time.
    #[error("{what} is not valid at this time, {remaining} before its end")]
    NotValidNow {
        /// Which file.
        what: &'static str,
        /// Seconds until its end, as text; negative if it has ended.
        remaining: String,
    },
    /// The key cannot be read, or is of a kind that is not supported.
    #[error("ca-key.pem: cannot be read as a private key in PEM")]
    Key,
    /// The key is that of another certificate.
    #[error("ca-key.pem is not the key of ca-cert.pem")]
    OtherKey,
    /// No root has signed it, directly or by the certificates of the chain.
    #[error(
        "ca-cert.pem is not signed by a root of root-cert.pem, directly or by the certificates of cert-chain.pem in order"
    )]
    NoPathToRoot,
    /// A key or certificate could not be made.
    #[error("cannot make the certificate: {0}")]
    Make(#[from] rcgen::Error),
}

/// A certificate, DER and what is needed of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Authentic {
    pub(super) der: Vec<u8>,
    pub(super) pem: String,
    pub(super) not_before: SystemTime,
    pub(super) not_after: SystemTime,
}

impl Authentic {
    /// The certificates of a file, in order.
    pub(super) fn read_all(what: &'static str, text: &str) -> Result<Vec<Self>, CertificateError> {
        let mut all = Vec::new();
        for pem in Pem::iter_from_buffer(text.as_bytes()) {
            let pem = pem.map_err(|_| CertificateError::Malformed { what })?;
            if pem.label == "CERTIFICATE" {
                all.push(Self::from_der(what, pem.contents)?);
            }
        }
        Ok(all)
    }

    fn from_der(what: &'static str, der: Vec<u8>) -> Result<Self, CertificateError> {
        let malformed = || CertificateError::Malformed { what };
        let (rest, x509) = X509Certificate::from_der(&der).map_err(|_| malformed())?;
        if !rest.is_empty() {
            return Err(malformed());
        }
        let time = |seconds: i64| match u64::try_from(seconds) {
            Ok(seconds) => UNIX_EPOCH + Duration::from_secs(seconds),
            Err(_) => UNIX_EPOCH,
        };
        let validity = x509.validity();
        let (not_before, not_after) = (time(validity.not_before.timestamp()), time(validity.not_after.timestamp()));
        Ok(Self { pem: pem(&der), not_before, not_after, der })
    }

    pub(super) fn check_authority(&self, what: &'static str, now: SystemTime) -> Result<(), CertificateError> {
        let x509 = self.x509().ok_or(CertificateError::Malformed { what })?;
        let may_sign = x509.key_usage().ok().flatten().is_none_or(|usage| usage.value.key_cert_sign());
        if !x509.is_ca() || !may_sign {
            return Err(CertificateError::NotAnAuthority { what });
        }
        if now < self.not_before || now >= self.not_after {
            let remaining = match self.not_after.duration_since(now) {
                Ok(left) => format!("{} s", left.as_secs()),
                Err(error) => format!("-{} s", error.duration().as_secs()),
            };
            return Err(CertificateError::NotValidNow { what, remaining });
        }
        Ok(())
    }

    /// Whether `issuer` has signed it.
    pub(super) fn is_signed_by(&self, issuer: &Self) -> bool {
        let (Some(own), Some(issuer)) = (self.x509(), issuer.x509()) else { return false };
        own.issuer() == issuer.subject() && own.verify_signature(Some(issuer.public_key())).is_ok()
    }

    /// Whether its key is the public key.
    pub(super) fn has_key(&self, public_key: &[u8]) -> bool {
        self.x509().is_some_and(|x509| x509.public_key().subject_public_key.data.as_ref() == public_key)
    }

    fn x509(&self) -> Option<X509Certificate<'_>> {
        X509Certificate::from_der(&self.der).ok().map(|(_, x509)| x509)
    }
}

/// A certificate in PEM.
fn pem(der: &[u8]) -> String {
    use base64::Engine as _;

    const LINE: usize = 64;
    let text = base64::prelude::BASE64_STANDARD.encode(der);
    let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
    for line in text.as_bytes().chunks(LINE) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}
