//! `x-forwarded-client-cert`, which tells the certificates of a client's connections to the proxies on its way. Envoy "x-forwarded-client-cert".

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::{
    model::{ClientCertDetails, ForwardClientCert, ForwardClientCertDetails},
    tls::{PeerIdentity, TlsInfo, url_encoded_pem},
};

/// `x-forwarded-client-cert`.
pub const X_FORWARDED_CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");

/// What to do with the header of a request on a connection with this TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// Leave it as it is.
    Keep,
    /// Remove it.
    Remove,
    /// Replace it.
    Set(HeaderValue),
    /// Append an element.
    Append(HeaderValue),
}

impl Treatment {
    /// The treatment for the requests of a connection.
    #[must_use]
    pub fn new(config: ForwardClientCert, tls: Option<&TlsInfo>) -> Self {
        let peer = tls.and_then(|tls| tls.peer.as_ref());
        let element = || peer.zip(tls).map(|(peer, tls)| element(config.set_current_client_cert_details, peer, tls));
        match config.forward_client_cert_details {
            ForwardClientCertDetails::AlwaysForwardOnly => Self::Keep,
            ForwardClientCertDetails::ForwardOnly if peer.is_some() => Self::Keep,
            ForwardClientCertDetails::AppendForward => element().map_or(Self::Remove, Self::Append),
            ForwardClientCertDetails::SanitizeSet => element().map_or(Self::Remove, Self::Set),
            ForwardClientCertDetails::Sanitize | ForwardClientCertDetails::ForwardOnly => Self::Remove,
        }
    }

    /// Changes the header of a request.
    pub fn apply(&self, headers: &mut HeaderMap) {
        match self {
            Self::Keep => {}
            Self::Remove => {
                headers.remove(X_FORWARDED_CLIENT_CERT);
            }
            Self::Set(value) => {
                headers.insert(X_FORWARDED_CLIENT_CERT, value.clone());
            }
            Self::Append(value) => append(headers, value),
        }
    }
}

/// Joins the lines and `value` by commas, as Envoy does.
fn append(headers: &mut HeaderMap, value: &HeaderValue) {
    let mut joined = Vec::new();
    for line in headers.get_all(X_FORWARDED_CLIENT_CERT) {
        joined.extend_from_slice(line.as_bytes());
        joined.push(b',');
    }
    joined.extend_from_slice(value.as_bytes());
    // This cannot fail: header values joined by commas are a header value.
    if let Ok(joined) = HeaderValue::from_bytes(&joined) {
        headers.insert(X_FORWARDED_CLIENT_CERT, joined);
    }
}

fn element(details: ClientCertDetails, peer: &PeerIdentity, tls: &TlsInfo) -> HeaderValue {
    let certificate = &*peer.certificate;
    let mut text = String::new();
    let mut add = |key: &str, value: &str, quoted: bool| {
        if !text.is_empty() {
            text.push(';');
        }
        text.push_str(key);
        text.push('=');
        if quoted {
            text.push('"');
            text.push_str(&value.replace('\\', "\\\\").replace('"', "\\\""));
            text.push('"');
        } else {
            text.push_str(value);
        }
    };
    for uri in tls.local.iter().flat_map(|local| &local.uri_sans) {
        add("By", uri, has_delimiter(uri));
    }
    add("Hash", &certificate.sha256_fingerprint, false);
    if details.cert {
        add("Cert", &peer.chain.first().map(|der| url_encoded_pem(der)).unwrap_or_default(), true);
    }
    if details.chain {
        add("Chain", &peer.chain.iter().map(|der| url_encoded_pem(der)).collect::<String>(), true);
    }
    if details.subject {
        add("Subject", &certificate.subject, true);
    }
    if details.uri {
        // The key is there even if the certificate has no URI.
        if certificate.uri_sans.is_empty() {
            add("URI", "", false);
        }
        certificate.uri_sans.iter().for_each(|uri| add("URI", uri, has_delimiter(uri)));
    }
    if details.dns {
        certificate.dns_sans.iter().for_each(|dns| add("DNS", dns, has_delimiter(dns)));
    }
    // Names are printable ASCII, and subjects are escaped, so this cannot fail.
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// A name with a delimiter would otherwise be read as several elements.
fn has_delimiter(value: &str) -> bool {
    value.contains([',', ';', '=', '"'])
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::tls::CertificateInfo;

    fn tls(change: impl FnOnce(&mut CertificateInfo)) -> TlsInfo {
        let mut certificate = CertificateInfo {
            uri_sans: vec!["spiffe://td/web".into()],
            subject: "CN=a\"b,O=c".into(),
            sha256_fingerprint: "ab12".into(),
            ..CertificateInfo::default()
        };
        change(&mut certificate);
        let peer = PeerIdentity {
            certificate: certificate.into(),
            chain: [bytes::Bytes::from_static(&[0xfb, 0xff]), bytes::Bytes::from_static(&[1])].into(),
            is_verified: true,
        };
        let local = CertificateInfo { uri_sans: vec!["spiffe://td/me".into()], ..CertificateInfo::default() };
        TlsInfo { peer: Some(peer), local: Some(Arc::new(local)), ..TlsInfo::default() }
    }

    fn config(mode: ForwardClientCertDetails) -> ForwardClientCert {
        ForwardClientCert { forward_client_cert_details: mode, ..ForwardClientCert::default() }
    }

    fn sent(config: ForwardClientCert, tls: Option<&TlsInfo>, received: &[&'static str]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for value in received {
            headers.append(X_FORWARDED_CLIENT_CERT, HeaderValue::from_static(value));
        }
        Treatment::new(config, tls).apply(&mut headers);
        headers.get_all(X_FORWARDED_CLIENT_CERT).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn only_what_a_verified_hop_says_is_passed_on() {
        use ForwardClientCertDetails as Mode;
        let own = "By=spiffe://td/me;Hash=ab12";
        let (tls, anonymous) = (tls(|_| {}), TlsInfo::default());
        for (mode, with_certificate) in [
            (Mode::Sanitize, vec![]),
            (Mode::ForwardOnly, vec!["Hash=1".to_owned(), "Hash=2".to_owned()]),
            (Mode::AppendForward, vec![format!("Hash=1,Hash=2,{own}")]),
            (Mode::SanitizeSet, vec![own.to_owned()]),
            (Mode::AlwaysForwardOnly, vec!["Hash=1".to_owned(), "Hash=2".to_owned()]),
        ] {
            let received = ["Hash=1", "Hash=2"];
            assert_eq!(sent(config(mode), Some(&tls), &received), with_certificate, "{mode:?}");
            for tls in [None, Some(&anonymous)] {
                let expected = if mode == Mode::AlwaysForwardOnly { &received[..] } else { &[] };
                assert_eq!(sent(config(mode), tls, &received), expected, "{mode:?}");
            }
        }
    }

    #[test]
    fn details_are_listed_and_quoted() {
        let mut config = config(ForwardClientCertDetails::SanitizeSet);
        config.set_current_client_cert_details =
            ClientCertDetails { cert: true, chain: true, subject: true, uri: true, dns: true };
        let one = "-----BEGIN%20CERTIFICATE-----%0A%2B%2F8%3D%0A-----END%20CERTIFICATE-----%0A";
        let two = "-----BEGIN%20CERTIFICATE-----%0AAQ%3D%3D%0A-----END%20CERTIFICATE-----%0A";
        let subject = r#"Subject="CN=a\"b,O=c""#;
        let value = sent(config, Some(&tls(|info| info.dns_sans = vec!["a.test".into(), "b.test".into()])), &[]);
        let expected = format!(
            "By=spiffe://td/me;Hash=ab12;Cert=\"{one}\";Chain=\"{one}{two}\";{subject};URI=spiffe://td/web;DNS=a.test;DNS=b.test"
        );
        assert_eq!(value, [expected]);
        config.set_current_client_cert_details = ClientCertDetails { uri: true, ..ClientCertDetails::default() };
        assert_eq!(sent(config, Some(&tls(|info| info.uri_sans.clear())), &[]), ["By=spiffe://td/me;Hash=ab12;URI="]);
        // A name cannot pretend to be another element.
        let value = sent(config, Some(&tls(|info| info.uri_sans = vec!["x:a,By=b;URI=c".into()])), &[]);
        assert_eq!(value, [r#"By=spiffe://td/me;Hash=ab12;URI="x:a,By=b;URI=c""#]);
    }
}
