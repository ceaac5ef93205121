//! DestinationRules with the services that they apply to.

use std::collections::HashMap;

use super::Scope;
use super::credential::{Need, Place};
use crate::config::{ClientTls, ClientTlsMode, Config, DestinationRule, selects};
use crate::diagnostic::{Code, Diagnostic};
use crate::host::Host;
use crate::registry::{Service, labels_of_workloads};

pub(super) fn check(scope: Scope<'_>, diagnostics: &mut Vec<Diagnostic>) {
    let (config, registry) = (&scope.mesh.config, &scope.mesh.registry);
    check_merged(config, diagnostics);
    for rule in &config.destination_rules {
        check_tls(scope, rule, diagnostics);
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

/// Reports Secrets that are not there, servers whose certificates are verified with roots that the rule does not name, and
/// mutual TLS of a mesh without certificates.
fn check_tls(scope: Scope<'_>, rule: &DestinationRule, diagnostics: &mut Vec<Diagnostic>) {
    const DESTINATION: Code = Code::NoServerCertificateVerificationDestinationLevel;
    const PORT: Code = Code::NoServerCertificateVerificationPortLevel;
    let policies = std::iter::once(("spec.trafficPolicy".to_owned(), &rule.traffic_policy)).chain(
        rule.subsets.iter().enumerate().map(|(i, it)| (format!("spec.subsets[{i}].trafficPolicy"), &it.traffic_policy)),
    );
    for (path, policy) in policies {
        let own = policy.tls.iter().map(|tls| (format!("{path}.tls"), tls, DESTINATION));
        let ports = policy
            .port_level_settings
            .iter()
            .enumerate()
            .filter_map(|(i, port)| Some((format!("{path}.portLevelSettings[{i}].tls"), port.tls.as_ref()?, PORT)));
        for (field, tls, code) in own.chain(ports) {
            let place = Place { metadata: &rule.metadata, field: &field, position: &tls.position };
            let (needs_certificate, needs_roots) = match tls.mode {
                ClientTlsMode::Disable => continue,
                ClientTlsMode::IstioMutual => {
                    diagnostics.extend(place.needs_certificates(scope, "ISTIO_MUTUAL"));
                    continue;
                }
                ClientTlsMode::Simple => (false, !tls.insecure_skip_verify),
                ClientTlsMode::Mutual => (true, !tls.insecure_skip_verify),
            };
            if !tls.credential_name.is_empty() {
                let certificate = needs_certificate.then_some(Need::Certificate);
                let needs = certificate.into_iter().chain(needs_roots.then_some(Need::Roots));
                diagnostics.extend(needs.filter_map(|need| place.check(scope, &tls.credential_name, need)).take(1));
            }
            diagnostics.extend(unnamed_roots(rule, tls).map(|message| {
                Diagnostic::warning(code, tls.position.clone(), message)
                    .at(rule.metadata.resource(), field.as_str())
                    .label("expected caCertificates or credentialName")
            }));
        }
    }
}

/// The warning about a server whose certificate is verified with roots that the rule does not name, or not at all.
fn unnamed_roots(rule: &DestinationRule, tls: &ClientTls) -> Option<String> {
    let how = if tls.insecure_skip_verify {
        "certificates of servers are not verified"
    } else if tls.names_roots() {
        return None;
    } else {
        "certificates of servers are verified with the roots of the operating system"
    };
    let (mode, host) = (tls.mode.as_str(), &rule.host.value);
    Some(format!("TLS mode {mode} without caCertificates: {how}, for host {host}"))
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
