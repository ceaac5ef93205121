//! The authorities of trust domains, and the documents that federated domains exchange them in. SPIFFE Trust Domain and
//! Bundle.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use thiserror::Error;

use crate::{
    identity::{TrustDomain, TrustDomainError},
    json,
    value::MetadataValue,
};

/// The authorities of a trust domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustBundle {
    /// The trust domain.
    pub trust_domain: TrustDomain,
    /// Its authorities.
    pub trust_bundle: Bytes,
}

/// A text that is not a map of trust bundles.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TrustBundleError {
    /// It is not an object in JSON, or has a key twice.
    #[error("not a JSON object with each key once")]
    Json,
    /// It names no trust domain.
    #[error("trust_domains: is missing or empty")]
    NoTrustDomain,
    /// The name of a trust domain is invalid.
    #[error("trust_domains.{name}: {error}")]
    TrustDomain {
        /// The name.
        name: Box<str>,
        /// What is wrong with it.
        error: TrustDomainError,
    },
    /// A trust domain has no authority.
    #[error("trust_domains.{0}.keys: has no key with the use x509-svid")]
    NoAuthority(TrustDomain),
    /// The certificates of a key are not base64.
    #[error("trust_domains.{trust_domain}.keys[{index}].x5c: not a list of certificates in base64")]
    Certificates {
        /// The trust domain.
        trust_domain: TrustDomain,
        /// The position of the key.
        index: usize,
    },
}

impl TrustBundle {
    /// Reads a map of the bundles of trust domains: `{"trust_domains": {"NAME": BUNDLE}}`, where a bundle is a key set whose
    /// keys with the use `x509-svid` are authorities. Keys of other uses are left out. Whether the certificates are valid is
    /// seen by the code that does handshakes.
    ///
    /// # Errors
    /// If it is something else, or a trust domain has no authority.
    pub fn map_from_json(text: &[u8]) -> Result<Vec<Self>, TrustBundleError> {
        let document = json::object(text).ok_or(TrustBundleError::Json)?;
        let Some(MetadataValue::Object(domains)) = json::field(&document, "trust_domains") else {
            return Err(TrustBundleError::NoTrustDomain);
        };
        if domains.is_empty() {
            return Err(TrustBundleError::NoTrustDomain);
        }
        domains.iter().map(|(name, bundle)| Self::from_key_set(name, bundle)).collect()
    }

    fn from_key_set(name: &str, bundle: &MetadataValue) -> Result<Self, TrustBundleError> {
        let trust_domain: TrustDomain =
            name.parse().map_err(|error| TrustBundleError::TrustDomain { name: name.into(), error })?;
        let keys = match json::field(bundle, "keys") {
            Some(MetadataValue::List(keys)) => &**keys,
            _ => &[],
        };
        let mut pem = String::new();
        for (index, key) in keys.iter().enumerate() {
            if json::field(key, "use").and_then(json::string) == Some("x509-svid") {
                let refuse = || TrustBundleError::Certificates { trust_domain: trust_domain.clone(), index };
                add_certificates(key, &mut pem).ok_or_else(refuse)?;
            }
        }
        if pem.is_empty() {
            return Err(TrustBundleError::NoAuthority(trust_domain));
        }
        Ok(Self { trust_domain, trust_bundle: pem.into() })
    }
}

/// Adds the certificates of a key, at least one.
fn add_certificates(key: &MetadataValue, pem: &mut String) -> Option<()> {
    let MetadataValue::List(certificates) = json::field(key, "x5c")? else { return None };
    if certificates.is_empty() {
        return None;
    }
    for certificate in certificates {
        let der = STANDARD.decode(json::string(certificate)?).ok().filter(|der| !der.is_empty())?;
        pem.push_str("-----BEGIN CERTIFICATE-----\n");
        for line in STANDARD.encode(der).as_bytes().chunks(64) {
            // Base64 is ASCII.
            pem.extend(line.iter().map(|byte| char::from(*byte)));
            pem.push('\n');
        }
        pem.push_str("-----END CERTIFICATE-----\n");
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        TrustBundle::map_from_json(text.as_bytes()).expect_err(text).to_string()
    }

    #[test]
    fn a_map_has_the_authorities_of_each_trust_domain() {
        let long = STANDARD.encode([7; 60]);
        let text = format!(
            r#"{{"trust_domains": {{
                "b.test": {{"spiffe_sequence": 1, "keys": [{{"kty": "RSA", "use": "x509-svid", "x5c": ["{long}"], "n": "x"}}]}},
                "a.test": {{"keys": [
                    {{"use": "jwt-svid", "kid": "k", "x5c": ["?"]}},
                    {{"use": "x509-svid", "x5c": ["MQ=="]}}, {{"use": "x509-svid", "x5c": ["Mg==", "Mw=="]}}
                ]}}
            }}}}"#
        );
        let bundles = TrustBundle::map_from_json(text.as_bytes()).unwrap();
        let pem = |base64: &str| format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n");
        let expected = [
            ("a.test", ["MQ==", "Mg==", "Mw=="].map(pem).concat()),
            ("b.test", pem(&format!("{}\n{}", &long[..64], &long[64..]))),
        ];
        let found: Vec<_> = bundles
            .iter()
            .map(|bundle| (bundle.trust_domain.as_str(), String::from_utf8(bundle.trust_bundle.to_vec()).unwrap()))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_no_map_of_bundles_is_refused_with_its_place() {
        for text in ["", "[]", "-----BEGIN CERTIFICATE-----", r#"{"trust_domains": {"a": {}, "a": {}}}"#] {
            assert!(refused(text).starts_with("not a JSON object"), "{text}");
        }
        for text in ["{}", r#"{"trust_domains": []}"#, r#"{"trust_domains": {}}"#, r#"{"keys": []}"#] {
            assert_eq!(refused(text), "trust_domains: is missing or empty", "{text}");
        }
        let domain = |bundle: &str| format!(r#"{{"trust_domains": {{"td": {bundle}}}}}"#);
        for bundle in ["{}", "[]", r#"{"keys": []}"#, r#"{"keys": [{"use": "jwt-svid"}, {"x5c": ["MQ=="]}]}"#] {
            assert_eq!(
                refused(&domain(bundle)),
                "trust_domains.td.keys: has no key with the use x509-svid",
                "{bundle}"
            );
        }
        for x5c in
            ["", r#", "x5c": []"#, r#", "x5c": ["?"]"#, r#", "x5c": [""]"#, r#", "x5c": [1]"#, r#", "x5c": "MQ==""#]
        {
            let text = domain(&format!(r#"{{"keys": [{{"use": "jwt-svid"}}, {{"use": "x509-svid"{x5c}}}]}}"#));
            assert_eq!(refused(&text), "trust_domains.td.keys[1].x5c: not a list of certificates in base64", "{x5c}");
        }
        let error = refused(r#"{"trust_domains": {"spiffe://td": {}}}"#);
        assert!(error.starts_with("trust_domains.spiffe://td: a trust domain with ':'"), "{error}");
    }
}
