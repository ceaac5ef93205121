//! SPIFFE IDs, such as `spiffe://cluster.local/ns/default/sa/reviews`. SPIFFE-ID, sections 2 and 3.

use std::{fmt, str::FromStr, sync::Arc};

use thiserror::Error;

const SCHEME: &str = "spiffe://";

/// The identity of a workload or of a trust domain.
///
/// Its text is canonical: two IDs are equal if their texts are.
///
/// ```
/// use mesh_core::identity::SpiffeId;
///
/// # fn main() -> Result<(), mesh_core::identity::SpiffeIdError> {
/// let id: SpiffeId = "spiffe://cluster.local/ns/shop/sa/reviews".parse()?;
/// assert_eq!(id.trust_domain(), "cluster.local");
/// assert_eq!(id.path(), "/ns/shop/sa/reviews");
/// assert_eq!(id.namespace(), Some("shop"));
/// assert_eq!(id.service_account(), Some("reviews"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId {
    text: Arc<str>,
    /// The end of the trust domain in `text`.
    path_start: usize,
}

/// The name of a trust domain, such as `cluster.local`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrustDomain(Arc<str>);

/// A text that is not a SPIFFE ID.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SpiffeIdError {
    /// It does not begin with `spiffe://`.
    #[error("a SPIFFE ID begins with spiffe://")]
    Scheme,
    /// It has more than 2,048 bytes.
    #[error("a SPIFFE ID of {0} bytes, at most {max} are allowed", max = SpiffeId::MAX_LENGTH)]
    TooLong(usize),
    /// Its trust domain is invalid.
    #[error(transparent)]
    TrustDomain(#[from] TrustDomainError),
    /// A segment of its path is empty, also because of a `/` at the end.
    #[error("the path of a SPIFFE ID has an empty segment")]
    EmptySegment,
    /// A segment of its path is `.` or `..`.
    #[error("the path of a SPIFFE ID has the segment {0}")]
    RelativeSegment(&'static str),
    /// Its path has a character that is not allowed. Escapes such as `%61` are not allowed, either.
    #[error("the path of a SPIFFE ID has the character {0:?}; only letters, digits, '.', '-' and '_' are allowed")]
    Character(char),
}

/// A text that is not the name of a trust domain.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TrustDomainError {
    /// It is empty.
    #[error("the trust domain is empty")]
    Empty,
    /// It has more than 255 bytes.
    #[error("a trust domain of {0} bytes, at most {max} are allowed", max = TrustDomain::MAX_LENGTH)]
    TooLong(usize),
    /// It has a character that is not allowed.
    #[error("a trust domain with {0:?}; only lower-case letters, digits, '.', '-' and '_' are allowed")]
    Character(char),
}

impl SpiffeId {
    /// The maximum length, in bytes.
    pub const MAX_LENGTH: usize = 2048;

    /// The identity of a service account in Istio: `spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT`.
    ///
    /// # Errors
    /// If the names have characters that are not allowed.
    pub fn of_service_account(
        trust_domain: &TrustDomain,
        namespace: &str,
        service_account: &str,
    ) -> Result<Self, SpiffeIdError> {
        format!("{SCHEME}{trust_domain}/ns/{namespace}/sa/{service_account}").parse()
    }

    /// The whole ID.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The name of the trust domain.
    #[must_use]
    pub fn trust_domain(&self) -> &str {
        &self.text[SCHEME.len()..self.path_start]
    }

    /// The path, which begins with `/`; empty if this is the ID of a trust domain.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.text[self.path_start..]
    }

    /// Whether it identifies a workload, and not a trust domain.
    #[must_use]
    pub fn is_workload(&self) -> bool {
        !self.path().is_empty()
    }

    /// The Kubernetes namespace, if the path is that of a service account in Istio.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        Some(self.service_account_path()?.0)
    }

    /// The Kubernetes service account, if the path is that of a service account in Istio.
    #[must_use]
    pub fn service_account(&self) -> Option<&str> {
        Some(self.service_account_path()?.1)
    }

    fn service_account_path(&self) -> Option<(&str, &str)> {
        let (namespace, account) = self.path().strip_prefix("/ns/")?.split_once("/sa/")?;
        (!namespace.contains('/') && !account.contains('/')).then_some((namespace, account))
    }
}

impl FromStr for SpiffeId {
    type Err = SpiffeIdError;

    /// Parses an ID. The scheme may be in any case; it becomes lower case.
    fn from_str(text: &str) -> Result<Self, SpiffeIdError> {
        if text.len() > Self::MAX_LENGTH {
            return Err(SpiffeIdError::TooLong(text.len()));
        }
        let (scheme, rest) = text.split_at_checked(SCHEME.len()).ok_or(SpiffeIdError::Scheme)?;
        if !scheme.eq_ignore_ascii_case(SCHEME) {
            return Err(SpiffeIdError::Scheme);
        }
        let trust_domain_length = rest.find('/').unwrap_or(rest.len());
        let (trust_domain, path) = rest.split_at(trust_domain_length);
        check_trust_domain(trust_domain)?;
        if let Some(segments) = path.strip_prefix('/') {
            segments.split('/').try_for_each(check_segment)?;
        }
        let path_start = SCHEME.len() + trust_domain_length;
        Ok(Self { text: format!("{SCHEME}{rest}").into(), path_start })
    }
}

impl TrustDomain {
    /// The maximum length, in bytes.
    pub const MAX_LENGTH: usize = 255;

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TrustDomain {
    type Err = TrustDomainError;

    fn from_str(text: &str) -> Result<Self, TrustDomainError> {
        check_trust_domain(text)?;
        Ok(Self(text.into()))
    }
}

fn check_trust_domain(name: &str) -> Result<(), TrustDomainError> {
    if name.is_empty() {
        return Err(TrustDomainError::Empty);
    }
    if name.len() > TrustDomain::MAX_LENGTH {
        return Err(TrustDomainError::TooLong(name.len()));
    }
    let is_allowed = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '.' | '-' | '_');
    match name.chars().find(|c| !is_allowed(*c)) {
        Some(c) => Err(TrustDomainError::Character(c)),
        None => Ok(()),
    }
}

fn check_segment(segment: &str) -> Result<(), SpiffeIdError> {
    match segment {
        "" => return Err(SpiffeIdError::EmptySegment),
        "." => return Err(SpiffeIdError::RelativeSegment(".")),
        ".." => return Err(SpiffeIdError::RelativeSegment("..")),
        _ => {}
    }
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    match segment.chars().find(|c| !is_allowed(*c)) {
        Some(c) => Err(SpiffeIdError::Character(c)),
        None => Ok(()),
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        text.parse::<SpiffeId>().expect_err(text).to_string()
    }

    #[test]
    fn ids_have_a_trust_domain_and_a_path() {
        let id: SpiffeId = "spiffe://td-1.example_x/ns/a/sa/b".parse().unwrap();
        assert_eq!((id.trust_domain(), id.path()), ("td-1.example_x", "/ns/a/sa/b"));
        assert_eq!((id.namespace(), id.service_account()), (Some("a"), Some("b")));
        let id: SpiffeId = "spiffe://10.0.0.1/A.b_c-d".parse().unwrap();
        assert_eq!((id.trust_domain(), id.path(), id.namespace()), ("10.0.0.1", "/A.b_c-d", None));
        let domain: SpiffeId = "spiffe://td".parse().unwrap();
        assert!(!domain.is_workload() && domain.path().is_empty());
        for other in ["spiffe://td/ns/a/b/sa/c", "spiffe://td/ns/a/sa/b/c", "spiffe://td/x/ns/a/sa/b"] {
            assert_eq!(other.parse::<SpiffeId>().unwrap().namespace(), None, "{other}");
        }
    }

    #[test]
    fn the_scheme_is_compared_in_lower_case() {
        let id: SpiffeId = "SPIFFE://td/a".parse().unwrap();
        assert_eq!(id, "spiffe://td/a".parse().unwrap());
        assert_eq!(id.as_str(), "spiffe://td/a");
    }

    #[test]
    fn other_uris_are_refused() {
        for text in ["", "spiffe", "spiffe:/td/a", "https://td/a", " spiffe://td/a", "spiffe:\u{e9}\u{e9}\u{e9}"] {
            assert!(refused(text).contains("begins with"), "{text}");
        }
    }

    #[test]
    fn trust_domains_are_names_in_lower_case() {
        for text in [
            "spiffe://TD/a",
            "spiffe://td:443/a",
            "spiffe://user@td/a",
            "spiffe://[::1]/a",
            "spiffe://t%64/a",
            "spiffe://t\u{e9}/a",
            "spiffe://t d/a",
            "spiffe://td?x",
            "spiffe://td#x",
        ] {
            assert!(refused(text).contains("trust domain with"), "{text}");
        }
        assert!(refused("spiffe:///a").contains("empty"));
    }

    #[test]
    fn paths_have_no_empty_relative_or_escaped_segments() {
        for text in ["spiffe://td/", "spiffe://td/a/", "spiffe://td//a", "spiffe://td/a//b"] {
            assert!(refused(text).contains("empty segment"), "{text}");
        }
        for text in ["spiffe://td/./a", "spiffe://td/a/..", "spiffe://td/../a"] {
            assert!(refused(text).contains("has the segment"), "{text}");
        }
        for character in ['~', '!', ':', '@', '+', '?', '#', '%', '\0', '\r', '\n', '\u{e9}', '\u{430}', ' ', '*'] {
            assert!(refused(&format!("spiffe://td/a{character}b")).contains("character"), "{character:?}");
        }
    }

    #[test]
    fn lengths_are_limited() {
        let id = |length: usize| {
            let text = format!("spiffe://td/{}", "a".repeat(length));
            text[..length].parse::<SpiffeId>()
        };
        assert!(id(2048).is_ok());
        assert_eq!(id(2049), Err(SpiffeIdError::TooLong(2049)));
        let domain = |length: usize| format!("spiffe://{}/a", "a".repeat(length)).parse::<SpiffeId>();
        assert!(domain(255).is_ok());
        assert_eq!(domain(256), Err(TrustDomainError::TooLong(256).into()));
    }

    #[test]
    fn equal_ids_have_equal_texts_only() {
        let id: SpiffeId = "spiffe://td/ns/foo".parse().unwrap();
        for other in ["spiffe://td/ns/foobar", "spiffe://td/ns/Foo", "spiffe://td/ns/foo/a", "spiffe://tdx/ns/foo"] {
            assert_ne!(id, other.parse().unwrap());
        }
    }

    #[test]
    fn a_service_account_has_an_id() {
        let domain: TrustDomain = "cluster.local".parse().unwrap();
        let id = SpiffeId::of_service_account(&domain, "shop", "a.b").unwrap();
        assert_eq!(id.as_str(), "spiffe://cluster.local/ns/shop/sa/a.b");
        assert!(SpiffeId::of_service_account(&domain, "shop/x", "").is_err());
    }
}
