//! Finds the `DestinationRule` that applies to a service for a client, as Istio's push context does.
//!
//! A rule is looked for in the client's namespace, then in the service's, then in the root namespace. The first namespace
//! that has a matching rule decides, and in it the most specific host. The rules of a namespace for one host are merged:
//! the oldest rule that has a policy gives it, and all give their subsets.

use std::collections::HashMap;

use crate::config::{Config, DestinationRule, Visibility};
use crate::host::Host;
use crate::registry::Service;

/// The rules of a mesh, merged and found by service and client.
#[derive(Clone, Debug, Default)]
pub struct DestinationRules {
    root_namespace: String,
    namespaces: HashMap<String, Namespace>,
}

#[derive(Clone, Debug, Default)]
struct Namespace {
    exact: HashMap<Host, DestinationRule>,
    /// Most specific first.
    wildcard: Vec<DestinationRule>,
}

impl DestinationRules {
    /// Merges and indexes the rules of a configuration.
    pub fn new(config: &Config) -> Self {
        let root_namespace = config.mesh_config.root_namespace().to_owned();
        let mut rules = Self { root_namespace, namespaces: HashMap::new() };
        for rule in &config.destination_rules {
            rules.namespaces.entry(rule.metadata.namespace.clone()).or_default().add(rule);
        }
        for namespace in rules.namespaces.values_mut() {
            namespace.wildcard.sort_by(|a, b| a.host.by_specificity(&b.host));
        }
        rules
    }

    /// The merged rule for calls from a client in `namespace` to the service. Its metadata are those of the oldest rule.
    pub fn find(&self, service: &Service, namespace: &str) -> Option<&DestinationRule> {
        let in_namespace = |owner: &str| {
            let rule = self.namespaces.get(owner)?.find(&service.host)?;
            let is_visible = owner == namespace || Visibility::includes(&rule.export_to, owner, namespace);
            is_visible.then_some(rule)
        };
        in_namespace(namespace)
            .or_else(|| in_namespace(&service.namespace))
            .or_else(|| in_namespace(&self.root_namespace))
    }
}

impl Namespace {
    fn add(&mut self, rule: &DestinationRule) {
        let host = &rule.host.value;
        let older = if host.is_wildcard() {
            self.wildcard.iter_mut().find(|older| older.host.value == *host)
        } else {
            self.exact.get_mut(host)
        };
        match older {
            Some(older) => merge(older, rule),
            None if host.is_wildcard() => self.wildcard.push(rule.clone()),
            None => drop(self.exact.insert(host.clone(), rule.clone())),
        }
    }

    fn find(&self, host: &Host) -> Option<&DestinationRule> {
        self.exact.get(host).or_else(|| self.wildcard.iter().find(|rule| rule.host.covers(host)))
    }
}

fn merge(older: &mut DestinationRule, rule: &DestinationRule) {
    if older.traffic_policy.is_empty() {
        older.traffic_policy = rule.traffic_policy.clone();
    }
    for subset in &rule.subsets {
        if older.subset(&subset.name).is_none() {
            older.subsets.push(subset.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::{LoadBalancer, Strictness, read};
    use crate::diagnostic::Source;
    use crate::registry::Registry;

    #[test]
    fn the_oldest_rule_with_a_policy_gives_it_and_all_give_subsets() {
        let rule = |name: &str, spec: &str| {
            format!(
                "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {name}}}\n\
                 spec: {{host: a.example, {spec}}}\n"
            )
        };
        let balanced_by = |simple: &str| format!("trafficPolicy: {{loadBalancer: {{simple: {simple}}}}}");
        let text = [
            rule("a", "subsets: [{name: v1}]"),
            rule("b", &format!("{}, subsets: [{{name: v1}}, {{name: v2}}]", balanced_by("RANDOM"))),
            rule("c", &balanced_by("ROUND_ROBIN")),
            "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: a}\nspec: {hosts: [a.example], \
             resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP}]}\n"
                .to_owned(),
        ];
        let read = read(&[Arc::new(Source::new("a.yaml", text.concat()))], &Strictness::Strict.into());
        assert!(read.diagnostics.is_empty(), "{:?}", read.diagnostics);
        let (registry, rules) = (Registry::new(&read.config), DestinationRules::new(&read.config));
        let merged = rules.find(&registry.services()[0], "default").unwrap();
        assert_eq!(merged.metadata.name, "a");
        assert_eq!(merged.traffic_policy.load_balancer, Some(LoadBalancer::Random));
        assert_eq!(merged.subsets.iter().map(|subset| subset.name.as_str()).collect::<Vec<_>>(), ["v1", "v2"]);
    }
}
