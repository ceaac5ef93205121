//! Finds the `DestinationRule` that applies to a service for a client, as Istio's push context does.
//!
//! A rule is looked for in the client's namespace, then in the service's, then in the root namespace; the first namespace
//! that has a matching rule decides, and in it the most specific host. Rules for one host in one namespace are merged:
//! the oldest gives the policy, all give subsets.

use std::collections::HashMap;

use crate::config::{Config, DestinationRule, Subset, Visibility};
use crate::host::Host;
use crate::registry::Service;

/// Namespace whose resources apply to the whole mesh.
pub const ROOT_NAMESPACE: &str = "istio-system";

/// The rules of a namespace for one host.
#[derive(Clone, Debug)]
pub struct MergedRule<'a> {
    /// The oldest, whose policy counts.
    pub rule: &'a DestinationRule,
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
            let merged = MergedRule { rule, subsets: rule.subsets.iter().collect() };
            if rule.host.is_wildcard() {
                self.wildcard.push(merged);
            } else {
                self.exact.insert(&rule.host.value, merged);
            }
            return;
        };
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
