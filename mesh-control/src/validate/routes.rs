//! VirtualServices: where they send requests to, whose hosts they claim, and rules that never get a request.

use std::collections::HashMap;

use super::services::overlaps;
use crate::config::{Config, Destination, Gaps, HttpAction, HttpMatch, HttpRoute, VirtualService};
use crate::diagnostic::{Code, Diagnostic, Severity};
use crate::host::Host;
use crate::registry::{Registry, Service};
use crate::rules::DestinationRules;

/// What destinations refer to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Targets<'a> {
    pub(super) registry: &'a Registry,
    pub(super) rules: &'a DestinationRules<'a>,
    pub(super) gaps: &'a Gaps,
}

pub(super) fn check(config: &Config, targets: Targets<'_>, diagnostics: &mut Vec<Diagnostic>) {
    if !targets.gaps.is_partial("VirtualService") {
        check_hosts(config, diagnostics);
    }
    for service in &config.virtual_services {
        for (i, route) in service.http.iter().enumerate() {
            let HttpAction::Route(destinations) = &route.action else { continue };
            for (j, weighted) in destinations.iter().enumerate() {
                let field = format!("spec.http[{i}].route[{j}].destination");
                let check = DestinationCheck { service, destination: &weighted.destination, field };
                diagnostics.extend(check.run(targets));
            }
        }
        check_reachability(service, diagnostics);
    }
}

/// On the mesh each host belongs to one VirtualService; a second one would be ignored.
fn check_hosts(config: &Config, diagnostics: &mut Vec<Diagnostic>) {
    let mut owners: HashMap<&Host, Vec<&VirtualService>> = HashMap::new();
    for service in config.virtual_services.iter().filter(|service| service.applies_to_mesh()) {
        for (i, host) in service.hosts.iter().enumerate() {
            let others = owners.entry(&host.value).or_default();
            let visibility = (&*service.export_to, service.metadata.namespace.as_str());
            let other = others.iter().find(|other| overlaps((&other.export_to, &other.metadata.namespace), visibility));
            if let Some(other) = other {
                let message = format!("host {} is claimed by {} too", host.value, other.metadata.resource());
                let code = Code::ConflictingMeshGatewayVirtualServiceHosts;
                diagnostics.push(
                    Diagnostic::error(code, host.position.clone(), message)
                        .at(service.metadata.resource(), format!("spec.hosts[{i}]"))
                        .label("a host of the mesh can have one VirtualService only")
                        .help(format!("the other one is at {}", other.metadata.position)),
                );
            }
            others.push(service);
        }
    }
}

struct DestinationCheck<'a> {
    service: &'a VirtualService,
    destination: &'a Destination,
    field: String,
}

impl DestinationCheck<'_> {
    fn run(&self, Targets { registry, rules, gaps }: Targets<'_>) -> Option<Diagnostic> {
        let is_service_known = !gaps.may_hide("ServiceEntry");
        let Some(service) = registry.find(&self.destination.host, &self.service.metadata.namespace) else {
            return is_service_known.then(|| self.missing_host(registry));
        };
        let of_port = if is_service_known { self.check_port(service) } else { None };
        of_port.or_else(|| if gaps.may_hide("DestinationRule") { None } else { self.check_subset(service, rules) })
    }

    fn check_subset(&self, service: &Service, rules: &DestinationRules<'_>) -> Option<Diagnostic> {
        let subset = self.destination.subset.as_ref()?;
        let names: Vec<_> = rules
            .find(service, &self.service.metadata.namespace)
            .map(|merged| merged.subsets.iter().map(|subset| subset.name.as_str()).collect())
            .unwrap_or_default();
        if names.contains(&subset.as_str()) {
            return None;
        }
        let message = format!("{} has no subset {:?}", service.host, subset.value);
        let label = match names.as_slice() {
            [] => "no DestinationRule of the host defines subsets".to_owned(),
            names => format!("expected one of {}", names.join(", ")),
        };
        let diagnostic =
            Diagnostic::error(Code::ReferencedResourceNotFound, subset.position.clone(), message).label(label);
        Some(diagnostic.at(self.resource(), self.field("subset")))
    }

    fn missing_host(&self, registry: &Registry) -> Diagnostic {
        let host = &self.destination.host;
        let mut diagnostic = Diagnostic::error(
            Code::ReferencedResourceNotFound,
            host.position.clone(),
            format!("no service has the host {}", host.value),
        )
        .label("no ServiceEntry declares it")
        .at(self.resource(), self.field("host"));
        diagnostic.help.extend(super::similar_host(host, registry));
        diagnostic
    }

    fn check_port(&self, service: &Service) -> Option<Diagnostic> {
        let numbers: Vec<_> = service.ports.iter().map(|port| port.number.to_string()).collect();
        let expected = format!("expected one of {}", numbers.join(", "));
        match &self.destination.port {
            Some(port) if service.port(port.value).is_none() => {
                let message = format!("{} has no port {}", service.host, port.value);
                let diagnostic =
                    Diagnostic::error(Code::ReferencedResourceNotFound, port.position.clone(), message).label(expected);
                Some(diagnostic.at(self.resource(), self.field("port.number")))
            }
            None if service.ports.len() > 1 => {
                let message = format!("{} has several ports and the destination names none", service.host);
                let code = Code::VirtualServiceDestinationPortSelectorRequired;
                let diagnostic = Diagnostic::error(code, self.destination.position.clone(), message).label(expected);
                Some(diagnostic.at(self.resource(), self.field("port")))
            }
            _ => None,
        }
    }

    fn resource(&self) -> String {
        self.service.metadata.resource()
    }

    fn field(&self, name: &str) -> String {
        format!("{}.{name}", self.field)
    }
}

/// Rules behind one that takes everything, and matches that an earlier rule has already.
fn check_reachability(service: &VirtualService, diagnostics: &mut Vec<Diagnostic>) {
    let takes_all = |route: &HttpRoute| route.matches.is_empty() || route.matches.iter().any(HttpMatch::is_catch_all);
    let catch_all = service.http.iter().position(takes_all);
    let mut seen: HashMap<String, usize> = HashMap::new();
    for (i, route) in service.http.iter().enumerate() {
        if let Some(first) = catch_all.filter(|&first| first < i) {
            let message = format!("the rule is never reached: http[{first}] takes every request");
            diagnostics.push(
                Diagnostic::warning(Code::VirtualServiceUnreachableRule, route.position.clone(), message)
                    .at(service.metadata.resource(), format!("spec.http[{i}]"))
                    .label("move it up, or remove it"),
            );
            continue;
        }
        let duplicates: Vec<_> = route
            .matches
            .iter()
            .enumerate()
            .filter_map(|(j, matcher)| seen.get(&key(matcher)).map(|&first| (j, matcher, first)))
            .collect();
        let is_dead = duplicates.len() == route.matches.len();
        for (j, matcher, first) in duplicates {
            let code = if is_dead { Code::VirtualServiceUnreachableRule } else { Code::VirtualServiceIneffectiveMatch };
            let message = format!("the match has no effect: http[{first}] has the same");
            let mut diagnostic = Diagnostic::warning(code, matcher.position.clone(), message)
                .at(service.metadata.resource(), format!("spec.http[{i}].match[{j}]"))
                .label("never the first to match");
            if !is_dead {
                diagnostic.severity = Severity::Info;
            }
            diagnostics.push(diagnostic);
        }
        for matcher in &route.matches {
            seen.entry(key(matcher)).or_insert(i);
        }
    }
}

/// What a match looks at, as text that is equal for equal conditions.
fn key(matcher: &HttpMatch) -> String {
    let HttpMatch { position: _, name: _, gateways, headers, .. } = matcher;
    let gateways: Vec<_> = gateways.iter().map(|gateway| &gateway.value).collect();
    let mut headers: Vec<_> = headers.iter().map(|header| format!("{header:?}")).collect();
    headers.sort_unstable();
    format!(
        "{:?} {} {:?} {:?} {:?} {headers:?} {:?} {:?} {:?} {:?} {gateways:?}",
        matcher.uri,
        matcher.ignore_uri_case,
        matcher.scheme,
        matcher.method,
        matcher.authority,
        matcher.query_params,
        matcher.port,
        matcher.source_labels,
        matcher.source_namespace,
    )
}
