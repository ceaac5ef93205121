//! Host names of services: short names, wildcards, and which of two names is the more specific.
//!
//! Istio's rules (`pkg/config/host`): a name without a dot belongs to the namespace of the resource that contains it;
//! `*.foo.com` does not match `foo.com`; the most specific of several matching names wins.

use std::cmp::Ordering;
use std::fmt;
use std::net::IpAddr;

/// Suffix of service names. Istio's `MeshConfig.trustDomain` default and Kubernetes' default cluster domain.
pub const CLUSTER_DOMAIN: &str = "cluster.local";

/// Longest DNS name, RFC 1035 section 2.3.4.
const MAX_NAME_BYTES: usize = 253;

/// A host: fully qualified or wildcard name in lower case, or an IP address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Host(String);

/// Why a text is not a host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// The text is empty.
    #[error("a host must not be empty")]
    Empty,
    /// The text is longer than a DNS name can be.
    #[error("a host must not be longer than {MAX_NAME_BYTES} bytes")]
    TooLong,
    /// A `*` is neither the whole name nor the whole first label.
    #[error("a wildcard can only be the whole name or its whole first label, as in \"*.example.com\"")]
    Wildcard,
    /// A `*` is a part of the first label, which Istio accepts in some resources.
    #[error("a wildcard for a part of a label is not supported yet")]
    PartialWildcard,
    /// A label has a byte that DNS names do not have.
    #[error("{0:?} is not a DNS label: letters, digits, '-' and '_', at most 63, not beginning or ending with '-'")]
    Label(String),
}

impl Host {
    /// Reads a host of a resource in `namespace`; a name without a dot is a service of that namespace.
    ///
    /// # Errors
    ///
    /// If the text is neither a DNS name, a wildcard nor an IP address.
    pub fn parse(text: &str, namespace: &str) -> Result<Self, HostError> {
        if text.is_empty() {
            return Err(HostError::Empty);
        }
        if text.len() > MAX_NAME_BYTES {
            return Err(HostError::TooLong);
        }
        if text == "*" || text.parse::<IpAddr>().is_ok() {
            return Ok(Self(text.to_owned()));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        let labels = name.strip_prefix("*.").unwrap_or(name);
        if let Some(rest) = labels.strip_prefix('*').filter(|rest| !rest.contains('*')) {
            let is_partial = !rest.is_empty() && rest.split('.').all(is_dns_label);
            return Err(if is_partial { HostError::PartialWildcard } else { HostError::Wildcard });
        }
        if labels.contains('*') {
            return Err(HostError::Wildcard);
        }
        if let Some(label) = labels.split('.').find(|label| !is_dns_label(label)) {
            return Err(HostError::Label(label.to_owned()));
        }
        let name = name.to_ascii_lowercase();
        Ok(Self(if name.contains('.') { name } else { format!("{name}.{namespace}.svc.{CLUSTER_DOMAIN}") }))
    }

    /// The name as it appears on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is `*` or begins with `*.`.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with('*')
    }

    /// Whether it is an IP address.
    #[must_use]
    pub fn is_ip(&self) -> bool {
        self.0.parse::<IpAddr>().is_ok()
    }

    /// Name and namespace if it is the name of a Kubernetes-style service, `NAME.NAMESPACE.svc.cluster.local`.
    #[must_use]
    pub fn kubernetes_service(&self) -> Option<(&str, &str)> {
        let (name, namespace) = self.0.strip_suffix(CLUSTER_DOMAIN)?.strip_suffix(".svc.")?.split_once('.')?;
        (!namespace.contains('.')).then_some((name, namespace))
    }

    /// Whether every name that `other` matches is matched by this host.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match self.0.strip_prefix('*') {
            None => self.0 == other.0,
            Some(suffix) => {
                let name = other.0.strip_prefix('*').unwrap_or(&other.0);
                name.ends_with(suffix) && (name.len() > suffix.len() || other.is_wildcard())
            }
        }
    }

    /// Whether some name is matched by both.
    #[must_use]
    pub fn intersects(&self, other: &Self) -> bool {
        self.covers(other) || other.covers(self)
    }

    /// Orders the more specific host first: exact before wildcard, then longer, then alphabetical.
    #[must_use]
    pub fn by_specificity(&self, other: &Self) -> Ordering {
        self.is_wildcard()
            .cmp(&other.is_wildcard())
            .then_with(|| other.0.len().cmp(&self.0.len()))
            .then_with(|| self.0.cmp(&other.0))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether `text` can be one label of a DNS name. `_` is not allowed by RFC 1123, but it is in use, and Istio accepts it.
fn is_dns_label(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 63
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> Host {
        Host::parse(text, "ns").unwrap()
    }

    #[test]
    fn short_names_belong_to_the_namespace_of_their_resource() {
        for (text, expected) in [
            ("reviews", "reviews.ns.svc.cluster.local"),
            ("reviews.default", "reviews.default"),
            ("Example.COM.", "example.com"),
            ("*", "*"),
            ("*.example.com", "*.example.com"),
            ("127.0.0.1", "127.0.0.1"),
            ("::1", "::1"),
        ] {
            assert_eq!(host(text).as_str(), expected);
        }
    }

    #[test]
    fn invalid_hosts_are_refused() {
        for text in ["", "a..b", "-a.b", "a b", "foo*", "*foo.com", "a.*.b", &"a".repeat(64), &"a.".repeat(130)] {
            assert!(Host::parse(text, "ns").is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn wildcards_cover_only_names_below_them() {
        for (wide, narrow, expected) in [
            ("*", "foo.com", true),
            ("*.com", "*.foo.com", true),
            ("*.foo.com", "a.foo.com", true),
            ("*.foo.com", "a.b.foo.com", true),
            ("*.foo.com", "foo.com", false),
            ("*.foo.com", "*.foo.com", true),
            ("*.foo.com", "*.com", false),
            ("foo.com", "foo.com", true),
            ("foo.com", "*.com", false),
        ] {
            assert_eq!(host(wide).covers(&host(narrow)), expected, "{wide} covers {narrow}");
        }
    }

    #[test]
    fn the_most_specific_host_sorts_first() {
        let mut hosts = ["*", "*.com", "b.com", "a.com", "*.foo.com", "long.b.com"].map(host);
        hosts.sort_by(Host::by_specificity);
        assert_eq!(hosts.map(|h| h.to_string()), ["long.b.com", "a.com", "b.com", "*.foo.com", "*.com", "*"]);
    }

    #[test]
    fn kubernetes_names_split_into_service_and_namespace() {
        assert_eq!(host("reviews").kubernetes_service(), Some(("reviews", "ns")));
        assert_eq!(host("example.com").kubernetes_service(), None);
        assert_eq!(host("a.b.c.svc.cluster.local").kubernetes_service(), None);
    }
}
