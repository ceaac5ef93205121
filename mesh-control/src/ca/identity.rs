//! Identities of workloads. SPIFFE-ID, in Istio's form.

use std::fmt;

/// Longest identity, in bytes. SPIFFE-ID section 2.3.
const MAX_BYTES: usize = 2048;
/// Longest trust domain, in bytes. SPIFFE-ID section 2.1.
const MAX_TRUST_DOMAIN_BYTES: usize = 255;

/// `spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    trust_domain: String,
    namespace: String,
    service_account: String,
}

/// A text is no identity of a workload.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// It has another form.
    #[error("{0:?} is not an identity: expected spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT")]
    Form(String),
    /// The trust domain has other characters, or is empty or too long.
    #[error("trust domain {0:?}: expected 1 to 255 lower-case letters, digits, '.', '-' and '_'")]
    TrustDomain(String),
    /// A namespace or service account has other characters, or is empty.
    #[error("{0:?} cannot be in an identity: expected letters, digits, '.', '-' and '_', and not only dots")]
    Segment(String),
    /// The identity is too long.
    #[error("the identity has {0} bytes: at most 2048 are allowed")]
    TooLong(usize),
}

impl Identity {
    /// The identity of a service account.
    ///
    /// # Errors
    ///
    /// If a part has characters that SPIFFE does not allow there, or is empty or too long.
    pub fn new(trust_domain: &str, namespace: &str, service_account: &str) -> Result<Self, IdentityError> {
        let is_of_domain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
        let has_length = (1..=MAX_TRUST_DOMAIN_BYTES).contains(&trust_domain.len());
        if !has_length || !trust_domain.bytes().all(is_of_domain) {
            return Err(IdentityError::TrustDomain(trust_domain.to_owned()));
        }
        let is_of_segment = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        for segment in [namespace, service_account] {
            if !segment.bytes().all(is_of_segment) || segment.bytes().all(|byte| byte == b'.') {
                return Err(IdentityError::Segment(segment.to_owned()));
            }
        }
        let [trust_domain, namespace, service_account] = [trust_domain, namespace, service_account].map(str::to_owned);
        let identity = Self { trust_domain, namespace, service_account };
        match identity.to_string().len() {
            length if length > MAX_BYTES => Err(IdentityError::TooLong(length)),
            _ => Ok(identity),
        }
    }

    /// Parses an identity.
    ///
    /// # Errors
    ///
    /// If the text has another form, or as [`Identity::new`].
    pub fn parse(text: &str) -> Result<Self, IdentityError> {
        let malformed = || IdentityError::Form(text.chars().take(MAX_BYTES).collect());
        let rest = text.strip_prefix("spiffe://").ok_or_else(malformed)?;
        let parts: Vec<&str> = rest.split('/').collect();
        match parts.as_slice() {
            [trust_domain, "ns", namespace, "sa", account] => Self::new(trust_domain, namespace, account),
            _ => Err(malformed()),
        }
    }

    /// The trust domain.
    #[must_use]
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trust_domain, namespace, service_account } = self;
        write!(f, "spiffe://{trust_domain}/ns/{namespace}/sa/{service_account}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_have_the_form_of_istio_and_the_characters_of_spiffe() {
        for text in ["spiffe://td/ns/a/sa/b", "spiffe://10.0.0.1/ns/a/sa/b", "spiffe://a-b_c.d/ns/A.b/sa/c_d-e"] {
            assert_eq!(Identity::parse(text).unwrap().to_string(), text);
        }
        for text in [
            "",
            "td/ns/a/sa/b",
            "https://td/ns/a/sa/b",
            "SPIFFE://td/ns/a/sa/b",
            "spiffe://td",
            "spiffe://td/",
            "spiffe://td/ns/a/sa/b/",
            "spiffe://td/ns//sa/b",
            "spiffe://td/ns/a/sa/",
            "spiffe://td/ns/a/sa/b/c",
            "spiffe://td/ns/./sa/b",
            "spiffe://td/ns/../sa/b",
            "spiffe://td/ns/%61/sa/b",
            "spiffe://TD/ns/a/sa/b",
            "spiffe://td:1/ns/a/sa/b",
            "spiffe://u@td/ns/a/sa/b",
            "spiffe://[::1]/ns/a/sa/b",
            "spiffe://td/ns/a/sa/b?c",
            "spiffe://td/ns/a/sa/b#c",
            "spiffe://td/ns/a~/sa/b",
            "spiffe://td/ns/a/sa/b\0",
            "spiffe://td/ns/a/sa/ä",
        ] {
            assert!(Identity::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn lengths_are_those_of_spiffe() {
        assert!(Identity::new(&"a".repeat(255), "n", "s").is_ok());
        assert!(Identity::new(&"a".repeat(256), "n", "s").is_err());
        let rest = "spiffe://td/ns/n/sa/".len();
        assert!(Identity::new("td", "n", &"a".repeat(2048 - rest)).is_ok());
        assert_eq!(Identity::new("td", "n", &"a".repeat(2049 - rest)), Err(IdentityError::TooLong(2049)));
    }
}
