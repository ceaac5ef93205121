//! Services of Kubernetes without addresses, and their ports of which the protocol is not known.

use super::Scope;
use crate::config::{Service, TargetPort};
use crate::diagnostic::{Code, Diagnostic};

pub(super) fn check(scope: Scope<'_>, diagnostics: &mut Vec<Diagnostic>) {
    for service in &scope.mesh.config.services {
        check_protocols(service, diagnostics);
        match &service.external_name {
            Some(_) => diagnostics.extend(check_external_name(service, scope)),
            None => diagnostics.extend(check_addresses(service, scope)),
        }
    }
}

/// istiod would detect the protocol of a connection.
fn check_protocols(service: &Service, diagnostics: &mut Vec<Diagnostic>) {
    for port in service.ports.iter().filter(|port| !port.is_protocol_declared) {
        let name = if port.name.is_empty() { "http".to_owned() } else { format!("http-{}", port.name) };
        let message = format!("nothing says what is spoken on port {}, so it is passed on as bytes", port.number);
        diagnostics.push(
            Diagnostic::warning(Code::PortNameIsNotUnderNamingConvention, port.position.clone(), message)
                .at(service.metadata.resource(), "spec.ports")
                .label("taken for TCP, without routes for requests")
                .help(format!("set `appProtocol: http` or `name: {name}`; or tcp, grpc or what else is spoken")),
        );
    }
}

fn check_addresses(service: &Service, scope: Scope<'_>) -> Option<Diagnostic> {
    let declared = scope
        .mesh
        .registry
        .services()
        .iter()
        .find(|declared| declared.host == service.host && declared.namespace == service.metadata.namespace);
    if service.ports.is_empty() || declared.is_some_and(|declared| !declared.endpoints.is_empty()) {
        return None;
    }
    let message = format!("{} has no address", service.host);
    let mut warning = Diagnostic::warning(Code::NoAddress, service.metadata.position.clone(), message)
        .at(service.metadata.resource(), "")
        .label("requests to it fail with 503")
        .help(format!("give it addresses by an EndpointSlice: {}", endpoint_slice(service)));
    if !service.selector.is_empty() {
        warning = warning.help(format!("or by a WorkloadEntry for each address: {}", workload_entry(service)));
    }
    Some(warning)
}

/// An EndpointSlice for the service, on one line.
fn endpoint_slice(service: &Service) -> String {
    let (name, namespace) = (&service.metadata.name, &service.metadata.namespace);
    let ports = service.ports.iter().map(|port| {
        let number = if let TargetPort::Number(number) = port.target { number } else { port.number };
        let name = if port.name.is_empty() { String::new() } else { format!("name: {}, ", port.name) };
        format!("{{{name}port: {number}}}")
    });
    let ports: Vec<_> = ports.collect();
    format!(
        "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: {name}, namespace: {namespace}, labels: \
         {{kubernetes.io/service-name: {name}}}}}, addressType: IPv4, ports: [{}], endpoints: [{{addresses: [127.0.0.1]}}]}}",
        ports.join(", ")
    )
}

/// A WorkloadEntry that the service selects, on one line.
fn workload_entry(service: &Service) -> String {
    let (name, namespace) = (&service.metadata.name, &service.metadata.namespace);
    let labels: Vec<_> = service.selector.iter().map(|(key, value)| format!("{key}: {value:?}")).collect();
    format!(
        "{{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {{name: {name}, namespace: {namespace}}}, spec: \
         {{address: 127.0.0.1, labels: {{{}}}}}}}",
        labels.join(", ")
    )
}

/// A name that stands for a host outside of the mesh needs ports; one that stands for a service has those of the service.
fn check_external_name(service: &Service, scope: Scope<'_>) -> Option<Diagnostic> {
    let target = service.external_name.as_ref()?;
    let found = scope.mesh.registry.find(&service.host, &service.metadata.namespace);
    let message = match found {
        None => format!("{} stands for itself, by {}", service.host, target.value),
        Some(found) if found.ports.is_empty() => format!("{} has no port", service.host),
        Some(_) => return None,
    };
    let mut warning = Diagnostic::warning(Code::NoEffect, target.position.clone(), message)
        .at(service.metadata.resource(), "spec.externalName")
        .label("the service cannot be called");
    if found.is_some() {
        warning = warning.help("list its ports in spec.ports, with names that say what is spoken, such as http");
    }
    Some(warning)
}
