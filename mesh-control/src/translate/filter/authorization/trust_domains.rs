//! The trust domains of a mesh, which policies may name by any of their aliases.

use crate::host::CLUSTER_DOMAIN;
use crate::translate::view::View;

/// The trust domain of a mesh, and its aliases. Istio `trustDomain` and `trustDomainAliases` of the mesh's configuration.
#[derive(Clone, Debug)]
pub(super) struct TrustDomains(Vec<String>);

impl TrustDomains {
    /// Those of the mesh.
    pub(super) fn of(view: &View<'_>) -> Self {
        let mesh_config = &view.mesh.config.mesh_config;
        Self::new(mesh_config.trust_domain(), mesh_config.trust_domain_aliases())
    }

    pub(super) fn new(trust_domain: &str, aliases: &[String]) -> Self {
        Self(std::iter::once(trust_domain).chain(aliases.iter().map(String::as_str)).map(str::to_owned).collect())
    }

    /// Principals with every alias of their trust domain. What has not the form of a principal stays as it is.
    pub(super) fn expand_principals(&self, principals: &[String]) -> Vec<String> {
        let mut expanded = Vec::new();
        for principal in principals {
            match trust_domain(principal).filter(|domain| self.knows(domain)) {
                None => expanded.push(principal.clone()),
                Some(domain) => expanded.extend(self.aliases_of(principal, domain)),
            }
        }
        expanded
    }

    /// Trust domains with their aliases.
    pub(super) fn expand(&self, domains: &[String]) -> Vec<String> {
        let mut expanded: Vec<String> = Vec::new();
        for domain in domains {
            let aliases = if self.0.contains(domain) { &self.0[..] } else { std::slice::from_ref(domain) };
            for alias in aliases {
                if !expanded.contains(alias) {
                    expanded.push(alias.clone());
                }
            }
        }
        expanded
    }

    fn knows(&self, domain: &str) -> bool {
        let fits =
            |known: &String| known == domain || known == "*" || may_match(domain, known) || may_match(known, domain);
        domain == CLUSTER_DOMAIN || self.0.iter().any(fits)
    }

    fn aliases_of(&self, principal: &str, domain: &str) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        for alias in &self.0 {
            let is_covered = domain.strip_prefix('*').is_some_and(|suffix| alias.ends_with(suffix));
            let replaced =
                if is_covered { principal.to_owned() } else { format!("{alias}{}", &principal[domain.len()..]) };
            if !found.contains(&replaced) {
                found.push(replaced);
            }
        }
        found
    }
}

/// Whether the text matches a pattern with a `*` at its beginning or end.
fn may_match(text: &str, pattern: &str) -> bool {
    pattern.strip_suffix('*').is_some_and(|prefix| text.starts_with(prefix))
        || pattern.strip_prefix('*').is_some_and(|suffix| text.ends_with(suffix))
}

/// The trust domain of a principal `DOMAIN/ns/NAMESPACE/sa/NAME`; `None` if it is any.
fn trust_domain(principal: &str) -> Option<&str> {
    let (domain, _) = principal.split_once('/').filter(|_| principal.split('/').count() == 5)?;
    (domain != "*").then_some(domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().copied().map(str::to_owned).collect()
    }

    #[test]
    fn principals_get_the_aliases_of_their_trust_domain() {
        let domains = TrustDomains::new("td1", &["cluster.local".to_owned(), "some-td".to_owned()]);
        for (principal, expected) in [
            ("cluster.local/ns/foo/sa/a", &["td1/ns/foo/sa/a", "cluster.local/ns/foo/sa/a", "some-td/ns/foo/sa/a"][..]),
            ("other/ns/foo/sa/a", &["other/ns/foo/sa/a"]),
            ("*/ns/foo/sa/a", &["*/ns/foo/sa/a"]),
            ("*-td/ns/foo/sa/a", &["td1/ns/foo/sa/a", "cluster.local/ns/foo/sa/a", "*-td/ns/foo/sa/a"]),
            ("*", &["*"]),
            ("td1/ns/foo", &["td1/ns/foo"]),
        ] {
            assert_eq!(domains.expand_principals(&strings(&[principal])), strings(expected), "{principal}");
        }
        let plain = TrustDomains::new("cluster.local", &[]);
        assert_eq!(plain.expand_principals(&strings(&["cluster.local/ns/a/sa/b"])), ["cluster.local/ns/a/sa/b"]);
    }

    #[test]
    fn trust_domains_get_their_aliases() {
        let domains = TrustDomains::new("td1", &["td2".to_owned()]);
        assert_eq!(domains.expand(&strings(&["td2", "other", "td1"])), ["td1", "td2", "other"]);
    }
}
