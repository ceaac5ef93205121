//! Index of virtual hosts by domain. Envoy `route.v3.VirtualHost.domains`.

use super::{
    RouteTableError,
    trie::{Lowercase, ReversedLowercase, Trie},
};
use crate::model::VirtualHost;

/// Virtual hosts by domain: exact, then the longest `*.suffix`, then the longest `prefix.*`, then `*`.
///
/// A wildcard matches at least one character. Domains are case-insensitive.
#[derive(Debug)]
pub(super) struct DomainIndex {
    /// Exact domains, and `prefix.*` without the asterisk.
    forward: Trie<Domain>,
    /// `*.suffix` without the asterisk, reversed.
    backward: Trie<Domain>,
    any: Option<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Domain {
    virtual_host: u32,
    exact: bool,
}

impl DomainIndex {
    /// Builds the index of `virtual_hosts`.
    ///
    /// # Errors
    /// If a domain is empty or occurs twice.
    pub(super) fn new(virtual_hosts: &[VirtualHost]) -> Result<Self, RouteTableError> {
        refuse_duplicates(virtual_hosts)?;
        let (mut forward, mut backward, mut any) = (Vec::new(), Vec::new(), None);
        for (host, number) in virtual_hosts.iter().zip(0u32..) {
            for domain in &host.domains {
                let domain = domain.to_ascii_lowercase();
                let entry = |exact| Domain { virtual_host: number, exact };
                if domain == "*" {
                    any = Some(number);
                } else if let Some(suffix) = domain.strip_prefix('*') {
                    backward.push((suffix.bytes().rev().collect(), entry(false)));
                } else if let Some(prefix) = domain.strip_suffix('*') {
                    forward.push((prefix.as_bytes().into(), entry(false)));
                } else {
                    forward.push((domain.into_bytes().into(), entry(true)));
                }
            }
        }
        Ok(Self { forward: Trie::new(forward), backward: Trie::new(backward), any })
    }

    /// The position of the virtual host that serves `host`.
    pub(super) fn find(&self, host: &str) -> Option<u32> {
        let length = host.len();
        let (mut exact, mut prefix, mut suffix) = (None, None, None);
        self.forward.walk(Lowercase(host.as_bytes()), |depth, domains| {
            for domain in domains {
                match domain.exact {
                    true if depth == length => exact = Some(domain.virtual_host),
                    false if depth < length => prefix = Some(domain.virtual_host),
                    _ => {}
                }
            }
        });
        if exact.is_some() {
            return exact;
        }
        if !self.backward.is_empty() {
            self.backward.walk(ReversedLowercase(host.as_bytes()), |depth, domains| {
                if depth < length {
                    suffix = domains.first().map(|domain| domain.virtual_host);
                }
            });
        }
        suffix.or(prefix).or(self.any)
    }
}

fn refuse_duplicates(virtual_hosts: &[VirtualHost]) -> Result<(), RouteTableError> {
    let mut seen = hashbrown::HashMap::new();
    for host in virtual_hosts {
        for domain in &host.domains {
            if domain.is_empty() {
                return Err(RouteTableError::EmptyDomain { virtual_host: host.name.clone() });
            }
            if let Some(first) = seen.insert(domain.to_ascii_lowercase(), &host.name) {
                return Err(RouteTableError::DuplicateDomain {
                    domain: domain.clone(),
                    first: first.clone(),
                    second: host.name.clone(),
                });
            }
        }
    }
    Ok(())
}

/// Removes the port of `authority`, if it has one. IPv6 addresses keep their brackets.
pub(super) fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if is_port(port) && (!host.contains(':') || host.ends_with(']')) => host,
        _ => authority,
    }
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}
