//! DestinationRules with the services that they apply to.

use std::collections::HashMap;

use super::Scope;
use crate::config::{Config, DestinationRule, selects};
use crate::diagnostic::{Code, Diagnostic};
use crate::host::Host;
use crate::registry::{Service, labels_of_workloads};

pub(super) fn check(scope: Scope<'_>, diagnostics: &mut Vec<Diagnostic>) {
    let (config, registry) = (&scope.mesh.config, &scope.mesh.registry);
    check_merged(config, diagnostics);
    for rule in &config.destination_rules {
        let services: Vec<_> = if rule.host.is_wildcard() {
            registry.services().iter().filter(|service| rule.host.covers(&service.host)).collect()
        } else {
            let found = registry.find(&rule.host, &rule.metadata.namespace);
            // The rules of a service also apply to its aliases; those of an alias apply to nothing.
            found.into_iter().filter(|found| found.host == rule.host.value || found.host.is_wildcard()).collect()
        };
        if services.is_empty() {
            let message = format!("no service has the host {}", rule.host.value);
            let mut diagnostic =
                Diagnostic::warning(Code::UnknownDestinationRuleHost, rule.host.position.clone(), message)
                    .at(rule.metadata.resource(), "spec.host")
                    .label("the rule has no effect");
            diagnostic.help.extend(similar_host(rule, scope));
            diagnostics.push(diagnostic);
        } else {
            check_subsets(rule, &services, config, diagnostics);
            check_ports(rule, &services, diagnostics);
        }
    }
}

/// The host that is meant: that of which the rule's host is an alias, or else a similar one.
fn similar_host(rule: &DestinationRule, scope: Scope<'_>) -> Option<String> {
    match scope.mesh.registry.find(&rule.host, &rule.metadata.namespace) {
        Some(service) => Some(format!("it is an alias of \"{}\", whose rules apply to it", service.host)),
        None => super::similar_host(&rule.host, scope),
    }
}

/// Rules of a namespace for one host become one; what an older rule has already is left out of a younger one.
fn check_merged(config: &Config, diagnostics: &mut Vec<Diagnostic>) {
    let mut older: HashMap<(&str, &Host), Vec<&DestinationRule>> = HashMap::new();
    for rule in &config.destination_rules {
        let older = older.entry((rule.metadata.namespace.as_str(), &rule.host.value)).or_default();
        let has_policy = |rule: &&&DestinationRule| !rule.traffic_policy.is_empty();
        if let Some(first) = older.iter().find(has_policy).filter(|_| !rule.traffic_policy.is_empty()) {
            let message = format!("{} gives {} its policy already", first.metadata.resource(), rule.host.value);
            diagnostics.push(
                Diagnostic::warning(Code::Duplicate, rule.host.position.clone(), message)
                    .at(rule.metadata.resource(), "spec.trafficPolicy")
                    .label("this policy has no effect")
                    .help(format!("the other rule is at {}", first.metadata.position)),
            );
        }
        for (i, subset) in rule.subsets.iter().enumerate() {
            let mut others = older.iter().flat_map(|rule| &rule.subsets);
            let Some(first) = others.find(|other| other.name.value == subset.name.value) else { continue };
            let message = format!("subset {:?} of {} is defined twice", subset.name.value, rule.host.value);
            diagnostics.push(
                Diagnostic::warning(Code::Duplicate, subset.name.position.clone(), message)
                    .at(rule.metadata.resource(), format!("spec.subsets[{i}]"))
                    .label("this definition has no effect")
                    .help(format!("the first definition is at {}", first.name.position)),
            );
        }
        older.push(rule);
    }
}

/// A subset must select an address. Of a service without any address, it must select a workload.
fn check_subsets(rule: &DestinationRule, services: &[&Service], config: &Config, diagnostics: &mut Vec<Diagnostic>) {
    let has_addresses = services.iter().any(|service| !service.endpoints.is_empty());
    let of_kubernetes = config.services.iter().filter(|it| services.iter().any(|service| service.host == it.host));
    let workloads: Vec<_> = of_kubernetes.flat_map(|service| labels_of_workloads(config, service)).collect();
    for (i, subset) in rule.subsets.iter().enumerate() {
        let mut endpoints = services.iter().flat_map(|service| &service.endpoints);
        let is_workload = workloads.iter().any(|labels| selects(&subset.labels, labels));
        if endpoints.any(|endpoint| endpoint.is_selected_by(&subset.labels)) || (!has_addresses && is_workload) {
            continue;
        }
        let message = format!("subset {:?} selects no endpoint of {}", subset.name.value, rule.host.value);
        let code = Code::DestinationRuleSubsetsNotSelectPods;
        let mut warning = Diagnostic::warning(code, subset.name.position.clone(), message)
            .at(rule.metadata.resource(), format!("spec.subsets[{i}].labels"))
            .label("requests to it fail with 503");
        if is_workload {
            warning = warning.help(
                "a workload has the labels, and no address does: give one a targetRef to the Pod, or add a WorkloadEntry with the \
                 labels",
            );
        }
        diagnostics.push(warning);
    }
}

fn check_ports(rule: &DestinationRule, services: &[&Service], diagnostics: &mut Vec<Diagnostic>) {
    for (i, settings) in rule.traffic_policy.port_level_settings.iter().enumerate() {
        let port = &settings.port;
        if !services.iter().any(|service| service.port(port.value).is_some()) {
            let message = format!("{} has no port {}", rule.host.value, port.value);
            diagnostics.push(
                Diagnostic::warning(Code::ReferencedResourceNotFound, port.position.clone(), message)
                    .at(rule.metadata.resource(), format!("spec.trafficPolicy.portLevelSettings[{i}].port.number"))
                    .label("the settings have no effect"),
            );
        }
    }
}
