//! Reading certificates. RFC 5280; for those of workloads, SPIFFE X509-SVID.
//!
//! Reading proves nothing: whether a trusted authority has issued a certificate is verified elsewhere.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::Range,
    sync::Arc,
    time::{Duration, SystemTime},
};

use thiserror::Error;
use x509_parser::{
    certificate::X509Certificate,
    extensions::GeneralName,
    objects::oid2abbrev,
    oid_registry::{OidRegistry, asn1_rs::FromDer},
    time::ASN1Time,
    x509::X509Name,
};

use super::{SpiffeId, SpiffeIdError};
use crate::tls::CertificateInfo;

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Certificate {
    /// Its names, its issuer and its validity. The fingerprints are empty.
    pub info: CertificateInfo,
    /// Whether it is the certificate of an authority (basic constraints).
    pub is_ca: bool,
    /// What its key is for; `None` = it does not say.
    pub key_usage: Option<KeyUsage>,
    /// Whether servers may use it: it says so, or nothing of extended key usage.
    pub is_for_servers: bool,
    /// Whether clients may use it: it says so, or nothing of extended key usage.
    pub is_for_clients: bool,
    /// The position of the subject public key info in its DER, which pins are made of.
    pub subject_public_key_info: Range<usize>,
}

/// What a key is for. RFC 5280 section 4.2.1.3.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyUsage {
    /// Signatures other than those of certificates and revocation lists.
    pub digital_signature: bool,
    /// Signatures of certificates.
    pub key_cert_sign: bool,
    /// Signatures of revocation lists.
    pub crl_sign: bool,
}

/// The side of a connection that presents a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The client.
    Client,
    /// The server.
    Server,
}

/// Bytes that are no certificate, or one with names that cannot be trusted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// It is not the DER of one certificate.
    #[error("not a certificate: {0}")]
    Der(String),
    /// A name has a byte that no name of its kind has, such as NUL. Programs that read only to that byte see another name.
    #[error("a subject alternative name has the byte {0:#04x}")]
    NameByte(u8),
    /// A name is an IP address of neither 4 nor 16 bytes.
    #[error("a subject alternative name is an IP address of {0} bytes")]
    IpAddress(usize),
    /// A subject alternative name cannot be read.
    #[error("a subject alternative name is malformed")]
    Name,
}

/// A certificate that is not one of a workload. SPIFFE X509-SVID, sections 2 to 5.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SvidError {
    /// It has no URI subject alternative name, or several.
    #[error("a workload's certificate has one URI subject alternative name, not {0}")]
    UriSans(usize),
    /// The URI is not a SPIFFE ID.
    #[error("{uri}: {error}")]
    SpiffeId {
        /// The URI.
        uri: Arc<str>,
        /// What is wrong with it.
        error: SpiffeIdError,
    },
    /// The URI identifies a trust domain, and no workload.
    #[error("{0} has no path: it identifies no workload")]
    NoPath(SpiffeId),
    /// It is the certificate of an authority.
    #[error("the certificate of an authority is not that of a workload")]
    Authority,
    /// Its key may not be used for signatures, or also for those of certificates.
    #[error("key usage: a workload's is digitalSignature, and not keyCertSign or cRLSign")]
    KeyUsage,
    /// Its extended key usage excludes its role.
    #[error("extended key usage: it is not for a {0}")]
    ExtendedKeyUsage(&'static str),
}

impl Certificate {
    /// Reads the DER of one certificate.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        let malformed = |error: &dyn std::fmt::Display| CertificateError::Der(error.to_string());
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|error| malformed(&error))?;
        if !rest.is_empty() {
            return Err(CertificateError::Der(format!("{} bytes follow it", rest.len())));
        }
        let mut info = CertificateInfo {
            subject: name(certificate.subject()),
            issuer: name(certificate.issuer()),
            serial: hex(trim_zeros(certificate.raw_serial())),
            not_before: time(certificate.validity().not_before),
            not_after: time(certificate.validity().not_after),
            ..CertificateInfo::default()
        };
        let sans = certificate.subject_alternative_name().map_err(|error| malformed(&error))?;
        for san in sans.iter().flat_map(|sans| &sans.value.general_names) {
            add_name(&mut info, san)?;
        }
        let key_usage = certificate.key_usage().map_err(|error| malformed(&error))?.map(|usage| KeyUsage {
            digital_signature: usage.value.digital_signature(),
            key_cert_sign: usage.value.key_cert_sign(),
            crl_sign: usage.value.crl_sign(),
        });
        let extended = certificate.extended_key_usage().map_err(|error| malformed(&error))?;
        let extended = extended.as_ref().map(|extended| &extended.value);
        let spki = certificate.public_key().raw;
        // The parser returns slices of `der`.
        let spki_start = spki.as_ptr() as usize - der.as_ptr() as usize;
        Ok(Self {
            info,
            is_ca: certificate.is_ca(),
            key_usage,
            is_for_servers: extended.is_none_or(|usage| usage.any || usage.server_auth),
            is_for_clients: extended.is_none_or(|usage| usage.any || usage.client_auth),
            subject_public_key_info: spki_start..spki_start + spki.len(),
        })
    }

    /// The identity of the workload whose certificate this is.
    ///
    /// # Errors
    /// If it does not have the form of an X509-SVID for `role`.
    pub fn svid(&self, role: Role) -> Result<SpiffeId, SvidError> {
        let id = self.workload_identity(role)?;
        if self.key_usage.is_none() { Err(SvidError::KeyUsage) } else { Ok(id) }
    }

    /// The identity of the workload whose certificate this is. Unlike [`Certificate::svid`], a certificate may say nothing about
    /// the use of its key, as those of authorities that are not made for SPIFFE.
    ///
    /// # Errors
    /// If it has not exactly one identity, or may not be used for `role`.
    pub fn workload_identity(&self, role: Role) -> Result<SpiffeId, SvidError> {
        let [uri] = &*self.info.uri_sans else { return Err(SvidError::UriSans(self.info.uri_sans.len())) };
        let id: Result<SpiffeId, _> = uri.parse();
        let id = id.map_err(|error| SvidError::SpiffeId { uri: Arc::clone(uri), error })?;
        if !id.is_workload() {
            return Err(SvidError::NoPath(id));
        }
        if self.is_ca {
            return Err(SvidError::Authority);
        }
        if self.key_usage.is_some_and(|usage| !usage.digital_signature || usage.key_cert_sign || usage.crl_sign) {
            return Err(SvidError::KeyUsage);
        }
        match role {
            Role::Client if !self.is_for_clients => Err(SvidError::ExtendedKeyUsage("client")),
            Role::Server if !self.is_for_servers => Err(SvidError::ExtendedKeyUsage("server")),
            Role::Client | Role::Server => Ok(id),
        }
    }
}

/// Adds a subject alternative name. Kinds of names that nothing matches are left out, unless they are made to mislead.
fn add_name(info: &mut CertificateInfo, name: &GeneralName<'_>) -> Result<(), CertificateError> {
    match name {
        GeneralName::URI(uri) => info.uri_sans.push(printable(uri)?),
        GeneralName::DNSName(dns) => info.dns_sans.push(printable(dns)?),
        GeneralName::RFC822Name(email) => info.email_sans.push(printable(email)?),
        GeneralName::IPAddress(bytes) => info.ip_sans.push(ip_address(bytes)?.to_string().into()),
        GeneralName::OtherName(_, value) if value.contains(&0) => return Err(CertificateError::NameByte(0)),
        GeneralName::Invalid(..) => return Err(CertificateError::Name),
        GeneralName::OtherName(..)
        | GeneralName::X400Address(_)
        | GeneralName::DirectoryName(_)
        | GeneralName::EDIPartyName(_)
        | GeneralName::RegisteredID(_) => {}
    }
    Ok(())
}

fn printable(text: &str) -> Result<Arc<str>, CertificateError> {
    match text.bytes().find(|byte| !(0x20..0x7f).contains(byte)) {
        Some(byte) => Err(CertificateError::NameByte(byte)),
        None => Ok(text.into()),
    }
}

fn ip_address(bytes: &[u8]) -> Result<IpAddr, CertificateError> {
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes) {
        Ok(IpAddr::V4(Ipv4Addr::from(bytes)))
    } else if let Ok(bytes) = <[u8; 16]>::try_from(bytes) {
        Ok(IpAddr::V6(Ipv6Addr::from(bytes)))
    } else {
        Err(CertificateError::IpAddress(bytes.len()))
    }
}

fn trim_zeros(serial: &[u8]) -> &[u8] {
    let zeros = serial.iter().take_while(|byte| **byte == 0).count();
    &serial[zeros.min(serial.len().saturating_sub(1))..]
}

fn hex(bytes: &[u8]) -> Arc<str> {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
}

fn time(time: ASN1Time) -> Option<SystemTime> {
    match u64::try_from(time.timestamp()) {
        Ok(seconds) => SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)),
        Err(_) => SystemTime::UNIX_EPOCH.checked_sub(Duration::from_secs(time.timestamp().unsigned_abs())),
    }
}

/// A distinguished name as in RFC 2253: the last attribute first, values with escapes.
fn name(name: &X509Name<'_>) -> Arc<str> {
    let registry = OidRegistry::default().with_x509();
    let mut text = String::new();
    let parts: Vec<_> = name.iter_rdn().collect();
    for rdn in parts.into_iter().rev() {
        for (index, attribute) in rdn.iter().enumerate() {
            if !text.is_empty() {
                text.push(if index == 0 { ',' } else { '+' });
            }
            let oid = attribute.attr_type();
            let key = match oid2abbrev(oid, &registry) {
                Ok(key) => key.to_owned(),
                Err(_) => oid.to_id_string(),
            };
            text.push_str(&key);
            text.push('=');
            match attribute.as_str() {
                Ok(value) => escape(value, &mut text),
                Err(_) => {
                    text.push('#');
                    text.push_str(&hex(attribute.as_slice()));
                }
            }
        }
    }
    text.into()
}

/// RFC 2253 section 2.4.
fn escape(value: &str, to: &mut String) {
    let last = value.chars().count().saturating_sub(1);
    for (index, c) in value.chars().enumerate() {
        let is_special = matches!(c, ',' | '+' | '"' | '\\' | '<' | '>' | ';')
            || (c == ' ' && (index == 0 || index == last))
            || (c == '#' && index == 0);
        if c.is_ascii_control() || !c.is_ascii() {
            let mut bytes = [0; 4];
            c.encode_utf8(&mut bytes).bytes().for_each(|byte| to.push_str(&format!("\\{byte:02X}")));
        } else {
            if is_special {
                to.push('\\');
            }
            to.push(c);
        }
    }
}

#[cfg(test)]
mod tests;
