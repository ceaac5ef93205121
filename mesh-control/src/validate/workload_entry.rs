//! WorkloadEntries with the ServiceEntries that select them.

use std::net::IpAddr;

use super::Scope;
use crate::config::{Resolution, ServiceEntry, WorkloadEntry, selects};
use crate::diagnostic::{Code, Diagnostic};

pub(super) fn check(scope: Scope<'_>, diagnostics: &mut Vec<Diagnostic>) {
    let (config, completeness) = (&scope.mesh.config, scope.completeness);
    let entries = config.service_entries.iter().filter(|entry| completeness.is_whole(&entry.metadata));
    for entry in entries.filter(|entry| entry.resolution == Resolution::Static) {
        let whole = config.workload_entries.iter().filter(|it| completeness.is_whole(&it.metadata));
        let named = whole.filter(|it| it.workload.address.parse::<IpAddr>().is_err());
        diagnostics.extend(named.filter(|it| is_selected(it, entry)).map(|it| not_static(it, entry)));
    }
}

fn is_selected(workload: &WorkloadEntry, entry: &ServiceEntry) -> bool {
    workload.metadata.namespace == entry.metadata.namespace
        && entry.workload_selector.as_ref().is_some_and(|selector| selects(selector, &workload.workload.labels))
}

fn not_static(workload: &WorkloadEntry, entry: &ServiceEntry) -> Diagnostic {
    let address = &workload.workload.address;
    let message = format!(
        "{:?} is not an IP address, as {} with resolution STATIC needs",
        address.value,
        entry.metadata.resource()
    );
    Diagnostic::error(Code::SchemaValidation, address.position.clone(), message)
        .at(workload.metadata.resource(), "spec.address")
        .label("expected an IP address")
}
