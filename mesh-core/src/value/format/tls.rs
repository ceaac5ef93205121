//! The commands about TLS and certificates: `DOWNSTREAM_TLS_VERSION`, `UPSTREAM_PEER_SUBJECT` and so on.

use super::TimeFormat;

/// What a command about TLS writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSource {
    /// The connection.
    pub connection: TlsConnection,
    /// What of it.
    pub field: TlsField,
}

/// A connection of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsConnection {
    /// `DOWNSTREAM_…`: the client's.
    Downstream,
    /// `UPSTREAM_…`: that to the endpoint.
    Upstream,
}

/// What a handshake has resulted in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsField {
    /// `TLS_VERSION`: the version, such as `TLSv1.3`.
    Version,
    /// `TLS_CIPHER`: the cipher suite, such as `TLS_AES_128_GCM_SHA256`.
    Cipher,
    /// `PEER_…`: of the certificate that the other side has presented.
    Peer(CertificateField),
    /// `LOCAL_…`: of the certificate that this side has presented.
    Local(CertificateField),
}

/// What a certificate says. Names of one kind are joined by commas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateField {
    /// `URI_SAN`: subject alternative names of type URI.
    UriSan,
    /// `DNS_SAN`: subject alternative names of type DNS.
    DnsSan,
    /// `IP_SAN`: subject alternative names of type IP address.
    IpSan,
    /// `EMAIL_SAN`: subject alternative names of type email address.
    EmailSan,
    /// `SUBJECT`: the subject.
    Subject,
    /// `ISSUER`: the issuer.
    Issuer,
    /// `SERIAL`: the serial number, in hexadecimal.
    Serial,
    /// `FINGERPRINT_256`: SHA-256 of the certificate, in hexadecimal.
    Fingerprint256,
    /// `FINGERPRINT_1`: SHA-1 of the certificate, in hexadecimal.
    Fingerprint1,
    /// `CERT`: the certificate, in URL-encoded PEM.
    Certificate,
    /// `CERT_V_START(FORMAT)`: the beginning of its validity.
    ValidFrom(TimeFormat),
    /// `CERT_V_END(FORMAT)`: the end of its validity.
    ValidUntil(TimeFormat),
}

impl TlsSource {
    /// The command called `name` with this argument; `None` = it is not about TLS.
    pub(super) fn parse(name: &str, argument: Option<&str>) -> Option<Result<Self, String>> {
        let (connection, rest) = match name.split_once('_')? {
            ("DOWNSTREAM", rest) => (TlsConnection::Downstream, rest),
            ("UPSTREAM", rest) => (TlsConnection::Upstream, rest),
            _ => return None,
        };
        let field = match rest {
            "TLS_VERSION" => Ok(TlsField::Version),
            "TLS_CIPHER" => Ok(TlsField::Cipher),
            _ => {
                let (party, field) = rest.split_once('_')?;
                let field = CertificateField::parse(field, argument)?;
                match party {
                    "PEER" => field.map(TlsField::Peer),
                    "LOCAL" => field.map(TlsField::Local),
                    _ => return None,
                }
            }
        };
        let takes_argument = rest.ends_with("CERT_V_START") || rest.ends_with("CERT_V_END");
        Some(match argument {
            Some(argument) if !takes_argument => Err(format!("takes no argument, got {argument:?}")),
            _ => field.map(|field| Self { connection, field }),
        })
    }
}

impl CertificateField {
    fn parse(name: &str, argument: Option<&str>) -> Option<Result<Self, String>> {
        let format = || TimeFormat::parse(argument.unwrap_or(""));
        Some(Ok(match name {
            "URI_SAN" => Self::UriSan,
            "DNS_SAN" => Self::DnsSan,
            "IP_SAN" => Self::IpSan,
            "EMAIL_SAN" => Self::EmailSan,
            "SUBJECT" => Self::Subject,
            "ISSUER" => Self::Issuer,
            "SERIAL" => Self::Serial,
            "FINGERPRINT_256" => Self::Fingerprint256,
            "FINGERPRINT_1" => Self::Fingerprint1,
            "CERT" => Self::Certificate,
            "CERT_V_START" => return Some(format().map(Self::ValidFrom)),
            "CERT_V_END" => return Some(format().map(Self::ValidUntil)),
            _ => return None,
        }))
    }
}
