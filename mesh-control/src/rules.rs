//! Finds the `DestinationRule` that applies to a service for a client, as Istio's push context does.
//!
//! A rule is looked for in the client's namespace, then in the service's, then in the root namespace; the first namespace
//! that has a matching rule decides, and in it the most specific host. Rules for one host in one namespace are merged:
//! the oldest that has a policy gives it, all give subsets.

use std::collections::HashMap;

use crate::config::{Config, DestinationRule, Subset, TrafficPolicy, Visibility};
use crate::host::Host;
use crate::registry::Service;

/// Namespace whose resources apply to the whole mesh.
pub const ROOT_NAMESPACE: &str = "istio-system";

/// The rules of a namespace for one host.
#[derive(Clone, Debug)]
pub struct MergedRule<'a> {
    /// The oldest.
    pub rule: &'a DestinationRule,
    /// Policy of the oldest that has one.
    pub traffic_policy: &'a TrafficPolicy,
    /// Subsets of all, the first of each name.
    pub subsets: Vec<&'a Subset>,
}

impl<'a> MergedRule<'a> {
    /// The subset of this name.
    pub fn subset(&self, name: &str) -> Option<&'a Subset> {
        self.subsets.iter().find(|subset| *subset.name == *name).copied()
    }
}

/// All rules, found by service and client.
#[derive(Clone, Debug, Default)]
pub struct DestinationRules<'a> {
    namespaces: HashMap<&'a str, Namespace<'a>>,
}

#[derive(Clone, Debug, Default)]
struct Namespace<'a> {
    exact: HashMap<&'a Host, MergedRule<'a>>,
    /// Most specific first.
    wildcard: Vec<MergedRule<'a>>,
}

impl<'a> DestinationRules<'a> {
    /// Indexes the rules of a configuration.
    pub fn from_config(config: &'a Config) -> Self {
        let mut rules = Self::default();
        for rule in &config.destination_rules {
            let namespace = rules.namespaces.entry(rule.metadata.namespace.as_str()).or_default();
            namespace.add(rule);
        }
        for namespace in rules.namespaces.values_mut() {
            namespace.wildcard.sort_by(|a, b| a.rule.host.by_specificity(&b.rule.host));
        }
        rules
    }

    /// The rule for calls from a client in `namespace` to the service.
    pub fn find(&self, service: &Service, namespace: &str) -> Option<&MergedRule<'a>> {
        let in_namespace = |owner: &str| {
            let rules = self.namespaces.get(owner)?;
            rules
                .find(&service.host)
                .filter(|merged| owner == namespace || Visibility::includes(&merged.rule.export_to, owner, namespace))
        };
        in_namespace(namespace).or_else(|| in_namespace(&service.namespace)).or_else(|| in_namespace(ROOT_NAMESPACE))
    }
}

impl<'a> Namespace<'a> {
    fn add(&mut self, rule: &'a DestinationRule) {
        let existing = if rule.host.is_wildcard() {
            self.wildcard.iter_mut().find(|merged| merged.rule.host.value == rule.host.value)
        } else {
            self.exact.get_mut(&rule.host.value)
        };
        let Some(merged) = existing else {
            let merged =
                MergedRule { rule, traffic_policy: &rule.traffic_policy, subsets: rule.subsets.iter().collect() };
            if rule.host.is_wildcard() {
                self.wildcard.push(merged);
            } else {
                self.exact.insert(&rule.host.value, merged);
            }
            return;
        };
        if merged.traffic_policy.is_empty() {
            merged.traffic_policy = &rule.traffic_policy;
        }
        for subset in &rule.subsets {
            if merged.subset(&subset.name).is_none() {
                merged.subsets.push(subset);
            }
        }
    }

    fn find(&self, host: &Host) -> Option<&MergedRule<'a>> {
        self.exact.get(host).or_else(|| self.wildcard.iter().find(|merged| merged.rule.host.covers(host)))
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
        let read = read(&[Arc::new(Source::new("a.yaml", text.concat()))], Strictness::Strict);
        assert!(read.diagnostics.is_empty(), "{:?}", read.diagnostics);
        let (registry, rules) = (Registry::from_config(&read.config), DestinationRules::from_config(&read.config));
        let merged = rules.find(&registry.services()[0], "default").unwrap();
        assert_eq!(merged.rule.metadata.name, "a");
        assert_eq!(merged.traffic_policy.load_balancer, Some(LoadBalancer::Random));
        assert_eq!(merged.subsets.iter().map(|subset| subset.name.as_str()).collect::<Vec<_>>(), ["v1", "v2"]);
    }
}
