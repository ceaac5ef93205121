//! The destinations of VirtualServices.

use super::super::{Scope, similar_host};
use crate::config::{Destination, HttpAction, Kind, VirtualService};
use crate::destination_rules::DestinationRules;
use crate::diagnostic::{Code, Diagnostic};
use crate::registry::Service;

pub(super) fn check(scope: Scope<'_>, service: &VirtualService, diagnostics: &mut Vec<Diagnostic>) {
    let mut check = |destination, list: &str, i: usize, j: usize| {
        let field = format!("spec.{list}[{i}].route[{j}].destination");
        diagnostics.extend(DestinationCheck { service, destination, field }.run(scope));
    };
    for (i, rule) in service.http.iter().enumerate() {
        if let HttpAction::Route(destinations) = &rule.action {
            destinations.iter().enumerate().for_each(|(j, weighted)| check(&weighted.destination, "http", i, j));
        }
    }
    for (i, rule) in service.tls.iter().enumerate() {
        rule.route.iter().enumerate().for_each(|(j, weighted)| check(&weighted.destination, "tls", i, j));
    }
    for (i, rule) in service.tcp.iter().enumerate() {
        rule.route.iter().enumerate().for_each(|(j, weighted)| check(&weighted.destination, "tcp", i, j));
    }
}

struct DestinationCheck<'a> {
    service: &'a VirtualService,
    destination: &'a Destination,
    field: String,
}

impl DestinationCheck<'_> {
    fn run(&self, scope: Scope<'_>) -> Vec<Diagnostic> {
        let Scope { mesh, completeness, .. } = scope;
        let host = &self.destination.host.value;
        let is_complete = !completeness.may_declare_host(&[Kind::ServiceEntry, Kind::Service], host);
        let Some(service) = mesh.registry.find(host, &self.service.metadata.namespace) else {
            return if is_complete { vec![self.missing_host(scope)] } else { Vec::new() };
        };
        let of_port = if is_complete { self.check_port(service) } else { None };
        let has_rules = !completeness.may_declare_host(&[Kind::DestinationRule], &service.host);
        let of_subset = if has_rules { self.check_subset(service, &mesh.destination_rules) } else { None };
        of_port.into_iter().chain(of_subset).collect()
    }

    fn check_subset(&self, service: &Service, rules: &DestinationRules) -> Option<Diagnostic> {
        let subset = self.destination.subset.as_ref()?;
        let names: Vec<_> = rules
            .find(service, &self.service.metadata.namespace)
            .map(|rule| rule.subsets.iter().map(|subset| subset.name.as_str()).collect())
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

    fn missing_host(&self, scope: Scope<'_>) -> Diagnostic {
        let host = &self.destination.host;
        let mut diagnostic = Diagnostic::error(
            Code::ReferencedResourceNotFound,
            host.position.clone(),
            format!("no service has the host {}", host.value),
        )
        .label("no ServiceEntry or Service declares it")
        .at(self.resource(), self.field("host"));
        diagnostic.help.extend(similar_host(host, scope));
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
